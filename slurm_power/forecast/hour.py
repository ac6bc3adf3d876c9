"""The next hour, minute by minute: what there is to say beyond "as now".

Persistence is hard to beat so shortly ahead, and on a load of steps nothing beats it. So it has the benefit
of the doubt: another expert has to have been better by a margin before it counts in full.
"""

from collections.abc import Mapping

import numpy as np

from slurm_power.forecast.blend import Blend, Pace
from slurm_power.forecast.experts import Expert, Seasons, Values, persistence

MOST_HOURS = 2.0
# From which resolution on a short horizon has steps enough to be a matter of its own.
MOST_STEP_MINUTES = 5.0
SMOOTHINGS = (0.8, 0.6, 0.4, 0.3, 0.2, 0.1)
FADE_MINUTES = (60.0, 480.0)
# Beyond so many steps a smoothed level remembers nothing.
_MEMORY_STEPS = 240
_PATTERN_DAYS = 3
_PATTERN_MINUTES = 15.0
_LEVEL_MINUTES = 60.0
_LEVEL_SMOOTHING = 0.3

PACE = Pace(
    issue_hours=5.0 / 60.0,
    scored_days=1.0,
    discount=0.99,
    sharpness=40.0,
    history_days=_PATTERN_DAYS + 1,
    doubt_ratio=0.05,
)


def is_next_hour(seasons: Seasons) -> bool:
    """Whether so short a horizon in so short steps is forecast here."""
    minutes = 24.0 * 60.0 / seasons.day_steps
    return minutes <= MOST_STEP_MINUTES and seasons.horizon_steps * minutes <= 60.0 * MOST_HOURS


def next_hour(seasons: Seasons, experts: Mapping[str, Expert] | None = None) -> Blend:
    """The blend for a horizon of up to two hours in steps of up to five minutes, of all or some experts."""
    return Blend(seasons, HOUR_EXPERTS if experts is None else experts, PACE)


def _fading(count: int, smoothing: float) -> Values:
    """Weights of the last ``count`` values that sum to 1, the last value's last."""
    weights = (1.0 - smoothing) ** np.arange(count - 1, -1, -1.0)
    shares: Values = weights / weights.sum()
    return shares


def smoothed(smoothing: float) -> Expert:
    """Simple exponential smoothing: a level that follows the last values, and stays."""

    def forecast(history: Values, seasons: Seasons) -> Values:
        count = min(len(history), _MEMORY_STEPS)
        level = float(_fading(count, smoothing) @ history[-count:])
        return np.full(seasons.horizon_steps, level)

    return forecast


def smooth_days(fade_minutes: float) -> Expert:
    """The mean of the last days, smoothed, on the level now; what sets it off fades."""

    def forecast(history: Values, seasons: Seasons) -> Values | None:
        day = seasons.day_steps
        per_minute = day / 1440.0
        half = max(1, round(_PATTERN_MINUTES * per_minute / 2))
        level = max(1, round(_LEVEL_MINUTES * per_minute))
        days = min(_PATTERN_DAYS, (len(history) - level - half) // day)
        # The pattern reaches ``horizon + half`` beyond the origin, a day before: that must have been.
        if days < 1 or seasons.horizon_steps + half > day:
            return None
        end = len(history)
        rows = np.stack(
            [
                history[end - back * day - level - half : end - back * day + seasons.horizon_steps + half]
                for back in range(1, days + 1)
            ]
        )
        width = 2 * half + 1
        pattern = np.convolve(rows.mean(axis=0), np.full(width, 1.0 / width), "valid")
        past, ahead = pattern[:level], pattern[level : level + seasons.horizon_steps]
        shift = float(_fading(level, _LEVEL_SMOOTHING) @ (history[-level:] - past))
        return ahead + shift * seasons.decay(fade_minutes / 60.0)

    return forecast


HOUR_EXPERTS: Mapping[str, Expert] = {
    "persistence": persistence,
    **{f"smoothed_{smoothing:g}": smoothed(smoothing) for smoothing in SMOOTHINGS},
    **{f"days_{minutes:g}m": smooth_days(minutes) for minutes in FADE_MINUTES},
}
