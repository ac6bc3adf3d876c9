"""What is said of a circuit when nobody forecasts: the same as yesterday, else the same as now.

Cheap enough for the control loop itself, and never silent once a value is known.
"""

from collections.abc import Sequence

import numpy as np

from slurm_power.forecast.bands import Bands
from slurm_power.forecast.blend import stretches
from slurm_power.forecast.experts import Seasons, Values, day_naive, persistence
from slurm_power.model.forecast import CircuitForecast, Reach


def fall_back(
    circuit: str,
    reach: Reach,
    values: Sequence[float | None],
    *,
    end_seconds: float,
    step_seconds: float,
    steps: int,
    reason: str,
) -> CircuitForecast | None:
    """Forecast from ``values`` (oldest first, None for a gap, the last one ends at ``end_seconds``).

    None before the first value. For the days ahead yesterday speaks, if it is known; for the next hour, and
    without a yesterday, the last value does.
    """
    day_steps = round(86_400.0 / step_seconds)
    history = _filled(np.array([np.nan if value is None else value for value in values], dtype=np.float64))
    if not len(history):
        return None
    seasons = Seasons(day_steps, steps)
    middle = day_naive(history, seasons) if reach is Reach.FAR else None
    source = "persistence" if middle is None else "day_naive"
    if middle is None:
        middle = persistence(history, seasons)
    low, high = Bands(stretches(steps), history).around(middle, ())
    if float(np.min(history)) >= 0.0:
        low = np.maximum(low, 0.0)
    return CircuitForecast(
        circuit=circuit,
        reach=reach,
        issued_seconds=end_seconds,
        step_seconds=step_seconds,
        p10_watts=tuple(low.tolist()),
        p50_watts=tuple(middle.tolist()),
        p90_watts=tuple(high.tolist()),
        source=source,
        reason=f"fall-back: {reason}",
        history_days=len(history) / day_steps,
        drivers={source: (1.0, 1.0)},
    )


def _filled(values: Values) -> Values:
    """Without what lies before the first value; a gap is the value before it."""
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return np.empty(0)
    values = values[known[0] :]
    at = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(len(values)), 0))
    filled: Values = values[at]
    return filled
