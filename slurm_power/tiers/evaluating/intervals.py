"""95 % confidence intervals of a mean score: Wilson's for shares, the bootstrap for everything else.

Wilson: E. B. Wilson 1927, "Probable inference, the law of succession, and statistical inference", J. Am.
Stat. Assoc. 22; it stays within 0 and 1 and does not collapse where all rows are right. Bootstrap: percentile
method, Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

Z_95 = 1.959963984540054
_RESAMPLES = 2000
_SEED = 20_270_101
_MOST_DRAWN = 2_000_000
"""Random numbers in memory at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value of the metric over ``count`` rows with its 95 % interval; both ends None for a single row."""

    value: float
    low: float | None
    high: float | None
    count: int

    @property
    def half_width(self) -> float | None:
        """The wider of the two sides: Wilson's interval is not symmetric about the value."""
        if self.low is None or self.high is None:
            return None
        return max(self.value - self.low, self.high - self.value)

    def kind_end(self, *, higher_is_better: bool) -> float:
        """The best value that the rows still allow for; the value itself where there is no interval."""
        end = self.high if higher_is_better else self.low
        return self.value if end is None else end


def estimate(scores: Scores, of_mean: Callable[[float], float]) -> Estimate:
    """Return the metric of these scores, one for each row, with its interval.

    ``of_mean`` turns the mean score into the metric. Scores that are all 0 or 1 are taken for a share.
    """
    count = len(scores)
    value = of_mean(float(scores.mean()))
    if bool(np.isin(scores, (0.0, 1.0)).all()) and of_mean(0.0) == 0.0 and of_mean(1.0) == 1.0:
        low, high = wilson(int(scores.sum()), count)
    elif count == 1:
        return Estimate(value=value, low=None, high=None, count=count)
    else:
        low, high = (of_mean(end) for end in bootstrap(scores))
    return Estimate(value=value, low=min(low, high), high=max(low, high), count=count)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the ends of Wilson's 95 % interval of a share, each from 0 to 1."""
    share = successes / trials
    scale = 1.0 + Z_95**2 / trials
    centre = (share + Z_95**2 / (2 * trials)) / scale
    half = Z_95 * math.sqrt(share * (1.0 - share) / trials + Z_95**2 / (4 * trials**2)) / scale
    # At a share of 0 or 1 one end is that share itself; rounding must not put it beside.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high


def bootstrap(scores: Scores, *, resamples: int = _RESAMPLES, seed: int = _SEED) -> tuple[float, float]:
    """Return the ends of the 95 % percentile interval of the mean; the same seed gives the same ends."""
    generator = np.random.default_rng(seed)
    count = len(scores)
    at_once = max(1, _MOST_DRAWN // count)
    means: list[Scores] = []
    for first in range(0, resamples, at_once):
        rows = generator.integers(count, size=(min(at_once, resamples - first), count))
        means.append(scores[rows].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return float(low), float(high)
