"""What followed moments like this one: whole paths of load from the past, shifted to start where the load is
now.

A forecast with residuals says how wrong forecasts are on average. After an extreme the load of a cluster
behaves unlike its average: it stays as long as the jobs that caused it. Similar moments know that.
"""

import numpy as np
from numpy.typing import NDArray

from slurm_power.forecast.experts import Values

# How far back a moment may lie, and how much a moment is disliked for each 28 days of its age ...
SEARCHED_DAYS = 90
AGE_WEIGHT = 0.3
# ... and for half a day's difference in the time of day, in standard deviations of the load.
TIME_OF_DAY_WEIGHT = 0.3
# The load now, and half an hour, 1.5 and 3.5 hours before: what has to be similar, and how much it counts.
COMPARED_HOURS = (0.0, 0.5, 1.5, 3.5)
COMPARED_WEIGHTS = (1.0, 0.5, 0.3, 0.2)
# Two chosen moments lie at least so far apart, or they would be one.
APART_HOURS = 1.0
# The shift to the load now fades with this time constant.
SHIFT_HOURS = 8.0


def analog_paths(history: Values, *, day_steps: int, horizon_steps: int, most: int = 60) -> Values | None:
    """Paths that followed the moments most like the last value of ``history`` (no gaps, the newest last).

    Shape (horizon_steps, n), n <= most; the first row is the last value itself. None while the history is too
    short to have whole paths: less than the horizon and two days.
    """
    searched = history[-(SEARCHED_DAYS * day_steps + horizon_steps) :]
    lags = [round(hours * day_steps / 24) for hours in COMPARED_HOURS]
    last = len(searched) - horizon_steps
    if last - lags[-1] < 2 * day_steps:
        return None
    moments = np.arange(lags[-1], last)
    spread = float(np.std(searched)) + 1e-9
    distance = np.zeros(len(moments))
    for lag, weight in zip(lags, COMPARED_WEIGHTS, strict=True):
        distance += weight * np.abs(searched[moments - lag] - searched[len(searched) - 1 - lag]) / spread
    ages = len(searched) - 1 - moments
    off = ages % day_steps
    distance += TIME_OF_DAY_WEIGHT * np.minimum(off, day_steps - off) / (day_steps / 2)
    distance += AGE_WEIGHT * ages / (28 * day_steps)
    chosen = _apart(moments[np.argsort(distance, kind="stable")], round(APART_HOURS * day_steps / 24), most)
    paths: Values = searched[chosen + np.arange(horizon_steps)[:, None]]
    fading = np.exp(-np.arange(horizon_steps) * 24.0 / (day_steps * SHIFT_HOURS))
    shifted = paths + fading[:, None] * (searched[-1] - paths[0])
    bounds = float(searched.min()), float(searched.max())
    result: Values = np.clip(shifted, *bounds)
    return result


def _apart(moments: NDArray[np.intp], least_steps: int, most: int) -> NDArray[np.intp]:
    """The first of these, each at least ``least_steps`` from those before it."""
    taken = np.zeros(int(moments.max()) + least_steps + 2, dtype=bool)
    chosen: list[int] = []
    for moment in moments:
        if not taken[moment]:
            chosen.append(int(moment))
            if len(chosen) == most:
                break
            taken[max(0, moment - least_steps) : moment + least_steps + 1] = True
    return np.array(chosen)
