"""The caps that users ask for on their own jobs: set from the start on, the upper bound of all others."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from slurm_power.model.action import SetCap
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.loads import LoadTable


def with_own_caps(snapshot: Snapshot, table: LoadTable, actions: Sequence[SetCap]) -> tuple[SetCap, ...]:
    """``actions`` with the users' own caps: where none of ours stands, and in place of one that is lifted.

    It costs its job nothing, by its user's own word. Not on nodes that are yielded: nobody's economic cap is
    taken there.
    """
    rows = np.flatnonzero(np.isfinite(table.own_cap_watts) & table.reachable).tolist()
    if not rows:
        return tuple(actions)
    found = {action.job_id: action for action in actions}
    for row in rows:
        job, cap_watts = table.placed.jobs[row], float(table.own_cap_watts[row])
        ours = found.get(job.job_id)
        if ours is not None and ours.cap_watts is not None:
            if ours.cap_watts > cap_watts:
                found[job.job_id] = replace(ours, cap_watts=cap_watts)
        elif not snapshot.yielded_nodes.intersection(job.nodes):
            found[job.job_id] = SetCap(
                job_id=job.job_id,
                cap_watts=cap_watts,
                kind=LimitKind.ECONOMIC,
                reason=f"its user asked for {cap_watts:.0f} W a GPU at most",
                own=True,
            )
    return tuple(found.values())
