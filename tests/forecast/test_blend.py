"""Experts and their blend: who is right when, what is never said, and how far back anything matters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.forecast.blend import Blend, stretches
from slurm_power.forecast.experts import EXPERTS, NAIVE, Seasons, Values
from tests.forecast.series import DAY, SEASONS, daily, wandering


def blended(values: Values, seasons: Seasons = SEASONS) -> Blend:
    made = Blend(seasons)
    made.extend(values)
    return made


def test_a_day_that_repeats_is_learned_and_persistence_loses_its_weight() -> None:
    values = daily(20)
    found = blended(values[:-DAY]).forecast()
    assert float(np.abs(found.p50 - values[-DAY:]).mean()) < 0.08
    assert found.weights["persistence"][1] < 0.01
    assert sum(last for _, last in found.weights.values()) == pytest.approx(1.0)


def test_on_a_random_walk_the_last_value_leads_at_first() -> None:
    errors: dict[str, list[float]] = {"blend": [], "persistence": []}
    for seed in range(8):
        values = wandering(25, seed=seed)
        found = blended(values[:-DAY]).forecast()
        errors["blend"].append(float(np.abs(found.p50 - values[-DAY:]).mean()))
        errors["persistence"].append(float(np.abs(values[-DAY - 1] - values[-DAY:]).mean()))
    assert np.mean(errors["blend"]) < 1.15 * np.mean(errors["persistence"])


def test_a_level_that_shifts_is_followed_within_a_day() -> None:
    values = daily(20)
    values[-3 * DAY :] += 5.0  # racks were added two days before the origin
    found = blended(values[:-DAY]).forecast()
    assert float(np.abs(found.p50 - values[-DAY:]).mean()) < 1.0


def test_an_expert_that_explodes_or_gives_nonsense_has_no_weight() -> None:
    experts = {
        "sound": EXPERTS["day_naive"],
        "exploding": lambda _history, seasons: np.full(seasons.horizon_steps, 1e6),
        "broken": lambda _history, seasons: np.full(seasons.horizon_steps, np.nan),
    }
    made = Blend(SEASONS, experts)
    made.extend(daily(10))
    assert made.forecast().weights == {"sound": (1.0, 1.0), "exploding": (0.0, 0.0), "broken": (0.0, 0.0)}


def test_the_first_hours_have_a_forecast_with_an_honest_width() -> None:
    values = daily(2)
    for count in (1, 2, 5, DAY, DAY + 5):
        found = blended(values[:count]).forecast()
        assert np.all(found.p10 <= found.p50)
        assert np.all(found.p50 <= found.p90)
    inside = (values[DAY : 2 * DAY] >= (early := blended(values[:DAY]).forecast()).p10) & (
        values[DAY : 2 * DAY] <= early.p90
    )
    assert inside.mean() > 0.7


def test_before_the_first_value_there_is_none() -> None:
    with pytest.raises(ValueError, match="no value yet"):
        blended(np.full(5, np.nan)).forecast()


@pytest.mark.parametrize("seed", range(4))
def test_bands_hold_what_they_promise(seed: int) -> None:
    values = daily(90, noise=1.0, seed=seed)
    made, inside = Blend(SEASONS), []
    for day in range(89):
        made.extend(values[day * DAY : (day + 1) * DAY])
        if day >= 20:
            found, actual = made.forecast(), values[(day + 1) * DAY : (day + 2) * DAY]
            inside.append(float(((actual >= found.p10) & (actual <= found.p90)).mean()))
    assert 0.75 < np.mean(inside) < 0.88


def test_what_lies_further_back_than_is_judged_changes_nothing() -> None:
    values = daily(60, noise=1.0)
    whole, short = Blend(SEASONS), Blend(SEASONS)
    whole.extend(values)
    short.extend(values[: -short.judged_steps], ask=False)
    short.extend(values[-short.judged_steps :])
    for ours, theirs in zip(
        (whole.forecast().p10, whole.forecast().p50),
        (short.forecast().p10, short.forecast().p50),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs)


def test_a_gap_is_no_value_and_judges_nobody() -> None:
    values = daily(20)
    holed = values.copy()
    holed[-3 * DAY : -2 * DAY] = np.nan
    found = blended(holed).forecast()
    np.testing.assert_allclose(found.p50, blended(values).forecast().p50, atol=0.3)
    assert blended(holed).known == len(values) - DAY


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.one_of(
            st.floats(-1e9, 1e9), st.just(0.0), st.just(5.0), st.just(float("nan")), st.floats(0.0, 1e-9)
        ),
        min_size=1,
        max_size=5 * DAY,
    ),
    repeated=st.integers(1, 4),
)
def test_whatever_comes_a_forecast_is_finite_and_in_order(values: list[float], repeated: int) -> None:
    made = Blend(SEASONS)
    made.extend(values * repeated)
    if not np.isfinite(values).any():
        return
    found = made.forecast()
    assert np.all(np.isfinite([found.p10, found.p50, found.p90]))
    assert np.all(found.p10 <= found.p50 + 1e-6 * np.abs(found.p50))
    assert np.all(found.p50 <= found.p90 + 1e-6 * np.abs(found.p50))
    if np.nanmin(values) >= 0.0:
        assert np.all(found.p10 >= 0.0)


@pytest.mark.parametrize("name", list(EXPERTS))
def test_each_expert_repeats_a_constant_and_never_sees_past_its_history(name: str) -> None:
    constant = np.full(30 * DAY, 7.0)
    path = EXPERTS[name](constant, SEASONS)
    assert path is not None
    np.testing.assert_allclose(path, 7.0, rtol=1e-3)
    long = Seasons(day_steps=DAY, horizon_steps=3 * DAY + 1)
    path = EXPERTS[name](daily(30), long)
    assert path is not None
    assert path.shape == (3 * DAY + 1,)
    assert EXPERTS[name](daily(30)[:1], SEASONS) is None or name == "persistence"


@pytest.mark.parametrize("day_steps", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("count", [1, 2, 5, 9, 40, 200])
def test_a_day_may_have_few_steps(day_steps: int, count: int) -> None:
    values = 5.0 + np.random.default_rng(1).random(count)
    for horizon in (1, day_steps, 3 * day_steps + 1):
        made = Blend(Seasons(day_steps, horizon))
        made.extend(values)
        assert np.isfinite(made.forecast().p50).all()


def test_the_horizon_is_cut_into_parts_that_double() -> None:
    assert stretches(96) == ((0, 1), (1, 2), (2, 4), (4, 8), (8, 16), (16, 32), (32, 64), (64, 96))
    assert stretches(1) == ((0, 1),)
    assert set(NAIVE) <= set(EXPERTS)
