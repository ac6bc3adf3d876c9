"""A level for money that jobs serve: the cheapest caps first, within promises and worth, beside limits."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_power.model.action import HoldJob, Plan, SetCap, SetDischarge
from slurm_power.model.job import Flex, Job, Workload
from slurm_power.model.jobs_level import JobsLevel
from slurm_power.model.outlook import EssOutlook
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.level_levers import CapRoom, cap_room
from slurm_power.plan.loads import load_table
from slurm_power.plan.planner import hold_of, plan_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import AT, cap_lease, ess_reading, pending, running, site, situation
from tests.plan.test_planner_in_time import LIMIT_WATTS, ClosedLoop
from tests.plan.test_planner_properties import floor_watts, snapshots

POLICY = Policy()
LEVEL_WATTS = 22_000.0


def level(watts: float = LEVEL_WATTS, **more: Any) -> JobsLevel:
    return JobsLevel(made_at=AT, valid_seconds=60.0, period="2026-01", level_watts=watts, **more)


def with_level(money: JobsLevel | None, **more: Any) -> Snapshot:
    return replace(situation(**more), jobs_level=money)


def planned(snapshot: Snapshot, policy: Policy = POLICY) -> Plan:
    return plan_cycle(snapshot, policy, hold_seconds=60.0)


def caps(snapshot: Snapshot, policy: Policy = POLICY) -> dict[str, SetCap]:
    found = planned(snapshot, policy).actions
    return {action.job_id: action for action in found if isinstance(action, SetCap)}


def jobs(flex: Flex = Flex.FLEX3, workload: Workload = Workload.TRAINING) -> tuple[Job, ...]:
    return (running("1", ("c1",), flex=flex, workload=workload),)


def test_caps_carry_an_excess_over_the_level_and_say_why() -> None:
    found = caps(with_level(level(), import_watts=22_800.0, jobs=jobs()))
    assert found["1"].cap_watts == pytest.approx(650.0 - 100.0)
    assert found["1"].kind is LimitKind.ECONOMIC
    assert "2026-01 is paid for" in found["1"].reason and "kept at 22.0 kW" in found["1"].reason


def test_a_level_that_cannot_be_held_is_no_shortfall_and_goes_no_deeper_than_its_floor() -> None:
    plan = planned(with_level(level(), import_watts=28_000.0, jobs=jobs(), of=site(with_ess=False)))
    (cap,) = [action for action in plan.actions if isinstance(action, SetCap)]
    assert cap.cap_watts == pytest.approx(0.6 * 650.0)
    assert plan.shortfalls == ()
    assert planned(with_level(level(), import_watts=28_000.0)).shortfalls == ()


def test_the_battery_carries_what_caps_leave_and_what_they_have_not_yet_shown() -> None:
    of = replace(
        with_level(level(), import_watts=24_000.0, jobs=jobs()),
        outlook=EssOutlook(made_at=AT, valid_seconds=60.0, period="2026-01", level_watts=LEVEL_WATTS),
    )
    (battery,) = [action for action in planned(of).actions if isinstance(action, SetDischarge)]
    assert battery.discharge_watts == pytest.approx(2_000.0)


def test_a_battery_is_rationed_to_the_hours_that_it_has_to_bridge() -> None:
    outlook = EssOutlook(
        made_at=AT,
        valid_seconds=60.0,
        period="2026-01",
        level_watts=LEVEL_WATTS,
        sustain_seconds=5_400.0,
    )
    of = replace(situation(import_watts=28_000.0, ess=ess_reading(soc_ratio=0.5)), outlook=outlook)
    (battery,) = [action for action in planned(of).actions if isinstance(action, SetDischarge)]
    assert battery.discharge_watts == pytest.approx(3_000.0 / 1.5)


@pytest.mark.parametrize("flex", [Flex.FLEX0, Flex.FLEX1, Flex.FLEX2, Flex.FLEX3])
def test_no_promise_is_broken_for_a_level(flex: Flex) -> None:
    found = caps(
        with_level(
            level(),
            import_watts=40_000.0,
            jobs=jobs(flex),
            of=site(with_ess=False, grid_limit_watts=90_000.0),
        )
    )
    if flex is Flex.FLEX0:
        assert found == {}
    else:
        assert (found["1"].cap_watts or 0.0) >= floor_watts(jobs(flex)[0], 650.0) - 1e-6


def test_work_that_is_worth_more_than_the_peak_is_left_alone() -> None:
    # A kWh off the grid connection: 0.142 of a GPU-hour for 0.25 x 650 W, worth 2 an hour at half weight.
    price = 1000.0 * 0.142 / (0.25 * 650.0) * 2.0 * POLICY.flex3_weight
    for most, there in ((0.99 * price, False), (1.01 * price, True)):
        found = caps(with_level(level(most_price_per_kwh=most), import_watts=22_800.0, jobs=jobs()))
        assert bool(found) is there, most
    dear = replace(POLICY, value_per_gpu_hour=20.0)
    snapshot = with_level(level(most_price_per_kwh=1.01 * price), import_watts=22_800.0, jobs=jobs())
    assert caps(snapshot, dear) == {}


def test_only_stretches_of_a_curve_that_are_worth_it_are_taken() -> None:
    price = 1000.0 * 0.142 / (0.25 * 650.0) * 2.0 * POLICY.flex3_weight
    found = caps(
        with_level(
            level(most_price_per_kwh=1.01 * price),
            import_watts=28_000.0,
            jobs=jobs(),
            of=site(with_ess=False),
        )
    )
    assert found["1"].cap_watts == pytest.approx(0.75 * 650.0, abs=5.0)


def test_caps_go_back_when_the_load_is_below_the_level_and_not_before() -> None:
    standing = {"1": cap_lease("1", 500.0)}
    at_level = with_level(level(), import_watts=22_000.0, jobs=jobs(), caps=standing, gpu_watts={"1": 500.0})
    assert caps(at_level)["1"].cap_watts == 500.0
    below = with_level(level(), import_watts=20_000.0, jobs=jobs(), caps=standing, gpu_watts={"1": 500.0})
    assert caps(below)["1"].cap_watts is None
    near = with_level(level(), import_watts=21_300.0, jobs=jobs(), caps=standing, gpu_watts={"1": 500.0})
    assert 500.0 < (caps(near)["1"].cap_watts or 0.0) < 560.0


def test_what_safety_took_is_given_back_though_the_level_has_no_room() -> None:
    flex1 = (running("1", ("c1",), flex=Flex.FLEX1),)
    full = with_level(
        level(20_000.0),
        of=site(with_ess=False, rack_limit_watts=12_000.0),
        import_watts=21_000.0,
        rack_watts=(6_000.0, 9_000.0),
        jobs=flex1,
        gpu_watts={"1": 320.0},
        caps={"1": cap_lease("1", 320.0, kind=LimitKind.SAFETY)},
    )
    cap_watts = caps(full)["1"].cap_watts
    assert cap_watts is not None and cap_watts > 0.8 * 650.0


def test_a_cap_for_safety_is_not_made_one_for_money() -> None:
    both = with_level(
        level(20_000.0),
        of=site(with_ess=False, rack_limit_watts=10_000.0),
        import_watts=25_000.0,
        rack_watts=(11_000.0, 9_000.0),
        jobs=jobs(Flex.FLEX3, Workload.GENERATION),
    )
    assert caps(both)["1"].kind is LimitKind.SAFETY
    assert caps(both)["1"].lock_hertz is None


def test_jobs_are_held_beyond_what_caps_can_take_of_their_start() -> None:
    # Caps can shed 0.4 x 650 W x 8 GPUs = 2.08 kW; one and a half of that may be started into.
    most = LEVEL_WATTS + 1.5 * 0.4 * 650.0 * 8.0
    adds = 8 * (650.0 - 75.0 + 225.0)
    for load, held in ((most - adds - 1.0, False), (most - adds + 1.0, True)):
        snapshot = with_level(level(), import_watts=load, jobs=jobs())
        found = hold_of(snapshot, pending("7", 8), POLICY, hold_seconds=60.0)
        assert isinstance(found, HoldJob) is held, load
        assert hold_of(snapshot, pending("8", 8, flex=Flex.FLEX0), POLICY, hold_seconds=60.0) is None
    cheap = with_level(
        level(most_price_per_kwh=0.01), import_watts=29_000.0, jobs=jobs(), of=site(grid_limit_watts=90e3)
    )
    assert hold_of(cheap, pending("7", 8), POLICY, hold_seconds=60.0) is None, "waiting costs more"


def test_the_room_of_caps_and_what_it_costs() -> None:
    def room(**more: Any) -> CapRoom:
        snapshot = situation(jobs=(*jobs(), running("2", ("c2",), flex=Flex.FLEX0)))
        return cap_room(snapshot, load_table(snapshot, POLICY), POLICY, cap_floor_ratio=0.6, **more)

    found = room()
    assert found.room_watts == pytest.approx(0.4 * 650.0 * 8.0)
    assert found.lost_gpus == pytest.approx(8 * (1.0 - 0.731))
    assert found.lost_money == pytest.approx(found.lost_gpus * 2.0 * POLICY.flex3_weight)
    assert found.used_gpus == 16.0
    assert room(most_price_per_kwh=0.01) == CapRoom(used_gpus=16.0)
    nobody = situation()
    assert cap_room(nobody, load_table(nobody, POLICY), POLICY, cap_floor_ratio=0.6) == CapRoom()


many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
levels = st.builds(
    level, st.floats(1_000.0, 60_000.0), most_price_per_kwh=st.one_of(st.none(), st.floats(0.0, 10.0))
)


@many
@given(snapshots(), levels)
def test_a_level_breaks_no_promise_and_asks_no_flex0_job(snapshot: Snapshot, of: JobsLevel) -> None:
    plan = planned(replace(snapshot, jobs_level=of))
    by_id = {job.job_id: job for job in snapshot.jobs}
    plain = {action.job_id: action for action in planned(snapshot).actions if isinstance(action, SetCap)}
    for action in plan.actions:
        if isinstance(action, SetCap) and action.kind is LimitKind.ECONOMIC and action.cap_watts is not None:
            same = plain.get(action.job_id)
            if same is not None and same.cap_watts == action.cap_watts:
                continue
            assert by_id[action.job_id].flex is not Flex.FLEX0
            assert action.slowdown_ratio <= by_id[action.job_id].flex.max_slowdown_ratio + 1e-6
        if isinstance(action, HoldJob):
            assert by_id[action.job_id].flex is not Flex.FLEX0
    assert planned(replace(snapshot, jobs_level=of)) == plan


@many
@given(snapshots(), levels)
def test_without_a_level_that_counts_nothing_changes(snapshot: Snapshot, of: JobsLevel) -> None:
    stale = replace(of, made_at=snapshot.at - timedelta(seconds=61.0))
    assert planned(replace(snapshot, jobs_level=stale)) == planned(snapshot)


@many
@given(snapshots(), levels)
def test_a_level_takes_no_more_than_limits_and_itself_ask_for(snapshot: Snapshot, of: JobsLevel) -> None:
    high = replace(of, level_watts=1e9)
    assert planned(replace(snapshot, jobs_level=high)) == planned(snapshot)


@pytest.mark.parametrize("energy_rating_kwh", [0.0, 0.5, 20.0])
@pytest.mark.parametrize("peak_watts", [500.0, 560.0])
def test_a_feasible_level_is_held_second_by_second_without_flapping(
    energy_rating_kwh: float, peak_watts: float
) -> None:
    loop = ClosedLoop(energy_rating_kwh=energy_rating_kwh, limit_watts=40_000.0, level=level(17_200.0))
    loop.run([400.0] * 20 + [peak_watts] * 280)
    # Caps alone can shed 0.2 to 0.4 of three jobs' draw: more than the 3.7 kW that are too much.
    highest_watts = max(loop.imports_watts[30:])
    assert highest_watts <= 1.01 * 17_200.0, f"{highest_watts:.0f} W"
    assert loop.turns(since=200) <= 2
    assert all("0" not in found for found in loop.caps_after), "flex0 was capped"
    assert loop.socs[-1] > loop.socs[200] - 0.005, "caps carry it, the battery only bridges"


def test_a_level_leaves_a_limit_alone_that_is_tighter() -> None:
    plain = ClosedLoop(energy_rating_kwh=0.0)
    plain.run([400.0] * 20 + [600.0] * 100)
    loop = ClosedLoop(energy_rating_kwh=0.0, level=level(LIMIT_WATTS + 5_000.0))
    loop.run([400.0] * 20 + [600.0] * 100)
    assert loop.imports_watts == plain.imports_watts
