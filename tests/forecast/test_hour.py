"""The next hour: when "as now" gives way, when it must not, and that nothing later is ever seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.forecast.backtest import model_named, pick_origins, run
from slurm_power.forecast.experts import Seasons, Values
from slurm_power.forecast.hour import HOUR_EXPERTS, is_next_hour, next_hour

MINUTES = Seasons(day_steps=1440, horizon_steps=30)


def noisy(count: int, spread: float, *, seed: int = 1) -> Values:
    """A load around 1,000 that is another each minute."""
    return 1_000.0 + spread * np.random.default_rng(seed).standard_normal(count)


def stepping(count: int, *, seed: int = 1) -> Values:
    """A load that stays, and now and then is another."""
    chance = np.random.default_rng(seed)
    levels = 1_000.0 + np.cumsum(np.where(chance.random(count) < 0.02, chance.normal(0.0, 50.0, count), 0.0))
    return np.maximum(levels, 0.0)


def ratio_to_persistence(values: Values, origins: int = 60) -> float:
    ours, naive = [], []
    chosen = [int(at) for at in np.linspace(len(values) // 2, len(values) - 30, origins)]
    for origin in run(values, MINUTES, chosen, next_hour(MINUTES), lambda: 0.0):
        ours.append(np.abs(origin.actual - origin.forecast.p50).mean())
        naive.append(np.abs(origin.actual - values[origin.index - 1]).mean())
    return float(np.mean(ours) / np.mean(naive))


def test_noise_is_smoothed_away() -> None:
    # The mean of all is best, with 1 / sqrt(2) of the error of the last value.
    assert ratio_to_persistence(noisy(2_000, 50.0)) < 0.80


def test_steps_are_left_to_the_last_value() -> None:
    assert ratio_to_persistence(stepping(2_000)) < 1.03


def test_a_rise_at_the_same_minute_each_day_is_expected() -> None:
    minute = np.arange(4 * 1440) % 1440
    values = 500.0 + 300.0 * np.clip((minute - 600) / 120.0, 0.0, 1.0) * (minute < 1200)
    made = next_hour(MINUTES)
    made.extend(values[: 3 * 1440 + 630])
    found = made.forecast().p50
    actual = values[3 * 1440 + 630 :][:30]
    last = values[3 * 1440 + 629]
    assert np.abs(found - actual).mean() < 0.3 * np.abs(last - actual).mean()


@settings(max_examples=8, deadline=None)
@given(st.integers(100, 1_900), st.floats(-1e9, 1e9))
def test_what_comes_later_is_never_seen(at: int, spoilt: float) -> None:
    values = noisy(2_000, 20.0)
    other = values.copy()
    other[at:] = spoilt
    found = [
        next(run(each, MINUTES, [at], next_hour(MINUTES), lambda: 0.0)).forecast for each in (values, other)
    ]
    for name in ("p10", "p50", "p90"):
        assert np.array_equal(getattr(found[0], name), getattr(found[1], name))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.floats(0.0, 1e9), st.just(float("nan"))), min_size=1, max_size=400))
def test_whatever_came_nothing_said_is_infinite(values: list[float]) -> None:
    made = next_hour(MINUTES)
    made.extend(values)
    if not np.isfinite(values).any():
        with pytest.raises(ValueError, match="no value yet"):
            made.forecast()
        return
    found = made.forecast()
    assert np.isfinite([found.p10, found.p50, found.p90]).all()
    assert (found.p10 <= found.p50).all() and (found.p50 <= found.p90).all()


@pytest.mark.parametrize(
    ("seasons", "wanted"),
    [
        (Seasons(1440, 30), True),
        (Seasons(1440, 120), True),
        (Seasons(1440, 121), False),
        (Seasons(288, 12), True),
        (Seasons(96, 4), False),
        (Seasons(96, 96), False),
    ],
)
def test_which_horizon_is_an_hour(seasons: Seasons, wanted: bool) -> None:
    assert is_next_hour(seasons) is wanted


def test_each_expert_can_be_asked_by_its_name() -> None:
    values = noisy(2_400, 10.0)
    origins = pick_origins(len(values), MINUTES, 2)
    assert origins[0] < 900, "a third of it is enough to begin"
    for name in [*HOUR_EXPERTS, "blend"]:
        assert list(run(values, MINUTES, origins, model_named(name, MINUTES, lambda: 0.0), lambda: 0.0)), name
