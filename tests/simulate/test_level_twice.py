"""The level's rule by itself and the planner on snapshots: on the same machine they decide the same."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_power.model.job import Flex, Workload
from slurm_power.model.site import Ess
from slurm_power.plan.curves import capped_performance_ratio, performance_ratio
from slurm_power.plan.level_levers import cap_room
from slurm_power.plan.loads import load_table
from slurm_power.plan.policy import Policy
from slurm_power.simulate.cluster import Cluster, Layout, PlantJob
from slurm_power.simulate.jobs_control import LevelControl
from slurm_power.simulate.jobs_level import LevelKeeper, LevelSettings, level_keeper, worth_of
from slurm_power.simulate.jobs_planner import PlannerControl
from slurm_power.simulate.jobs_run import Battery
from tests.simulate.plant_jobs import HARDWARE, job, small_site

DAY = 86_400.0
POLICY = Policy()
LEVERS = frozenset({"ess", "cap", "hold"})
# Watts at the grid connection of a GPU's cap step, eight GPUs a job, and a few jobs.
STEP_WATTS = 5.0 * 8 * 1.15


def machine(jobs: Sequence[PlantJob]) -> Cluster:
    cluster = Cluster(Layout(small_site(racks=4), HARDWARE), 0.0, 0)
    for one in jobs:
        cluster.start(replace(one, started_seconds=0.0))
    return cluster


def keeper(cluster: Cluster, level_watts: float, price: float | None = None) -> LevelKeeper:
    """One that has looked, and found this level."""
    made = level_keeper(
        cluster.layout, [job("old", at=-30 * DAY)], [0.0, 30 * DAY], None, LevelSettings(), POLICY
    )
    made.look(0.0)
    assert made.with_jobs
    made.level_watts, made.most_price_per_kwh = level_watts, price
    return made


def rule(cluster: Cluster, level_watts: float) -> LevelControl:
    return LevelControl(keeper(cluster, level_watts), cluster.layout, margin_ratio=POLICY.margin_ratio)


def planner(cluster: Cluster, level_watts: float) -> PlannerControl:
    return PlannerControl(
        cluster.layout,
        POLICY,
        limit_watts=None,
        cuts=(),
        levers=LEVERS,
        most_hold_seconds=4 * 3600.0,
        step_seconds=300.0,
        ess=Ess(name="ess", circuit="grid", reserve_soc_ratio=0.0, target_soc_ratio=1.0),
        keeper=keeper(cluster, level_watts),
    )


def lost_worth(cluster: Cluster) -> float:
    return sum((1.0 - one.performance) * one.gpus * worth_of(one, POLICY) for one in cluster.running.values())


@st.composite
def running(draw: st.DrawFn) -> list[PlantJob]:
    return [
        job(
            str(number),
            8,
            run=DAY,
            limit=DAY,
            flex=draw(st.sampled_from(Flex)),
            watts=draw(st.sampled_from((300.0, 450.0, 575.0))),
            workload=draw(st.sampled_from((Workload.TRAINING, Workload.INFERENCE))),
        )
        for number in range(draw(st.integers(1, 8)))
    ]


often = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@often
@given(running(), st.floats(0.6, 1.05))
def test_they_shed_the_same_watts_for_the_same_work(jobs: list[PlantJob], share: float) -> None:
    by_rule, by_planner = machine(jobs), machine(jobs)
    level = share * by_rule.uncapped_root_watts
    rule(by_rule, level).act(by_rule, None, 300.0)
    planner(by_planner, level).act(by_planner, None, 300.0)
    # The planner caps in steps of 5 W a GPU, and never sheds less than is asked.
    assert by_planner.watts[0] <= by_rule.watts[0] + 1e-6
    assert by_planner.watts[0] == pytest.approx(by_rule.watts[0], abs=STEP_WATTS * len(jobs))
    dearest = 8 * 2.0 * (5.0 / 375.0) * 1.5 * len(jobs)
    assert lost_worth(by_planner) == pytest.approx(lost_worth(by_rule), abs=dearest, rel=0.05)
    for one in by_planner.running.values():
        assert 1.0 - one.performance <= one.flex.max_slowdown_ratio + 1e-6


@often
@given(running(), st.floats(0.7, 1.05), st.sampled_from((200.0, 450.0, 575.0)))
def test_they_hold_the_same_starts(jobs: list[PlantJob], share: float, watts: float) -> None:
    cluster = machine(jobs[:6])
    level = share * cluster.uncapped_root_watts
    coming = job("new", 8, flex=Flex.FLEX3, limit=DAY, watts=watts, user="bob")
    asked = cluster.uncapped_root_watts + watts * 8 * 1.15
    room = sum(offer.room_watts for offer in keeper(cluster, level).offered(cluster))
    if abs(level + 1.5 * room - asked) < 1.0:
        return
    by_planner = planner(cluster, level)
    # Its user has had jobs that drew as much.
    by_planner._drawn["bob"] = (coming.board_watts, 1)
    assert by_planner.may_start(cluster, coming) is rule(cluster, level).may_start(cluster, coming)


@often
@given(running())
def test_they_know_the_same_room_of_caps(jobs: list[PlantJob]) -> None:
    cluster = machine(jobs)
    control = planner(cluster, 1.0)
    snapshot = control._snapshot(cluster, None)
    table = load_table(snapshot, control.policy)
    found = cap_room(snapshot, table, control.policy, cap_floor_ratio=LevelSettings().cap_floor_ratio)
    keeps = keeper(cluster, 1.0)
    keeps._known_seconds = -1800.0
    keeps.end_step(cluster)
    _, load, room, lost, used, money = (keeps._hour / 1800.0).tolist()
    assert load == pytest.approx(cluster.watts[0])
    assert found.room_watts == pytest.approx(room, rel=1e-6, abs=1e-6)
    assert found.lost_gpus == pytest.approx(lost, abs=1e-6)
    assert found.used_gpus == used
    assert found.lost_money == pytest.approx(money, abs=1e-6)


def test_with_a_battery_both_keep_the_level_and_give_the_same() -> None:
    jobs = [job(str(number), 8, run=DAY, limit=DAY, flex=Flex.FLEX3, watts=575.0) for number in range(8)]
    found = []
    for control in (rule, planner):
        cluster = machine(jobs)
        battery = Battery(circuit="grid", power_watts=8_000.0, energy_kwh=16.0, soc_kwh=8.0)
        level = 0.62 * cluster.uncapped_root_watts
        made = control(cluster, level)
        given_watts = made.act(cluster, battery, 300.0)
        found.append((float(cluster.watts[0]) - given_watts, given_watts, made))
    (first, gives, _), (second, also_gives, _) = found
    assert gives > 0.0
    assert also_gives == pytest.approx(gives, abs=STEP_WATTS * 8)
    assert second == pytest.approx(first, abs=STEP_WATTS * 8)
    assert np.isfinite(first)


def test_the_planner_locks_the_clock_of_decoding_which_costs_less_than_a_cap() -> None:
    cluster = machine([job("1", 8, run=DAY, limit=DAY, flex=Flex.FLEX3, workload=Workload.GENERATION)])
    planner(cluster, 0.95 * cluster.uncapped_root_watts).act(cluster, None, 300.0)
    one = cluster.running["1"]
    assert cluster.watts[0] <= 0.95 * cluster.uncapped_root_watts + 1e-6 and one.power_ratio < 0.95
    assert one.performance == performance_ratio(Workload.GENERATION, one.power_ratio)
    assert one.performance > capped_performance_ratio(Workload.GENERATION, one.power_ratio)
