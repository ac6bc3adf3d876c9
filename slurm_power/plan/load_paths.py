"""Where the load may go from here, as a set of whole paths, from the source that has been right about
excesses.

Two sources compete: the days' forecast with the residual paths of past forecasts, and what followed similar
moments. Facilities and services have a daily shape, there the forecast wins; training clusters have jobs,
there similar moments do. Which, is measured all the time on what matters here: the level a battery could have
held.
"""

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from slurm_power.forecast.analogs import SHIFT_HOURS, analog_paths
from slurm_power.forecast.blend import Blend
from slurm_power.forecast.days import days_ahead
from slurm_power.forecast.experts import Seasons
from slurm_power.plan.peak_level import Battery, Values, held_levels

HORIZON_HOURS = 24.0
# A quarter of an hour is what demand is metered in; a finer series is looked at in quarters.
GRID_SECONDS = 900.0
# Before so much is known nobody can say how an excess will go on.
LEAST_DAYS = 14.0
# Sources are compared at loads above this quantile of the last 28 days, every so often, over so many days:
# whether a load has a daily shape or consists of jobs does not change from month to month.
HIGH_QUANTILE = 0.85
JUDGED_HOURS = 0.75
JUDGED_DAYS = 180.0
_RECENT_DAYS = 28
SIMILAR, FORECAST = "similar moments", "forecast"
_RESIDUAL_PATHS = 112


@dataclass(slots=True)
class _Claim:
    """What both sources said at a moment: levels in watts, to be held against what came."""

    at: int
    least_watts: float
    said: dict[str, Values]


@dataclass(slots=True)
class _Record:
    """The errors of one source: (step, watts), the newest last."""

    errors: deque[tuple[int, float]] = field(default_factory=deque)

    def mean(self, since: int) -> float:
        while self.errors and self.errors[0][0] < since:
            self.errors.popleft()
        if not self.errors:
            return float("nan")
        return sum(error for _, error in self.errors) / len(self.errors)


class LoadPaths:
    """One series of load on a fixed grid, in watts; nothing later than the last value is ever seen."""

    def __init__(self, battery: Battery, step_seconds: float, blend: Blend | None = None) -> None:
        """``battery`` is what levels are judged by; ``blend`` is fed by the caller when it is given."""
        self._battery = battery
        self._hours = step_seconds / 3600.0
        self._day_steps = round(86_400.0 / step_seconds)
        self._horizon = round(HORIZON_HOURS / self._hours)
        self._is_own = blend is None
        self._blend = days_ahead(Seasons(self._day_steps, self._horizon)) if blend is None else blend
        self._values: list[float] = []
        self._open: deque[_Claim] = deque()
        self._records = {SIMILAR: _Record(), FORECAST: _Record()}

    @property
    def horizon_steps(self) -> int:
        """How many steps paths have."""
        return self._horizon

    @property
    def days(self) -> float:
        """How much has come."""
        return len(self._values) / self._day_steps

    @property
    def source(self) -> str:
        """Who has been nearer to the truth about levels; similar moments before anybody was judged."""
        since = len(self._values) - round(JUDGED_DAYS * self._day_steps)
        means = {name: record.mean(since) for name, record in self._records.items()}
        known = {name: mean for name, mean in means.items() if not math.isnan(mean)}
        return min(known, key=lambda name: known[name]) if len(known) == 2 else SIMILAR

    def extend(self, watts: float) -> None:
        """Take the next value; NaN for a gap repeats the one before."""
        if math.isnan(watts):
            watts = self._values[-1] if self._values else 0.0
        self._values.append(watts)
        if self._is_own:
            self._blend.extend([watts])
        self._settle()
        if len(self._values) % max(1, round(JUDGED_HOURS / self._hours)) == 0 and self.days >= LEAST_DAYS:
            self._claim()

    def recent(self, days: float) -> Values:
        """The last values, the newest last."""
        return np.array(self._values[-max(1, round(days * self._day_steps)) :])

    def paths(self, now_watts: float | None = None) -> Values | None:
        """Paths from now on, shape (steps, n); None while too little is known.

        The first row is the load now: the last value, or ``now_watts`` of a step that is not over yet.
        """
        if self.days < LEAST_DAYS:
            return None
        source = self.source
        found = self._from(source)
        if found is None and source == FORECAST:
            found = self._from(SIMILAR)
        return None if found is None else self._moved(found, now_watts)

    def expected(self, now_watts: float | None = None) -> Values | None:
        """The middle of what is expected from now on; shape (steps,)."""
        if self.days < LEAST_DAYS:
            return None
        return self._moved(self._continued(self._blend.forecast().p50)[:, None], now_watts)[:, 0]

    def _moved(self, paths: Values, now_watts: float | None) -> Values:
        """Paths of the last value moved to start at the load now; the shift fades."""
        if now_watts is None or not paths.shape[1]:
            return paths
        fading = np.exp(-np.arange(len(paths)) * self._hours / SHIFT_HOURS)
        moved: Values = paths + fading[:, None] * (now_watts - paths[0])
        return moved

    def _continued(self, ahead: Values) -> Values:
        return np.concatenate([self._values[-1:], ahead[: self._horizon - 1]])

    def _from(self, source: str) -> Values | None:
        if source == SIMILAR:
            kept = np.array(self._values[-(100 * self._day_steps) :])
            return analog_paths(kept, day_steps=self._day_steps, horizon_steps=self._horizon)
        residuals = self._blend.residual_paths(_RESIDUAL_PATHS)
        if not len(residuals):
            return None
        moved = np.zeros((len(residuals), self._horizon))
        moved[:, 1:] = residuals[:, : self._horizon - 1]
        recent = self.recent(_RECENT_DAYS * 3)
        paths: Values = np.clip(
            (self._continued(self._blend.forecast().p50) + moved).T, min(0.0, recent.min()), recent.max()
        )
        return paths

    def _claim(self) -> None:
        recent = self.recent(_RECENT_DAYS)
        load = recent[-1]
        if load < np.quantile(recent, HIGH_QUANTILE) or self._battery.is_none:
            return
        least = max(load - self._battery.discharge_watts, float(recent.mean()))
        said = {}
        for name in self._records:
            paths = self._from(name)
            if paths is None:
                return
            said[name] = self._levels(paths, least)
        self._open.append(_Claim(len(self._values) - 1, least, said))

    def _levels(self, paths: Values, least_watts: float) -> Values:
        return held_levels(
            paths,
            self._battery,
            stored_kwh=0.7 * self._battery.energy_kwh,
            step_hours=self._hours,
            least_watts=least_watts,
        )

    def _settle(self) -> None:
        """Judge what was said a horizon ago by its continuous ranked probability score."""
        while self._open and self._open[0].at + self._horizon <= len(self._values):
            claim = self._open.popleft()
            came = np.array(self._values[claim.at : claim.at + self._horizon])
            level = float(self._levels(came[:, None], claim.least_watts)[0])
            for name, said in claim.said.items():
                self._records[name].errors.append((claim.at, ranked_score(said, level)))


def ranked_score(said: Values, came: float) -> float:
    """The continuous ranked probability score of an ensemble, in its unit: 0 is perfect.

    Mean |x - y| less half the mean |x - x'|: Gneiting and Raftery (2007), eq. 21.
    """
    ordered = np.sort(said)
    count = len(ordered)
    weights = 2.0 * np.arange(1, count + 1) - count - 1
    spread = float(weights @ ordered) / count**2
    return float(np.abs(said - came).mean()) - spread
