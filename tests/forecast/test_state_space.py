"""The state-space expert: the numbers that statsmodels gives, fits that never raise, trials in the blend."""

import json
import subprocess
import sys
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from slurm_power.forecast.blend import Blend
from slurm_power.forecast.experts import EXPERTS, Seasons, Values
from slurm_power.forecast.fit_state_space import fit
from slurm_power.forecast.state_space import Parameters, StateSpace
from tests.forecast.series import DAY, SEASONS, daily

GIVEN = Parameters(
    day_steps=DAY,
    harmonics=3,
    scale=2.0,
    level_variance=0.01,
    season_variance=1e-4,
    rest_variance=0.05,
    decay=0.7,
)


def followed(values: Values, parameters: Parameters = GIVEN) -> StateSpace:
    made = StateSpace(parameters.arrays())
    for value in values:
        made.take(float(value))
    return made


def holed(days: int) -> Values:
    values = daily(days, noise=0.5)
    values[3 * DAY : 3 * DAY + 7] = np.nan
    values[-2] = np.nan
    return values


@pytest.mark.parametrize("horizon", [1, DAY, 5 * DAY])
def test_it_says_what_statsmodels_says(horizon: int) -> None:
    structural = pytest.importorskip("statsmodels.tsa.statespace.structural")
    values = holed(9)
    theirs = structural.UnobservedComponents(
        values / GIVEN.scale,
        level="rwalk",
        freq_seasonal=[{"period": DAY, "harmonics": GIVEN.harmonics}],
        autoregressive=1,
    )
    numbers = [GIVEN.level_variance, GIVEN.season_variance, GIVEN.rest_variance, GIVEN.decay]
    expected = theirs.filter(numbers).forecast(horizon) * GIVEN.scale
    found = followed(values).path(Seasons(DAY, horizon))
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_it_goes_on_from_a_state_and_is_silent_at_first() -> None:
    values = holed(9)
    assert followed(values[: 2 * DAY - 1]).path(SEASONS) is None
    first, second = followed(values[:100]), StateSpace(GIVEN.arrays())
    second.restore(first.state())
    for value in values[100:]:
        second.take(float(value))
    np.testing.assert_array_equal(second.path(SEASONS), followed(values).path(SEASONS))
    assert second.path(Seasons(96, 96)) is None, "it was fitted to other steps"


@pytest.mark.parametrize(
    ("name", "array"),
    [("state", np.zeros(3)), ("variance", np.full((8, 8), np.nan)), ("taken", np.array(-1))],
)
def test_a_state_that_does_not_fit_is_refused(name: str, array: NDArray[np.float64]) -> None:
    made = followed(holed(9))
    before = made.path(SEASONS)
    with pytest.raises(ValueError, match=name):
        made.restore({**made.state(), name: array})
    np.testing.assert_array_equal(made.path(SEASONS), before)


@pytest.mark.parametrize(
    ("name", "array", "told"),
    [
        ("waves", np.array([DAY, 30]), "harmonics"),
        ("numbers", np.array([1.0, -1.0, 0.0, 1.0, 0.5]), "variances"),
        ("numbers", np.array([1.0, 0.0, 0.0, 0.0, 0.5]), "variances"),
        ("numbers", np.array([0.0, 1.0, 0.0, 1.0, 0.5]), "scale"),
        ("numbers", np.array([1.0, 1.0, 0.0, 1.0, 1.0]), "decay"),
        ("numbers", np.array([1.0, np.nan, 0.0, 1.0, 0.5]), "numbers: not finite"),
        ("numbers", np.zeros(4), "numbers: its shape"),
    ],
)
def test_parameters_that_cannot_be_are_refused(name: str, array: NDArray[np.float64], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        StateSpace({**GIVEN.arrays(), name: array})


def test_a_fit_finds_a_day_that_repeats_and_starts_from_the_last() -> None:
    pytest.importorskip("statsmodels")
    values = daily(20, noise=0.3)
    found = fit(values[:-DAY], SEASONS)
    assert found.parameters is not None and found.converged
    path = followed(values[:-DAY], found.parameters).path(SEASONS)
    assert path is not None
    assert float(np.abs(path - values[-DAY:]).mean()) < 0.4
    again = fit(values[:-DAY], SEASONS, found.parameters)
    assert again.parameters is not None
    assert again.parameters.decay == pytest.approx(found.parameters.decay, abs=0.05)


@pytest.mark.parametrize(
    ("values", "seasons", "told"),
    [
        (np.empty(0), SEASONS, "0.0 days of values are too few"),
        (daily(2), SEASONS, "2.0 days of values are too few"),
        (np.full(200, np.nan), SEASONS, "too few"),
        (np.full(200, 1e9), SEASONS, "does not change"),
        (np.zeros(200), SEASONS, "does not change"),
        (np.arange(200.0), Seasons(2, 2), "too few for a wave"),
    ],
)
def test_what_cannot_be_fitted_is_told(values: Values, seasons: Seasons, told: str) -> None:
    found = fit(values, seasons)
    assert found.parameters is None and told in found.reason


@pytest.mark.parametrize("kind", ["spikes", "steps", "ridden", "huge", "negative", "ramp"])
def test_whatever_comes_a_fit_gives_what_can_be_or_says_why_not(kind: str) -> None:
    pytest.importorskip("statsmodels")
    chance = np.random.default_rng(3)
    steps = np.arange(6 * DAY, dtype=np.float64)
    values = {
        "spikes": np.where(steps % 50 == 0, 1e6, 0.0),
        "steps": np.where(steps < 70, 5.0, 9.0),
        "ridden": np.where(chance.random(len(steps)) < 0.4, np.nan, chance.standard_normal(len(steps))),
        "huge": 1e14 * chance.random(len(steps)),
        "negative": -5.0 - chance.random(len(steps)),
        "ramp": steps,
    }[kind]
    found = fit(values, SEASONS)
    assert (found.parameters is None) == bool(found.reason)
    if found.parameters is not None:
        path = followed(values, found.parameters).path(SEASONS)
        assert path is not None and np.isfinite(path).all()


def test_statsmodels_is_imported_by_a_fit_alone() -> None:
    code = (
        "import json, sys; import slurm_power.forecast.refitted; "
        "print(json.dumps('statsmodels' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False


def with_state_space(values: Values) -> Blend:
    made = Blend(SEASONS, {"persistence": EXPERTS["persistence"]}, followers={"state_space": StateSpace})
    made.extend(values)
    return made


def test_first_parameters_are_used_at_once_and_earn_their_weight() -> None:
    values = daily(30, noise=0.3)
    made = with_state_space(values[: 6 * DAY])
    assert made.forecast().weights["state_space"] == (0.0, 0.0), "without parameters it is silent"
    made.adopt("state_space", GIVEN.arrays())
    assert not made.on_trial("state_space")
    made.extend(values[6 * DAY : 8 * DAY])
    assert made.forecast().weights["state_space"][1] == 0.0, "it has not been judged on enough"
    made.extend(values[8 * DAY : -DAY])
    found = made.forecast()
    assert found.weights["state_space"][1] > 0.95
    assert float(np.abs(found.p50 - values[-DAY:]).mean()) < 0.5


def worse() -> Mapping[str, NDArray[np.generic]]:
    return {**GIVEN.arrays(), "numbers": np.array([2.0, 1.0, 1.0, 1e-6, 0.1])}


def test_new_parameters_say_nothing_before_they_have_been_no_worse() -> None:
    values = daily(40, noise=0.3)
    for first, second, winner in ((GIVEN.arrays(), worse(), 0), (worse(), GIVEN.arrays(), 1)):
        made, alone = with_state_space(values[: 10 * DAY]), with_state_space(values[: 10 * DAY])
        for each in (made, alone):
            each.adopt("state_space", first)
            each.extend(values[10 * DAY : 20 * DAY])
        made.adopt("state_space", second)
        assert made.on_trial("state_space")
        for each in (made, alone):
            each.extend(values[20 * DAY : 22 * DAY])
        np.testing.assert_array_equal(made.forecast().p50, alone.forecast().p50)
        made.extend(values[22 * DAY :])
        assert not made.on_trial("state_space")
        kept = made.state()["follower.state_space.champion.parameters.numbers"]
        np.testing.assert_array_equal(kept, (first, second)[winner]["numbers"])


def test_an_accident_is_a_gap_to_those_that_follow() -> None:
    sound = daily(20, noise=0.3)
    holed, hit = sound.copy(), sound.copy()
    holed[10 * DAY : 10 * DAY + 6] = np.nan
    hit[10 * DAY : 10 * DAY + 6] = 0.0
    paths = []
    for values in (holed, hit):
        made = Blend(SEASONS, {}, followers={"state_space": StateSpace})
        made.adopt("state_space", GIVEN.arrays())
        made.extend(values[: 11 * DAY])
        paths.append(made.forecast().p50)
    np.testing.assert_allclose(paths[0], paths[1], rtol=1e-9)


@pytest.mark.parametrize("before", [10 * DAY + 3, 15 * DAY, 21 * DAY])
def test_a_restored_one_follows_on(before: int) -> None:
    values = daily(25, noise=0.3)
    values[10 * DAY : 10 * DAY + 6] = 0.0
    made = with_state_space(values[: 5 * DAY])
    made.adopt("state_space", GIVEN.arrays())
    made.extend(values[5 * DAY : 9 * DAY])
    made.adopt("state_space", worse())
    made.extend(values[9 * DAY : before])
    other = with_state_space(values[:0])
    other.restore(made.state())
    for each in (made, other):
        each.extend(values[before:])
    np.testing.assert_array_equal(made.forecast().p50, other.forecast().p50)
    assert made.on_trial("state_space") == other.on_trial("state_space")
    broken = made.state()
    broken["follower.state_space.champion.state.state"] = np.full(8, np.inf)
    with pytest.raises(ValueError, match="not finite"):
        other.restore(broken)
