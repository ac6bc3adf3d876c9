"""What happens on sites: racks are added, power fails, holidays come, and patterns change for good."""

from dataclasses import replace

import numpy as np
import pytest

from slurm_power.forecast.blend import DAYS_AHEAD, Blend, Forecast
from slurm_power.forecast.drift import recent_drift
from slurm_power.forecast.experts import EXPERTS, Values
from slurm_power.forecast.history import History
from tests.forecast.series import DAY, SEASONS, daily


def site(days: int, *, weekend: float = 0.0, seed: int = 1) -> Values:
    """100 kW by day and by night, which wander around a daily pattern; less on Saturday and Sunday."""
    chance = np.random.default_rng(seed)
    steps = np.arange(days * DAY)
    wander = np.zeros(len(steps))
    for at in range(1, len(steps)):
        wander[at] = 0.8 * wander[at - 1] + 2.0 * chance.standard_normal()
    is_weekend = (steps // DAY) % 7 >= 5
    return 100.0 + 15.0 * np.sin(2 * np.pi * steps / DAY) + wander - weekend * is_weekend


def forecast_at(values: Values, origin: int) -> Forecast:
    made = Blend(SEASONS)
    made.extend(values[:origin])
    return made.forecast()


def error_at(values: Values, origin: int) -> float:
    return float(np.abs(forecast_at(values, origin).p50 - values[origin : origin + DAY]).mean())


def test_racks_that_are_added_are_followed_within_days() -> None:
    left: dict[int, list[float]] = {1: [], 2: [], 4: []}
    for seed in range(4):
        values = site(32, seed=seed)
        values[24 * DAY :] *= 1.3
        for days, errors in left.items():
            errors.append(error_at(values, (24 + days) * DAY))
    # The step is 30; what is left is mostly what the site's own wandering makes.
    assert np.mean(left[1]) < 15.0 and np.mean(left[2]) < 9.0 and np.mean(left[4]) < 6.0, left


@pytest.mark.parametrize("after", [1, 6, 24, 96])
def test_an_outage_of_hours_is_no_pattern(after: int) -> None:
    for seed in range(3):
        sound = site(32, seed=seed)
        hit = sound.copy()
        hit[24 * DAY + 10 : 24 * DAY + 16] = 0.0
        origin = 24 * DAY + 16 + after
        assert error_at(hit, origin) < 1.25 * error_at(sound, origin) + 0.5, (seed, after)


def test_a_holiday_does_not_make_the_days_after_it_holidays() -> None:
    for seed in range(3):
        plain = site(32, weekend=20.0, seed=seed)
        holiday = plain.copy()
        holiday[22 * DAY : 23 * DAY] -= 20.0
        assert error_at(holiday, 23 * DAY + 6) < 1.5 * error_at(plain, 23 * DAY + 6)
        assert error_at(holiday, 24 * DAY) < 1.5 * error_at(plain, 24 * DAY)


def history_of(values: Values, mend_steps: int = DAY) -> History:
    made = History(20 * DAY, DAY, mend_steps)
    for value in values:
        made.take(value)
    return made


def test_an_accident_is_seen_while_it_lasts_and_mended_when_it_is_over() -> None:
    values = daily(10)
    values[5 * DAY : 5 * DAY + 6] = 0.0
    during = history_of(values[: 5 * DAY + 6])
    np.testing.assert_array_equal(during.filled[-6:], 0.0)
    after = history_of(values[: 5 * DAY + 7])
    np.testing.assert_array_equal(after.filled[-7:-1], values[4 * DAY : 4 * DAY + 6])
    np.testing.assert_array_equal(after.actual[-7:-1], 0.0)
    assert np.isnan(after.sound(7)[:6]).all() and np.isfinite(after.sound(7)[6])


def test_what_lasts_and_what_comes_again_is_no_accident() -> None:
    values = daily(12)
    values[5 * DAY : 6 * DAY + 2] = 0.0
    np.testing.assert_array_equal(history_of(values).filled, values)
    values = daily(12)
    values[5 * DAY : 5 * DAY + 3] = values[8 * DAY : 8 * DAY + 3] = 0.0
    filled = history_of(values).filled
    assert (filled[5 * DAY : 5 * DAY + 3] > 5.0).all()
    np.testing.assert_array_equal(filled[8 * DAY : 8 * DAY + 3], 0.0)


def test_in_the_first_days_nothing_is_far_off() -> None:
    values = daily(4)
    values[DAY : DAY + 3] = 0.0
    np.testing.assert_array_equal(history_of(values).filled, values)


def test_nothing_is_mended_where_that_is_not_wanted() -> None:
    values = daily(10)
    values[5 * DAY : 5 * DAY + 6] = 0.0
    np.testing.assert_array_equal(history_of(values, 0).filled, values)


def days_of(errors: list[float], forecast: float = 100.0) -> tuple[Values, Values]:
    said = np.full((len(errors), 4), forecast)
    return said + np.array(errors)[:, None], said


def test_days_that_leave_the_forecast_are_told() -> None:
    quiet = [2.0, -1.0, 1.0, -2.0, 1.0, 2.0, 0.0, -1.0]
    found = recent_drift(*days_of([*quiet, 12.0, 12.0]))
    assert found is not None
    assert found.reason == "the last 2 days lay 12% above what was forecast"
    below = recent_drift(*days_of([*quiet, -30.0, -10.0, -20.0]))
    assert below is not None and below.reason == "the last 3 days lay 20% below what was forecast"


@pytest.mark.parametrize(
    "errors",
    [
        pytest.param([2.0, -1.0, 1.0, -2.0, 1.0, 0.0, -1.0, 2.0, -1.0], id="quiet"),
        pytest.param([2.0, -1.0, 1.0, -2.0, 1.0, 0.0, -1.0, 2.0, -90.0], id="one outage"),
        pytest.param([2.0, -1.0, 1.0, -2.0, 1.0, 30.0, 30.0, 2.0, -1.0], id="over again"),
        pytest.param([30.0, 30.0], id="too few"),
        pytest.param([0.0] * 9, id="exact"),
    ],
)
def test_what_is_no_drift_is_not_told(errors: list[float]) -> None:
    assert recent_drift(*days_of(errors)) is None
    assert recent_drift(*days_of(errors, forecast=0.0)) is None or any(errors)


def test_days_of_which_little_is_known_do_not_count() -> None:
    outcomes, said = days_of([1.0, -1.0, 1.0, -1.0, 1.0, 40.0, 40.0])
    outcomes[-2:, 1:] = np.nan
    assert recent_drift(outcomes, said) is None


def test_a_new_level_is_named_in_the_forecast_and_so_is_a_short_history() -> None:
    values = site(32)
    values[24 * DAY :] *= 1.3
    assert "above what was forecast" in forecast_at(values, 26 * DAY).reason
    assert forecast_at(site(32), 26 * DAY).reason == ""
    early = forecast_at(site(32), 3 * DAY + 5)
    assert early.reason == "3.2 days of history: bands are wide until there are 14"


def test_the_best_naive_speaks_while_the_blend_is_worse_and_the_blend_again_when_it_is_not() -> None:
    # Weighed too softly to tell good from bad, half of the blend is an expert that is 30 off.
    soft = replace(DAYS_AHEAD, sharpness=0.0)
    wrong_until = 25 * DAY
    made = Blend(
        SEASONS,
        {
            "day_naive": EXPERTS["day_naive"],
            "odd": lambda history, seasons: (
                np.full(seasons.horizon_steps, 30.0) if made.count < wrong_until else history[-DAY:].copy()
            ),
        },
        soft,
    )
    values = daily(60)
    said = []
    for day in range(59):
        made.extend(values[day * DAY : (day + 1) * DAY])
        said.append(made.forecast())
    assert [each.source for each in said[:3]] == ["blend"] * 3, "not judged on enough"
    worse = said[20]
    assert worse.source == "day_naive"
    assert worse.reason.startswith("the blend was ") and "worse than day_naive over the last" in worse.reason
    assert worse.weights == {"day_naive": (1.0, 1.0), "odd": (0.0, 0.0)}
    np.testing.assert_array_equal(worse.p50, values[20 * DAY : 21 * DAY])
    inside = (values[21 * DAY : 22 * DAY] >= worse.p10) & (values[21 * DAY : 22 * DAY] <= worse.p90)
    assert inside.mean() > 0.6 and float((worse.p90 - worse.p10).mean()) < 1.0, "bands are the naive's own"
    score = made.recent_score()
    assert score is not None and score.mae_watts <= 1.01 * score.best_naive_mae_watts
    assert said[-1].source == "blend", "both are the same again"
    assert said[-1].reason == ""


def test_one_expert_alone_is_its_own_source() -> None:
    made = Blend(SEASONS, {"persistence": EXPERTS["persistence"]})
    made.extend(daily(20))
    assert made.forecast().source == "persistence"
