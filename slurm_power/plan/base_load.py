"""What the site will draw beside its jobs in the next hours, from the same hours of the days before.

Cooling, storage and idle nodes follow the clock and the weather, not the queue: the middle of the same hour
of the last days, moved by how much today differs, is what they will very probably draw.
"""

import numpy as np
from numpy.typing import NDArray

Watts = NDArray[np.float64]

_DAY_HOURS = 24
_MOST_DAYS, _LEAST_DAYS = 7, 3
# How today differs from the days before is half forgotten after so many hours.
_HALF_LIFE_HOURS = 6.0


def base_load_ahead(past_watts: Watts, now_watts: float, hours: int) -> Watts:
    """The load beside jobs of the next ``hours``, the first of them the one that runs; watts.

    ``past_watts``: hourly means of it, the last one of the hour before, NaN where it is not known. Empty
    where less than three days are known of some hour of the day: then nobody knows more than what it is now.
    """
    days = min(len(past_watts) // _DAY_HOURS, _MOST_DAYS)
    if days < _LEAST_DAYS:
        return np.empty(0)
    by_day = past_watts[-days * _DAY_HOURS :].reshape(days, _DAY_HOURS)
    if (np.isfinite(by_day).sum(axis=0) < _LEAST_DAYS).any():
        return np.empty(0)
    usual = np.nanmedian(by_day, axis=0)
    ahead = np.arange(hours)
    change = (now_watts - usual[0]) * 0.5 ** (ahead / _HALF_LIFE_HOURS)
    found: Watts = np.maximum(0.0, usual[ahead % _DAY_HOURS] + change)
    return found
