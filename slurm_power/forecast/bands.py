"""How sure a forecast is: bands from its own past errors, split conformal (Lei et al., JASA 113, 2018).

Errors of one forecast are correlated over its steps, so what counts is how many forecasts there were.
"""

from collections.abc import Iterable

import numpy as np

from slurm_power.forecast.experts import Values

COVERAGE_RATIO = 0.80
# Before so many forecasts have been judged a band rests on how unlike each other the days are.
LEAST_FORECASTS = 8


class Bands:
    """Bands for one series and its stretches of the horizon."""

    def __init__(self, stretches: Iterable[tuple[int, int]], history: Values) -> None:
        self._stretches = tuple(stretches)
        self._history = history

    def around(self, middle: Values, residuals: Iterable[Values]) -> tuple[Values, Values]:
        """Lower and upper bounds; each residual is outcome less forecast, NaN where unknown."""
        rows = [row for row in residuals if np.isfinite(row[0])]
        errors = np.stack(rows) if rows else np.empty((0, len(middle)))
        low, high = middle.copy(), middle.copy()
        widest = 0.0, 0.0
        for first, end in self._stretches:
            part = errors[:, first:end]
            part = part[np.isfinite(part).all(axis=1)]
            below, above = self._quantiles(part) if len(part) >= LEAST_FORECASTS else self._guess(end)
            # Further ahead nothing is surer.
            widest = min(widest[0], below), max(widest[1], above)
            low[first:end] += widest[0]
            high[first:end] += widest[1]
        return low, high

    @staticmethod
    def _quantiles(part: Values) -> tuple[float, float]:
        count = len(part)
        tail = (1.0 - COVERAGE_RATIO) / 2.0
        level = min(1.0, np.ceil((count + 1) * (1.0 - tail)) / count)
        values = part.ravel()
        below, above = np.quantile(values, [1.0 - level, level])
        return min(float(below), 0.0), max(float(above), 0.0)

    def _guess(self, steps: int) -> tuple[float, float]:
        """From how far the series itself moves within so many steps."""
        lag = min(steps, max(1, len(self._history) - 1))
        moves = self._history[lag:] - self._history[:-lag]
        if len(moves) < 2:
            half = 0.25 * abs(float(self._history[-1]))
            return -half, half
        spread = float(np.quantile(np.abs(moves), COVERAGE_RATIO))
        return -spread, spread
