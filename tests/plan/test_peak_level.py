"""Levels that a battery holds: against the linear program, on many paths, and one step at a time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.plan.lp_ess import PaidPeak, best_course
from slurm_power.plan.peak_level import (
    Battery,
    Values,
    held_levels,
    least_level,
    raised_level,
    reserve_kwh,
)

HOURS = 0.25
LOSSES = math.sqrt(0.88)


def battery(power_watts: float = 15_000.0, hours: float = 2.0) -> Battery:
    return Battery(
        charge_watts=power_watts,
        discharge_watts=power_watts,
        energy_kwh=power_watts * hours / 1000.0,
        charge_ratio=LOSSES,
        discharge_ratio=LOSSES,
    )


def random_load(seed: int, steps: int = 192) -> Values:
    """A day's shape with steps of jobs on it, 40 to 140 kW."""
    chance = np.random.default_rng(seed)
    jobs = np.repeat(chance.uniform(0.0, 60.0, steps // 8), 8)
    return 1000.0 * (60.0 + 20.0 * np.sin(np.arange(steps) * 2 * np.pi / 96) + jobs)


def bound_watts(load: Values, of: Battery, stored_kwh: float, end_kwh: float) -> float:
    """The least peak by the linear program; NaN of the load does not count."""
    counts = ~np.isnan(load)
    course = best_course(
        np.where(counts, load, 1e6),
        np.zeros(len(load)),
        [PaidPeak(price_per_kw=1.0, steps=counts)],
        of,
        stored_kwh=stored_kwh,
        step_hours=HOURS,
        end_stored_kwh=end_kwh,
    )
    assert course is not None
    return float((load - course.discharge_watts)[counts].max())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("power_watts", "hours"), [(15_000.0, 2.0), (40_000.0, 0.5), (5_000.0, 6.0)])
def test_the_least_level_is_that_of_the_linear_program(seed: int, power_watts: float, hours: float) -> None:
    load, of = random_load(seed), battery(power_watts, hours)
    half = 0.5 * of.energy_kwh
    found = least_level(load, of, stored_kwh=half, end_stored_kwh=half, step_hours=HOURS)
    assert found == pytest.approx(bound_watts(load, of, half, half), rel=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_the_least_level_looks_only_at_steps_that_count(seed: int) -> None:
    load, of = random_load(seed), battery()
    load[np.arange(192) % 96 < 40] = np.nan
    half = 0.5 * of.energy_kwh
    found = least_level(load, of, stored_kwh=half, end_stored_kwh=half, step_hours=HOURS)
    assert found == pytest.approx(bound_watts(load, of, half, half), rel=1e-3)
    assert least_level(np.full(9, np.nan), of, stored_kwh=half, end_stored_kwh=half, step_hours=HOURS) == 0.0


def test_levels_of_paths_are_those_of_each_path() -> None:
    of = battery()
    paths = np.stack([random_load(seed, 96) for seed in range(8)], axis=1)
    paths[90:, 3] = np.nan
    paths[:, 7] = np.nan
    found = held_levels(paths, of, stored_kwh=12.0, step_hours=HOURS, least_watts=60_000.0)
    for column in range(7):
        alone = least_level(paths[:, column], of, stored_kwh=12.0, end_stored_kwh=0.0, step_hours=HOURS)
        # Levels on paths are found to a hundredth of the battery's power.
        assert max(alone, 60_000.0) - 5.0 <= found[column] <= max(alone, 60_000.0) + 0.01 * 15_000.0
    assert found[7] == 60_000.0


def test_no_level_lies_below_what_is_asked_at_least() -> None:
    paths = np.full((96, 2), 50_000.0)
    found = held_levels(paths, battery(), stored_kwh=30.0, step_hours=HOURS, least_watts=70_000.0)
    assert found.tolist() == [70_000.0, 70_000.0]


@settings(max_examples=60, deadline=None)
@given(
    load=st.floats(1_000.0, 200_000.0),
    above=st.floats(1.0, 100_000.0),
    fullness=st.floats(0.0, 1.0),
    seed=st.integers(0, 9) | st.none(),
    quantile=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_a_raised_level_is_possible_and_not_above_the_load(
    load: float, above: float, fullness: float, seed: int | None, quantile: float
) -> None:
    of, level = battery(), max(0.0, load - above)
    stored = fullness * of.energy_kwh
    paths = None
    if seed is not None:
        paths = np.stack([random_load(seed + more, 96) for more in range(5)], axis=1)
        paths[0] = load
    found = raised_level(level, load, paths, of, stored_kwh=stored, step_hours=HOURS, quantile=quantile)
    physical = max(level, load - of.discharge_bound_watts(stored, HOURS))
    assert physical <= found <= load
    if paths is None:
        assert found == physical


def test_a_short_excess_does_not_raise_the_level_and_a_long_one_does() -> None:
    of = battery()
    short, long = np.full((96, 1), 80_000.0), np.full((96, 1), 110_000.0)
    short[:4] = 110_000.0
    stored = of.energy_kwh
    kept = raised_level(100_000.0, 110_000.0, short, of, stored_kwh=stored, step_hours=HOURS)
    assert kept == pytest.approx(100_000.0, abs=1.0)
    raised = raised_level(100_000.0, 110_000.0, long, of, stored_kwh=stored, step_hours=HOURS)
    # 30 kWh give 28.1 kWh over a day: 1.17 kW less than the load.
    assert raised == pytest.approx(110_000.0 - 1000.0 * 30.0 * LOSSES / 24.0, abs=150.0)


def test_the_reserve_by_hand() -> None:
    of = Battery(
        charge_watts=10_000.0,
        discharge_watts=10_000.0,
        energy_kwh=20.0,
        charge_ratio=0.8,
        discharge_ratio=0.5,
    )
    # 2 kW over for an hour take 4 kWh of the store; 5 kW under for an hour give it 4 kWh.
    paths = 1000.0 * np.array([[100.0, 100.0], [102.0, 100.0], [95.0, 100.0], [104.0, 100.0], [103.0, 100.0]])
    found = reserve_kwh(paths[:, :1], 100_000.0, of, step_hours=1.0)
    assert found == pytest.approx([14.0, 14.0, 10.0, 14.0, 6.0])
    both = reserve_kwh(paths, 100_000.0, of, step_hours=1.0, quantile=0.5)
    assert both == pytest.approx(found / 2.0)


def test_the_reserve_is_never_more_than_the_battery_holds_and_nothing_where_no_level_counts() -> None:
    of = battery()
    paths = np.full((8, 3), 130_000.0)
    assert reserve_kwh(paths, 100_000.0, of, step_hours=HOURS).max() == of.energy_kwh
    levels = np.full(8, np.inf)
    assert not reserve_kwh(paths, levels, of, step_hours=HOURS).any()
    levels[4] = 125_000.0
    found = reserve_kwh(paths, levels, of, step_hours=HOURS)
    # 5 kW for a quarter of an hour, recharged in the step before that does not count.
    assert found == pytest.approx([0.0, 0.0, 0.0, 0.0, 5.0 * 0.25 / LOSSES, 0.0, 0.0, 0.0])


@settings(max_examples=80, deadline=None)
@given(fullness=st.floats(0.0, 1.0), asked=st.floats(-1.0, 1.0), hours=st.sampled_from([1 / 60, 0.25, 1.0]))
def test_a_step_conserves_energy_within_the_bounds(fullness: float, asked: float, hours: float) -> None:
    of = battery(20_000.0, 1.0)
    stored = fullness * of.energy_kwh
    bound = of.discharge_bound_watts(stored, hours) if asked >= 0.0 else of.charge_bound_watts(stored, hours)
    power = asked * bound
    after = of.after(stored, power, hours)
    out = power * hours / 1000.0
    assert 0.0 <= after <= of.energy_kwh
    assert stored - after == pytest.approx(out / LOSSES if out >= 0.0 else out * LOSSES, abs=1e-9)


def test_bounds_are_never_negative_and_none_is_none() -> None:
    of = battery()
    assert of.discharge_bound_watts(-1e-9, HOURS) == 0.0
    assert of.charge_bound_watts(of.energy_kwh + 1e-9, HOURS) == 0.0
    assert battery(0.0).is_none and battery(hours=0.0).is_none and not of.is_none
