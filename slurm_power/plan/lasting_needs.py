"""What each circuit lacks for long: what levers that take minutes, or do not come back soon, are there for.

A need counts against what the circuit would draw with no cap and no pause, so that it stays the same while
caps bridge it. It is known of events by their end; a standing limit has none, and its shortage counts once
it has lasted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from slurm_power.model.grid_event import Commitment, LimitEvent
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.demands import batteries_behind, expected_circuit_watts, meter_lost
from slurm_power.plan.ess import sustainable_watts
from slurm_power.plan.event_target import (
    RAMP_EVENT_ID,
    batteries_then,
    ends_at,
    limit_kind,
    margin_ratio,
    target_watts,
)
from slurm_power.plan.loads import LoadTable, load_table
from slurm_power.plan.pausable import paused_watts
from slurm_power.plan.pauses import spike_watts
from slurm_power.plan.policy import Policy

# A shortage without an end is taken to last as long again as it has, and no longer than this.
_LONGEST_SECONDS = 4 * 3600.0
# The workload manager ends a job within so long of its time limit, where it keeps it to one.
_OVERTIME_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """``watts`` that a circuit lacks from ``starts_in_seconds`` on, for ``lasts_seconds`` from then.

    ``since_seconds``: for how long it has been known well enough to act on it. ``limit_watts`` is what it
    is steered to; ``urgent`` is False where the limit was promised to nobody.
    """

    circuit: str
    watts: float
    kind: LimitKind
    limit_watts: float
    starts_in_seconds: float
    lasts_seconds: float
    since_seconds: float
    urgent: bool = True

    def why(self) -> str:
        """The need in words for who is touched by it."""
        when = f"in {self.starts_in_seconds:.0f} s" if self.starts_in_seconds > 0.0 else "now"
        lasts = f", for {self.lasts_seconds / 60.0:.0f} min" if self.lasts_seconds > 0.0 else ""
        return (
            f"{self.circuit} must stay below {kilowatts_text(self.limit_watts)} ({self.kind.value} limit)"
            f" {when}{lasts}"
        )


def natural_watts(snapshot: Snapshot, table: LoadTable, policy: Policy) -> dict[str, float | None]:
    """What each circuit would draw without our caps and pauses; None where nobody knows."""
    back_watts = paused_watts(snapshot, table, policy)
    found: dict[str, float | None] = {}
    for name in snapshot.site.circuits:
        watts = expected_circuit_watts(snapshot, name, table)
        found[name] = None if watts is None else watts + table.circuit_withheld_watts[name] + back_watts[name]
    return found


def lasting_needs(
    snapshot: Snapshot, table: LoadTable, policy: Policy, *, lead_seconds: float
) -> tuple[Need, ...]:
    """The needs of all circuits that have one, the leaves of the tree first, one each: the largest."""
    events = [one for one in snapshot.events if _lasting(one, policy, lead_seconds)]
    if not events and not snapshot.short_seconds:
        return ()
    natural = natural_watts(snapshot, table, policy)
    found = []
    for circuit in snapshot.site.leaves_first():
        watts = natural[circuit.name]
        if watts is None:
            continue
        watts -= spike_watts(snapshot, circuit.name)
        needs = [
            _of_event(snapshot, table, one, watts, policy) for one in events if one.circuit == circuit.name
        ]
        needs.append(_standing(snapshot, circuit.name, watts, policy))
        largest = max(needs, key=lambda need: need.watts)
        if largest.watts > 0.5 * policy.margin_ratio * largest.limit_watts:
            found.append(largest)
    return tuple(found)


def present_needs(snapshot: Snapshot, table: LoadTable, policy: Policy) -> tuple[Need, ...]:
    """What circuits lack now, however long that lasts: for levers that come and go in seconds."""
    natural = natural_watts(snapshot, table, policy)
    found = []
    for circuit in snapshot.site.leaves_first():
        watts = natural[circuit.name]
        if watts is None:
            continue
        target = target_watts(snapshot, circuit.name, policy)
        carried = sum(sustainable_watts(*battery) for battery in batteries_behind(snapshot, circuit.name))
        missing = watts - spike_watts(snapshot, circuit.name) - target - carried
        if missing > 0.5 * policy.margin_ratio * target:
            found.append(
                Need(
                    circuit=circuit.name,
                    watts=missing,
                    kind=limit_kind(snapshot, circuit, watts),
                    limit_watts=target,
                    starts_in_seconds=0.0,
                    lasts_seconds=0.0,
                    since_seconds=0.0,
                )
            )
    return tuple(found)


def _lasting(event: LimitEvent, policy: Policy, lead_seconds: float) -> bool:
    begins_in = max(0.0, event.starts_in_seconds)
    long_enough = event.ends_in_seconds - begins_in >= policy.tier_move_least_seconds
    return event.event_id != RAMP_EVENT_ID and event.starts_in_seconds <= lead_seconds and long_enough


def _of_event(snapshot: Snapshot, table: LoadTable, event: LimitEvent, watts: float, policy: Policy) -> Need:
    begins_in = max(0.0, event.starts_in_seconds)
    lasts = event.ends_in_seconds - begins_in
    power_watts, energy_joules = batteries_then(snapshot, event.circuit, begins_in)
    limit_watts = event.limit_watts * (1.0 - margin_ratio(event, policy))
    missing = watts - limit_watts - min(power_watts, energy_joules / lasts)
    return Need(
        circuit=event.circuit,
        watts=missing - _ended_watts(snapshot, table, event.circuit, begins_in, policy),
        kind=LimitKind.ECONOMIC,
        limit_watts=limit_watts,
        starts_in_seconds=begins_in,
        lasts_seconds=lasts,
        since_seconds=max(0.0, policy.tier_move_lead_seconds - event.starts_in_seconds),
        urgent=event.commitment is not Commitment.BEST_EFFORT,
    )


def _ended_watts(
    snapshot: Snapshot, table: LoadTable, circuit: str, in_seconds: float, policy: Policy
) -> float:
    """What jobs draw behind a circuit that will have ended by then, by their time limits."""
    if in_seconds <= 0.0:
        return 0.0
    left = ends_at(table.placed) - snapshot.at.timestamp()
    # Whoever runs on long after its limit is kept to none.
    gone = (left <= in_seconds) & (left > -_OVERTIME_SECONDS)
    if not gone.any():
        return 0.0
    own_watts = np.where(gone, np.maximum(0.0, table.uncapped_watts - policy.idle_gpu_watts), 0.0)
    weights = [
        float(own_watts[row]) * table.placed.circuit_weights(row, snapshot.site).get(circuit, 0.0)
        for row in np.flatnonzero(gone).tolist()
    ]
    return sum(weights)


def _standing(snapshot: Snapshot, name: str, watts: float, policy: Policy) -> Need:
    """What the circuit's own limit lacks; nothing before that has lasted."""
    circuit = snapshot.site.circuits[name]
    limit_watts = circuit.ceiling_watts * (1.0 - policy.margin_ratio)
    since = snapshot.short_seconds.get(name, 0.0)
    carried = sum(sustainable_watts(*battery) for battery in batteries_behind(snapshot, name))
    lasted = since >= policy.tier_move_least_seconds
    return Need(
        circuit=name,
        watts=watts - limit_watts - carried if lasted else 0.0,
        kind=circuit.limit_kind,
        limit_watts=limit_watts,
        starts_in_seconds=0.0,
        lasts_seconds=min(max(since, policy.tier_move_least_seconds), _LONGEST_SECONDS),
        since_seconds=since,
    )


class Shortages:
    """Since when circuits have been above their own limits without our levers; kept from cycle to cycle.

    Who keeps it looks at each snapshot once, after its plan, and puts ``seconds`` into the next one.
    """

    def __init__(self) -> None:
        """Nothing is short yet."""
        self._since: dict[str, float] = {}

    def look(self, snapshot: Snapshot, policy: Policy, now_seconds: float) -> None:
        """Take a cycle. A shortage ends where there is room enough to let a lever go, or nobody can tell."""
        natural = natural_watts(snapshot, load_table(snapshot, policy), policy)
        for name, watts in natural.items():
            ceiling = snapshot.site.circuits[name].ceiling_watts
            if watts is None or meter_lost(snapshot, name):
                self._since.pop(name, None)
            elif watts > ceiling * (1.0 - policy.margin_ratio):
                self._since.setdefault(name, now_seconds)
            elif watts < ceiling * (1.0 - policy.margin_ratio - policy.release_margin_ratio):
                self._since.pop(name, None)

    def seconds(self, now_seconds: float) -> Mapping[str, float]:
        """How long each circuit has been short, where it is."""
        return {name: max(0.0, now_seconds - since) for name, since in self._since.items()}
