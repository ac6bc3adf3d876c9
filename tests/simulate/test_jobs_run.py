"""Whole runs under control: limits and levels held, promises kept, energy conserved, results repeatable."""

from dataclasses import replace
from datetime import UTC

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_power.model.job import Flex
from slurm_power.plan.policy import Policy
from slurm_power.simulate.cluster import Cluster, Layout, PlantJob, natural_watts
from slurm_power.simulate.flex_mix import flex_at, parse_mix, positions
from slurm_power.simulate.jobs_case import Levers, Outcome, Population, billing_periods, run_case
from slurm_power.simulate.jobs_level import LevelSettings
from slurm_power.simulate.jobs_planner import Cut
from slurm_power.simulate.jobs_result import JsonObject, result
from slurm_power.simulate.jobs_run import Battery, NoControl, Window, simulate
from tests.simulate.plant_jobs import HARDWARE, job, small_site

DAY = 86_400.0
POLICY = Policy()


def population(jobs: list[PlantJob]) -> Population:
    where = Layout(small_site(), HARDWARE)
    return Population(
        layout=where,
        jobs=tuple(jobs),
        deferrable=tuple(one.flex is not Flex.FLEX0 for one in jobs),
        extra_gpus=0,
        notes=(),
    )


def month(flex: Flex = Flex.FLEX2, days: int = 30) -> list[PlantJob]:
    """Each day a base of one node, and from 08:00 to 12:00 all four."""
    jobs = []
    for day in range(days):
        jobs.append(job(f"base{day}", 8, at=day * DAY, run=DAY - 60.0, limit=DAY, flex=flex, user="base"))
        jobs += [
            job(f"peak{day}.{n}", 8, at=day * DAY + 8 * 3600.0, run=4 * 3600.0, limit=8 * 3600.0, flex=flex)
            for n in range(3)
        ]
    return jobs


WINDOW = Window(begin_seconds=28 * DAY, step_seconds=300.0, steps=2 * 288)


def run(jobs: list[PlantJob], levers: Levers, window: Window = WINDOW) -> tuple[Outcome, JsonObject]:
    who = population(jobs)
    outcome = run_case(who, POLICY, window, levers)
    return outcome, result(outcome, who.layout.site, None, UTC)


def test_the_level_takes_a_daily_peak_with_the_battery_alone() -> None:
    levers = Levers(names=frozenset({"ess"}), ess_watts=6000.0, ess_kwh=40.0)
    _, found = run(month(), levers)
    assert found["aim"] == "peak"
    assert found["controlled"]["gpu_hours_lost"] == 0.0
    assert found["peak_share"] > 0.8
    assert found["periods"][0]["peak_bound_watts"] <= found["periods"][0]["peak_controlled_watts"] + 1.0


def test_caps_and_holds_take_more_within_the_promises() -> None:
    levers = Levers(ess_watts=2000.0, ess_kwh=4.0, settings=LevelSettings(most_lost_ratio=0.05))
    outcome, found = run(month(), levers)
    _, alone = run(month(), replace(levers, names=frozenset({"ess"})))
    saved = alone["controlled"]["peak_watts"]["grid"] - found["controlled"]["peak_watts"]["grid"]
    assert saved > 1000.0
    assert 0.0 < found["controlled"]["gpu_hours_lost_ratio"] < 0.1
    for one in outcome.controlled.jobs:
        assert one.lost_seconds <= 0.25 * (one.lost_seconds + one.done_seconds) + 1e-6
        assert one.held_seconds <= 0.25 * (one.limit_seconds or 3600.0) + 1.0


def test_a_rack_is_held_below_its_limit_while_the_aim_is_the_peak() -> None:
    who = population(month(Flex.FLEX3))
    site = small_site()
    racks = {**site.circuits, "rack0": replace(site.circuits["rack0"], limit_watts=10_000.0)}
    who = replace(who, layout=Layout(replace(site, circuits=racks), HARDWARE))
    outcome = run_case(who, POLICY, WINDOW, Levers())
    found = result(outcome, who.layout.site, None, UTC)
    assert found["aim"] == "peak"
    assert found["without"]["violations"]["rack0"]["worst_watts"] > 500.0
    assert found["controlled"]["violations"] == {}
    assert found["controlled"]["peak_watts"]["rack0"] == pytest.approx(9800.0, abs=1.0)


def test_flex0_jobs_are_left_alone() -> None:
    outcome, found = run(month(Flex.FLEX0), Levers())
    assert found["controlled"]["gpu_hours_lost"] == 0.0
    assert all(one.started_seconds == one.eligible_seconds for one in outcome.controlled.jobs)
    assert outcome.controlled.circuit_watts == pytest.approx(outcome.without.circuit_watts)


def test_below_14_days_of_history_only_the_battery_is_used() -> None:
    window = replace(WINDOW, begin_seconds=0.0)
    _, found = run(month(), Levers(ess_watts=6000.0, ess_kwh=40.0), window)
    assert found["controlled"]["gpu_hours_lost"] == 0.0
    assert found["peak_share"] >= 0.0


def test_a_limit_is_held_by_the_planner() -> None:
    _, found = run(month(), Levers(names=frozenset({"cap", "hold"}), limit_watts=24_000.0))
    assert found["aim"] == "limit"
    assert found["without"]["violations"]["grid"]["seconds"] > 0.0
    assert found["controlled"]["violations"] == {}
    assert found["controlled"]["peak_watts"]["grid"] <= 24_000.0


def test_an_event_is_a_cut_of_what_was_drawn_before_it() -> None:
    begin = WINDOW.begin_seconds
    cut = Cut(start_seconds=begin + 9.5 * 3600.0, duration_seconds=3600.0, cut_ratio=0.1)
    _, found = run(month(Flex.FLEX3), Levers(names=frozenset({"cap"}), cuts=(cut,)))
    (event,) = found["events"]
    before = (32 * 250 + 32 * 500) * 1.15
    assert event["limit_watts"] == pytest.approx(0.9 * before)
    assert event["steps_above"] == 0
    assert found["without"]["violations"]["grid"]["seconds"] == pytest.approx(3600.0)


def test_an_event_that_cannot_be_met_is_said_to_be_missed() -> None:
    cut = Cut(start_seconds=WINDOW.begin_seconds + 9.0 * 3600.0, duration_seconds=3600.0, cut_watts=9000.0)
    _, found = run(month(Flex.FLEX0), Levers(cuts=(cut,)))
    assert found["controlled"]["violations"]["grid"]["worst_watts"] == pytest.approx(9000.0)
    assert found["events"][0]["steps_above"] == 12


def test_the_same_case_gives_the_same_result() -> None:
    levers = Levers(ess_watts=2000.0, ess_kwh=4.0)
    assert run(month(), levers)[1] == run(month(), levers)[1]


def test_a_battery_never_leaves_its_bounds_and_loses_what_it_should() -> None:
    levers = Levers(names=frozenset({"ess"}), ess_watts=6000.0, ess_kwh=10.0)
    # Jobs start and end at whole minutes, so that no step holds both directions.
    minutes = replace(WINDOW, step_seconds=60.0, steps=2 * 1440)
    outcome, _ = run(month(), levers, minutes)
    record, battery = outcome.controlled, outcome.battery
    assert battery is not None
    assert np.all((record.soc_kwh >= -1e-9) & (record.soc_kwh <= battery.energy_kwh + 1e-9))
    assert np.all(np.abs(record.discharge_watts) <= battery.power_watts + 1e-6)
    hours = minutes.step_seconds / 3600.0
    out = np.maximum(record.discharge_watts, 0.0).sum() * hours / 1000.0
    into = np.maximum(-record.discharge_watts, 0.0).sum() * hours / 1000.0
    eta = battery.efficiency_ratio
    assert out > 5.0 and into > 5.0
    assert record.soc_kwh[-1] == pytest.approx(battery.soc_kwh + into * eta - out / eta, abs=1e-6)
    # With no other lever the load is that of the run without control.
    assert record.circuit_watts[:, 0] + record.discharge_watts == pytest.approx(
        outcome.without.circuit_watts[:, 0]
    )


def test_the_outage_reserve_is_neither_used_nor_filled_twice() -> None:
    """Of 10 kWh 3 are kept: what is usable ends at them and at full, whatever is asked."""
    battery = Battery(
        circuit="grid",
        power_watts=5000.0,
        energy_kwh=10.0,
        reserve_kwh=3.0,
        soc_kwh=8.0,
        round_trip_ratio=0.81,
    )
    for wanted, ends_at in ((-5000.0, 10.0), (5000.0, 3.0), (-5000.0, 10.0)):
        for _ in range(300):
            battery.run(battery.possible_watts(wanted, 60.0), 60.0)
        assert battery.soc_kwh == pytest.approx(ends_at)
    assert battery.possible_watts(-5000.0, 60.0) == pytest.approx(0.0, abs=1e-6)
    # 0.9 one way: an hour at 900 W takes a kilowatt-hour.
    battery.run(900.0, 3600.0)
    assert battery.soc_kwh == pytest.approx(9.0)


def test_periods_are_the_window_or_calendar_months() -> None:
    assert billing_periods(WINDOW) == [(0, 576)]
    quarter = Window(begin_seconds=0.0, step_seconds=3600.0, steps=24 * 90)
    assert billing_periods(quarter) == [(0, 744), (744, 744 + 672), (744 + 672, 2160)]


@st.composite
def mixed_jobs(draw: st.DrawFn) -> list[PlantJob]:
    return [
        job(
            str(number),
            draw(st.sampled_from((1, 8, 16))),
            at=float(draw(st.integers(0, 30 * 288))) * 300.0,
            run=float(draw(st.integers(600, 200_000))),
            limit=draw(st.sampled_from((None, 3600.0, 86_400.0))),
            flex=draw(st.sampled_from(Flex)),
            watts=draw(st.sampled_from((100.0, 400.0, 650.0))),
        )
        for number in range(draw(st.integers(1, 25)))
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mixed_jobs(), st.sampled_from((None, 15_000.0)), st.sampled_from((0.0, 3000.0)))
def test_promises_are_kept_and_no_job_is_lost(
    jobs: list[PlantJob], limit_watts: float | None, ess_watts: float
) -> None:
    window = replace(WINDOW, step_seconds=900.0, steps=192)
    levers = Levers(limit_watts=limit_watts, ess_watts=ess_watts, ess_kwh=2.0 * ess_watts / 1000.0)
    who = population(jobs)
    outcome = run_case(who, POLICY, window, levers, bound=False)
    assert {one.job_id for one in outcome.controlled.jobs} == {one.job_id for one in outcome.without.jobs}
    for one in outcome.controlled.jobs:
        promised = one.flex.max_slowdown_ratio
        assert one.lost_seconds <= promised * (one.lost_seconds + one.done_seconds) + 1e-6
        longest = min(4 * 3600.0, promised * (one.limit_seconds or 3600.0))
        assert one.held_seconds <= longest + 1.0
    # Work is done once, capped or not: what has run in both runs to its end has the same.
    done = {one.job_id: one.done_seconds for one in outcome.without.jobs if one.ended_seconds is not None}
    for one in outcome.controlled.jobs:
        if one.ended_seconds is not None and one.job_id in done:
            assert one.done_seconds == pytest.approx(done[one.job_id], abs=1e-6)


def test_a_battery_feeds_all_circuits_above_it() -> None:
    where = Layout(small_site(), HARDWARE)

    class Feed(NoControl):
        def act(self, cluster: Cluster, battery: Battery | None, seconds: float) -> float:  # noqa: ARG002
            assert battery is not None
            return battery.possible_watts(1000.0, seconds)

    battery = Battery(circuit="rack0", power_watts=1000.0, energy_kwh=100.0, soc_kwh=50.0)
    window = Window(begin_seconds=0.0, step_seconds=300.0, steps=2)
    ran = simulate(where, [], window, Feed(), battery)
    assert (where.idle_watts - ran.circuit_watts[0]).tolist() == pytest.approx([1150.0, 1000.0, 0.0])
    assert ran.load_watts == pytest.approx(natural_watts(where, [], 0.0, 300.0, 2))


def test_a_mix_is_dealt_along_gpu_hours_and_the_same_for_a_seed() -> None:
    users = [(f"u{number}", 1.0 + number % 5) for number in range(200)]
    mix = parse_mix("flex0:0.5,flex2:0.2,flex3:0.3")
    where = positions(users, 3)
    assert where == positions(users, 3) != positions(users, 4)
    total = sum(amount for _, amount in users)
    for flex, share in mix.items():
        got = sum(amount for user, amount in users if flex_at(where[user], mix) is flex) / total
        assert got == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("flex9:1", "no flex class"),
        ("flex0:0.5", "add up to 0.5"),
        ("flex0:x", "no share"),
        ("flex0:0.5,flex0:0.5", "twice"),
        ("flex0:-1,flex1:2", "no share"),
        ("flex0:nan", "no share"),
    ],
)
def test_a_mix_that_cannot_be_is_told(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_mix(text)
