"""The caps that stand, as columns beside those of the placed jobs."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import compress, repeat
from operator import attrgetter, is_, is_not

import numpy as np

from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.job_table import Flags, PlacedJobs, placed_jobs
from slurm_power.plan.memo import LastFew
from slurm_power.plan.site_table import Numbers, Watts


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
    _rows: "_Rows"


@dataclass(frozen=True, slots=True)
class _Rows:
    """Which row of ``of`` is each capped job's; -1 where it is none of them."""

    of: PlacedJobs
    jobs: tuple[str, ...]
    numbers: Numbers


# Thousands of leases are read every second: one figure at a time, without a loop or a tuple of our own.
_CAP_WATTS, _UNCAPPED_WATTS = attrgetter("cap_watts"), attrgetter("uncapped_watts")
_CHANGED_SECONDS_AGO, _LOWERED_WATTS = attrgetter("changed_seconds_ago"), attrgetter("lowered_watts")
_FULL_HERTZ, _KIND = attrgetter("full_hertz"), attrgetter("kind")

_leases: LastFew[CapLeases] = LastFew(2, passing=True)


def cap_leases(snapshot: Snapshot) -> CapLeases:
    """The columns of the snapshot's caps, made once."""
    placed, before = placed_jobs(snapshot), _leases.newest()
    return _leases.of(lambda: _cap_leases(snapshot, placed, before), snapshot.caps, placed)


def _cap_leases(snapshot: Snapshot, placed: PlacedJobs, before: CapLeases | None) -> CapLeases:
    rows, leases = _rows(snapshot, placed, before), list(snapshot.caps.values())
    count = len(placed.jobs)

    def column(values: Iterable[float], missing: float = 0.0) -> Watts:
        # One place more, the last, for those that are no row.
        filled = np.full(count + 1, missing)
        filled[rows.numbers] = np.fromiter(values, dtype=float, count=len(leases))
        return filled[:count]

    lock_hertz, full_hertz = np.zeros((2, count + 1))
    locked = list(map(is_not, map(_FULL_HERTZ, leases), repeat(None)))
    for row, lease in zip(compress(rows.numbers.tolist(), locked), compress(leases, locked), strict=True):
        lock_hertz[row], full_hertz[row] = lease.lock_hertz or 0.0, lease.full_hertz
    return CapLeases(
        cap_watts=column(map(_CAP_WATTS, leases), np.inf),
        uncapped_watts=column(map(_UNCAPPED_WATTS, leases)),
        changed_seconds_ago=column(map(_CHANGED_SECONDS_AGO, leases), np.inf),
        lowered_watts=column(map(_LOWERED_WATTS, leases)),
        lock_hertz=lock_hertz[:count],
        full_hertz=full_hertz[:count],
        by_lock=column(locked) > 0.0,
        economic=column(map(is_, map(_KIND, leases), repeat(LimitKind.ECONOMIC))) > 0.0,
        _rows=rows,
    )


def _rows(snapshot: Snapshot, placed: PlacedJobs, before: CapLeases | None) -> _Rows:
    jobs = tuple(snapshot.caps)
    if before is not None and before._rows.of is placed and before._rows.jobs == jobs:
        return before._rows
    numbers = [placed.row.get(job_id, -1) for job_id in jobs]
    return _Rows(placed, jobs, np.array(numbers, dtype=np.int64))
