"""Give room back to capped jobs, the dearest watt first, and renew every cap that stays.

Thousands of caps may stand, each is renewed every second, and few of them change: what stays is looked
through as columns, and its actions are those of the cycle before.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slurm_power.model.action import SetCap
from slurm_power.plan.cap_columns import STEP_WATTS, Bools, CapColumns, Floats, Ints
from slurm_power.plan.clocks import lock_hertz_for
from slurm_power.plan.job_table import PlacedJobs
from slurm_power.plan.memo import LastFew
from slurm_power.plan.policy import Policy

# A cap this close above the uncapped draw no longer bites: it is let go.
_LOOSE_RATIO = 1.02
# Room that is no more than what is left of rounding.
_NO_ROOM_WATTS = 1e-6


def given_back(
    columns: CapColumns,
    *,
    room: Mapping[str, float],
    level_room: Mapping[str, float],
    safe: Set[str],
    lowered: Set[int],
    policy: Policy,
) -> list[SetCap]:
    """Every cap that is not being lowered: raised into ``room`` (watts by circuit), lifted, or renewed.

    What a safety limit took beyond a promise goes back as soon as the safety limits (``safe``) leave room
    for it: an economic limit may not keep it, nor a level for money with its ``level_room``.
    """
    leases = columns.leases
    kept = np.isfinite(columns.capped_watts)
    kept[list(lowered)] = False
    left_alone = kept & columns.yielded & leases.economic
    kept &= ~left_alone
    room = _without_unseen(columns, room, policy)
    cap_watts = columns.capped_watts.copy()
    ripe = kept & (leases.changed_seconds_ago >= policy.cap_dwell_seconds)
    if ripe.any():
        release = _Release(columns, ripe, room)
        release.give_owed(safe)
        release.bound(level_room)
        release.give_dearest_first()
        rows = np.flatnonzero(release.spare_watts > 0.0)
        cap_watts[rows] = release.raised_watts(rows)
    done = kept & (cap_watts >= np.minimum(columns.uncapped_watts, columns.default_watts))
    found = np.full(len(kept), None, dtype=object)
    for row in np.flatnonzero(left_alone).tolist():
        found[row] = _lifted(columns, row, "its node is yielded to the administrator")
    for row in np.flatnonzero(done).tolist():
        found[row] = _lifted(columns, row, "there is room again: the cap is lifted")
    raised = kept & ~done & (cap_watts > columns.capped_watts)
    stays = kept & ~done & ~raised
    _set(found, columns, np.flatnonzero(raised), cap_watts)
    before = _renewals.newest()
    renewals = _renewals.of(lambda: _renewed(columns, stays, before), columns)
    found[stays] = renewals.actions[stays]
    actions: list[SetCap] = found[kept | left_alone].tolist()
    return actions


def _without_unseen(columns: CapColumns, room: Mapping[str, float], policy: Policy) -> dict[str, float]:
    """``room`` less what has been given back and does not show at the meter yet: it is not there twice."""
    leases = columns.leases
    young = leases.changed_seconds_ago < policy.cap_settle_seconds
    raised_watts = np.where(young, np.maximum(-leases.lowered_watts, 0.0), 0.0)
    if not raised_watts.any():
        return dict(room)
    unseen_watts = columns.circuit_watts(raised_watts)
    return {name: watts - unseen_watts[name] for name, watts in room.items()}


class _Release:
    """What is given back in one cycle: ``spare_watts`` on each GPU of a job, out of the circuits' room."""

    def __init__(self, columns: CapColumns, ripe: Bools, room: Mapping[str, float]) -> None:
        self._columns = columns
        self._ripe = ripe
        self._left = dict(room)
        self._loose_watts = columns.uncapped_watts * _LOOSE_RATIO
        self.spare_watts = np.zeros(len(ripe))

    def give_owed(self, safe: Set[str]) -> None:
        """Back to the promise first, whatever an economic limit says."""
        columns = self._columns
        promised_watts = np.where(columns.leases.by_lock, columns.promised_watts, columns.cap_promised_watts)
        owed_watts = promised_watts - columns.capped_watts
        owed = self._ripe & (owed_watts > 0.0)
        if not owed.any():
            return
        owed &= ~columns.behind(name for name in safe if self._left[name] <= 0.0)
        if self._give_to(np.where(owed, owed_watts, 0.0), safe):
            return
        for row in np.flatnonzero(owed).tolist():
            self._give(row, min(float(owed_watts[row]), self._spare_watts(row, among=safe)))

    def bound(self, level_room: Mapping[str, float]) -> None:
        """From here on a level leaves no more than this."""
        for name, watts in level_room.items():
            self._left[name] = min(self._left.get(name, watts), watts)

    def give_dearest_first(self) -> None:
        """Stretch by stretch of the jobs' curves, as far as every circuit on a job's path has room."""
        columns = self._columns
        able = self._ripe & ~columns.behind(name for name, watts in self._left.items() if watts <= 0.0)
        rows = np.flatnonzero(able)
        all_watts = self._loose_watts - columns.capped_watts - self.spare_watts
        if not len(rows) or self._give_to(np.where(able, all_watts, 0.0), self._left.keys()):
            return
        starts = columns.capped_watts[rows] + self.spare_watts[rows]
        widths = np.minimum(columns.high_watts[rows], self._loose_watts[rows][:, None]) - np.maximum(
            columns.low_watts[rows], starts[:, None]
        )
        cells = np.flatnonzero(widths > 0.0)
        places, stretches = np.divmod(cells, widths.shape[1])
        # The lowest stretch of a job is its dearest, so each job is raised from where it is.
        order = np.lexsort(
            (-stretches, columns.name_ranks[rows[places]], -columns.money[rows[places], stretches])
        )
        full: set[int] = set()
        root = columns.root
        for row, width in zip(
            rows[places[order]].tolist(), widths.ravel()[cells[order]].tolist(), strict=True
        ):
            if row in full:
                continue
            spare_watts = self._spare_watts(row)
            if spare_watts < width:
                full.add(row)
            if spare_watts > 0.0:
                self._give(row, min(width, spare_watts))
                if self._left.get(root, np.inf) <= _NO_ROOM_WATTS:
                    return  # it is on every path

    def _give_to(self, more_watts: Floats, among: Set[str]) -> bool:
        """Give that much more at once where the circuits ``among`` have room; False, nothing done, if not."""
        needed_watts = self._columns.circuit_watts(more_watts)
        if any(needed_watts[name] > max(0.0, self._left[name]) for name in among):
            return False
        uncapped_watts = self._columns.uncapped_watts
        before_watts = self._columns.capped_watts + self.spare_watts
        more_watts = np.maximum(more_watts, 0.0)
        used_watts = np.minimum(before_watts + more_watts, uncapped_watts)
        used_watts -= np.minimum(before_watts, uncapped_watts)
        self.spare_watts += more_watts
        for name, watts in self._columns.circuit_watts(used_watts).items():
            if name in self._left:
                self._left[name] -= watts
        return True

    def _give(self, row: int, watts: float) -> None:
        """Give ``watts`` a GPU more; above the uncapped draw they cost no room."""
        uncapped_watts = float(self._columns.uncapped_watts[row])
        before_watts = float(self._columns.capped_watts[row] + self.spare_watts[row])
        self.spare_watts[row] += watts
        used_watts = min(before_watts + watts, uncapped_watts) - min(before_watts, uncapped_watts)
        for name, weight in self._columns.circuit_weights(row).items():
            if name in self._left:
                self._left[name] -= used_watts * weight

    def _spare_watts(self, row: int, among: Set[str] | None = None) -> float:
        """Watts per GPU that every circuit on the job's path (of those ``among``) can give."""
        spare_watts = float("inf")
        for name, weight in self._columns.circuit_weights(row).items():
            if weight > 0.0 and name in self._left and (among is None or name in among):
                spare_watts = min(spare_watts, self._left[name] / weight)
        return max(0.0, spare_watts)

    def raised_watts(self, rows: Ints) -> Floats:
        """The caps of ``rows`` with what they get, in whole steps; no higher than where they stop to bite."""
        cap_watts, spare_watts = self._columns.capped_watts[rows], self.spare_watts[rows]
        loose_watts, reached_watts = self._loose_watts[rows], cap_watts + spare_watts
        steps_watts = np.where(
            spare_watts < STEP_WATTS, cap_watts, STEP_WATTS * np.floor(reached_watts / STEP_WATTS)
        )
        raised = np.where(reached_watts >= loose_watts - 1e-6, loose_watts, steps_watts)
        return np.maximum(cap_watts, raised)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Renewals:
    """The renewed caps of a cycle, one value per job, and all that they were made from.

    ``figures`` are rows of cap, uncapped draw, lock and full clock; NaN where nothing was renewed.
    """

    of: PlacedJobs
    figures: Floats
    economic: Bools
    actions: npt.NDArray[np.object_]


_renewals: LastFew[_Renewals] = LastFew(1)


def _renewed(columns: CapColumns, stays: Bools, before: _Renewals | None) -> _Renewals:
    """The actions of caps that stay: those of the cycle before where all is the same."""
    leases = columns.leases
    figures = np.stack((columns.capped_watts, columns.uncapped_watts, leases.lock_hertz, leases.full_hertz))
    figures[:, ~stays] = np.nan
    news, actions = stays, np.full(len(stays), None, dtype=object)
    if before is not None and before.of is columns.placed:
        news = stays & ((figures != before.figures).any(axis=0) | (leases.economic != before.economic))
        same = stays & ~news
        actions[same] = before.actions[same]
    _set(actions, columns, np.flatnonzero(news), columns.capped_watts)
    return _Renewals(of=columns.placed, figures=figures, economic=leases.economic, actions=actions)


def _set(found: npt.NDArray[np.object_], columns: CapColumns, rows: Ints, cap_watts: Floats) -> None:
    """Put the actions of kept or raised caps into ``found``."""
    slowdowns = columns.slowdowns(rows, cap_watts[rows], columns.leases.by_lock[rows])
    for row, watts, slowdown in zip(rows.tolist(), cap_watts[rows].tolist(), slowdowns.tolist(), strict=True):
        found[row] = _kept_or_raised(columns, row, watts, slowdown)


def _kept_or_raised(columns: CapColumns, row: int, cap_watts: float, slowdown: float) -> SetCap:
    job, lease = columns.placed.jobs[row], columns.lease(row)
    uncapped_watts, lock_hertz = float(columns.uncapped_watts[row]), lease.lock_hertz
    reason = "still needed"
    if cap_watts > lease.cap_watts:
        reason = f"there is room again: raised from {lease.cap_watts:.0f} to {cap_watts:.0f} W a GPU"
        if lease.full_hertz is not None:
            lock_hertz = lock_hertz_for(cap_watts / max(uncapped_watts, 1.0), lease.full_hertz)
    return SetCap(
        job_id=job.job_id,
        cap_watts=cap_watts,
        kind=lease.kind,
        reason=reason,
        saved_watts=max(0.0, uncapped_watts - cap_watts) * job.gpu_count,
        slowdown_ratio=slowdown,
        lock_hertz=lock_hertz,
        full_hertz=lease.full_hertz,
    )


def _lifted(columns: CapColumns, row: int, reason: str) -> SetCap:
    return SetCap(
        job_id=columns.placed.jobs[row].job_id,
        cap_watts=None,
        kind=columns.lease(row).kind,
        reason=reason,
        saved_watts=0.0,
        slowdown_ratio=0.0,
    )
