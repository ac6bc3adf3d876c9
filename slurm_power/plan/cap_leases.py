"""The caps that stand, as columns beside those of the placed jobs."""

from dataclasses import dataclass
from itertools import chain
from operator import attrgetter

import numpy as np
from numpy.typing import ArrayLike

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


_FIGURES = attrgetter("cap_watts", "uncapped_watts", "changed_seconds_ago", "lowered_watts")

_leases: LastFew[CapLeases] = LastFew(2)


def cap_leases(snapshot: Snapshot) -> CapLeases:
    """The columns of the snapshot's caps, made once."""
    placed = placed_jobs(snapshot)
    return _leases.of(lambda: _cap_leases(snapshot, placed), snapshot.caps, placed)


def _cap_leases(snapshot: Snapshot, placed: PlacedJobs) -> CapLeases:
    places = list(map(placed.row.get, snapshot.caps))
    leases = [lease for row, lease in zip(places, snapshot.caps.values(), strict=True) if row is not None]
    rows = np.array([row for row in places if row is not None], dtype=np.int64)
    figures = chain.from_iterable(map(_FIGURES, leases))
    known = np.fromiter(figures, dtype=float, count=4 * len(leases)).reshape(-1, 4)

    def column(values: ArrayLike, missing: float = 0.0) -> Watts:
        filled = np.full(len(placed.jobs), missing)
        filled[rows] = values
        return filled

    lock_hertz, full_hertz = np.zeros((2, len(placed.jobs)))
    by_lock = np.zeros(len(placed.jobs), dtype=bool)
    for row, lease in zip(rows.tolist(), leases, strict=True):
        if lease.full_hertz is not None:
            lock_hertz[row], full_hertz[row], by_lock[row] = lease.lock_hertz or 0.0, lease.full_hertz, True
    return CapLeases(
        cap_watts=column(known[:, 0], np.inf),
        uncapped_watts=column(known[:, 1]),
        changed_seconds_ago=column(known[:, 2], np.inf),
        lowered_watts=column(known[:, 3]),
        lock_hertz=lock_hertz,
        full_hertz=full_hertz,
        by_lock=by_lock,
        economic=column([lease.kind is LimitKind.ECONOMIC for lease in leases]) > 0.0,
    )
