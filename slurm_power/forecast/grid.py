"""Values at any moments onto a regular grid of means, gaps as NaN."""

from dataclasses import dataclass

import numpy as np

from slurm_power.forecast.experts import Values

# More steps than this is a mistake in a time column: 100 years of 15 minutes.
MOST_STEPS = 3_600_000


@dataclass(frozen=True, slots=True)
class Series:
    """Means over steps; step ``i`` covers ``start_seconds + i * step_seconds`` up to the next."""

    start_seconds: float
    step_seconds: float
    values: Values

    def end_seconds(self, index: int) -> float:
        """When step ``index`` ends."""
        return self.start_seconds + (index + 1) * self.step_seconds


def on_grid(times: Values, values: Values, step_seconds: float) -> Series:
    """Means of what falls into each step; order and duplicates do not matter, values may be NaN.

    Raises ValueError when there is no value, when the times span too much, and when values come seldomer than
    the steps, since between them nothing is known.
    """
    known = np.isfinite(values)
    if not known.any():
        raise ValueError("there is no value in it")
    moments = np.unique(times)
    if len(moments) > 1:
        usual_seconds = float(np.median(np.diff(moments)))
        if usual_seconds > 1.01 * step_seconds:
            raise ValueError(
                f"values come every {usual_seconds:g} s, steps are {step_seconds:g} s: ask for longer steps"
            )
    first = float(np.floor(moments[0] / step_seconds))
    count = int(np.floor(moments[-1] / step_seconds) - first) + 1
    if count > MOST_STEPS:
        raise ValueError(f"its times span {count} steps of {step_seconds:g} s: is a time wrong?")
    cells = (np.floor(times[known] / step_seconds) - first).astype(np.int64)
    totals = np.bincount(cells, weights=values[known], minlength=count)
    counts = np.bincount(cells, minlength=count)
    means = np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
    return Series(start_seconds=first * step_seconds, step_seconds=step_seconds, values=means)
