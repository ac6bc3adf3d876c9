"""Whole paths of load: who speaks, what they know, and what they cannot."""

import math

import numpy as np
import pytest

from slurm_power.plan.load_paths import LEAST_DAYS, LoadPaths, ranked_score
from slurm_power.plan.peak_level import Battery, Values

HOUR = 3600.0
DAY = 24
OF = Battery(
    charge_watts=3_000.0, discharge_watts=3_000.0, energy_kwh=6.0, charge_ratio=0.94, discharge_ratio=0.94
)


def fed(watts: Values, step_seconds: float = HOUR) -> LoadPaths:
    loads = LoadPaths(OF, step_seconds)
    for value in watts.tolist():
        loads.extend(value)
    return loads


def shaped(days: int, seed: int = 1) -> Values:
    """The same day again and again, each at a height of its own that nothing tells beforehand."""
    chance = np.random.default_rng(seed)
    steps = np.arange(days * DAY)
    heights = np.repeat(chance.uniform(0.9, 1.1, days), DAY)
    watts: Values = 10_000.0 + 4_000.0 * heights * np.sin(2 * np.pi * (steps - 8) / DAY)
    return watts + 60.0 * chance.standard_normal(len(steps))


def plateaus(days: int, seed: int = 1) -> Values:
    """Jobs without a time of day: a base, and eight hours of much more now and then."""
    chance = np.random.default_rng(seed)
    watts = np.full(days * DAY, 10_000.0)
    at = 0
    while at < len(watts):
        at += int(chance.integers(12, 60))
        watts[at : at + 8] = 16_000.0
        at += 8
    return watts + 60.0 * chance.standard_normal(len(watts))


@pytest.fixture(scope="module")
def jobs() -> LoadPaths:
    return fed(plateaus(34))


def test_similar_moments_speak_for_jobs(jobs: LoadPaths) -> None:
    assert jobs.source == "similar moments"


def test_the_forecast_speaks_where_it_has_been_nearer_to_the_truth() -> None:
    assert fed(shaped(30)).source == "forecast"


def test_paths_start_at_the_load_now_and_last_a_day(jobs: LoadPaths) -> None:
    found = jobs.paths()
    assert found is not None and found.shape[0] == jobs.horizon_steps == DAY
    assert found[0] == pytest.approx(np.full(found.shape[1], jobs.recent(1)[-1]))
    moved = jobs.paths(20_000.0)
    assert moved is not None and moved[0] == pytest.approx(np.full(found.shape[1], 20_000.0))
    # The shift fades.
    assert np.abs(moved[-1] - found[-1]).max() < 0.06 * abs(20_000.0 - found[0, 0])
    expected = jobs.expected(20_000.0)
    assert expected is not None and expected.shape == (DAY,) and expected[0] == pytest.approx(20_000.0)


def test_paths_may_be_written_on(jobs: LoadPaths) -> None:
    found = jobs.paths()
    assert found is not None
    kept = found.copy()
    found[:] = np.nan
    again = jobs.paths()
    assert again is not None and (again == kept).all()


def test_nothing_is_said_before_two_weeks() -> None:
    watts = plateaus(15)
    loads = fed(watts[: round(LEAST_DAYS * DAY) - 1])
    assert loads.paths() is None and loads.expected() is None
    loads.extend(10_000.0)
    assert loads.paths() is not None and loads.expected() is not None
    assert loads.days == LEAST_DAYS


def test_nothing_later_is_seen() -> None:
    watts = plateaus(18)
    alone = fed(watts[: 16 * DAY])
    said = alone.paths(), alone.expected()
    along = LoadPaths(OF, HOUR)
    for step, value in enumerate(watts.tolist()):
        along.extend(value)
        if step == 16 * DAY - 1:
            found = along.paths(), along.expected()
    for one, other in zip(said, found, strict=True):
        assert one is not None and other is not None and (one == other).all()


def test_a_gap_repeats_the_value_before_it() -> None:
    watts = plateaus(16)
    holes = watts.copy()
    holes[[0, 200, 201, 383]] = math.nan
    filled = watts.copy()
    filled[0], filled[[200, 201]], filled[383] = 0.0, watts[199], watts[382]
    one, other = fed(holes).paths(), fed(filled).paths()
    assert one is not None and other is not None and (one == other).all()


def test_a_battery_of_no_size_judges_nobody() -> None:
    none = Battery(
        charge_watts=0.0, discharge_watts=0.0, energy_kwh=0.0, charge_ratio=0.94, discharge_ratio=0.94
    )
    loads = LoadPaths(none, HOUR)
    for value in plateaus(15).tolist():
        loads.extend(value)
    assert loads.source == "similar moments" and loads.paths() is not None


def test_quarters_of_an_hour_have_a_day_of_96() -> None:
    loads = fed(np.repeat(plateaus(15), 4), 900.0)
    found = loads.paths()
    assert found is not None and found.shape[0] == 96 and np.isfinite(found).all()


def test_the_ranked_score_by_hand() -> None:
    # Mean distance 1, half the mean of |x - x'| over all four pairs: 2 * 2 / 4 / 2.
    assert ranked_score(np.array([1.0, 3.0]), 2.0) == pytest.approx(0.5)
    assert ranked_score(np.array([2.0, 2.0]), 2.0) == 0.0
    assert ranked_score(np.array([5.0]), 2.0) == 3.0
