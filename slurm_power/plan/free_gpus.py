"""How many GPUs no job has, behind each circuit."""

import numpy as np

from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.job_table import placed_jobs
from slurm_power.plan.site_table import Watts, site_table, summed


def free_gpus(snapshot: Snapshot) -> Watts:
    """GPUs without a job behind each circuit; infinite everywhere while no node has said anything.

    A node that says nothing counts as large as the largest.
    """
    table = site_table(snapshot.site)
    counts = {name: len(node.gpus) for name, node in snapshot.nodes.items()}
    most = max(counts.values(), default=0)
    if most == 0:
        return np.full(len(table.names), np.inf)
    leaves = np.array(list(table.leaf_of_node.values()), dtype=np.int64)
    gpus = np.array([counts.get(node, most) for node in table.leaf_of_node], dtype=float)
    placed = placed_jobs(snapshot)
    at_leaf = summed(leaves, gpus, len(table.names))
    at_leaf -= summed(placed.leaf, placed.leaf_gpus, len(table.names))
    known = table.paths >= 0
    below = np.broadcast_to(np.maximum(at_leaf, 0.0)[:, None], table.paths.shape)
    return summed(table.paths[known], below[known], len(table.names))
