"""What the blend keeps: verdicts that equal a plain recount, states that go on as if nothing had been."""

from collections.abc import Callable

import numpy as np
import pytest

from slurm_power.forecast.bands import Bands
from slurm_power.forecast.blend import Blend, stretches
from slurm_power.forecast.days import days_ahead
from slurm_power.forecast.experts import EXPERTS, Seasons, Values
from slurm_power.forecast.saved import State
from tests.forecast.series import DAY, SEASONS, daily

STEPS = SEASONS.horizon_steps


def plainly_blended(values: Values) -> tuple[Values, Values, Values]:
    """p10, p50 and p90 with every path of every expert kept, and all counted again at each moment."""
    most = 14 * 8 + 8 + 1
    issues: list[tuple[int, Values, Values]] = []

    def weighed(at: int, paths: Values) -> Values:
        blended = np.empty(STEPS)
        for first, end in stretches(STEPS):
            errors = []
            done = [each for each in issues[-most:] if each[0] + end <= at]
            for row in range(len(EXPERTS)):
                total = weight = everyone = 0.0
                for issued, said, _ in done:
                    discount = 0.97 ** ((at - issued - end) / 3)
                    everyone += discount
                    if np.isfinite(said[row, 0]):
                        misses = said[row, first:end] - values[issued + first : issued + end]
                        total += discount * np.abs(misses).mean()
                        weight += discount
                is_known = weight > 0.0 and weight >= 0.5 * everyone and np.isfinite(paths[row, 0])
                errors.append(total / weight if is_known else np.inf)
            if np.isfinite(errors).any():
                weights = np.exp(-5.0 * (np.array(errors) / min(errors) - 1.0))
            else:
                weights = np.isfinite(paths[:, 0]).astype(float)
            blended[first:end] = (weights / weights.sum()) @ np.nan_to_num(paths[:, first:end])
        return blended

    def paths_at(at: int) -> Values:
        silent = np.full(STEPS, np.nan)
        said = [expert(values[max(0, at - 35 * DAY) : at], SEASONS) for expert in EXPERTS.values()]
        paths: Values = np.stack([silent if path is None else path for path in said])
        return np.maximum(paths, 0.0)

    for at in range(3, len(values) + 1, 3):
        paths = paths_at(at)
        issues.append((at, paths, weighed(at, paths)))
    middle = weighed(len(values), paths_at(len(values)))
    residuals = []
    for at, _, said in issues[-most:]:
        came = np.full(STEPS, np.nan)
        came[: len(values) - at] = values[at : at + STEPS]
        residuals.append(came - said)
    low, high = Bands(stretches(STEPS), values[-35 * DAY :]).around(middle, residuals)
    return np.maximum(low, 0.0), middle, np.maximum(high, 0.0)


@pytest.mark.parametrize("days", [9, 25])
def test_it_says_what_a_plain_recount_says(days: int) -> None:
    values = daily(days, noise=0.8)
    made = Blend(SEASONS)
    made.extend(values)
    found = made.forecast()
    for ours, theirs in zip((found.p10, found.p50, found.p90), plainly_blended(values), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def holed(days: int) -> Values:
    values = daily(days, noise=0.8)
    values[5 * DAY : 5 * DAY + 7] = np.nan
    values[8 * DAY : 8 * DAY + 5] = 0.0  # an outage, mended
    return values


@pytest.mark.parametrize("before", [0, 8 * DAY + 3, 20 * DAY + 1])
def test_a_restored_one_goes_on_as_if_nothing_had_been(before: int) -> None:
    values = holed(30)
    whole, first, second = Blend(SEASONS), Blend(SEASONS), Blend(SEASONS)
    first.extend(values[:before])
    second.restore({name: array.copy() for name, array in first.state().items()})
    whole.extend(values)
    second.extend(values[before:])
    ours, theirs = second.forecast(), whole.forecast()
    for name in ("p10", "p50", "p90"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert (ours.weights, ours.source, ours.reason) == (theirs.weights, theirs.source, theirs.reason)
    assert second.recent_score() == whole.recent_score()
    np.testing.assert_array_equal(second.residual_paths(), whole.residual_paths())
    assert second.count == len(values)


def spoiled(name: str, array: "np.typing.NDArray[np.generic] | None") -> Callable[[State], None]:
    def spoil(state: State) -> None:
        if array is None:
            del state[name]
        else:
            state[name] = array

    return spoil


def with_infinity(name: str) -> Callable[[State], None]:
    def spoil(state: State) -> None:
        state[name].flat[-1] = np.inf

    return spoil


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoiled("version", np.array(2)), "version: 2"),
        (spoiled("version", None), "version is missing"),
        (spoiled("seasons", np.array([96, 96])), r"seasons: \[96 96\], not \[24 24\]"),
        (spoiled("experts", np.array(["oracle"])), "experts: "),
        (spoiled("count", np.array(0.5)), "count: "),
        (spoiled("speaker", np.array(["oracle", ""])), "speaker: "),
        (spoiled("history.actual", None), "actual"),
        (spoiled("history.actual", np.zeros(35 * DAY + 1)), "actual: 841 values, not 840 at most"),
        (spoiled("history.filled", np.zeros(3)), "filled: its shape is"),
        (spoiled("history.filled_at", np.array([5, 4])), "filled_at: not rising"),
        (spoiled("history.filled", np.array(["x"])), "filled: .* are no numbers"),
        (spoiled("history.away_steps", np.array(99)), "away_steps: "),
        (with_infinity("history.filled"), "filled: not finite"),
        (with_infinity("issues.base"), "base: not finite"),
        (with_infinity("issues.blended"), "blended: not finite"),
        (with_infinity("issues.open"), "open: not finite"),
        (spoiled("issues.at", np.arange(5)), "at: "),
        (spoiled("issues.errors", np.zeros((1, 2, 3))), "errors: its shape is"),
        (spoiled("issues.opened", np.array([0, 0])), "opened: "),
        (spoiled("issues.told", np.full(8, 99)), "told: none of the paths"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(
    spoil: Callable[[State], None], told: str
) -> None:
    made, other = Blend(SEASONS), Blend(SEASONS)
    made.extend(holed(12))
    other.extend(daily(20, seed=5))
    before = other.forecast().p50
    state = made.state()
    spoil(state)
    with pytest.raises(ValueError, match=told):
        other.restore(state)
    np.testing.assert_array_equal(other.forecast().p50, before)
    assert other.count == 20 * DAY


def test_a_state_is_small_and_no_larger_in_a_year() -> None:
    seasons = Seasons(day_steps=96, horizon_steps=192)
    made = days_ahead(seasons)
    made.extend(np.full(40 * 96, 5.0), ask=False)
    made.extend(np.random.default_rng(1).uniform(1.0, 2.0, 17 * 96))
    assert sum(array.nbytes for array in made.state().values()) < 400_000


def test_residual_paths_are_outcome_less_forecast_the_newest_last() -> None:
    values = daily(30, noise=0.5)
    made, said = Blend(SEASONS), {}
    for at in range(0, len(values), 3):
        made.extend(values[at : at + 3])
        said[at + 3] = made.forecast().p50
    paths = made.residual_paths()
    assert paths.shape == (113, STEPS)
    for back, path in enumerate(paths[:-51:-1]):
        at = len(values) - STEPS - 3 * back
        # A forecast told after it was noted no longer rests on the oldest verdict.
        np.testing.assert_allclose(path, values[at : at + STEPS] - said[at], atol=0.01)
    np.testing.assert_array_equal(made.residual_paths(5), paths[-5:])
    assert made.residual_paths(0).shape == (0, STEPS)
    assert Blend(SEASONS).residual_paths().shape == (0, STEPS)


def test_gaps_in_residual_paths_are_bridged_and_long_ones_left_out() -> None:
    values = daily(30, noise=0.5)
    values[20 * DAY : 20 * DAY + 4] = np.nan
    values[25 * DAY : 26 * DAY] = np.nan
    made = Blend(SEASONS)
    made.extend(values)
    paths = made.residual_paths()
    assert np.isfinite(paths).all()
    assert 80 < len(paths) < 105


def test_the_score_is_that_of_what_was_said() -> None:
    values = daily(30, noise=0.5)
    made = Blend(SEASONS)
    said = []
    for at in range(0, len(values), 3):
        made.extend(values[at : at + 3])
        said.append((at + 3, made.forecast()))
    found = made.recent_score()
    assert found is not None
    judged = [(at, each) for at, each in said if at + STEPS <= len(values)][-113:]
    misses = np.stack([values[at : at + STEPS] - each.p50 for at, each in judged])
    inside = np.stack(
        [(values[at : at + STEPS] >= each.p10) & (values[at : at + STEPS] <= each.p90) for at, each in judged]
    )
    assert found.forecasts == len(judged)
    assert found.mae_watts == pytest.approx(float(np.abs(misses).mean()), rel=1e-3)
    assert found.bias_watts == pytest.approx(float(misses.mean()), abs=1e-3)
    assert found.coverage_ratio == pytest.approx(float(inside.mean()), abs=0.002)
    naive = {
        name: float(np.mean([np.abs(values[at : at + STEPS] - values[at - DAY : at]) for at, _ in judged]))
        for name in ("day_naive",)
    }
    assert found.best_naive in {"day_naive", "week_naive"}
    assert found.best_naive_mae_watts <= naive["day_naive"] + 1e-9
    early = Blend(SEASONS)
    early.extend(values[: DAY - 1])
    assert early.recent_score() is None
