"""Stop running jobs below the cliff: where caps are at their floors, or dearer than a job that does nothing.

Only jobs of a class that the site allows, never longer than their promise: at every moment what a job has
lost to pauses and caps is at most the promised share of the time since its start.
"""

import math
from collections.abc import Sequence

import numpy as np

from slurm_power.model.action import PauseJob, ResumeJob, SetCap
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import PauseLease, Snapshot
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.cap_columns import CapColumns, Floats
from slurm_power.plan.caps import CapResult, Demand
from slurm_power.plan.loads import JobLoad, LoadTable, behind_discharge_watts, consumer_watts, loads_of
from slurm_power.plan.pausable import (
    Candidate,
    Pausable,
    coming_back,
    may_be_paused,
    missing_watts,
    pausable_seconds,
)
from slurm_power.plan.policy import Policy
from slurm_power.plan.prices import JobWeights, pause_work_per_kwh

# So long before a pause ends its job's draw is looked for somewhere else.
_HANDOVER_SECONDS = 15.0
# Prices that differ by less are the same: the noise of a draw is no reason to pause another job.
_SAME_PRICE_RATIO = 0.1


def plan_pauses(
    snapshot: Snapshot, table: LoadTable, demands: Sequence[Demand], caps: CapResult | None, policy: Policy
) -> tuple[PauseJob | ResumeJob, ...]:
    """Pauses to begin, renew and end. ``demands`` and ``caps`` are those of this cycle.

    Without ``caps`` none is begun.

    Costs nothing where the site allows no pauses and none stands.
    """
    if not policy.pause_flex and not snapshot.pauses:
        return ()
    standing = _Standing(snapshot, table, demands, policy)
    kept = standing.actions()
    if not policy.pause_flex or caps is None:
        return tuple(kept)
    needs = _Needs(snapshot, table, demands, policy)
    needs.look(demands, caps, standing)
    begun: list[PauseJob] = []
    for demand in demands:
        begun += needs.begun(demand)
    return (*kept, *begun)


class _Standing:
    """The pauses that stand: which end now, and what comes back with them."""

    def __init__(
        self, snapshot: Snapshot, table: LoadTable, demands: Sequence[Demand], policy: Policy
    ) -> None:
        self._snapshot, self._policy = snapshot, policy
        self.room = {demand.circuit: max(0.0, -demand.watts) for demand in demands}
        self.ending = dict.fromkeys(self.room, 0.0)
        self.settling = dict.fromkeys(self.room, 0.0)
        self._loads = []
        for load, drawn_watts in coming_back(snapshot, table, policy):
            back_watts = missing_watts(load, drawn_watts, policy)
            if load.job.job_id in snapshot.pauses:
                self._loads.append((load, back_watts))
                continue
            # It runs again, and has not come up yet: that room is spoken for.
            self._commit(load, back_watts)

    def actions(self) -> list[PauseJob | ResumeJob]:
        """Renew or end each pause, those whose work is dearest first."""
        weights = JobWeights(self._snapshot, self._policy)
        ordered = sorted(
            self._loads,
            key=lambda pair: (
                -weights.work(pair[0].job) * weights.debt_factor(pair[0].job),
                -self._snapshot.pauses[pair[0].job.job_id].paused_seconds,
                pair[0].job.job_id,
            ),
        )
        return [self._action(load, back_watts) for load, back_watts in ordered]

    def _action(self, load: JobLoad, back_watts: float) -> PauseJob | ResumeJob:
        snapshot, policy, job = self._snapshot, self._policy, load.job
        lease = snapshot.pauses[job.job_id]
        left_seconds = min(
            pausable_seconds(snapshot, job, policy), policy.pause_most_seconds - lease.paused_seconds
        )
        why = self._why_not_longer(load, lease, left_seconds)
        if not why and lease.paused_seconds >= policy.pause_least_seconds and self._fits(load, back_watts):
            why = "there is room for its full draw again"
        if why:
            self._commit(load, back_watts)
            return ResumeJob(job_id=job.job_id, reason=why)
        if left_seconds < _HANDOVER_SECONDS:
            self._add(self.ending, load, back_watts)
        elif lease.paused_seconds < policy.start_expected_seconds:
            self._add(self.settling, load, max(0.0, load.gpu_watts - policy.paused_gpu_watts))
        return PauseJob(
            job_id=job.job_id,
            kind=lease.kind,
            drawn_watts=lease.drawn_watts,
            reason="it stays paused",
            saved_watts=back_watts * load.circuit_weights.get(snapshot.site.root.name, 0.0),
            renewed=True,
        )

    def _why_not_longer(self, load: JobLoad, lease: PauseLease, left_seconds: float) -> str:
        if not may_be_paused(load.job, self._policy):
            return "the site pauses jobs of its class no longer"
        if load.yielded and lease.kind is LimitKind.ECONOMIC:
            return "its node is yielded to the administrator"
        if left_seconds <= 0.0:
            return "it has been paused as long as was promised"
        return ""

    def _fits(self, load: JobLoad, back_watts: float) -> bool:
        return all(
            back_watts * weight <= self.room.get(name, 0.0) for name, weight in load.circuit_weights.items()
        )

    def _commit(self, load: JobLoad, back_watts: float) -> None:
        for name, weight in load.circuit_weights.items():
            self.room[name] = max(0.0, self.room.get(name, 0.0) - back_watts * weight)

    @staticmethod
    def _add(sums: dict[str, float], load: JobLoad, watts: float) -> None:
        for name, weight in load.circuit_weights.items():
            sums[name] += watts * weight


class _Needs:
    """What each circuit still needs that caps cannot give, or only at a price above a pause's."""

    def __init__(
        self, snapshot: Snapshot, table: LoadTable, demands: Sequence[Demand], policy: Policy
    ) -> None:
        self._snapshot, self._table, self._policy = snapshot, table, policy
        circuits = [demand.circuit for demand in demands]
        self._need_watts = dict.fromkeys(circuits, 0.0)
        self._taken_watts = dict.fromkeys(circuits, 0.0)
        self._cliff: dict[str, tuple[float, float]] = {}
        self._columns: CapColumns | None = None
        self._planned: dict[str, SetCap] = {}
        self._chosen: set[str] = set()

    def look(self, demands: Sequence[Demand], caps: CapResult, standing: _Standing) -> None:
        """Work out what is needed; nothing is looked at where no cap is short, set, or soon to be."""
        self._planned = {action.job_id: action for action in caps.actions if action.cap_watts is not None}
        short = any(watts > 0.0 for watts in caps.unmet_watts.values())
        if not (short or self._planned or any(watts > 0.0 for watts in standing.ending.values())):
            return
        snapshot, policy = self._snapshot, self._policy
        self._columns = columns = CapColumns(snapshot, self._table, policy)
        slack = np.maximum(0.0, columns.drawn_watts - columns.floor_watts) * columns.reachable
        now_watts, beyond = columns.drawn_watts.copy(), np.zeros(len(columns.drawn_watts))
        for row, job in enumerate(columns.placed.jobs):
            action = self._planned.get(job.job_id)
            if action is None or action.cap_watts is None or job.job_id in snapshot.pauses:
                continue
            now_watts[row] = min(now_watts[row], action.cap_watts)
            if action.kind is LimitKind.SAFETY and not columns.flex0[row]:
                beyond[row] = max(0.0, columns.safety_floor_watts[row] - action.cap_watts)
        cliff_watts, money = _cliff(columns, now_watts, policy)
        slack_watts, beyond_watts = columns.circuit_watts(slack), columns.circuit_watts(beyond)
        for demand in demands:
            name = demand.circuit
            rows, weights = columns.members(name)
            per_hour = float((cliff_watts * money * columns.gpus)[rows].sum()) / 1000.0
            self._cliff[name] = (float(cliff_watts[rows] @ weights), per_hour)
            need = max(0.0, caps.unmet_watts.get(name, 0.0) - spike_watts(snapshot, name))
            if demand.kind is LimitKind.SAFETY:
                need += beyond_watts[name]
            need = max(need, standing.ending[name] - standing.room[name] - slack_watts[name])
            need -= standing.settling[name]
            least_watts = 0.5 * policy.margin_ratio * snapshot.limit_watts(name)
            self._need_watts[name] = need if need > least_watts else 0.0

    def begun(self, demand: Demand) -> list[PauseJob]:
        """The pauses to begin for one circuit, the cheapest that meet its need."""
        name, columns = demand.circuit, self._columns
        # What an outer circuit needs may be met already by a pause that an inner one has asked for.
        need = self._need_watts[name] - self._taken_watts[name]
        cliff_watts, cliff_money = (0.0, 0.0) if self._chosen else self._cliff.get(name, (0.0, 0.0))
        if columns is None or (need <= 0.0 and cliff_watts <= 0.0):
            return []
        pausable = Pausable(self._snapshot, self._policy)
        found = [
            pausable.candidate(load, name, self._planned.get(load.job.job_id))
            for load in loads_of(self._snapshot, self._table, columns.members(name)[0].tolist())
            if load.job.job_id not in self._chosen and not pausable.why_not(load, demand.kind)
        ]
        begun = []
        for one in picked(found, need, cliff_watts, cliff_money):
            self._chosen.add(one.load.job.job_id)
            for circuit, weight in one.load.circuit_weights.items():
                self._taken_watts[circuit] += one.gpu_watts * weight
            begun.append(
                PauseJob(
                    job_id=one.load.job.job_id,
                    kind=demand.kind,
                    drawn_watts=one.load.uncapped_watts,
                    reason=self._why(demand, one, need),
                    saved_watts=one.saved_watts,
                )
            )
        return begun

    def _why(self, demand: Demand, one: Candidate, need_watts: float) -> str:
        limit_watts = self._snapshot.limit_watts(demand.circuit, self._policy.event_lead_seconds)
        why = "caps are at their floors" if need_watts > 0.0 else "caps this deep cost more than a stop"
        return (
            f"{demand.circuit} must stay below {kilowatts_text(limit_watts)} ({demand.kind.value} limit) and"
            f" {why}; {one.load.job.flex.value} allows a pause of {one.lasts_seconds:.0f} s now"
        )


def spike_watts(snapshot: Snapshot, circuit: str) -> float:
    """By how much a circuit's last reading is above the lower of its last two: no pause is for a spike."""
    load_watts, lasting_watts = consumer_watts(snapshot)[circuit], snapshot.lasting_watts.get(circuit)
    if load_watts is None or lasting_watts is None:
        return 0.0
    return max(0.0, load_watts - lasting_watts - behind_discharge_watts(snapshot, circuit))


def _cliff(columns: CapColumns, now_watts: Floats, policy: Policy) -> tuple[Floats, Floats]:
    """What caps take from each GPU where that costs more than a pause of the job would, and the price of it.

    That is where its curve is steeper than the line from full speed to a stop: below 60 % of its draw
    in training. The price is money per kWh at the job's own GPUs.
    """
    base = np.maximum(columns.uncapped_watts, 1.0)
    saved = np.maximum(base - policy.paused_gpu_watts, 1.0)
    own = pause_work_per_kwh(
        np.ones(len(base)),
        np.ones(len(base)),
        saved,
        policy.pause_cost_seconds,
        np.full(len(base), policy.pause_most_seconds),
    )
    own = own * columns.worth
    steep = columns.money > own[:, None]
    tops = np.minimum(columns.high_watts, np.minimum(base, columns.default_watts)[:, None])
    taken = np.maximum(0.0, tops - np.maximum(columns.low_watts, now_watts[:, None])) * steep
    # A job that is hardly drawing is not capped below its cliff.
    taken *= np.isfinite(columns.capped_watts)[:, None]
    watts = taken.sum(axis=1)
    money = (taken * columns.money).sum(axis=1) / np.maximum(watts, 1e-9)
    return watts, money


def picked(
    found: Sequence[Candidate], need_watts: float, cliff_watts: float, cliff_money_per_hour: float
) -> list[Candidate]:
    """The pauses that meet a need for the least, else one cheaper than the cliff that it lifts others off.

    Jobs are stopped whole: while none alone is enough the cheapest watt goes first, then the cheapest job
    that is enough.
    """
    left = sorted(found, key=lambda one: (_step(one.price.money_per_kwh), one.load.job.job_id))
    found_best: list[Candidate] = []
    while need_watts > 0.0 and left:
        enough = [one for one in left if one.saved_watts >= need_watts]
        one = min(enough, key=lambda able: _step(able.money_per_hour), default=left[0])
        if left[0].saved_watts < need_watts and left[0].money_per_hour < one.money_per_hour:
            one = left[0]
        found_best.append(one)
        left.remove(one)
        need_watts -= one.saved_watts
    if not found_best and left and cliff_watts > 0.0:
        one = left[0]
        lifted = min(1.0, one.saved_watts / cliff_watts)
        if one.money_per_hour < lifted * cliff_money_per_hour:
            found_best.append(one)
    return found_best


def _step(money: float) -> int:
    """A price in steps, within which all are the same."""
    return math.floor(math.log(max(money, 1e-9)) / math.log1p(_SAME_PRICE_RATIO))
