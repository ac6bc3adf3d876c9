"""Decoding is slowed by its clock, for economic limits; a safety limit caps it as it caps all others."""

from dataclasses import replace

import pytest

from slurm_power.model.action import SetCap
from slurm_power.model.job import Flex, Workload
from slurm_power.model.reading import GpuReading
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import NodeState, Snapshot
from slurm_power.plan.caps import Demand, plan_caps
from slurm_power.plan.clocks import LEAST_CLOCK_RATIO, LOCK_CURVE, lock_hertz_for
from slurm_power.plan.explain import explain
from slurm_power.plan.loads import load_table
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import cap_lease, running, site, situation

POLICY = Policy()
DECODING = running("1", ("c1",), flex=Flex.FLEX2, workload=Workload.GENERATION)


def moment(watts: float = 250.0, **more: object) -> Snapshot:
    bare = site(with_ess=False)
    return situation(of=bare, jobs=(DECODING,), gpu_watts={"1": watts}, **more)  # type: ignore[arg-type]


def only(snapshot: Snapshot, watts: float, kind: LimitKind = LimitKind.ECONOMIC) -> SetCap | None:
    demand = Demand(circuit="grid", watts=watts, kind=kind, overload_watts=max(0.0, watts))
    actions = plan_caps(snapshot, load_table(snapshot, POLICY), [demand], POLICY).actions
    assert len(actions) <= 1
    return actions[0] if actions else None


def changed(snapshot: Snapshot, **of_gpus: object) -> Snapshot:
    def other(gpu: GpuReading) -> GpuReading:
        return replace(gpu, **of_gpus)  # type: ignore[arg-type]

    gpus = {uuid: other(gpu) for uuid, gpu in snapshot.nodes["c1"].gpus.items()}
    return replace(snapshot, nodes={"c1": NodeState(name="c1", age_seconds=0.5, gpus=gpus)})


def test_the_curve_is_that_of_its_formula() -> None:
    assert LOCK_CURVE[0] == (1.0, 1.0)
    assert LOCK_CURVE[-1] == pytest.approx((0.6727, 0.9138), abs=1e-4)
    # Energy per token at the slowest clock: at least a quarter less.
    assert LOCK_CURVE[-1][0] / LOCK_CURVE[-1][1] < 0.75


@pytest.mark.parametrize(
    ("power_ratio", "hertz"), [(1.0, 1.98e9), (0.9199, 1.77e9), (0.5, 1.095e9), (0.0, 1.095e9)]
)
def test_a_lock_is_a_whole_step_and_never_below_what_is_known(power_ratio: float, hertz: float) -> None:
    assert lock_hertz_for(power_ratio, 1.98e9) == hertz
    assert hertz >= LEAST_CLOCK_RATIO * 1.98e9 - 15e6


def test_decoding_is_locked_where_a_cap_would_do_nothing() -> None:
    action = only(moment(), 400.0)
    assert action is not None and action.cap_watts is not None and action.lock_hertz is not None
    assert action.cap_watts == 200.0  # 8 GPUs, 50 W each; no power limit goes below 315 W
    assert 1.2e9 < action.lock_hertz < 1.6e9
    assert action.full_hertz == 1.98e9
    assert 0.0 < action.slowdown_ratio < 0.10
    assert "its clock, which is locked at" in action.reason
    assert "MHz" in action.reason


def test_a_lock_goes_no_lower_than_what_is_known_of_clocks() -> None:
    action = only(moment(), 5000.0)
    assert action is not None and action.cap_watts is not None
    assert action.cap_watts == pytest.approx(250.0 * LOCK_CURVE[-1][0])
    assert action.slowdown_ratio < 0.10


def test_a_floor_that_wanders_with_noise_moves_no_lever() -> None:
    floor_watts = 250.0 * LOCK_CURVE[-1][0]
    lease = cap_lease("1", floor_watts + 0.7, uncapped_watts=250.0, lock_hertz=1.095e9)
    kept = only(moment(floor_watts + 0.7, caps={"1": lease}), 400.0)
    assert kept is not None and (kept.cap_watts, kept.reason) == (floor_watts + 0.7, "still needed")


def test_a_clock_that_nobody_knows_cannot_be_locked() -> None:
    assert only(changed(moment(), utilization_ratio=0.0), 400.0) is None
    under_a_power_cap = moment(400.0, caps={"1": cap_lease("1", 400.0, uncapped_watts=500.0)})
    kept = only(under_a_power_cap, 400.0)
    assert kept is not None and (kept.cap_watts, kept.lock_hertz) == (400.0, None)


def test_a_lock_is_renewed_as_it_is_then_raised_and_lifted() -> None:
    lease = cap_lease("1", 200.0, uncapped_watts=250.0, lock_hertz=1.4e9)
    standing = moment(200.0, caps={"1": lease})
    kept = only(standing, 0.0)
    assert kept is not None and (kept.cap_watts, kept.lock_hertz) == (200.0, 1.4e9)
    raised = only(standing, -200.0)
    assert raised is not None and raised.cap_watts == 225.0
    assert raised.lock_hertz is not None and 1.4e9 < raised.lock_hertz < 1.98e9
    lifted = only(standing, -5000.0)
    assert lifted is not None and (lifted.cap_watts, lifted.lock_hertz, lifted.full_hertz) == (
        None,
        None,
        None,
    )
    # What is locked is locked further from the clock it had before, not from the one it has now.
    lower = only(changed(standing, sm_clock_hertz=1.4e9), 160.0)
    assert lower is not None and lower.cap_watts == 180.0
    assert lower.lock_hertz == lock_hertz_for(180.0 / 250.0, 1.98e9)


def test_a_safety_limit_sets_a_power_cap_that_can_rest() -> None:
    assert only(moment(), 400.0, LimitKind.SAFETY) is None  # below the lowest cap
    action = only(moment(600.0), 1000.0, LimitKind.SAFETY)
    assert action is not None and action.lock_hertz is None
    assert action.cap_watts is not None and action.cap_watts >= 315.0
    deep = only(moment(600.0), 2200.0, LimitKind.SAFETY)
    assert deep is not None and "beyond the promise" in deep.reason  # by the curve of caps, not of locks


def test_it_is_explained_as_a_lock() -> None:
    snapshot = moment(250.0, import_watts=29_800.0)
    (grid,) = explain(snapshot, plan_cycle(snapshot, POLICY, hold_seconds=60.0), POLICY)
    (row,) = grid.levers
    assert (row.lever, row.subject) == ("lock", "1")
    assert row.chosen_watts == pytest.approx(400.0)
    assert grid.marginal == row
    idle = changed(snapshot, utilization_ratio=0.0)
    (grid,) = explain(idle, plan_cycle(idle, POLICY, hold_seconds=60.0), POLICY)
    assert grid.levers[0].remark == "nobody knows its clock without a lock now"
