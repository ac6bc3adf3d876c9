"""One cycle: from a snapshot to a plan. Battery first, then caps within the promises, then holds."""

from dataclasses import replace

from slurm_power.model.action import Action, HoldJob, Plan, SetDischarge, Shortfall
from slurm_power.model.day_plan import DayPlan
from slurm_power.model.job import Job
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.batch_advice import plan_batch_advice
from slurm_power.plan.caps import CapResult, plan_caps
from slurm_power.plan.demands import batteries_behind, circuit_demands, expected_circuit_watts, meter_lost
from slurm_power.plan.ess import burst_watts, dispatch, sustainable_watts
from slurm_power.plan.ess_economy import economic_dispatch, outlook_of, traded_watts
from slurm_power.plan.ess_ramp import no_steeper
from slurm_power.plan.event_target import foreseen_shortfalls, target_watts
from slurm_power.plan.gates import with_gates
from slurm_power.plan.holds import plan_holds
from slurm_power.plan.level_levers import level_demand, level_start_room_watts
from slurm_power.plan.loads import LoadTable, circuits_watts, consumer_watts, load_table
from slurm_power.plan.overlaps import booked_by_circuit
from slurm_power.plan.own_caps import with_own_caps
from slurm_power.plan.pausable import paused_watts
from slurm_power.plan.pauses import plan_pauses
from slurm_power.plan.policy import Policy
from slurm_power.plan.tiers import plan_tiers


def plan_cycle(
    snapshot: Snapshot, policy: Policy, *, hold_seconds: float, day: DayPlan | None = None
) -> Plan:
    """Decide everything for this second; the same snapshot always gives the same plan.

    ``day`` is the latest plan of the day, None where there is none.
    """
    guard = guard_cycle(snapshot, policy, begin=True)
    holds = plan_holds(
        snapshot,
        room_watts=_start_room_watts(snapshot, policy),
        hold_seconds=hold_seconds,
        policy=policy,
        day=day,
    )
    return replace(guard, actions=(*guard.actions, *holds))


def guard_cycle(snapshot: Snapshot, policy: Policy, *, begin: bool = False) -> Plan:
    """Only what cannot wait: batteries and caps, every second. Holds stay as they are.

    Pauses, tiers of services and advice are renewed; what is next is looked for with the whole plan
    (``begin``).
    """
    net_watts = circuits_watts(snapshot)
    notes = tuple(
        f"{circuit.name}: no usable reading; treated as full"
        for circuit in snapshot.site.circuits.values()
        if circuit.meter is not None and net_watts[circuit.name] is None
    )
    table = load_table(snapshot, policy)
    demands = circuit_demands(snapshot, table, policy)
    level = level_demand(snapshot, consumer_watts(snapshot)[snapshot.site.root.name], policy)
    caps = plan_caps(snapshot, table, demands if level is None else [*demands, level], policy)
    actions: list[Action] = [
        *_discharges(snapshot, table, caps, policy),
        *with_own_caps(snapshot, table, with_gates(snapshot, table, caps.actions, demands, policy)),
        *plan_pauses(snapshot, table, demands, caps if begin else None, policy),
        *plan_batch_advice(snapshot, table, caps.actions, policy, begin=begin),
        *plan_tiers(snapshot, table, policy, begin=begin),
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
        batteries = batteries_behind(snapshot, name)
        bridged_watts = sum(burst_watts(*battery) - sustainable_watts(*battery) for battery in batteries)
        watts = unmet_watts - bridged_watts
        if watts > 0.5 * policy.margin_ratio * snapshot.limit_watts(name):
            reason = "every cap is at its floor and the battery at its most"
            found.append(Shortfall(circuit=name, watts=watts, reason=reason))
    return tuple(found)


def _discharges(snapshot: Snapshot, table: LoadTable, caps: CapResult, policy: Policy) -> list[SetDischarge]:
    """One setpoint per battery; a battery that is idle and stays idle is left alone."""
    # What the batteries before one take over (> 0) or take up (< 0), by circuit: none is to do it twice.
    shared_watts = dict.fromkeys(snapshot.site.circuits, 0.0)
    capping = bool(snapshot.caps) or any(action.cap_watts is not None for action in caps.actions)
    outlook, root = outlook_of(snapshot), snapshot.site.root.name
    trade_watts = traded_watts(snapshot, outlook)
    # A fall shows in the last reading first; the highest of a few is for what rises.
    latest_watts = (
        snapshot.recent_load_watts[-1] if snapshot.recent_load_watts else consumer_watts(snapshot)[root]
    )
    actions = []
    for name, ess in snapshot.site.ess.items():
        reading = snapshot.ess.get(name)
        setpoint_watts = snapshot.setpoints.get(name, 0.0)
        if reading is None or not reading.usable():
            continue
        excess_watts = 0.0
        room_watts = float("inf")
        # What limits need now; below 0 what they leave room to charge with.
        least_watts = float("-inf")
        known = True
        metered = not any(meter_lost(snapshot, circuit) for circuit in snapshot.site.path(ess.circuit))
        for circuit in snapshot.site.path(ess.circuit):
            full_watts = expected_circuit_watts(snapshot, circuit, table)
            if full_watts is None:
                known = False
                continue
            target = target_watts(snapshot, circuit, policy, ramp=False)
            # A battery that gave ahead of a start would make it steeper: a ramp is for what is drawn now.
            load_watts = consumer_watts(snapshot)[circuit] or 0.0
            ramp_gap = load_watts - target_watts(snapshot, circuit, policy)
            gap = max(full_watts - target, ramp_gap) - shared_watts[circuit]
            needed = max(load_watts - target, min(0.0, full_watts - target)) - shared_watts[circuit]
            least_watts = max(least_watts, needed)
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
                expected_watts=_less(expected_circuit_watts(snapshot, root, table), shared_watts[root]),
                room_watts=room_watts,
                trade_watts=_less(trade_watts, shared_watts[root]),
                may_trade=free,
                policy=policy,
            )
        chosen = no_steeper(
            reading,
            chosen,
            load_watts=_less(latest_watts, shared_watts[root]),
            floor_watts=snapshot.ramp_floor_watts,
            least_watts=least_watts if known and metered else max(0.0, least_watts),
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


def room_for_starts(snapshot: Snapshot, policy: Policy) -> dict[str, float]:
    """Watts that new jobs may add on each circuit: infinite where nothing bounds them, negative if full."""
    return _start_room_watts(snapshot, policy)


def _start_room_watts(snapshot: Snapshot, policy: Policy) -> dict[str, float]:
    """Room for new starts on each circuit, with every running job at its uncapped draw,
    a paused one included, and what services that change their tier have booked.

    The battery is not counted: it is there for the jobs that already run. A stale meter leaves no room. A
    circuit that nothing measures bounds nothing, but for the grid connection.
    """
    root = snapshot.site.root.name
    table = load_table(snapshot, policy)
    back_watts = paused_watts(snapshot, table, policy)
    booked = booked_by_circuit(snapshot, table, policy) if snapshot.services else {}
    room = {}
    for circuit in snapshot.site.leaves_first():
        name = circuit.name
        full_watts = expected_circuit_watts(snapshot, name, table)
        if meter_lost(snapshot, name) or (full_watts is None and name == root):
            room[name] = 0.0
        elif full_watts is None:
            room[name] = float("inf")
        else:
            uncapped_watts = full_watts + table.circuit_withheld_watts[name] + back_watts[name]
            room[name] = target_watts(snapshot, name, policy) - uncapped_watts - booked.get(name, 0.0)
            if name == root:
                room[name] = min(room[name], level_start_room_watts(snapshot, table, uncapped_watts, policy))
    return room
