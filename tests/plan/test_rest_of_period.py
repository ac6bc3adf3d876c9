"""Levels that the rest of a billing period may need: from what was, the same each time."""

import numpy as np
import pytest

from slurm_power.plan.peak_level import Battery, held_levels
from slurm_power.plan.rest_of_period import DRAWN, rest_levels

DAY = 24
OF = Battery(
    charge_watts=10_000.0, discharge_watts=10_000.0, energy_kwh=20.0, charge_ratio=0.94, discharge_ratio=0.94
)
HISTORY = np.random.default_rng(1).uniform(50_000.0, 120_000.0, 40 * DAY)


def test_levels_are_of_days_that_were() -> None:
    found = rest_levels(HISTORY, 10.0, OF, day_steps=DAY, step_hours=1.0)
    assert found is not None and found.shape == (DRAWN,)
    assert (found >= HISTORY.max() - 70_000.0).all() and (found <= HISTORY.max()).all()
    flat = rest_levels(np.full(40 * DAY, 60_000.0), 1.0, OF, day_steps=DAY, step_hours=1.0)
    assert flat is not None
    alone = held_levels(np.full((DAY, 1), 60_000.0), OF, stored_kwh=18.0, step_hours=1.0, least_watts=0.0)
    assert flat == pytest.approx(np.full(DRAWN, alone[0]))


def test_a_longer_rest_needs_a_higher_level() -> None:
    levels = [rest_levels(HISTORY, days, OF, day_steps=DAY, step_hours=1.0) for days in (1.0, 7.0, 28.0)]
    means = [float(level.mean()) for level in levels if level is not None]
    assert len(means) == 3 and means[0] < means[1] < means[2]
    most, more = (rest_levels(HISTORY, days, OF, day_steps=DAY, step_hours=1.0) for days in (28.0, 90.0))
    assert most is not None and more is not None and (most == more).all()


def test_recent_weeks_weigh_more() -> None:
    calm, busy = np.full(35 * DAY, 50_000.0), np.tile(np.repeat([50_000.0, 100_000.0], 12), 7)
    late = rest_levels(np.concatenate([calm, busy]), 7.0, OF, day_steps=DAY, step_hours=1.0)
    early = rest_levels(np.concatenate([busy, calm]), 7.0, OF, day_steps=DAY, step_hours=1.0)
    assert late is not None and early is not None and late.mean() > early.mean() + 5_000.0


def test_it_repeats_and_says_nothing_before_two_weeks() -> None:
    one, other = (rest_levels(HISTORY, 10.0, OF, day_steps=DAY, step_hours=1.0) for _ in range(2))
    assert one is not None and other is not None and (one == other).all()
    assert rest_levels(HISTORY[: 14 * DAY - 1], 10.0, OF, day_steps=DAY, step_hours=1.0) is None
    assert rest_levels(HISTORY[:0], 10.0, OF, day_steps=DAY, step_hours=1.0) is None
    soon = rest_levels(HISTORY[: 14 * DAY], 0.01, OF, day_steps=DAY, step_hours=1.0)
    assert soon is not None and np.isfinite(soon).all()
