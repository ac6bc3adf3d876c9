"""The caps that stand, as columns beside those of the placed jobs."""

from dataclasses import dataclass

import numpy as np

from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.job_table import Flags, PlacedJobs, placed_jobs
from slurm_power.plan.memo import LastFew
from slurm_power.plan.site_table import Watts


@dataclass(frozen=True, slots=True, kw_only=True)
class CapLeases:
    """One value per placed job; see `CapLease`.

    Without a cap ``cap_watts`` and ``changed_seconds_ago`` are infinite, the rest is 0 or False. ``by_lock``
    tells whether a clock lock does it; ``lock_hertz`` and ``full_hertz`` are 0 where the lease has none.
    """

    cap_watts: Watts
    uncapped_watts: Watts
    changed_seconds_ago: Watts
    lowered_watts: Watts
    lock_hertz: Watts
    full_hertz: Watts
    by_lock: Flags
    economic: Flags


_leases: LastFew[CapLeases] = LastFew(2)


def cap_leases(snapshot: Snapshot) -> CapLeases:
    """The columns of the snapshot's caps, made once."""
    placed = placed_jobs(snapshot)
    return _leases.of(lambda: _cap_leases(snapshot, placed), snapshot.caps, placed)


def _cap_leases(snapshot: Snapshot, placed: PlacedJobs) -> CapLeases:
    found = {placed.row[job_id]: lease for job_id, lease in snapshot.caps.items() if job_id in placed.row}
    rows, leases = np.array(list(found), dtype=np.int64), tuple(found.values())
    count = len(placed.jobs)

    def column(values: list[float], missing: float) -> Watts:
        filled = np.full(count, missing)
        filled[rows] = values
        return filled

    by_lock = np.zeros(count, dtype=bool)
    by_lock[rows] = [lease.full_hertz is not None for lease in leases]
    economic = np.zeros(count, dtype=bool)
    economic[rows] = [lease.kind is LimitKind.ECONOMIC for lease in leases]
    return CapLeases(
        cap_watts=column([lease.cap_watts for lease in leases], np.inf),
        uncapped_watts=column([lease.uncapped_watts for lease in leases], 0.0),
        changed_seconds_ago=column([lease.changed_seconds_ago for lease in leases], np.inf),
        lowered_watts=column([lease.lowered_watts for lease in leases], 0.0),
        lock_hertz=column([lease.lock_hertz or 0.0 for lease in leases], 0.0),
        full_hertz=column([lease.full_hertz or 0.0 for lease in leases], 0.0),
        by_lock=by_lock,
        economic=economic,
    )
