"""What followed similar moments: whole paths, nothing later, whatever the history looks like."""

import numpy as np
import pytest

from slurm_power.forecast.analogs import analog_paths
from tests.forecast.series import DAY, daily, wandering


def test_paths_start_where_the_load_is_and_stay_within_what_was_seen() -> None:
    history = wandering(40)
    found = analog_paths(history, day_steps=DAY, horizon_steps=DAY)
    assert found is not None and found.shape[0] == DAY and 10 < found.shape[1] <= 60
    assert found[0] == pytest.approx(np.full(found.shape[1], history[-1]))
    assert found.min() >= history.min() and found.max() <= history.max()


def test_a_day_that_repeats_is_continued() -> None:
    whole = daily(41, noise=0.0)
    found = analog_paths(whole[: 40 * DAY], day_steps=DAY, horizon_steps=DAY, most=10)
    assert found is not None
    # The first row is the last hour of the history.
    assert np.median(found, axis=1)[1:] == pytest.approx(whole[40 * DAY :][:-1], abs=0.2)


def test_a_plateau_goes_on_as_plateaus_did() -> None:
    day = np.full(DAY, 10.0)
    plateau = np.full(DAY, 20.0)
    # Every fifth day the load is twice as high, all day long.
    history = np.concatenate([plateau if number % 5 == 4 else day for number in range(50)] + [plateau[:8]])
    found = analog_paths(history, day_steps=DAY, horizon_steps=DAY, most=9)
    assert found is not None
    middle = np.median(found, axis=1)
    assert middle[:12] == pytest.approx(np.full(12, 20.0))
    assert middle[20] == pytest.approx(10.0, abs=2.0)


def test_only_what_has_come_is_in_them() -> None:
    history = wandering(60)
    whole = analog_paths(history[: 40 * DAY], day_steps=DAY, horizon_steps=DAY)
    changed = history.copy()
    changed[40 * DAY :] = -1e9
    again = analog_paths(changed[: 40 * DAY], day_steps=DAY, horizon_steps=DAY)
    assert whole is not None and again is not None and (whole == again).all()


def test_old_moments_are_left_alone() -> None:
    recent = wandering(95)
    ancient = np.concatenate([np.full(30 * DAY, 1e9), recent])
    found = analog_paths(ancient, day_steps=DAY, horizon_steps=DAY)
    alone = analog_paths(recent, day_steps=DAY, horizon_steps=DAY)
    assert found is not None and alone is not None and (found == alone).all()


def test_too_short_a_history_has_none() -> None:
    history = wandering(10)
    assert analog_paths(history[: 2 * DAY], day_steps=DAY, horizon_steps=DAY) is None
    assert analog_paths(history[:1], day_steps=DAY, horizon_steps=DAY) is None
    assert analog_paths(history[: 4 * DAY], day_steps=DAY, horizon_steps=DAY) is not None


def test_a_load_that_never_changes_goes_on() -> None:
    found = analog_paths(np.full(20 * DAY, 7.0), day_steps=DAY, horizon_steps=DAY)
    assert found is not None and (found == 7.0).all()


def test_chosen_moments_lie_apart() -> None:
    history = np.arange(30.0 * DAY)
    found = analog_paths(history, day_steps=DAY, horizon_steps=2, most=500)
    assert found is not None
    # At one moment an hour, an hour apart: every second moment at most.
    assert found.shape[1] <= 15 * DAY
