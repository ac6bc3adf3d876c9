"""Limits as licence windows: what is kept from new jobs, from when until when, in nested levels.

Slurm charges a pending job with the sum of all windows that meet its time. So windows are nested: one that
is deeper lies within one that is shallower, and a job that meets the deepest is charged with the need there,
no more. Two dips that lie apart cannot be nested: a job that meets both is charged with both, to be safe.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from slurm_power.model.admission import LicenceWindow
from slurm_power.model.grid_event import Commitment, LimitEvent
from slurm_power.model.site import Circuit, LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.event_target import RAMP_EVENT_ID
from slurm_power.plan.level_levers import jobs_level_of, level_start_room_watts
from slurm_power.plan.loads import load_table
from slurm_power.plan.policy import Policy

HORIZON_SECONDS = 7 * 86_400.0
# How far ahead the supply's limit is known: an end there moves on with the time.
_SUPPLY_SECONDS = 86_400.0 - 600.0
# A valley between two dips that is shorter is filled: few jobs would fit into it.
FILL_SECONDS = 900.0
MOST_WINDOWS = 24
_LEAST_OTHER_RATIO = 0.01
# A recovery that rises is cut into so many steps.
_RISE_STEPS = 4
_JUST_BEFORE_SECONDS = 1e-3
# Times that are whole seconds but for the arithmetic.
_ROUNDING_SECONDS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What must be kept from new jobs over [start, end), in seconds from now, and why.

    ``open_end``: its end is a lease, nobody knows when the need ends.
    """

    start: float
    end: float
    watts: float
    reason: str = ""
    open_end: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What the licences are of, and what of it they do not count.

    ``total_watts``: the licence's total in the workload manager. ``other_watts``: what the circuit draws
    beside the watts that running jobs have as licences.
    ``ess_watts``: what batteries carry of an event, of what is to count as room. ``largest_watts``: the
    largest job that has waited as long as it promised: what has no end leaves it room on an empty site.
    ``understated_watts``: how much more running jobs would draw without caps than their licences say, for
    ``understated_seconds`` at the longest.
    """

    circuit: Circuit
    total_watts: int
    other_watts: float
    lease_seconds: float
    ess_watts: float = 0.0
    largest_watts: float = 0.0
    understated_watts: float = 0.0
    understated_seconds: float = 0.0


def safety_watts(circuit: Circuit) -> float:
    """What a circuit may draw for its breaker's sake."""
    return circuit.ceiling_watts if circuit.limit_kind is LimitKind.SAFETY else circuit.rating_watts


def needs(snapshot: Snapshot, budget: Budget, policy: Policy) -> tuple[Need, ...]:
    """What must be kept free of the licences from now on, in contiguous steps.

    What stands counts to the end of the last event that needs more; where there is none, for one lease.
    Events of the circuit itself count, those of others do not. What licences understate is kept at the
    least, also behind that: caps free room for what lies within a limit, never for what the breaker carries.
    """
    events = [
        event
        for event in snapshot.events
        if event.circuit == budget.circuit.name and event.event_id != RAMP_EVENT_ID
    ]
    ceiling = budget.circuit.ceiling_watts
    lasts = [
        (event.starts_in_seconds - event.ramp_seconds, event.over_in_seconds(ceiling), event)
        for event in events
    ]
    standing_watts, standing_reason = _standing(snapshot, budget, policy)
    steps = []
    edges = _edges(events, budget)
    for start, end in pairwise(edges):
        watts, reason = standing_watts, standing_reason
        for begins, over, event in lasts:
            if begins >= end or over <= start:
                continue
            limit = min(event.limit_at(at, ceiling) for at in (start, end - _JUST_BEFORE_SECONDS))
            if limit < safety_watts(budget.circuit):
                kept = _kept(budget, limit * (1.0 - policy.event_margin_ratio) + budget.ess_watts)
                if kept > watts:
                    watts, reason = kept, f"{budget.circuit.name} {_limit_text(limit)}: {event.reason}"
        steps.append(Need(start=start, end=end, watts=watts, reason=reason))
    last = max((step.end for step in steps if step.watts > standing_watts), default=0.0)
    moving = {
        over
        for _, over, event in lasts
        if event.commitment is Commitment.LIMIT and event.ends_in_seconds > _SUPPLY_SECONDS
    }
    open_end = last < budget.lease_seconds or last >= HORIZON_SECONDS or last in moving
    last = max(last, budget.lease_seconds)
    found = [step for step in steps if step.start < last and step.end <= last]
    found[-1] = replace(found[-1], open_end=open_end)
    return _at_least(found, budget)


def _at_least(steps: list[Need], budget: Budget) -> tuple[Need, ...]:
    """The steps, with what licences understate as long as that may be."""
    watts, until = budget.understated_watts, min(budget.understated_seconds, HORIZON_SECONDS)
    if watts <= 0.0:
        return tuple(steps)
    reason = f"caps hold running jobs {kilowatts_text(watts)} below what they would draw"
    found = [
        replace(step, watts=watts, reason=reason) if step.watts < watts and step.start < until else step
        for step in steps
    ]
    last = steps[-1].end
    if until > last:
        open_end = until >= HORIZON_SECONDS
        found.append(Need(start=last, end=until, watts=watts, reason=reason, open_end=open_end))
    return tuple(found)


def _limit_text(limit_watts: float) -> str:
    return f"limited to {kilowatts_text(limit_watts)}"


def _kept(budget: Budget, usable_watts: float) -> float:
    """What of the licences must stay free where the circuit may draw ``usable_watts``."""
    return min(max(0.0, budget.total_watts - (usable_watts - budget.other_watts)), budget.total_watts)


def _standing(snapshot: Snapshot, budget: Budget, policy: Policy) -> tuple[float, str]:
    """What must stay free as long as nothing changes: for the contract, the month's level, other load."""
    circuit = budget.circuit
    kept = _kept(budget, safety_watts(circuit))
    if kept < _LEAST_OTHER_RATIO * budget.total_watts:
        kept = 0.0  # what stands is an estimate
    reason = f"{kilowatts_text(budget.other_watts)} of {circuit.name} are drawn without a licence"
    wished = [(circuit.ceiling_watts, f"{circuit.name} {_limit_text(circuit.ceiling_watts)}")]
    level = jobs_level_of(snapshot)
    if level is not None and circuit.name == snapshot.site.root.name:
        room = level_start_room_watts(snapshot, load_table(snapshot, policy), 0.0, policy)
        wished.append((room, f"the level of {level.period}, {kilowatts_text(level.level_watts)}"))
    for watts, why in wished:
        if watts < safety_watts(circuit):
            more = _kept(budget, watts * (1.0 - policy.margin_ratio))
            # Nobody says when it ends: without this a job that is larger would wait for ever.
            more = min(more, max(0.0, budget.total_watts - budget.largest_watts))
            if more > kept:
                kept, reason = more, why
    return kept, reason


def _edges(events: Sequence[LimitEvent], budget: Budget) -> list[float]:
    """Moments between which no limit bends, from now to the horizon."""
    found = {0.0, budget.lease_seconds, HORIZON_SECONDS}
    ceiling = budget.circuit.ceiling_watts
    for event in events:
        ends, rise = event.ends_in_seconds, event.recover_seconds / _RISE_STEPS
        found |= {event.starts_in_seconds - event.ramp_seconds, event.starts_in_seconds, ends}
        found |= {ends + rise * step for step in range(1, _RISE_STEPS + 1)}
        found.add(event.over_in_seconds(ceiling))
    return sorted(edge for edge in found if 0.0 <= edge <= HORIZON_SECONDS)


def lessened(
    steps: Sequence[Need], others: Sequence[Need], total_watts: float
) -> tuple[tuple[Need, ...], float]:
    """The needs beside what others have reserved, and by how much they had to shrink at most.

    Slurm refuses windows whose sum at one moment passes the total.
    """
    if not steps:
        return (), 0.0
    first, last = steps[0].start, steps[-1].end
    inner = {edge for other in others for edge in (other.start, other.end) if first < edge < last}
    edges = sorted({first, last, *inner, *(step.start for step in steps)})
    found, most = [], 0.0
    for start, end in pairwise(edges):
        step = next(step for step in steps if step.start <= start < step.end)
        taken = sum(other.watts for other in others if other.start < end and other.end > start)
        watts = min(step.watts, max(0.0, total_watts - taken))
        most = max(most, step.watts - watts)
        open_end = step.open_end and end == step.end
        found.append(replace(step, start=start, end=end, watts=watts, open_end=open_end))
    return tuple(found), most


def windows(steps: Sequence[Need], *, now: float, most: int = MOST_WINDOWS) -> tuple[LicenceWindow, ...]:
    """Nested windows whose sum is never below the needs; ``now`` in seconds of the epoch.

    Where more than ``most`` would be needed, the needs are rounded up and valleys filled more coarsely.
    """
    quantum, fill = 1, FILL_SECONDS
    while True:
        highest = max((step.watts for step in steps), default=0.0)
        rough = _filled(_joined(rounded(steps, quantum, highest)), fill)
        found = _layers(rough, now)
        if len(found) <= most:
            return found
        quantum, fill = 2 * quantum, 2.0 * fill


def rounded(steps: Sequence[Need], quantum_watts: int, most_watts: float) -> list[Need]:
    """The needs in whole steps of ``quantum_watts``, upwards, but not above ``most_watts``."""
    return [
        replace(
            step,
            watts=max(step.watts, min(math.ceil(step.watts / quantum_watts) * quantum_watts, most_watts)),
        )
        for step in steps
    ]


def _joined(steps: Sequence[Need]) -> list[Need]:
    """Neighbours of one height as one step."""
    found: list[Need] = []
    for step in steps:
        if found and found[-1].watts == step.watts:
            found[-1] = replace(found[-1], end=step.end, open_end=step.open_end)
        else:
            found.append(step)
    return found


def _filled(steps: list[Need], fill_seconds: float) -> list[Need]:
    """Short valleys raised to the lower of their sides, the shortest first."""
    while True:
        valleys = [
            (step.end - step.start, place)
            for place, step in enumerate(steps[1:-1], 1)
            if step.watts < min(steps[place - 1].watts, steps[place + 1].watts)
        ]
        short = min(valleys, default=(math.inf, 0))
        if short[0] >= fill_seconds:
            return steps
        place = short[1]
        side = min(steps[place - 1], steps[place + 1], key=lambda one: one.watts)
        steps = [*steps]
        steps[place] = replace(steps[place], watts=side.watts, reason=side.reason)
        steps = _joined(steps)


def _layers(steps: Sequence[Need], now: float) -> tuple[LicenceWindow, ...]:
    """One window for each maximal run above each level."""
    found: list[LicenceWindow] = []
    runs = [(0, len(steps), 0.0)]
    while runs:
        first, end, base = runs.pop()
        at = first
        while at < end:
            if steps[at].watts <= base:
                at += 1
                continue
            stop = at
            while stop < end and steps[stop].watts > base:
                stop += 1
            lowest = min(steps[at:stop], key=lambda step: step.watts)
            found.append(
                LicenceWindow(
                    start=math.floor(now + steps[at].start + _ROUNDING_SECONDS),
                    end=math.ceil(now + steps[stop - 1].end - _ROUNDING_SECONDS),
                    watts=math.ceil(lowest.watts - base),
                    reason=lowest.reason,
                    open_end=steps[stop - 1].open_end,
                )
            )
            runs.append((at, stop, lowest.watts))
            at = stop
    return tuple(sorted(found, key=lambda window: (window.start, -window.end, window.watts)))
