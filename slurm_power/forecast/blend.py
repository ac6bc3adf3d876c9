"""Experts weighed by how they have done lately, for each stretch of the horizon by itself.

Exponential weights on discounted mean absolute errors (Cesa-Bianchi and Lugosi, Prediction, Learning, and
Games, 2006, ch. 2), over the errors' ratio to the best, so that the unit of the series does not matter. An
expert that has nothing to say, or says what cannot be, has no weight.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slurm_power.forecast.bands import Bands
from slurm_power.forecast.experts import EXPERTS, Expert, Seasons, Values

# Nothing that was ever seen justifies a forecast so many times above it.
EXPLOSION_RATIO = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often experts are asked, and how long and how sharply they are judged.

    ``discount`` is the weight of a verdict against the next one's. ``doubt_ratio``: all but the first expert
    are taken to be so much worse than they were.
    """

    issue_hours: float
    scored_days: float
    discount: float
    sharpness: float
    history_days: int
    doubt_ratio: float = 0.0


DAYS_AHEAD = Pace(issue_hours=3.0, scored_days=14.0, discount=0.97, sharpness=5.0, history_days=35)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The next steps after the last known value; ``p10`` and ``p90`` bound 80 % of what is expected.

    ``weights``: the share of each expert in the first and the last stretch of the horizon.
    """

    p10: Values
    p50: Values
    p90: Values
    weights: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _Issue:
    """Forecasts made at one moment: ``paths`` of all experts, one a row, NaN where one was silent."""

    at: int
    paths: Values
    blended: Values


class _Recent:
    """The last ``kept`` of the values that have come, as one array."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._buffer: Values = np.empty(2 * kept)
        self._end = 0

    def append(self, value: float) -> None:
        if self._end == len(self._buffer):
            self._buffer[: self._kept] = self._buffer[self._end - self._kept :]
            self._end = self._kept
        self._buffer[self._end] = value
        self._end += 1

    @property
    def values(self) -> Values:
        return self._buffer[max(0, self._end - self._kept) : self._end]


class Blend:
    """One series. Values come one by one on a fixed grid, NaN for a gap; nothing later is ever seen."""

    def __init__(
        self, seasons: Seasons, experts: Mapping[str, Expert] | None = None, pace: Pace = DAYS_AHEAD
    ) -> None:
        self.seasons = seasons
        self._experts = dict(EXPERTS if experts is None else experts)
        self._pace = pace
        kept = pace.history_days * seasons.day_steps
        self._actual = _Recent(kept)
        self._filled = _Recent(kept)
        self._count = 0
        self._issue_steps = max(1, round(pace.issue_hours * seasons.day_steps / 24))
        most = round(pace.scored_days * seasons.day_steps) // self._issue_steps
        self._issues: deque[_Issue] = deque(maxlen=most + seasons.horizon_steps // self._issue_steps + 1)
        self._stretches = stretches(seasons.horizon_steps)

    @property
    def count(self) -> int:
        """How many steps have come, gaps included."""
        return self._count

    @property
    def known(self) -> int:
        """How many of the kept steps had a value."""
        return int(np.isfinite(self._actual.values).sum())

    @property
    def judged_steps(self) -> int:
        """How far back a value can still change a weight or a band.

        A band rests on what was said so long ago, and that on who was right so long before.
        """
        return 2 * (self._issues.maxlen or 0) * self._issue_steps

    def extend(self, values: Iterable[float], *, ask: bool = True) -> None:
        """Take the next values; every ``issue_hours`` all experts are asked, to be judged later.

        Not to ``ask`` saves most of the time, for values that lie further back than ``judged_steps``.
        """
        for value in values:
            self._actual.append(value)
            self._filled.append(value if np.isfinite(value) else self._stand_in())
            self._count += 1
            if ask and self._count % self._issue_steps == 0 and np.isfinite(self._filled.values[-1]):
                paths = self._paths()
                if np.isfinite(paths[:, 0]).any():
                    blended, _ = self._blended(paths)
                    self._issues.append(_Issue(self._count, paths, blended))

    def _stand_in(self) -> float:
        """For a gap the same time yesterday, else the value before; NaN before the first value."""
        day, filled = self.seasons.day_steps, self._filled.values
        if len(filled) >= day and np.isfinite(filled[-day]):
            return float(filled[-day])
        return float(filled[-1]) if len(filled) else float("nan")

    def forecast(self) -> Forecast:
        """Forecast from the last value; raises ValueError before the first, and if no expert can speak."""
        if not len(self._filled.values) or not np.isfinite(self._filled.values[-1]):
            raise ValueError("no value yet")
        paths = self._paths()
        if not np.isfinite(paths[:, 0]).any():
            raise ValueError("too little is known for any of the experts")
        middle, weights = self._blended(paths)
        residuals = [
            (self._outcome(issue) - issue.blended) for issue in self._issues if issue.at < self._count
        ]
        low, high = Bands(self._stretches, self._history()).around(middle, residuals)
        if np.nanmin(self._history()) >= 0.0:
            low, high = np.maximum(low, 0.0), np.maximum(high, 0.0)
        names = list(self._experts)
        shares = {name: (float(weights[0, row]), float(weights[-1, row])) for row, name in enumerate(names)}
        return Forecast(p10=low, p50=middle, p90=high, weights=shares)

    def _history(self) -> Values:
        """What is known, without what came before the first value."""
        filled = self._filled.values
        return filled[np.isfinite(filled)]

    def _paths(self) -> Values:
        history = self._history()
        limit = EXPLOSION_RATIO * max(float(np.max(np.abs(history))), 1e-12)
        paths = np.full((len(self._experts), self.seasons.horizon_steps), np.nan)
        for row, expert in enumerate(self._experts.values()):
            path = expert(history, self.seasons)
            if path is not None and np.all(np.isfinite(path)) and np.max(np.abs(path)) <= limit:
                paths[row] = path
        if np.min(history) >= 0.0:
            np.maximum(paths, 0.0, out=paths)
        return paths

    def _outcome(self, issue: _Issue) -> Values:
        """What came after an issue, NaN for gaps and for what is still to come."""
        after = self._count - issue.at
        found = np.full(self.seasons.horizon_steps, np.nan)
        known = min(after, self.seasons.horizon_steps)
        actual = self._actual.values
        start = len(actual) - after
        if start >= 0:
            found[:known] = actual[start : start + known]
        return found

    def _blended(self, paths: Values) -> tuple[Values, Values]:
        """The weighted mean of paths, and the weights, one row a stretch."""
        weights = self._weights(~np.isnan(paths[:, 0]))
        filled = np.nan_to_num(paths)
        blended = np.empty(self.seasons.horizon_steps)
        for row, (first, end) in enumerate(self._stretches):
            blended[first:end] = weights[row] @ filled[:, first:end]
        return blended, weights

    def _weights(self, speaking: NDArray[np.bool_]) -> Values:
        errors = self._errors()
        errors[:, 1:] *= 1.0 + self._pace.doubt_ratio
        errors[:, ~speaking] = np.inf
        weights = np.zeros_like(errors)
        for row, mean in enumerate(errors):
            judged = np.isfinite(mean)
            if judged.any():
                best = max(float(mean[judged].min()), 1e-12)
                weights[row, judged] = np.exp(-self._pace.sharpness * (mean[judged] / best - 1.0))
            else:
                weights[row, speaking] = 1.0
            weights[row] /= weights[row].sum()
        return weights

    def _errors(self) -> Values:
        """Discounted mean absolute error of each expert in each stretch; inf where none is known."""
        means = np.full((len(self._stretches), len(self._experts)), np.inf)
        done = [issue for issue in self._issues if issue.at < self._count]
        if not done:
            return means
        misses = np.abs(
            np.stack([issue.paths for issue in done])
            - np.stack([self._outcome(issue) for issue in done])[:, None, :]
        )
        ages = np.array([self._count - issue.at for issue in done], dtype=np.float64)
        for row, (first, end) in enumerate(self._stretches):
            since = (ages - end) / self._issue_steps
            part = misses[:, :, first:end]
            known = np.isfinite(part).all(axis=2) & (since >= 0.0)[:, None]
            discounts = self._pace.discount ** np.maximum(since, 0.0)
            weight = discounts[:, None] * known
            total = weight.sum(axis=0)
            sums = (np.where(known[:, :, None], part, 0.0).mean(axis=2) * weight).sum(axis=0)
            # An expert that has spoken seldom is compared on less: it has to have spoken half of the time.
            enough = total >= 0.5 * max(float(total.max()), 1e-12)
            means[row, enough] = sums[enough] / np.maximum(total[enough], 1e-12)
        return means


def stretches(horizon_steps: int) -> tuple[tuple[int, int], ...]:
    """Parts of the horizon that are weighed by themselves: 1, 1, 2, 4, 8 ... steps."""
    ends = [1]
    while ends[-1] < horizon_steps:
        ends.append(min(2 * ends[-1], horizon_steps))
    return tuple(zip([0, *ends[:-1]], ends, strict=True))
