"""The plan of the day: what each row of its program is for, and what comes of nonsense."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.action import HoldJob
from slurm_power.model.day_plan import DayPlan, JobClass
from slurm_power.model.job import Flex, Job
from slurm_power.model.snapshot import LimitEvent, NodeState, Snapshot
from slurm_power.plan.class_problem import HOURS, ClassProblem, DayPrices, class_problem
from slurm_power.plan.job_classes import classes_of
from slurm_power.plan.job_table import pending_jobs
from slurm_power.plan.lp_classes import solve
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import AT, ess_reading, gpu, pending, running, site, situation

POLICY = Policy()
HOURLY = JobClass(hours=1, gpus=8, flex=Flex.FLEX3)


def problem(**changes: object) -> ClassProblem:
    """40 hourly jobs of 8 GPUs and 6.4 kW on 80 GPUs, with room for all that the GPUs can run."""
    made = ClassProblem(
        classes=(HOURLY,),
        counts=np.array([40.0]),
        class_gpus=np.array([8.0]),
        class_watts=np.array([6400.0]),
        class_hours=np.array([1.0]),
        class_weights=np.array([1.0]),
        patience_hours=np.array([10.0]),
        gpus=80.0,
        running_gpus=np.zeros(HOURS),
        running_watts=np.zeros(HOURS),
        base_watts=np.full(HOURS, 20_000.0),
        capable_watts=np.zeros(HOURS),
        capped_gpus=np.zeros(HOURS),
        limit_watts=np.full(HOURS, 200_000.0),
        energy_price_per_kwh=np.full(HOURS, 0.1),
        delay_price_per_gpu_hour=0.25,
        value_per_gpu_hour=2.0,
        demand_price_per_kw=0.0,
        peak_watts=0.0,
        demand_counts=np.ones(HOURS, dtype=bool),
        ess_watts=0.0,
        ess_kwh=0.0,
        soc_kwh=0.0,
        round_trip_ratio=0.81,
        wear_per_kwh=0.02,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # fields by name


def solved(**changes: object) -> DayPlan:
    found = solve(problem(**changes), AT)
    assert found is not None
    return found


def starts(plan: DayPlan) -> list[float]:
    return [round(jobs, 3) for jobs in plan.starts[HOURLY][:6]]


def test_jobs_start_as_soon_as_there_are_gpus_and_none_is_deferred_for_that() -> None:
    plan = solved()
    assert starts(plan) == [10.0, 10.0, 10.0, 10.0, 0.0, 0.0]
    assert plan.deferred == {}
    assert plan.gpu_price_per_hour[0] > 0.0
    assert max(plan.power_price_per_kwh) == pytest.approx(0.0, abs=1e-9)


def test_a_limit_lets_jobs_wait_and_has_a_price() -> None:
    limits = np.full(HOURS, 200_000.0)
    limits[:2] = 20_000.0 + 3 * 6400.0
    plan = solved(limit_watts=limits)
    assert starts(plan) == [3.0, 3.0, 10.0, 10.0, 10.0, 4.0]
    assert plan.deferred == {HOURLY: 37}
    assert plan.power_price_per_kwh[0] > 0.0
    assert all(watts <= limit + 1e-3 for watts, limit in zip(plan.grid_watts, limits, strict=True))


def test_long_jobs_keep_their_gpus() -> None:
    plan = solved(class_hours=np.array([3.0]))
    assert starts(plan) == [10.0, 0.0, 0.0, 10.0, 0.0, 0.0]


def test_dear_hours_are_left_to_those_who_cannot_wait() -> None:
    prices = np.full(HOURS, 0.1)
    prices[0] = 5.0
    assert starts(solved(energy_price_per_kwh=prices))[0] == 0.0
    assert starts(solved(energy_price_per_kwh=prices, patience_hours=np.array([0.0])))[0] > 0.0


def test_a_battery_carries_what_a_limit_leaves_over_and_no_more_than_it_has() -> None:
    limits = np.full(HOURS, 200_000.0)
    limits[3] = 10_000.0
    plan = solved(counts=np.array([0.0]), limit_watts=limits, ess_watts=20_000.0, ess_kwh=30.0, soc_kwh=20.0)
    assert plan.discharge_watts[3] == pytest.approx(10_000.0, abs=1.0)
    assert max(plan.short_watts) == pytest.approx(0.0, abs=1e-6)
    empty = solved(counts=np.array([0.0]), limit_watts=limits)
    assert empty.short_watts[3] == pytest.approx(10_000.0, abs=1.0), "by how much is the answer"


def test_caps_come_before_a_shortfall_and_not_without_need() -> None:
    limits = np.full(HOURS, 200_000.0)
    limits[3] = 15_000.0
    plan = solved(
        counts=np.array([0.0]),
        limit_watts=limits,
        capable_watts=np.full(HOURS, 10_000.0),
        capped_gpus=np.full(HOURS, 5.0),
    )
    assert plan.cap_ratio[3] == pytest.approx(0.5, abs=1e-6)
    assert sum(plan.cap_ratio) == pytest.approx(0.5, abs=1e-6)


def test_a_demand_charge_flattens_what_can_wait() -> None:
    calm, charged = solved(), solved(demand_price_per_kw=20.0)
    assert max(charged.grid_watts) < max(calm.grid_watts)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(5_000.0, 200_000.0), min_size=HOURS, max_size=HOURS),
    st.floats(0.0, 300.0),
    st.lists(st.floats(-0.2, 1.0), min_size=HOURS, max_size=HOURS),
    st.floats(0.0, 50.0),
)
def test_no_row_is_broken(limits: list[float], jobs: float, prices: list[float], kwh: float) -> None:
    plan = solved(
        limit_watts=np.array(limits),
        counts=np.array([jobs]),
        energy_price_per_kwh=np.array(prices),
        ess_watts=10_000.0,
        ess_kwh=kwh,
        soc_kwh=0.5 * kwh,
    )
    started = np.array(plan.starts[HOURLY])
    assert started.sum() <= jobs + 1e-6 and (8.0 * started <= 80.0 + 1e-6).all()
    for hour, limit in enumerate(limits):
        assert plan.grid_watts[hour] <= limit + plan.short_watts[hour] + 1e-2
        balance = 20_000.0 + 6400.0 * started[hour] - plan.discharge_watts[hour]
        assert plan.grid_watts[hour] == pytest.approx(balance, abs=1e-2)


def test_a_solver_without_time_gives_no_plan() -> None:
    assert solve(problem(), AT, most_seconds=0.0) is None


def idle(jobs: tuple[Job, ...], **kinds: float) -> Snapshot:
    """Four nodes report 32 idle GPUs."""
    seen = situation(of=site(**kinds), import_watts=10_000.0, jobs=jobs, ess=ess_reading())  # type: ignore[arg-type]  # fields by name
    nodes = {
        name: NodeState(
            name=name,
            age_seconds=0.5,
            gpus={f"{name}-{slot}": gpu(f"{name}-{slot}", 75.0) for slot in range(8)}
            | (dict(seen.nodes[name].gpus) if name in seen.nodes else {}),
        )
        for name in ("c1", "c2", "c3", "c4")
    }
    return replace(seen, nodes=nodes)


def test_the_problem_of_a_snapshot_has_its_classes_jobs_limits_and_battery() -> None:
    ends = running("1", ("c1",), started_seconds_ago=1800.0)
    queued = (pending("7", 8), pending("8", 8), pending("9", 16, flex=Flex.FLEX1))
    event = LimitEvent(
        event_id="ev-1",
        circuit="grid",
        limit_watts=12_000.0,
        starts_in_seconds=7200.0,
        ends_in_seconds=10_800.0,
        reason="test",
    )
    seen = idle((replace(ends, time_limit_seconds=3600.0), *queued))
    made = class_problem(replace(seen, events=(event,)), POLICY, DayPrices())
    assert made is not None
    found = {
        key: (count, gpus)
        for key, count, gpus in zip(made.classes, made.counts, made.class_gpus, strict=True)
    }
    assert found == {HOURLY: (2.0, 8.0), JobClass(hours=1, gpus=16, flex=Flex.FLEX1): (1.0, 16.0)}
    assert made.gpus == 32.0
    assert made.running_gpus[:2].tolist() == [4.0, 0.0], "half an hour of eight GPUs is left"
    assert made.limit_watts[:4].tolist() == [29_400.0, 29_400.0, 11_760.0, 29_400.0]
    assert made.base_watts[0] == pytest.approx(10_000.0 - 8 * (650.0 - 75.0 + 225.0))
    assert made.soc_kwh == pytest.approx(0.4 * 10.0)


def test_an_unknown_draw_or_silent_nodes_make_no_problem() -> None:
    assert class_problem(situation(jobs=(pending("7", 8),)), POLICY, DayPrices()) is None
    blind = idle((pending("7", 8),))
    dark = replace(blind, circuits={}, nodes=blind.nodes)
    assert class_problem(dark, POLICY, DayPrices()) is None


def test_an_empty_site_has_a_plan() -> None:
    made = class_problem(idle(()), POLICY, DayPrices())
    assert made is not None
    plan = solve(made, AT)
    assert plan is not None and plan.starts == {} and plan.deferred == {}


def test_the_release_follows_the_plan_of_the_day_and_the_promises_come_first() -> None:
    jobs = tuple(pending(str(n), 8, submitted_seconds_ago=100.0 - n) for n in range(3))
    waited = replace(pending("3", 8), submitted=AT - timedelta(seconds=9000))
    seen = replace(idle((*jobs, waited)), held_before_seconds={"3": 1800.0})
    plan = solved()
    day = replace(plan, deferred={HOURLY: 2, JobClass(hours=24, gpus=8, flex=Flex.FLEX1): 5})

    def held(day: DayPlan | None) -> dict[str, str]:
        actions = plan_cycle(seen, POLICY, hold_seconds=60.0, day=day).actions
        return {action.job_id: action.reason for action in actions if isinstance(action, HoldJob)}

    assert held(None).keys() <= {"1", "2"}
    found = held(day)
    assert set(found) == {"1", "2"}, "the last of its class wait; who has waited enough does not"
    assert "the day's plan" in found["2"]


def test_fifty_thousand_alike_are_one_class() -> None:
    jobs = tuple(pending(str(n), 8) for n in range(50_000))
    classes = classes_of(pending_jobs(idle(jobs)))
    assert classes.keys == (HOURLY,)
