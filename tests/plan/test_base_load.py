"""The load beside jobs in the next hours, from the same hours of the days before."""

import numpy as np
import pytest

from slurm_power.plan.base_load import base_load_ahead

DAY = np.array([100.0] * 12 + [160.0] * 6 + [100.0] * 6)


def test_the_same_hours_of_the_days_before() -> None:
    past = np.tile(DAY, 5)
    assert base_load_ahead(past, 100.0, 24).tolist() == DAY.tolist()
    # The last known hour is noon's, so the next one is one o'clock.
    assert base_load_ahead(past[:-11], 160.0, 6).tolist() == [160.0] * 5 + [100.0]


def test_one_odd_day_changes_nothing_and_today_moves_what_comes_next() -> None:
    odd = np.concatenate([np.tile(DAY, 2), np.full(24, 900.0), np.tile(DAY, 2)])
    assert base_load_ahead(odd, 100.0, 24).tolist() == DAY.tolist()
    warm = base_load_ahead(np.tile(DAY, 5), 140.0, 24)
    assert warm[0] == 140.0
    assert warm[6] == pytest.approx(120.0)
    assert warm[23] == pytest.approx(100.0, abs=3.0)


def test_it_is_never_below_nothing() -> None:
    assert base_load_ahead(np.tile(DAY, 5), 0.0, 24).min() == 0.0


def test_too_little_is_known_for_a_forecast() -> None:
    assert not len(base_load_ahead(np.tile(DAY, 2), 100.0, 24))
    gaps = np.tile(DAY, 4)
    gaps[[3, 27]] = np.nan
    assert not len(base_load_ahead(gaps, 100.0, 24))
    gaps[27] = 100.0
    assert len(base_load_ahead(gaps, 100.0, 24)) == 24
