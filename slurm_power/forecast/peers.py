"""Forecasters of others, to be measured beside ours: statsforecast's MSTL and AutoARIMA, where installed.

They take seconds a forecast, so nothing but a backtest asks them.
"""

from typing import Any

import numpy as np

from slurm_power.forecast.blend import Forecast
from slurm_power.forecast.experts import Seasons, Values
from slurm_power.forecast.history import History

PEERS = ("peer_mstl", "peer_autoarima")
# The extra of this package that brings them.
EXTRA = "peers"
WINDOW_DAYS = 28
LEAST_DAYS = 2
HARMONICS = 6


class Peer:
    """One of `PEERS` on one series: fitted to the last 28 days each time it is asked."""

    # It is not judged by what it said.
    judged_steps = 0
    refit_seconds: tuple[float, ...] = ()

    def __init__(self, name: str, seasons: Seasons) -> None:
        """Raises ImportError without statsforecast."""
        from statsforecast import models  # noqa: PLC0415  # seconds, and seldom installed

        self._name = name
        self._seasons = seasons
        self._models: Any = models
        self._history = History(WINDOW_DAYS * seasons.day_steps, seasons.day_steps, 0)

    def extend(self, values: Values, *, ask: bool = True) -> None:  # noqa: ARG002  # as the blend has it
        """Take the next values, NaN for a gap."""
        for value in values:
            self._history.take(float(value))

    def forecast(self) -> Forecast:
        """Fit, and forecast from the last value; raises ValueError where that fails."""
        history = self._history.filled
        if len(history) < LEAST_DAYS * self._seasons.day_steps:
            raise ValueError(f"{self._name} needs {LEAST_DAYS} days")
        try:
            found = self._mstl(history) if self._name == "peer_mstl" else self._autoarima(history)
        except (ValueError, ArithmeticError, IndexError, TypeError, np.linalg.LinAlgError) as error:
            raise ValueError(f"{self._name} failed: {error}") from None
        middle, low, high = (np.asarray(found[key], dtype=np.float64) for key in ("mean", "lo-80", "hi-80"))
        if not np.isfinite([middle, low, high]).all():
            raise ValueError(f"{self._name} gave what is no number")
        return Forecast(
            p10=np.minimum(low, middle),
            p50=middle,
            p90=np.maximum(high, middle),
            weights={},
            source=self._name,
        )

    def _mstl(self, history: Values) -> Any:
        seasons = [
            steps
            for steps in (self._seasons.day_steps, self._seasons.week_steps)
            if len(history) >= 2 * steps and steps > 1
        ]
        trend = self._models.AutoETS(model="ZZN")
        model = self._models.MSTL(season_length=seasons, trend_forecaster=trend)
        return model.forecast(y=history, h=self._seasons.horizon_steps, level=[80])

    def _autoarima(self, history: Values) -> Any:
        day, ahead = self._seasons.day_steps, self._seasons.horizon_steps
        angle = 2.0 * np.pi * np.arange(len(history) + ahead) / day
        orders = range(1, min(HARMONICS, (day - 1) // 2) + 1)
        waves = [wave(order * angle) for order in orders for wave in (np.cos, np.sin)]
        model = self._models.AutoARIMA(season_length=1)
        if not waves:
            return model.forecast(y=history, h=ahead, level=[80])
        columns = np.stack(waves, axis=1)
        return model.forecast(
            y=history, h=ahead, X=columns[: len(history)], X_future=columns[len(history) :], level=[80]
        )
