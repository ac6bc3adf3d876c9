"""The combined bound: small cases known by hand, and what must hold for any."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.simulate.cluster import PlantJob
from slurm_power.simulate.jobs_run import Battery, Window
from slurm_power.simulate.lp_combined import Bound, Relaxation, combined_bound
from tests.simulate.plant_jobs import job, layout

WHERE = layout(overhead_ratio=1)
HOUR = 3600.0
DAY = Window(begin_seconds=0.0, step_seconds=300.0, steps=288)
NOTHING = Relaxation(capped_ratio=0.0, defer_hours=0)
IDLE = float(WHERE.idle_watts[0])


def bound(
    jobs: list[PlantJob],
    relaxation: Relaxation = NOTHING,
    battery: Battery | None = None,
    deferrable: bool = True,
) -> Bound:
    return combined_bound(
        WHERE, jobs, DAY, deferrable=[deferrable] * len(jobs), battery=battery, relaxation=relaxation
    )


def ess(power_watts: float, energy_kwh: float, round_trip_ratio: float = 1.0) -> Battery:
    return Battery(
        circuit="grid",
        power_watts=power_watts,
        energy_kwh=energy_kwh,
        round_trip_ratio=round_trip_ratio,
        soc_kwh=0.5 * energy_kwh,
    )


# 4 kW for two hours above what idles.
PEAK = job("1", 8, at=10 * HOUR, run=2 * HOUR, watts=500.0)


def test_without_levers_the_bound_is_the_peak() -> None:
    found = bound([PEAK])
    assert found.peak_watts == pytest.approx(IDLE + 4000.0)
    assert found.peak_without_watts == pytest.approx(IDLE + 4000.0)


def test_a_battery_gives_its_energy_over_the_peak() -> None:
    # 4 kWh are there and as much can be put back: 2 kW for two hours.
    assert bound([PEAK], battery=ess(10_000.0, 4.0)).peak_watts == pytest.approx(IDLE + 2000.0, abs=1.0)
    assert bound([PEAK], battery=ess(500.0, 100.0)).peak_watts == pytest.approx(IDLE + 3500.0, abs=1.0)


def test_half_the_dynamic_power_is_capped_at_most_and_the_work_repaid_later() -> None:
    caps = Relaxation(defer_hours=0)
    assert bound([PEAK], caps).peak_watts == pytest.approx(IDLE + 0.85 * 4000.0, abs=1.0)
    free = replace(caps, loss_ratio=0.0)
    assert bound([PEAK], free).peak_watts == pytest.approx(IDLE + 0.85 * 4000.0, abs=1.0)
    # A job that runs to the end leaves nowhere to repay but itself.
    last = job("1", 8, at=22 * HOUR, run=2 * HOUR, watts=500.0)
    assert bound([last], caps).peak_watts > IDLE + 0.85 * 4000.0 + 1.0


def test_two_jobs_at_once_are_pulled_apart_where_one_may_wait() -> None:
    jobs = [PEAK, job("2", 8, at=10 * HOUR, run=2 * HOUR, watts=500.0)]
    may = bound(jobs, replace(NOTHING, defer_hours=4))
    # 16 kWh in the six hours from the first start to the last end; jobs may be split.
    assert may.peak_watts == pytest.approx(IDLE + 16_000.0 / 6.0, abs=1.0)
    assert may.mean_delay_hours == pytest.approx(2.0, abs=0.01)
    must = bound(jobs, replace(NOTHING, defer_hours=4), deferrable=False)
    assert must.peak_watts == pytest.approx(IDLE + 8000.0)


@st.composite
def logs(draw: st.DrawFn) -> list[PlantJob]:
    return [
        job(
            str(number),
            draw(st.integers(1, 32)),
            at=float(draw(st.integers(-10_000, 80_000))),
            run=float(draw(st.integers(60, 50_000))),
            watts=draw(st.sampled_from((0.0, 100.0, 650.0))),
        )
        for number in range(draw(st.integers(0, 12)))
    ]


@settings(max_examples=40, deadline=None)
@given(logs(), st.floats(0.0, 5000.0), st.floats(0.0, 20.0))
def test_more_levers_never_make_the_bound_worse(
    jobs: list[PlantJob], power_watts: float, energy_kwh: float
) -> None:
    battery = ess(power_watts, energy_kwh, 0.88)
    alone = bound(jobs).peak_watts
    with_battery = bound(jobs, battery=battery).peak_watts
    with_caps = bound(jobs, Relaxation(defer_hours=0), battery).peak_watts
    everything = bound(jobs, Relaxation(), battery).peak_watts
    slack = 1e-3 * alone
    assert everything - slack <= with_caps
    assert with_caps - slack <= with_battery
    assert with_battery <= alone + slack


def test_a_window_below_an_hour_has_no_bound() -> None:
    short = replace(DAY, steps=11)
    with pytest.raises(ValueError, match="an hour"):
        combined_bound(WHERE, [], short, deferrable=[], battery=None, relaxation=NOTHING)
