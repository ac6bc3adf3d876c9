"""The next hour of one circuit: its own short memory, and what jobs are known to change.

Both are judged on what they said: bands rest on the errors of the whole forecast, and what jobs would change
is left out while it makes the forecast worse.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from slurm_power.forecast.bands import Bands
from slurm_power.forecast.blend import Forecast, stretches
from slurm_power.forecast.experts import Seasons, Values
from slurm_power.forecast.hour import PACE, next_hour
from slurm_power.forecast.jobs_ahead import ChangePaths

# From so many judged forecasts on in which jobs said anything their word can be doubted.
_LEAST_JUDGED = 12
# What jobs change is left out when it was so much worse than saying nothing of them.
_WORSE_RATIO = 1.05
# A change below this share of the load is none.
_SILENT_RATIO = 1e-3


@dataclass(frozen=True, slots=True)
class _Said:
    """One forecast: with the jobs' word, and without; ``spoke`` where that makes a difference."""

    at: int
    whole: NDArray[np.float32]
    alone: NDArray[np.float32]
    spoke: bool


class Near:
    """One circuit. Values come one by one on a fixed grid, NaN for a gap; nothing later is ever seen."""

    def __init__(self, seasons: Seasons) -> None:
        self.blend = next_hour(seasons)
        self._seasons = seasons
        self._stretches = stretches(seasons.horizon_steps)
        self._every = max(1, round(PACE.issue_hours * seasons.day_steps / 24))
        judged = round(PACE.scored_days * seasons.day_steps) // self._every
        self._said: deque[_Said] = deque(maxlen=judged + seasons.horizon_steps // self._every + 1)
        self._recent: deque[float] = deque(
            maxlen=round(PACE.scored_days * seasons.day_steps) + 2 * seasons.horizon_steps
        )
        self._count = 0
        self._doubted = False

    def extend(self, values: Iterable[float], *, ask: bool = True) -> None:
        """Take the next values; not to ``ask`` is for those that lie too far back to be judged on."""
        for value in values:
            self._recent.append(value)
            self._count += 1
            self.blend.extend((value,), ask=ask)

    def forecast(self, changes: ChangePaths | None) -> Forecast:
        """Forecast from the last value; raises ValueError before the first.

        ``changes`` are what jobs may change of it; None where nothing is known of jobs.
        """
        alone = self.blend.forecast()
        found = self._with_jobs(alone, changes)
        if self._count % self._every == 0 and (not self._said or self._said[-1].at < self._count):
            whole = alone.p50 if changes is None else np.maximum(0.0, alone.p50 + changes.quantile(0.5))
            moved = float(np.max(np.abs(whole - alone.p50)))
            spoke = moved > _SILENT_RATIO * max(float(np.max(np.abs(alone.p50))), 1.0)
            self._said.append(
                _Said(self._count, whole.astype(np.float32), alone.p50.astype(np.float32), spoke)
            )
        return found

    def _with_jobs(self, alone: Forecast, changes: ChangePaths | None) -> Forecast:
        verdict = self._verdict()
        if changes is None or verdict:
            return (
                alone
                if not verdict
                else replace(alone, reason="; ".join(filter(None, (alone.reason, verdict))))
            )
        middle_change = changes.quantile(0.5)
        middle = alone.p50 + middle_change
        residuals = [self._outcome(said) - said.whole for said in self._said if said.at < self._count]
        history = np.array(self._recent, dtype=np.float64)
        low, high = Bands(self._stretches, history[np.isfinite(history)]).around(middle, residuals)
        # That a start does not come, or a large job ends, is known to be possible although it was never seen.
        low = np.minimum(low, middle + changes.quantile(0.1) - middle_change)
        high = np.maximum(high, middle + changes.quantile(0.9) - middle_change)
        if float(np.min(history[np.isfinite(history)])) >= 0.0:
            low, middle, high = (np.maximum(0.0, path) for path in (low, middle, high))
        return replace(alone, p10=low, p50=middle, p90=high)

    def _verdict(self) -> str:
        """Why what jobs change is not to be used now; "" if it is."""
        errors = [
            (np.nanmean(np.abs(outcome - said.whole)), np.nanmean(np.abs(outcome - said.alone)))
            for said in self._said
            if said.spoke and said.at + self._seasons.horizon_steps <= self._count
            if np.isfinite(outcome := self._outcome(said)).any()
        ]
        if len(errors) < _LEAST_JUDGED:
            self._doubted = False
            return ""
        whole, alone = (float(np.mean(column)) for column in zip(*errors, strict=True))
        self._doubted = whole > (1.0 if self._doubted else _WORSE_RATIO) * alone
        if not self._doubted:
            return ""
        share = whole / max(alone, 1e-9) - 1.0
        return (
            f"what jobs change is left out: with it the last {len(errors)} forecasts were {share:.0%} worse"
        )

    def _outcome(self, said: _Said) -> Values:
        """What came after a forecast, NaN for gaps and for what is still to come."""
        steps = self._seasons.horizon_steps
        found = np.full(steps, np.nan)
        first = len(self._recent) - (self._count - said.at)
        for step in range(max(0, -first), min(steps, self._count - said.at)):
            found[step] = self._recent[first + step]
        return found
