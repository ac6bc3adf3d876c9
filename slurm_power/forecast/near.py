"""The next hour of one circuit: its own short memory, and what jobs are known to change.

Both are judged on what they said: bands rest on the errors of the whole forecast, and what jobs would change
is left out while it makes the forecast worse.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from slurm_power.forecast.bands import Bands
from slurm_power.forecast.blend import Forecast, stretches
from slurm_power.forecast.experts import Seasons
from slurm_power.forecast.history import History
from slurm_power.forecast.hour import PACE, next_hour
from slurm_power.forecast.issues import Issues
from slurm_power.forecast.jobs_ahead import ChangePaths
from slurm_power.forecast.saved import State, integer, nested, part
from slurm_power.forecast.standing import recent_score
from slurm_power.model.forecast import RecentScore

STATE_VERSION = 1
# From so many judged forecasts on in which jobs said anything their word can be doubted.
_LEAST_JUDGED = 12
# What jobs change is left out when it was so much worse than saying nothing of them; it comes back when it
# is no worse.
_WORSE_RATIO = 1.05
# Both said the same when they differ by less than this share of the error.
_SAME_RATIO = 1e-3
# Who is judged: "as now", the circuit alone, and with what jobs change.
_NOW, _ALONE, _WHOLE = range(3)


class Near:
    """One circuit. Values come one by one on a fixed grid, NaN for a gap; nothing later is ever seen."""

    def __init__(self, seasons: Seasons) -> None:
        self.blend = next_hour(seasons)
        self._seasons = seasons
        self._stretches = stretches(seasons.horizon_steps)
        day = seasons.day_steps
        self._every = max(1, round(PACE.issue_hours * day / 24))
        most = round(PACE.scored_days * day) // self._every + seasons.horizon_steps // self._every + 1
        self._issues = Issues(most, seasons.horizon_steps, self._stretches, 3)
        self._history = History(round(PACE.scored_days * day) + 2 * seasons.horizon_steps, day, 0)
        self._count = self._issued = 0
        self._doubt = ""

    @property
    def known(self) -> int:
        """How many of the kept steps had a value."""
        return self.blend.known

    def extend(self, values: Iterable[float], *, ask: bool = True) -> None:
        """Take the next values; not to ``ask`` is for those that lie too far back to be judged on."""
        for value in values:
            self._history.take(value)
            self._count += 1
            self._issues.settle(self._count, self._history)
            self.blend.extend((value,), ask=ask)

    def forecast(self, changes: ChangePaths | None) -> Forecast:
        """Forecast from the last value; raises ValueError before the first.

        ``changes`` are what jobs may change of it; None where nothing is known of jobs.
        """
        alone = self.blend.forecast()
        whole = alone if changes is None else self._with_jobs(alone, changes)
        self._doubt = self._verdict()
        said = alone if self._doubt else whole
        if self._count % self._every == 0 and self._issued < self._count:
            self._issued = self._count
            last = float(self._history.filled[-1])
            paths = np.stack([np.full(self._seasons.horizon_steps, last), alone.p50, whole.p50])
            self._issues.add(self._count, last, paths, np.stack([said.p10, said.p50, said.p90]))
        return replace(said, reason="; ".join(filter(None, (said.reason, self._doubt))))

    def _with_jobs(self, alone: Forecast, changes: ChangePaths) -> Forecast:
        least, change, most = changes.quantiles((0.1, 0.5, 0.9))
        middle = alone.p50 + change
        residuals = self._issues.outcomes(self._count, self._history) - self._issues.blended(self._count)
        history = self._history.filled
        low, high = Bands(self._stretches, history).around(middle, residuals)
        # That a start does not come, or a large job ends, is known to be possible, seen or not.
        low = np.minimum(low, middle + least - change)
        high = np.maximum(high, middle + most - change)
        if float(np.min(history)) >= 0.0:
            low, middle, high = (np.maximum(0.0, path) for path in (low, middle, high))
        return replace(alone, p10=low, p50=middle, p90=high)

    def _verdict(self) -> str:
        """Why what jobs change is not to be used now; "" if it is."""
        absolute = self._issues.totals().absolute
        differ = np.abs(absolute[:, _WHOLE] - absolute[:, _ALONE]) > _SAME_RATIO * absolute[:, _ALONE]
        alone, whole = absolute[differ, _ALONE], absolute[differ, _WHOLE]
        if len(alone) < _LEAST_JUDGED:
            return ""
        most = 1.0 if self._doubt else _WORSE_RATIO
        if whole.sum() <= most * alone.sum():
            return ""
        if alone.sum() <= 0.0:
            return "what jobs change is left out: nothing has changed lately"
        share = whole.sum() / alone.sum() - 1.0
        return f"what jobs change is left out: with it the last {len(alone)} forecasts were {share:.0%} worse"

    def recent_score(self) -> RecentScore | None:
        """How what was said did, over the forecasts whose outcome is known; None before there is one."""
        return recent_score(self._issues.totals(), [(_NOW, "persistence")])

    def state(self) -> State:
        """All that is needed to go on after a restart, as arrays for a file."""
        return {
            "version": np.array(STATE_VERSION),
            "count": np.array(self._count),
            **nested("blend", self.blend.state()),
            **nested("history", self._history.state()),
            **nested("issues", self._issues.state()),
        }

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Go on from a state; raises ValueError for one that does not fit, and is unchanged then."""
        _ = integer(state, "version", least=STATE_VERSION, most=STATE_VERSION)
        fresh = Near(self._seasons)
        count = integer(state, "count", most=2**53)
        fresh.blend.restore(part("blend", state))
        fresh._history.restore(part("history", state))
        fresh._issues.restore(part("issues", state), count)
        self.blend, self._history, self._issues = fresh.blend, fresh._history, fresh._issues
        self._count = self._issued = count
