"""Cheap forecasters of one series, each good at something else; `blend` weighs them.

Each takes the history up to an origin (shape ``(n,)``, no gaps, the last value at the origin) and a
`Seasons`, and returns the next ``horizon`` values, or None where the history is too short for it. None fits
anything that could explode: an autoregression that is not stable is replaced by a plain decay.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

WEEK_DAYS = 7
# The level now is the mean of this share of an hour's values, and at least of one.
LEVEL_HOURS = 1.0
# How long what is now above its time of day stays so: hours, most of a day, and days.
FAST_HOURS, SLOW_HOURS, LASTING_HOURS = 8.0, 24.0, 72.0
CLIMATOLOGY_DAYS = 7
SMOOTHED_DAYS = 21
SMOOTHING = 0.25
AR_ORDER = 4
HARMONICS = 8
HARMONIC_DAYS = 28
HARMONIC_HALF_LIFE_DAYS = 7.0
RIDGE = 1e-3
_STABLE = 0.999


@dataclass(frozen=True, slots=True)
class Seasons:
    """How many steps a day has, how far ahead to look, and how many steps the level now is a mean of."""

    day_steps: int
    horizon_steps: int

    @property
    def week_steps(self) -> int:
        """Steps of a week."""
        return WEEK_DAYS * self.day_steps

    @property
    def level_steps(self) -> int:
        """Steps whose mean is the level now."""
        return max(1, round(LEVEL_HOURS * self.day_steps / 24))

    def decay(self, hours: float) -> Values:
        """How much of a difference is left at each step ahead when it fades with this time constant."""
        steps = np.arange(1, self.horizon_steps + 1, dtype=np.float64)
        return np.exp(-steps / (hours * self.day_steps / 24))

    def ahead(self, season: Values) -> Values:
        """The next steps of a pattern that begins right after the origin and repeats."""
        return np.resize(season, self.horizon_steps)


Expert = Callable[[Values, Seasons], Values | None]


def persistence(history: Values, seasons: Seasons) -> Values:
    """The last value."""
    return np.full(seasons.horizon_steps, history[-1])


def day_naive(history: Values, seasons: Seasons) -> Values | None:
    """The same time yesterday."""
    if len(history) < seasons.day_steps:
        return None
    return seasons.ahead(history[-seasons.day_steps :])


def week_naive(history: Values, seasons: Seasons) -> Values | None:
    """The same time a week ago."""
    if len(history) < seasons.week_steps:
        return None
    return seasons.ahead(history[-seasons.week_steps :])


def _levelled(history: Values, pattern: Values, seasons: Seasons, hours: float) -> Values:
    """A repeating pattern, shifted to the level now; ``pattern`` ends at the origin."""
    steps = seasons.level_steps
    shift = float(np.mean(history[-steps:] - pattern[-steps:]))
    return seasons.ahead(pattern) + shift * seasons.decay(hours)


def day_levelled(history: Values, seasons: Seasons) -> Values | None:
    """Yesterday, shifted to the level now."""
    if len(history) < seasons.day_steps:
        return None
    return _levelled(history, history[-seasons.day_steps :], seasons, FAST_HOURS)


def week_levelled(history: Values, seasons: Seasons) -> Values | None:
    """The week before, shifted to the level now."""
    if len(history) < seasons.week_steps:
        return None
    return _levelled(history, history[-seasons.week_steps :], seasons, FAST_HOURS)


def _climatology(history: Values, seasons: Seasons) -> Values | None:
    days = min(CLIMATOLOGY_DAYS, len(history) // seasons.day_steps)
    if days < 1:
        return None
    mean: Values = history[-days * seasons.day_steps :].reshape(days, seasons.day_steps).mean(axis=0)
    return mean


def climatology(hours: float) -> Expert:
    """The mean day of the last week, shifted to the level now, which fades within ``hours``."""

    def forecast(history: Values, seasons: Seasons) -> Values | None:
        mean = _climatology(history, seasons)
        return None if mean is None else _levelled(history, mean, seasons, hours)

    return forecast


def weekdays(history: Values, seasons: Seasons) -> Values | None:
    """The mean week of the last four, shifted to the level now; needs two."""
    weeks = min(4, len(history) // seasons.week_steps)
    if weeks < 2:
        return None
    mean = history[-weeks * seasons.week_steps :].reshape(weeks, seasons.week_steps).mean(axis=0)
    return _levelled(history, mean, seasons, FAST_HOURS)


def smoothed_days(history: Values, seasons: Seasons) -> Values | None:
    """Exponentially weighted mean day, and an autoregression on what is left."""
    days = min(SMOOTHED_DAYS, len(history) // seasons.day_steps)
    if days < 3 or seasons.day_steps < AR_ORDER:
        return None
    rows = history[-days * seasons.day_steps :].reshape(days, seasons.day_steps)
    mean = rows[0].copy()
    residuals = np.empty((days - 1, seasons.day_steps))
    for index, row in enumerate(rows[1:]):
        residuals[index] = row - mean
        mean += SMOOTHING * residuals[index]
    return seasons.ahead(mean) + _run(residuals.ravel(), (rows[-1] - mean)[-AR_ORDER:], seasons)


@lru_cache(maxsize=8)
def _harmonics(first: int, end: int, day_steps: int) -> Values:
    """A column for each wave, at the steps from ``first`` to before ``end``; the same for each series."""
    angle = 2.0 * np.pi * np.arange(first, end, dtype=np.float64) / day_steps
    columns = [np.ones_like(angle)]
    # Never more waves than the steps of a day can tell apart.
    for order in range(1, min(HARMONICS, day_steps // 2 - 1) + 1):
        columns += [np.cos(order * angle), np.sin(order * angle)]
    return np.stack(columns, axis=1)


@lru_cache(maxsize=8)
def _weighted_harmonics(count: int, day_steps: int) -> tuple[Values, Values]:
    """The last ``count`` steps' waves, recent ones weighing more, and the normal matrix of a fit to them."""
    waves = _harmonics(1 - count, 1, day_steps)
    ages = np.arange(count - 1, -1, -1, dtype=np.float64)
    weighted = waves * (0.5 ** (ages / (day_steps * HARMONIC_HALF_LIFE_DAYS)))[:, None]
    normal = waves.T @ weighted
    penalty = np.full(len(normal), RIDGE * normal[0, 0])
    penalty[0] = 0.0
    normal[np.diag_indices_from(normal)] += penalty
    return weighted, normal


def harmonic_day(history: Values, seasons: Seasons) -> Values | None:
    """A smooth day of eight waves, recent days weighing more, and an autoregression on what is left."""
    day = seasons.day_steps
    count = min(len(history), HARMONIC_DAYS * day)
    if count < max(2 * day, 2 * AR_ORDER):
        return None
    recent = history[-count:]
    waves = _harmonics(1 - count, 1, day)
    weighted, normal = _weighted_harmonics(count, day)
    weights = np.linalg.solve(normal, weighted.T @ recent)
    residuals = recent - waves @ weights
    ahead = _harmonics(1, seasons.horizon_steps + 1, day) @ weights
    return ahead + _run(residuals[-14 * day :], residuals[-AR_ORDER:], seasons)


def _run(residuals: Values, last: Values, seasons: Seasons) -> Values:
    """What an autoregression fitted to ``residuals`` makes of the ``last`` ones."""
    past, following = residuals[:-1], residuals[1:]
    lagged = np.lib.stride_tricks.sliding_window_view(residuals, AR_ORDER)[:-1, ::-1]
    normal = lagged.T @ lagged
    scale = np.trace(normal) / AR_ORDER
    if not np.isfinite(scale) or scale <= 0.0:
        return np.zeros(seasons.horizon_steps)
    normal[np.diag_indices_from(normal)] += 1e-6 * scale
    weights = np.linalg.solve(normal, lagged.T @ residuals[AR_ORDER:])
    if np.max(np.abs(np.roots(np.concatenate(([1.0], -weights))))) >= _STABLE:
        alike = float(past @ following) / float(past @ past)
        weights = np.zeros(AR_ORDER)
        weights[0] = min(max(alike, 0.0), 0.99)
    # Plain numbers: an array of four costs more than its sum.
    (one, two, three, four), (first, second, third, fourth) = weights.tolist(), last[::-1].tolist()
    out = []
    for _ in range(seasons.horizon_steps):
        value = one * first + two * second + three * third + four * fourth
        out.append(value)
        first, second, third, fourth = value, first, second, third
    return np.array(out)


# The naive ones come first: the first that can speak is the fall-back.
EXPERTS: dict[str, Expert] = {
    "persistence": persistence,
    "day_naive": day_naive,
    "week_naive": week_naive,
    "climatology_fast": climatology(FAST_HOURS),
    "climatology_slow": climatology(SLOW_HOURS),
    "climatology_lasting": climatology(LASTING_HOURS),
    "smoothed_days": smoothed_days,
    "harmonic_day": harmonic_day,
    "weekdays": weekdays,
    "day_levelled": day_levelled,
    "week_levelled": week_levelled,
}
NAIVE = ("persistence", "day_naive", "week_naive")
