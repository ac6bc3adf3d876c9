"""Pools as Slurm has them: its partitions, read from ``sinfo``."""

from slurm_power.model.pool import NodeGroup, Pool
from slurm_power.slurm.hostlist import expand
from slurm_power.slurm.parse import gpus_of_tres

# One line for each partition and kind of node; neither a name nor a node list has a | in it.
SINFO_FORMAT = "%R|%a|%T|%G|%N"
# A suffix says that a node is down, unheard of, asleep or about to be: none of that is room for a job.
_TAKING_JOBS = frozenset({"idle", "mixed", "allocated", "completing", "planned"})


def parse_sinfo(text: str) -> tuple[Pool, ...]:
    """Read what ``sinfo --noheader --all --format=SINFO_FORMAT`` prints; raises ValueError."""
    groups: dict[str, list[NodeGroup]] = {}
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) != 5:
            raise ValueError(f"{line!r} is no line of partition, state, GPUs and nodes")
        name, available, state, gres, nodes = fields
        found = groups.setdefault(name, [])
        count, gpu_type = gpus_of_tres(gres)
        if available == "up" and state in _TAKING_JOBS and count:
            found.append(NodeGroup(nodes=expand(nodes), gpus_per_node=count, gpu_type=gpu_type))
    return tuple(Pool(name=name, groups=tuple(found)) for name, found in groups.items())
