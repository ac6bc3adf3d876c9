"""Share a needed reduction among jobs by what they promised, and give it back in the opposite order.

All GPUs of one job get the same cap: in a synchronous job the slowest GPU sets the pace, so an uneven
cap would cost the performance of all for the watts of some.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slurm_power.model.action import SetCap
from slurm_power.model.job import Flex
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.curves import promised_floor_watts, slowdown_ratio
from slurm_power.plan.loads import JobLoad
from slurm_power.plan.policy import Policy

_BY_FLEX = (Flex.FLEX3, Flex.FLEX2, Flex.FLEX1)
_STEP_WATTS = 5.0
# A cap this close above the uncapped draw no longer bites: it is let go.
_LOOSE_RATIO = 1.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one circuit still needs: ``watts`` > 0 must be shed, < 0 is room that may be given back.

    ``overload_watts`` is by how much it is above its limit for good, not by estimate and not for a moment:
    only this may take more from a job than was promised, and only for a safety limit.
    """

    circuit: str
    watts: float
    kind: LimitKind
    overload_watts: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CapResult:
    """The caps to set, what they save per circuit, and what no cap could save (> 0) per circuit."""

    actions: tuple[SetCap, ...]
    unmet_watts: Mapping[str, float]


def plan_caps(
    snapshot: Snapshot, loads: Sequence[JobLoad], demands: Sequence[Demand], policy: Policy
) -> CapResult:
    """Turn the circuits' demands into caps. ``demands`` come with the leaves of the tree first.

    Caps are lowered at once, counting in what the last change has not yet shown at the meter; they are
    raised only where every circuit on the job's path has room, and not before their dwell.
    """
    lowering = _Lowering(snapshot, loads, policy)
    unmet: dict[str, float] = {}
    for demand in demands:
        if demand.watts > 0.0:
            left_watts = lowering.meet(demand)
            if left_watts > 0.0:
                unmet[demand.circuit] = left_watts
    return CapResult(
        actions=(*lowering.actions(), *_raised(snapshot, loads, demands, lowering.targets, policy)),
        unmet_watts=unmet,
    )


class _Lowering:
    """The caps being lowered in one cycle: ``targets`` by job, and why."""

    def __init__(self, snapshot: Snapshot, loads: Sequence[JobLoad], policy: Policy) -> None:
        self.targets: dict[str, float] = {}
        self._reasons: dict[str, tuple[str, LimitKind]] = {}
        self._snapshot = snapshot
        self._loads = loads
        self._policy = policy
        self._promised = {
            load.job.job_id: _promised_watts(load, policy)
            for load in loads
            if load.job.flex is not Flex.FLEX0
        }
        # What a safety limit may ask of any job, whatever it was promised: the edge of the cliff.
        self._deepest = {
            load.job.job_id: max(policy.cap_floor_ratio * load.default_cap_watts, load.min_cap_watts)
            for load in loads
        }

    def meet(self, demand: Demand) -> float:
        """Lower caps for one circuit; return the watts that no cap can save."""
        left_watts = demand.watts - self._on_its_way_watts(demand.circuit)
        left_watts = self._lower_all(demand, left_watts, self._promised)
        if left_watts > 0.0 and demand.kind is LimitKind.SAFETY:
            urgent_watts = min(left_watts, demand.overload_watts)
            left_watts += self._lower_all(demand, urgent_watts, self._deepest) - urgent_watts
        return max(0.0, left_watts)

    def _lower_all(self, demand: Demand, left_watts: float, floors: Mapping[str, float]) -> float:
        for flex in (*_BY_FLEX, Flex.FLEX0):
            left_watts = self._lower_class(demand, left_watts, flex, floors)
        return max(0.0, left_watts)

    def _on_its_way_watts(self, circuit: str) -> float:
        """What caps planned in this cycle, and ones too young to show at the meter, save on a circuit."""
        total_watts = 0.0
        for load in self._loads:
            weight = load.circuit_weights.get(circuit, 0.0)
            total_watts += (_draw_watts(load, {}) - _draw_watts(load, self.targets)) * weight
            lease = self._snapshot.caps.get(load.job.job_id)
            if lease is not None and lease.changed_seconds_ago < self._policy.cap_settle_seconds:
                total_watts += lease.lowered_watts * weight
        return total_watts

    def _lower_class(
        self, demand: Demand, left_watts: float, flex: Flex, floors: Mapping[str, float]
    ) -> float:
        """Lower all jobs of one flex class evenly between draw and floor; return what is left."""
        if left_watts <= 0.0:
            return 0.0
        group = []
        for load in self._loads:
            barred = load.yielded and demand.kind is LimitKind.ECONOMIC
            if load.reachable and not barred and load.job.flex is flex and load.job.job_id in floors:
                draw_watts, floor_watts = _draw_watts(load, self.targets), floors[load.job.job_id]
                watts = (draw_watts - floor_watts) * load.circuit_weights.get(demand.circuit, 0.0)
                if watts > 0.0:
                    group.append((load.job.job_id, draw_watts, floor_watts, watts))
        total_watts = sum(watts for *_, watts in group)
        if total_watts <= 0.0:
            return left_watts
        share = min(1.0, left_watts / total_watts)
        for job_id, draw_watts, floor_watts, _ in group:
            self.targets[job_id] = _stepped(draw_watts - share * (draw_watts - floor_watts), floor_watts)
            self._reasons[job_id] = (_why(self._snapshot, demand, self._policy), demand.kind)
        return left_watts - share * total_watts

    def actions(self) -> list[SetCap]:
        """The lowered caps, with reasons their owners can read."""
        return [
            _lowered(load, self.targets[load.job.job_id], *self._reasons[load.job.job_id])
            for load in self._loads
            if load.job.job_id in self.targets
        ]


def _promised_watts(load: JobLoad, policy: Policy) -> float:
    """The floor of a job's promise. A cap is felt by its busiest GPU, which the others wait for."""
    return promised_floor_watts(
        load.job,
        uncapped_watts=max(load.uncapped_watts, min(load.busiest_watts, load.default_cap_watts)),
        default_cap_watts=load.default_cap_watts,
        min_cap_watts=load.min_cap_watts,
        policy=policy,
    )


def _draw_watts(load: JobLoad, targets: Mapping[str, float]) -> float:
    """The draw per GPU to count on: what is measured or still coming, under the cap now being planned."""
    # A start may overshoot the device's own limit for a moment: that is nothing a cap could save.
    drawn = min(load.gpu_watts + load.coming_watts, load.default_cap_watts)
    if load.cap_watts is not None:
        drawn = min(drawn, load.cap_watts)
    return min(drawn, targets.get(load.job.job_id, drawn))


def _stepped(watts: float, floor_watts: float) -> float:
    """Round down to whole steps, never below the floor: fewer writes, and never less saved than asked."""
    return max(floor_watts, _STEP_WATTS * (watts // _STEP_WATTS))


def _why(snapshot: Snapshot, demand: Demand, policy: Policy) -> str:
    limit = kilowatts_text(snapshot.limit_watts(demand.circuit, policy.event_lead_seconds))
    return f"{demand.circuit} must stay below {limit} ({demand.kind.value} limit)"


def _lowered(load: JobLoad, cap_watts: float, reason: str, kind: LimitKind) -> SetCap:
    slowdown = slowdown_ratio(load.job.workload, cap_watts, load.uncapped_watts)
    promised = load.job.flex.max_slowdown_ratio
    text = f"{reason}; {load.job.flex.value} allows up to {promised:.0%} slowdown, expected {slowdown:.0%}"
    if slowdown > promised + 1e-6:
        text += ", which is beyond the promise and happens for safety only"
    return SetCap(
        job_id=load.job.job_id,
        cap_watts=cap_watts,
        kind=kind,
        reason=text,
        saved_watts=max(0.0, load.uncapped_watts - cap_watts) * load.job.gpu_count,
        slowdown_ratio=slowdown,
    )


def _raised(
    snapshot: Snapshot,
    loads: Sequence[JobLoad],
    demands: Sequence[Demand],
    targets: Mapping[str, float],
    policy: Policy,
) -> list[SetCap]:
    """Give room back, the least flexible jobs first; renew every cap that stays.

    What a safety limit took beyond a promise goes back as soon as the safety limits leave room for it: an
    economic limit may not keep it.
    """
    room = {demand.circuit: -demand.watts for demand in demands}
    safe = {demand.circuit for demand in demands if demand.kind is LimitKind.SAFETY}
    actions = []
    capped = [load for load in loads if load.cap_watts is not None and load.job.job_id not in targets]
    for load in sorted(capped, key=lambda load: load.job.flex.max_slowdown_ratio):
        lease = snapshot.caps[load.job.job_id]
        if load.yielded and lease.kind is LimitKind.ECONOMIC:
            actions.append(_lifted(load, lease.kind, "its node is yielded to the administrator"))
            continue
        spare_watts = _spare_watts(load, room)
        owed_watts = min(
            _promised_watts(load, policy) - lease.cap_watts,
            _spare_watts(load, {name: watts for name, watts in room.items() if name in safe}),
        )
        spare_watts = max(spare_watts, owed_watts)
        cap_watts = lease.cap_watts
        if lease.changed_seconds_ago >= policy.cap_dwell_seconds:
            cap_watts = _raised_watts(load, lease.cap_watts, spare_watts)
            for name, weight in load.circuit_weights.items():
                if name in room:
                    room[name] -= (min(cap_watts, load.uncapped_watts) - lease.cap_watts) * weight
        done = cap_watts >= min(load.uncapped_watts, load.default_cap_watts)
        actions.append(_kept_or_raised(load, lease.kind, lease.cap_watts, None if done else cap_watts))
    return actions


def _lifted(load: JobLoad, kind: LimitKind, reason: str) -> SetCap:
    return SetCap(
        job_id=load.job.job_id, cap_watts=None, kind=kind, reason=reason, saved_watts=0.0, slowdown_ratio=0.0
    )


def _spare_watts(load: JobLoad, room: Mapping[str, float]) -> float:
    """Watts per GPU that every circuit on the job's path, of those in ``room``, can still give."""
    limiting = [
        room[name] / weight for name, weight in load.circuit_weights.items() if name in room and weight > 0.0
    ]
    return max(0.0, min(limiting, default=float("inf")))


def _raised_watts(load: JobLoad, cap_watts: float, spare_watts: float) -> float:
    """The cap with ``spare_watts`` more, in whole steps; no higher than where it stops to bite."""
    loose_watts = load.uncapped_watts * _LOOSE_RATIO
    if cap_watts + spare_watts >= loose_watts:
        return max(cap_watts, loose_watts)
    if spare_watts < _STEP_WATTS:
        return cap_watts
    return max(cap_watts, _STEP_WATTS * ((cap_watts + spare_watts) // _STEP_WATTS))


def _kept_or_raised(load: JobLoad, kind: LimitKind, old_watts: float, cap_watts: float | None) -> SetCap:
    if cap_watts is None:
        reason = "there is room again: the cap is lifted"
    elif cap_watts > old_watts:
        reason = f"there is room again: raised from {old_watts:.0f} to {cap_watts:.0f} W a GPU"
    else:
        reason = "still needed"
    kept_watts = load.uncapped_watts if cap_watts is None else cap_watts
    return SetCap(
        job_id=load.job.job_id,
        cap_watts=cap_watts,
        kind=kind,
        reason=reason,
        saved_watts=max(0.0, load.uncapped_watts - kept_watts) * load.job.gpu_count,
        slowdown_ratio=slowdown_ratio(load.job.workload, kept_watts, load.uncapped_watts),
    )
