"""What events ask of a circuit: the level they come down to, what is steered to, and what will be missing.

The limit of one event at each moment is :meth:`slurm_power.model.grid_event.LimitEvent.limit_at`.
"""

import math
from dataclasses import dataclass

import numpy as np

from slurm_power.model.action import Shortfall
from slurm_power.model.grid_event import Commitment, LimitEvent
from slurm_power.model.job import Job
from slurm_power.model.reading import EssReading
from slurm_power.model.site import Circuit, Ess, LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import joules_from_kwh, kilowatts_text
from slurm_power.plan.cap_columns import CapColumns
from slurm_power.plan.job_table import PlacedJobs
from slurm_power.plan.loads import LoadTable, behind_discharge_watts, circuit_watts
from slurm_power.plan.memo import LastFew
from slurm_power.plan.policy import Policy
from slurm_power.plan.site_table import Watts

RAMP_EVENT_ID = "ramp-up"
# Of an event's margin, what must be free below the target before a lever is let go.
_EVENT_ROOM_SHARE = 0.25


def level_watts(
    baseline_watts: float, *, cut_ratio: float | None = None, cut_watts: float | None = None
) -> float:
    """The level that a cut relative to a baseline comes down to; never below zero."""
    taken_watts = cut_watts if cut_watts is not None else (cut_ratio or 0.0) * baseline_watts
    return max(0.0, baseline_watts - taken_watts)


def least_ramp_seconds(from_watts: float, to_watts: float, watts_per_minute: float | None) -> float:
    """The shortest time in which a limit may slide between two loads; 0.0 where no ramp limit is set."""
    if watts_per_minute is None:
        return 0.0
    return 60.0 * abs(from_watts - to_watts) / watts_per_minute


def ramp_limit_watts(
    minute_mean_watts: float, watts_per_minute: float, *, least_minute_watts: float = math.inf
) -> float:
    """The most a load may draw now so that it rises by no more than ``watts_per_minute`` (R) in any minute.

    It stands 1/e of a minute's rise above the mean of the last minute. A load that follows it from rest steps
    up by R/e, grows e-fold until its first minute is over, when it has risen by R, and then keeps to the
    slope 2R/e (the load x solves x = mean of the last minute + R/e). A load that could not follow has stepped
    higher: until the minute is over it may be R above the lowest of it, and no more.
    """
    return min(minute_mean_watts + watts_per_minute / math.e, least_minute_watts + watts_per_minute)


def ramp_floor_watts(
    minute_mean_watts: float, watts_per_minute: float, *, most_minute_watts: float = 0.0
) -> float:
    """The least a load may draw now so that it falls by no more than ``watts_per_minute`` in any minute.

    `ramp_limit_watts` the other way round; a grid connection that feeds in nothing goes down to zero.
    """
    return max(0.0, minute_mean_watts - watts_per_minute / math.e, most_minute_watts - watts_per_minute)


def target_watts(snapshot: Snapshot, circuit: str, policy: Policy, *, ramp: bool = True) -> float:
    """What a circuit is steered to: the lowest of its limits, each less the margin kept for noise.

    An event's margin is its own: what is drawn less than asked is given away. Without ``ramp`` the site's own
    ramp does not count.
    """
    ceiling_watts = snapshot.site.circuits[circuit].ceiling_watts
    if not snapshot.events:
        return ceiling_watts * (1.0 - policy.margin_ratio)
    return min(
        [ceiling_watts * (1.0 - policy.margin_ratio)]
        + [
            event.lowest_within(policy.event_lead_seconds, ceiling_watts)
            * (1.0 - margin_ratio(event, policy))
            for event in snapshot.events
            if event.circuit == circuit and (ramp or event.event_id != RAMP_EVENT_ID)
        ]
    )


def margin_ratio(event: LimitEvent, policy: Policy) -> float:
    """The share of an event's limit that is kept free."""
    match event.commitment:
        case Commitment.LIMIT:
            return policy.margin_ratio
        case Commitment.MUST:
            return policy.event_margin_ratio
        case Commitment.BEST_EFFORT:
            return 0.0


def standing_watts(snapshot: Snapshot, circuit: str) -> float:
    """The limit of a circuit now without grid events: what its own kind of limit stands for."""
    ceiling_watts = snapshot.site.circuits[circuit].ceiling_watts
    if not snapshot.events:
        return ceiling_watts
    return min(
        [ceiling_watts]
        + [
            event.limit_at(0.0, ceiling_watts)
            for event in snapshot.events
            if event.circuit == circuit and event.commitment is Commitment.LIMIT
        ]
    )


def limit_kind(snapshot: Snapshot, circuit: Circuit, load_watts: float) -> LimitKind:
    """What is at stake: a grid event is economic, on a breaker's circuit too, up to the breaker's limit."""
    if not snapshot.events:
        return circuit.limit_kind
    standing = standing_watts(snapshot, circuit.name)
    if snapshot.limit_watts(circuit.name) < standing and load_watts <= standing:
        return LimitKind.ECONOMIC
    return circuit.limit_kind


def room_watts(snapshot: Snapshot, circuit: str, free_watts: float, policy: Policy) -> float:
    """What caps may give back where ``free_watts`` lie below the target; 0.0 while that is too little.

    In an event room is given away, so that little of it is enough: a quarter of the margin, since the target
    lies the whole margin below the level already. Hosts follow their GPUs, so that what is given back comes
    with more; a step that passed the level would have to be taken again.
    """
    limit_watts = snapshot.limit_watts(circuit)
    if limit_watts >= standing_watts(snapshot, circuit):
        return max(0.0, free_watts - policy.release_margin_ratio * limit_watts)
    span_watts = max(policy.training_gpu_watts - policy.idle_gpu_watts, 1.0)
    share = span_watts / (span_watts + policy.host_watts_per_gpu)
    return max(0.0, free_watts - _EVENT_ROOM_SHARE * policy.event_margin_ratio * limit_watts) * share


def foreseen_shortfalls(snapshot: Snapshot, table: LoadTable, policy: Policy) -> tuple[Shortfall, ...]:
    """Events that will not be met as things stand: by how much, and from when.

    What must run is the present load less what the promises allow to take from flexible jobs, and without
    jobs whose time limit ends before the event. Against it stand the level and what the batteries can give
    until the end, filled up to their target before if there is time. Best-effort events promise nothing.
    """
    draws: dict[str, _Draw] = {}
    found = []
    for event in snapshot.events:
        if event.commitment is Commitment.BEST_EFFORT or event.event_id == RAMP_EVENT_ID:
            continue
        total_watts = _total_watts(snapshot, event.circuit)
        if total_watts is None or total_watts <= event.limit_watts:
            continue
        if event.circuit not in draws:
            draws[event.circuit] = _draw(snapshot, event.circuit, total_watts, table, policy)
        short = _foreseen(snapshot, event, draws[event.circuit], policy)
        if short is not None:
            found.append(short)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Draw:
    """What a circuit draws, without its batteries.

    By job behind it: seconds to its end, the watts of it, and the watts that may be taken from it.
    """

    total_watts: float
    ends_in_seconds: Watts
    whole_watts: Watts
    takeable_watts: Watts

    def must_run_watts(self, in_seconds: float) -> float:
        ended = self.ends_in_seconds <= in_seconds
        gone_watts = np.where(ended, self.whole_watts, self.takeable_watts)
        return max(0.0, self.total_watts - float(gone_watts.sum()))


def must_run_watts(
    snapshot: Snapshot, circuit: str, table: LoadTable, policy: Policy, *, in_seconds: float = 0.0
) -> float | None:
    """The least that the present load of a circuit comes to within the promises; None without a reading."""
    total_watts = _total_watts(snapshot, circuit)
    if total_watts is None:
        return None
    return _draw(snapshot, circuit, total_watts, table, policy).must_run_watts(in_seconds)


def _total_watts(snapshot: Snapshot, circuit: str) -> float | None:
    net_watts = circuit_watts(snapshot, circuit)
    return None if net_watts is None else net_watts + behind_discharge_watts(snapshot, circuit)


def _draw(snapshot: Snapshot, circuit: str, total_watts: float, table: LoadTable, policy: Policy) -> _Draw:
    columns, placed = CapColumns(snapshot, table, policy), table.placed
    rows, weights = columns.members(circuit)
    # What an economic limit may still take from each GPU of a job.
    takeable_watts = np.where(
        columns.reachable & ~columns.yielded & ~columns.flex0,
        np.maximum(0.0, table.gpu_watts - columns.promised_watts),
        0.0,
    )
    return _Draw(
        total_watts,
        ends_in_seconds=ends_at(placed)[rows] - snapshot.at.timestamp(),
        whole_watts=weights * np.maximum(0.0, table.gpu_watts[rows] - policy.idle_gpu_watts),
        takeable_watts=weights * takeable_watts[rows],
    )


_ends: LastFew[Watts] = LastFew(3)


def ends_at(placed: PlacedJobs) -> Watts:
    """When the time limit of each placed job is over, in seconds of the epoch; inf where it has none."""
    return _ends.of(lambda: np.array([_ends_at(job) for job in placed.jobs], dtype=float), placed)


def _ends_at(job: Job) -> float:
    """When a job's time limit is over, in seconds of the epoch; inf where it has none."""
    if job.started is None or job.time_limit_seconds is None:
        return math.inf
    return job.started.timestamp() + job.time_limit_seconds


def _foreseen(snapshot: Snapshot, event: LimitEvent, draw: _Draw, policy: Policy) -> Shortfall | None:
    begins_seconds = max(0.0, event.starts_in_seconds)
    lasts_seconds = event.ends_in_seconds - begins_seconds
    if lasts_seconds <= 0.0:
        return None
    floor_watts = draw.must_run_watts(begins_seconds)
    gap_watts = floor_watts - event.limit_watts
    if gap_watts <= 0.5 * policy.margin_ratio * event.limit_watts:
        return None
    power_watts, energy_joules = batteries_then(snapshot, event.circuit, begins_seconds)
    if gap_watts <= power_watts:
        carried_seconds = energy_joules / gap_watts
        if carried_seconds >= lasts_seconds:
            return None
        missing_watts = gap_watts
        from_seconds = begins_seconds + carried_seconds
        then = f"the batteries carry it for {carried_seconds / 60.0:.0f} min"
    else:
        missing_watts = gap_watts - power_watts
        from_seconds = begins_seconds
        then = f"the batteries can give {kilowatts_text(power_watts)}"
    if from_seconds <= 0.0:
        # It is so now: the cycle sees for itself what caps and batteries leave.
        return None
    return Shortfall(
        circuit=event.circuit,
        watts=missing_watts,
        reason=f"{event.event_id} allows {kilowatts_text(event.limit_watts)}; within the promises"
        f" {kilowatts_text(floor_watts)} must run, and {then}",
        from_seconds=from_seconds,
        event_id=event.event_id,
    )


def batteries_then(snapshot: Snapshot, circuit: str, in_seconds: float) -> tuple[float, float]:
    """What the batteries behind a circuit can give from then on: watts, and joules above the reserve."""
    power_watts = energy_joules = 0.0
    for name, ess in snapshot.site.ess.items():
        reading = snapshot.ess.get(name)
        if reading is None or not reading.usable() or circuit not in snapshot.site.path(ess.circuit):
            continue
        usable_ratio = _soc_then(ess, reading, in_seconds) - ess.reserve_soc_ratio
        if usable_ratio > 0.0:
            power_watts += reading.max_discharge_watts
            energy_joules += joules_from_kwh(usable_ratio * reading.energy_rating_kwh * reading.soh_ratio)
    return power_watts, energy_joules


def _soc_then(ess: Ess, reading: EssReading, in_seconds: float) -> float:
    """The state of charge that can be reached by then, no higher than what the site charges to."""
    full_joules = joules_from_kwh(reading.energy_rating_kwh * reading.soh_ratio)
    if full_joules <= 0.0:
        return reading.soc_ratio
    charged_ratio = reading.soc_ratio + reading.max_charge_watts * in_seconds / full_joules
    return max(reading.soc_ratio, min(ess.target_soc_ratio, charged_ratio))
