"""Series with known shapes for these tests."""

import numpy as np

from slurm_power.forecast.experts import Seasons, Values

DAY = 24
SEASONS = Seasons(day_steps=DAY, horizon_steps=DAY)


def daily(days: int, *, noise: float = 0.05, seed: int = 1) -> Values:
    """A day that repeats, with noise."""
    chance = np.random.default_rng(seed)
    steps = np.arange(days * DAY)
    return 10.0 + 3.0 * np.sin(2 * np.pi * steps / DAY) + noise * chance.standard_normal(len(steps))


def wandering(days: int, *, seed: int = 1) -> Values:
    """A random walk far above zero: nothing beats its last value."""
    return 1_000.0 + np.cumsum(np.random.default_rng(seed).standard_normal(days * DAY))
