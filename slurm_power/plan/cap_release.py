"""Give room back to capped jobs, the dearest watt first, and renew every cap that stays."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

import numpy as np

from slurm_power.model.action import SetCap
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import CapLease, Snapshot
from slurm_power.plan.cap_columns import STEP_WATTS, CapColumns
from slurm_power.plan.clocks import lock_hertz_for
from slurm_power.plan.loads import JobLoad
from slurm_power.plan.policy import Policy

# A cap this close above the uncapped draw no longer bites: it is let go.
_LOOSE_RATIO = 1.02


@dataclass(slots=True)
class _Capped:
    """A capped job that keeps its cap or gets some of it back; ``spare_watts`` per GPU is what it gets."""

    row: int
    load: JobLoad
    lease: CapLease
    owed_watts: float
    spare_watts: float = 0.0
    full: bool = field(default=False)

    @property
    def loose_watts(self) -> float:
        return self.load.uncapped_watts * _LOOSE_RATIO


def given_back(
    snapshot: Snapshot,
    columns: CapColumns,
    *,
    room: Mapping[str, float],
    safe: Set[str],
    lowered: Set[int],
    policy: Policy,
) -> list[SetCap]:
    """Every cap that is not being lowered: raised into ``room`` (watts by circuit), lifted, or renewed.

    What a safety limit took beyond a promise goes back as soon as the safety limits (``safe``) leave room
    for it: an economic limit may not keep it.
    """
    left = dict(room)
    actions: dict[int, SetCap] = {}
    capped: list[_Capped] = []
    by_lock = np.zeros(len(columns.loads), dtype=bool)
    for row in np.flatnonzero(np.isfinite(columns.capped_watts)).tolist():
        load = columns.loads[row]
        if row in lowered:
            continue
        lease = snapshot.caps[load.job.job_id]
        if load.yielded and lease.kind is LimitKind.ECONOMIC:
            actions[row] = _lifted(load, lease.kind, "its node is yielded to the administrator")
            continue
        by_lock[row] = lease.full_hertz is not None
        promised = columns.promised_watts if by_lock[row] else columns.cap_promised_watts
        owed_watts = float(promised[row]) - lease.cap_watts
        capped.append(_Capped(row=row, load=load, lease=lease, owed_watts=owed_watts))
    ripe = [one for one in capped if one.lease.changed_seconds_ago >= policy.cap_dwell_seconds]
    _give_owed(ripe, left, safe)
    _give_dearest_first(ripe, left, columns)
    caps = {one.row: _raised_watts(one) for one in ripe if one.spare_watts > 0.0}
    watts = np.array([caps.get(one.row, one.lease.cap_watts) for one in capped])
    everywhere = columns.capped_watts.copy()
    everywhere[[one.row for one in capped]] = watts
    slowdowns = columns.slowdowns(everywhere, by_lock)
    for one, cap_watts in zip(capped, watts.tolist(), strict=True):
        done = cap_watts >= min(one.load.uncapped_watts, one.load.default_cap_watts)
        slowdown = 0.0 if done else float(slowdowns[one.row])
        actions[one.row] = _kept_or_raised(one, None if done else cap_watts, slowdown)
    return [actions[row] for row in sorted(actions)]


def _give_owed(ripe: list[_Capped], left: dict[str, float], safe: Set[str]) -> None:
    """Back to the promise first, whatever an economic limit says."""
    for one in ripe:
        if one.owed_watts > 0.0:
            spare_watts = _spare_watts(one.load, left, among=safe)
            _give(one, min(one.owed_watts, spare_watts), left)


def _give_dearest_first(ripe: list[_Capped], left: dict[str, float], columns: CapColumns) -> None:
    """Stretch by stretch of the jobs' curves, as far as every circuit on a job's path has room."""
    exhausted = {name for name, watts in left.items() if watts <= 0.0}
    able = [one for one in ripe if exhausted.isdisjoint(one.load.circuit_weights)]
    if not able or _give_all(able, left):
        return
    rows = np.array([one.row for one in able])
    starts = np.array([one.lease.cap_watts + one.spare_watts for one in able])
    ends = np.array([one.loose_watts for one in able])
    widths = np.minimum(columns.high_watts[rows], ends[:, None]) - np.maximum(
        columns.low_watts[rows], starts[:, None]
    )
    cells = np.flatnonzero(widths > 0.0)
    places, stretches = np.divmod(cells, widths.shape[1])
    # The lowest stretch of a job is its dearest, so each job is raised from where it is.
    order = np.lexsort(
        (-stretches, columns.name_ranks[rows[places]], -columns.money[rows[places], stretches])
    )
    for place, width in zip(places[order].tolist(), widths.ravel()[cells[order]].tolist(), strict=True):
        one = able[place]
        if one.full:
            continue
        spare_watts = _spare_watts(one.load, left)
        one.full = spare_watts < width
        if spare_watts > 0.0:
            _give(one, min(width, spare_watts), left)


def _give_all(able: list[_Capped], left: dict[str, float]) -> bool:
    """Lift every cap at once where all circuits have room for that; False, and nothing given, if not."""
    needed = dict.fromkeys(left, 0.0)
    for one in able:
        watts = one.loose_watts - one.lease.cap_watts - one.spare_watts
        for name, weight in one.load.circuit_weights.items():
            if name in needed:
                needed[name] += watts * weight
    if any(watts > left[name] for name, watts in needed.items() if watts > 0.0):
        return False
    for one in able:
        _give(one, max(0.0, one.loose_watts - one.lease.cap_watts - one.spare_watts), left)
    return True


def _give(one: _Capped, watts: float, left: dict[str, float]) -> None:
    """Give ``watts`` a GPU more; above the uncapped draw they cost no room."""
    before_watts = min(one.lease.cap_watts + one.spare_watts, one.load.uncapped_watts)
    one.spare_watts += watts
    used_watts = min(one.lease.cap_watts + one.spare_watts, one.load.uncapped_watts) - before_watts
    for name, weight in one.load.circuit_weights.items():
        if name in left:
            left[name] -= used_watts * weight


def _spare_watts(load: JobLoad, room: Mapping[str, float], among: Set[str] | None = None) -> float:
    """Watts per GPU that every circuit on the job's path (of those in ``room`` and ``among``) can give."""
    spare_watts = float("inf")
    for name, weight in load.circuit_weights.items():
        if weight > 0.0 and name in room and (among is None or name in among):
            spare_watts = min(spare_watts, room[name] / weight)
    return max(0.0, spare_watts)


def _raised_watts(one: _Capped) -> float:
    """The cap with what it gets, in whole steps; no higher than where it stops to bite."""
    cap_watts = one.lease.cap_watts
    if cap_watts + one.spare_watts >= one.loose_watts - 1e-6:
        return max(cap_watts, one.loose_watts)
    if one.spare_watts < STEP_WATTS:
        return cap_watts
    return max(cap_watts, STEP_WATTS * ((cap_watts + one.spare_watts) // STEP_WATTS))


def _lifted(load: JobLoad, kind: LimitKind, reason: str) -> SetCap:
    return SetCap(
        job_id=load.job.job_id, cap_watts=None, kind=kind, reason=reason, saved_watts=0.0, slowdown_ratio=0.0
    )


def _kept_or_raised(one: _Capped, cap_watts: float | None, slowdown: float) -> SetCap:
    if cap_watts is None:
        reason = "there is room again: the cap is lifted"
    elif cap_watts > one.lease.cap_watts:
        reason = f"there is room again: raised from {one.lease.cap_watts:.0f} to {cap_watts:.0f} W a GPU"
    else:
        reason = "still needed"
    kept_watts = one.load.uncapped_watts if cap_watts is None else cap_watts
    lock_hertz, full_hertz = one.lease.lock_hertz, one.lease.full_hertz
    if full_hertz is not None and cap_watts is not None and cap_watts != one.lease.cap_watts:
        lock_hertz = lock_hertz_for(cap_watts / max(one.load.uncapped_watts, 1.0), full_hertz)
    return SetCap(
        job_id=one.load.job.job_id,
        cap_watts=cap_watts,
        kind=one.lease.kind,
        reason=reason,
        saved_watts=max(0.0, one.load.uncapped_watts - kept_watts) * one.load.job.gpu_count,
        slowdown_ratio=slowdown,
        lock_hertz=None if cap_watts is None else lock_hertz,
        full_hertz=None if cap_watts is None else full_hertz,
    )
