"""One cycle: from a snapshot to a plan. Battery first, then caps within the promises, then holds."""

from dataclasses import replace

from slurm_power.model.action import Action, HoldJob, Plan, SetDischarge, Shortfall
from slurm_power.model.day_plan import DayPlan
from slurm_power.model.job import Job
from slurm_power.model.reading import EssReading
from slurm_power.model.site import Circuit, Ess
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.caps import CapResult, Demand, plan_caps
from slurm_power.plan.ess import burst_watts, dispatch, sustainable_watts
from slurm_power.plan.ess_economy import economic_dispatch, outlook_of, traded_watts
from slurm_power.plan.event_target import (
    foreseen_shortfalls,
    limit_kind,
    room_watts,
    standing_watts,
    target_watts,
)
from slurm_power.plan.gates import with_gates
from slurm_power.plan.holds import plan_holds
from slurm_power.plan.level_levers import level_demand, level_start_room_watts
from slurm_power.plan.loads import (
    LoadTable,
    behind_discharge_watts,
    circuit_watts,
    consumer_watts,
    load_table,
)
from slurm_power.plan.policy import Policy


def plan_cycle(
    snapshot: Snapshot, policy: Policy, *, hold_seconds: float, day: DayPlan | None = None
) -> Plan:
    """Decide everything for this second; the same snapshot always gives the same plan.

    ``day`` is the latest plan of the day, None where there is none.
    """
    guard = guard_cycle(snapshot, policy)
    holds = plan_holds(
        snapshot,
        room_watts=_start_room_watts(snapshot, policy),
        hold_seconds=hold_seconds,
        policy=policy,
        day=day,
    )
    return replace(guard, actions=(*guard.actions, *holds))


def guard_cycle(snapshot: Snapshot, policy: Policy) -> Plan:
    """Only what cannot wait: batteries and caps, every second. Holds stay as they are."""
    notes = tuple(
        f"{circuit.name}: no usable reading; treated as full"
        for circuit in snapshot.site.circuits.values()
        if circuit.meter is not None and circuit_watts(snapshot, circuit.name) is None
    )
    table = load_table(snapshot, policy)
    demands = [_demand(snapshot, circuit, table, policy) for circuit in snapshot.site.leaves_first()]
    level = level_demand(snapshot, consumer_watts(snapshot)[snapshot.site.root.name], policy)
    wanted = demands if level is None else [*demands, level]
    caps = plan_caps(snapshot, table, wanted, policy)
    actions: list[Action] = [
        *_discharges(snapshot, table, caps, policy),
        *with_gates(snapshot, table, caps.actions, demands, policy),
    ]
    shortfalls = _shortfalls(snapshot, caps, policy)
    if snapshot.events:
        shortfalls += foreseen_shortfalls(snapshot, table, policy)
    return Plan(actions=tuple(actions), shortfalls=shortfalls, notes=notes)


def _shortfalls(snapshot: Snapshot, caps: CapResult, policy: Policy) -> tuple[Shortfall, ...]:
    """Limits that will be passed: what neither caps nor all that the batteries can give now makes up for.

    Up to half the margin the limit itself is not in danger, so nothing is said.
    """
    found = []
    for name, unmet_watts in caps.unmet_watts.items():
        batteries = _batteries(snapshot, name)
        bridged_watts = sum(burst_watts(*battery) - sustainable_watts(*battery) for battery in batteries)
        watts = unmet_watts - bridged_watts
        if watts > 0.5 * policy.margin_ratio * snapshot.limit_watts(name):
            reason = "every cap is at its floor and the battery at its most"
            found.append(Shortfall(circuit=name, watts=watts, reason=reason))
    return tuple(found)


def _meter_lost(snapshot: Snapshot, circuit: str) -> bool:
    """Whether a circuit's own meter says nothing usable, or what stands for it was put together.

    The sum of its children still tells when it is too much; that there is room for more it cannot prove,
    since whatever hangs on the circuit beside them is in nobody's reading.
    """
    reading = snapshot.circuits.get(circuit)
    return reading is not None and (reading.known_watts() is None or reading.estimated)


def _expected_watts(snapshot: Snapshot, circuit: str, table: LoadTable) -> float | None:
    """What a circuit will draw once its starting jobs have come up, at least what it draws now.

    A start that the meter shows already may not have reached the nodes' own reports: what is still to come
    is therefore added to the lower of the last two readings, or it would be counted twice.
    """
    load_watts = consumer_watts(snapshot)[circuit]
    if load_watts is None:
        return None
    if circuit == snapshot.site.root.name and snapshot.recent_load_watts:
        before_watts = min(snapshot.recent_load_watts[-2:])
    else:
        lasting_watts = snapshot.lasting_watts.get(circuit)
        fed_watts = behind_discharge_watts(snapshot, circuit)
        before_watts = load_watts if lasting_watts is None else min(load_watts, lasting_watts + fed_watts)
    return max(load_watts, before_watts + table.circuit_coming_watts[circuit])


def _demand(snapshot: Snapshot, circuit: Circuit, table: LoadTable, policy: Policy) -> Demand:
    """What caps must shed on a circuit (> 0), or may give back (< 0), beyond what its batteries carry.

    What is measured counts against what the batteries can sustain; what is only expected, of jobs that are
    starting, against what they can give at once: caps are quick enough to follow when it has come.
    """
    load_watts = consumer_watts(snapshot)[circuit.name]
    full_watts = _expected_watts(snapshot, circuit.name, table)
    if load_watts is None or full_watts is None:
        # Full, as far as anybody knows: nothing is given back, and nothing more can be asked on a guess.
        return Demand(circuit=circuit.name, watts=0.0, kind=circuit.limit_kind)
    batteries = _batteries(snapshot, circuit.name)
    target = target_watts(snapshot, circuit.name, policy)
    excess_watts = load_watts - target
    expected_watts = full_watts - target
    if expected_watts > 0.0:
        shed_watts = max(
            0.0,
            excess_watts - sum(sustainable_watts(*battery) for battery in batteries),
            expected_watts - sum(burst_watts(*battery) for battery in batteries),
        )
    else:
        room = room_watts(snapshot, circuit.name, -expected_watts, policy)
        shed_watts = 0.0 if _meter_lost(snapshot, circuit.name) else -room
    return Demand(
        circuit=circuit.name,
        watts=shed_watts,
        kind=limit_kind(snapshot, circuit, load_watts),
        overload_watts=_overload_watts(snapshot, circuit),
    )


def _batteries(snapshot: Snapshot, circuit: str) -> list[tuple[Ess, EssReading | None]]:
    """The batteries whose power passes through a circuit."""
    return [(snapshot.site.ess[name], snapshot.ess.get(name)) for name in snapshot.site.ess_behind(circuit)]


def _overload_watts(snapshot: Snapshot, circuit: Circuit) -> float:
    """By how much a circuit's last readings have all been above its limit; one spike is no overload."""
    lasting_watts = snapshot.lasting_watts.get(circuit.name)
    if lasting_watts is None:
        return 0.0
    # An event's level is no breaker's: only what the circuit itself stands for may break a promise.
    return max(0.0, lasting_watts - standing_watts(snapshot, circuit.name))


def _discharges(snapshot: Snapshot, table: LoadTable, caps: CapResult, policy: Policy) -> list[SetDischarge]:
    """One setpoint per battery; a battery that is idle and stays idle is left alone."""
    # What the batteries before one take over (> 0) or take up (< 0), by circuit: none is to do it twice.
    shared_watts = dict.fromkeys(snapshot.site.circuits, 0.0)
    capping = bool(snapshot.caps) or any(action.cap_watts is not None for action in caps.actions)
    outlook, root = outlook_of(snapshot), snapshot.site.root.name
    trade_watts = traded_watts(snapshot, outlook)
    actions = []
    for name, ess in snapshot.site.ess.items():
        reading = snapshot.ess.get(name)
        setpoint_watts = snapshot.setpoints.get(name, 0.0)
        if reading is None or not reading.usable():
            continue
        excess_watts = 0.0
        room_watts = float("inf")
        known = True
        metered = not any(_meter_lost(snapshot, circuit) for circuit in snapshot.site.path(ess.circuit))
        for circuit in snapshot.site.path(ess.circuit):
            full_watts = _expected_watts(snapshot, circuit, table)
            if full_watts is None:
                known = False
                continue
            gap = full_watts - target_watts(snapshot, circuit, policy) - shared_watts[circuit]
            excess_watts = max(excess_watts, gap)
            room_watts = min(room_watts, max(0.0, -gap))
        if not known:
            # Blind: keep what was decided with eyes open, as long as it feeds the site.
            excess_watts = max(excess_watts, setpoint_watts)
        free = known and metered and not capping and not snapshot.holds
        chosen = dispatch(
            ess,
            reading,
            excess_watts=excess_watts,
            room_watts=room_watts,
            may_charge=free and outlook is None,
            policy=policy,
        )
        if outlook is not None:
            chosen = economic_dispatch(
                ess,
                reading,
                outlook,
                chosen,
                load_watts=_less(consumer_watts(snapshot)[root], shared_watts[root]),
                expected_watts=_less(_expected_watts(snapshot, root, table), shared_watts[root]),
                room_watts=room_watts,
                trade_watts=_less(trade_watts, shared_watts[root]),
                may_trade=free,
                policy=policy,
            )
        for circuit in snapshot.site.path(ess.circuit):
            shared_watts[circuit] += chosen.discharge_watts
        if chosen.discharge_watts != 0.0 or setpoint_watts != 0.0:
            actions.append(
                SetDischarge(ess=name, discharge_watts=chosen.discharge_watts, reason=chosen.reason)
            )
    return actions


def _less(watts: float | None, taken_watts: float) -> float | None:
    return None if watts is None else watts - taken_watts


def hold_of(snapshot: Snapshot, job: Job, policy: Policy, *, hold_seconds: float) -> HoldJob | None:
    """The hold that a job would be given if it were submitted now; None if it might start."""
    room_watts = _start_room_watts(snapshot, policy)
    asked = replace(snapshot, jobs=(*snapshot.jobs, job))
    holds = plan_holds(asked, room_watts=room_watts, hold_seconds=hold_seconds, policy=policy)
    return next((hold for hold in holds if isinstance(hold, HoldJob) and hold.job_id == job.job_id), None)


def _start_room_watts(snapshot: Snapshot, policy: Policy) -> dict[str, float]:
    """Room for new starts on each circuit, with every running job at its uncapped draw.

    The battery is not counted: it is there for the jobs that already run. A stale meter leaves no room. A
    circuit that nothing measures bounds nothing, but for the grid connection.
    """
    root = snapshot.site.root.name
    table = load_table(snapshot, policy)
    room = {}
    for circuit in snapshot.site.leaves_first():
        name = circuit.name
        full_watts = _expected_watts(snapshot, name, table)
        if _meter_lost(snapshot, name) or (full_watts is None and name == root):
            room[name] = 0.0
        elif full_watts is None:
            room[name] = float("inf")
        else:
            uncapped_watts = full_watts + table.circuit_withheld_watts[name]
            room[name] = target_watts(snapshot, name, policy) - uncapped_watts
            if name == root:
                room[name] = min(room[name], level_start_room_watts(snapshot, table, uncapped_watts, policy))
    return room
