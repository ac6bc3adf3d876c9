"""Experts weighed by how they have done lately, for each stretch of the horizon by itself.

An expert that has nothing to say, or says what cannot be, has no weight. While all of them together are worse
than the best naive forecast that speaks alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slurm_power.forecast.bands import Bands
from slurm_power.forecast.drift import one_a_day, recent_drift
from slurm_power.forecast.experts import EXPERTS, NAIVE, Expert, Seasons, Values
from slurm_power.forecast.followers import Contest, Maker
from slurm_power.forecast.history import History
from slurm_power.forecast.issues import Issues
from slurm_power.forecast.saved import State, integer, nested, part
from slurm_power.forecast.standing import Speaker, next_speaker, recent_score
from slurm_power.forecast.weighing import lately, shares
from slurm_power.model.forecast import RecentScore

# Raise when what `Blend.state` returns changes its meaning: an older one is refused then.
STATE_VERSION = 1
# Nothing that was ever seen justifies a forecast so many times above it.
EXPLOSION_RATIO = 3.0
# An expert on trial is compared once it has been judged on this share of all that is kept.
TRIAL_RATIO = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often experts are asked, and how long and how sharply they are judged.

    ``discount`` is the weight of a verdict against the next one's. ``doubt_ratio``: all but the first expert
    are taken to be so much worse than they were. ``mend_hours``: accidents up to so long are no history.
    """

    issue_hours: float
    scored_days: float
    discount: float
    sharpness: float
    history_days: int
    doubt_ratio: float = 0.0
    mend_hours: float = 0.0


DAYS_AHEAD = Pace(
    issue_hours=3.0, scored_days=14.0, discount=0.97, sharpness=5.0, history_days=35, mend_hours=24.0
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The next steps after the last known value; ``p10`` and ``p90`` bound 80 % of what is expected.

    ``weights``: the share of each expert in the first and the last stretch of the horizon. ``source``:
    "blend", or who speaks alone; ``reason``: why, and what else is to be known about it, "" if all is well.
    """

    p10: Values
    p50: Values
    p90: Values
    weights: Mapping[str, tuple[float, float]]
    source: str = "blend"
    reason: str = ""


class Blend:
    """One series. Values come one by one on a fixed grid, NaN for a gap; nothing later is ever seen."""

    def __init__(
        self,
        seasons: Seasons,
        experts: Mapping[str, Expert] | None = None,
        pace: Pace = DAYS_AHEAD,
        followers: Mapping[str, Maker] | None = None,
    ) -> None:
        self.seasons = seasons
        self._experts = dict(EXPERTS if experts is None else experts)
        self._contests = {name: Contest(make) for name, make in (followers or {}).items()}
        self._pace = pace
        day = seasons.day_steps
        self._history = History(pace.history_days * day, day, round(pace.mend_hours * day / 24))
        self._count = 0
        self._issue_steps = max(1, round(pace.issue_hours * day / 24))
        self._scored = max(1, round(pace.scored_days * day) // self._issue_steps)
        self._stretches = stretches(seasons.horizon_steps)
        # Those in use come first, then those on trial, and the blend itself last.
        self._names = [*self._experts, *self._contests]
        judged = len(self._names) + len(self._contests) + 1
        most = self._scored + seasons.horizon_steps // self._issue_steps + 1
        self._issues = Issues(most, seasons.horizon_steps, self._stretches, judged)
        self._naive = [(row, name) for row, name in enumerate(self._names) if name in NAIVE]
        self._speaker = Speaker()

    @property
    def count(self) -> int:
        """How many steps have come, gaps included."""
        return self._count

    @property
    def known(self) -> int:
        """How many of the kept steps had a value."""
        return self._history.known

    @property
    def values(self) -> Values:
        """What is kept of the series as measured, NaN for gaps, the last value last."""
        return self._history.actual

    @property
    def judged_steps(self) -> int:
        """How far back a value can still change a weight or a band.

        A band rests on what was said so long ago, and that on who was right so long before.
        """
        return 2 * self._issues.most * self._issue_steps

    @property
    def refit_seconds(self) -> tuple[float, ...]:
        """Nothing is fitted here."""
        return ()

    def extend(self, values: Iterable[float], *, ask: bool = True) -> None:
        """Take the next values; every ``issue_hours`` all experts are asked, to be judged later.

        Not to ``ask`` saves most of the time, for values that lie further back than ``judged_steps``.
        """
        for value in values:
            self._take(value)
            self._issues.settle(self._count, self._history)
            if ask and self._count % self._issue_steps == 0:
                self._issue()

    def _take(self, value: float) -> None:
        was_away = self._history.away_steps > 0
        mended_steps = self._history.take(value)
        for contest in self._contests.values():
            if not was_away and self._history.away_steps:
                contest.remember()
            if mended_steps:
                contest.mend(mended_steps)
            contest.take(value)
        self._count += 1

    def _issue(self) -> None:
        history = self._history.filled
        if not len(history):
            return
        paths = self._paths(history)
        if np.isfinite(paths[: len(self._names), 0]).any():
            self._end_trials()
            self._speaker = next_speaker(
                self._speaker, self._issues.totals(), self._naive, max(1, self._scored // 2)
            )
            blended, _ = self._blended(paths)
            said = np.stack(self._told(blended, paths, history))
            self._issues.add(self._count, float(history[-1]), np.concatenate([paths, blended[None]]), said)

    def forecast(self) -> Forecast:
        """Forecast from the last value; raises ValueError before the first, and if no expert can speak."""
        history = self._history.filled
        if not len(history):
            raise ValueError("no value yet")
        paths = self._paths(history)
        if not np.isfinite(paths[: len(self._names), 0]).any():
            raise ValueError("too little is known for any of the experts")
        blended, weights = self._blended(paths)
        low, middle, high = self._told(blended, paths, history)
        alone = self._alone(paths)
        if alone is not None:
            weights = np.zeros_like(weights)
            weights[:, alone] = 1.0
        return Forecast(
            p10=low,
            p50=middle,
            p90=high,
            weights={
                name: (float(weights[0, row]), float(weights[-1, row]))
                for row, name in enumerate(self._names)
            },
            source=self._names[alone or 0] if alone is not None or len(self._names) == 1 else "blend",
            reason=self._reason(alone is not None),
        )

    def recent_score(self) -> RecentScore | None:
        """How what was said did, over the issues whose outcome is known; None before there is one.

        In the unit of the series. A naive forecast that could not speak at each of them is not compared.
        """
        return recent_score(self._issues.totals(), self._naive)

    def residual_paths(self, most: int = 170) -> Values:
        """Outcome less forecast, one past forecast a row, the newest last; shape ``(n, horizon_steps)``.

        Of forecasts whose whole horizon has passed, made every ``issue_hours`` by who speaks now. A gap is
        bridged by a straight line; a forecast of whose outcome more than a quarter is missing is left out.
        """
        moments = self._issues.moments(self._count)
        complete = self._residuals()[moments + self.seasons.horizon_steps <= self._count]
        steps = np.arange(self.seasons.horizon_steps)
        found = []
        for row in complete:
            known = np.isfinite(row)
            if known.mean() >= 0.75:
                found.append(np.interp(steps, steps[known], row[known]))
        return np.stack(found[-most:]) if found and most > 0 else np.empty((0, len(steps)))

    def adopt(self, name: str, parameters: Mapping[str, NDArray[np.generic]]) -> None:
        """Give a follower new parameters: at once if it had none, else after a trial beside its old ones.

        Ones that are on trial already are given up for these. Raises KeyError for a name that is none of
        ``followers``, and ValueError for parameters that cannot be.
        """
        if self._contests[name].adopt(parameters, self._history.actual):
            self._issues.forget(self._trial_row(name))

    def on_trial(self, name: str) -> bool:
        """Whether new parameters of this follower are being judged."""
        return self._contests[name].challenger is not None

    def _trial_row(self, name: str) -> int:
        return len(self._names) + list(self._contests).index(name)

    def _end_trials(self) -> None:
        """New parameters take over when they have been judged and were no worse, or are given up."""
        totals = self._issues.totals().absolute
        for name, contest in self._contests.items():
            if contest.challenger is None:
                continue
            row, new = self._names.index(name), self._trial_row(name)
            both = totals[np.isfinite(totals[:, [row, new]]).all(axis=1)]
            if len(both) < TRIAL_RATIO * self._scored:
                continue
            if both[:, new].sum() <= both[:, row].sum():
                contest.promote()
                self._issues.move(new, row)
            else:
                contest.challenger = None
                self._issues.forget(new)

    def _reason(self, is_alone: bool) -> str:
        found = [self._speaker.reason] if is_alone else []
        days, wanted = self.known / self.seasons.day_steps, self._pace.scored_days
        if days < wanted:
            found.append(f"{days:.1f} days of history: bands are wide until there are {wanted:g}")
        return "; ".join([*found, *filter(None, [self._drift()])])

    def _drift(self) -> str:
        """How the last days went against what was forecast for them, if that has changed."""
        day, scored_days = self.seasons.day_steps, round(self._pace.scored_days)
        first = min(day, self.seasons.horizon_steps)
        picked = one_a_day(self._count - self._issues.moments(self._count), first, day, scored_days)
        outcomes = self._issues.outcomes(self._count, self._history)[picked, :first]
        drift = recent_drift(outcomes, self._issues.blended(self._count)[picked, :first])
        return drift.reason if drift is not None else ""

    def _alone(self, paths: Values) -> int | None:
        """The row of who speaks instead of the blend, if it can."""
        for row, name in self._naive:
            if name == self._speaker.naive and np.isfinite(paths[row, 0]):
                return row
        return None

    def _told(self, blended: Values, paths: Values, history: Values) -> tuple[Values, Values, Values]:
        """p10, p50 and p90 of who speaks."""
        alone = self._alone(paths)
        middle = blended if alone is None else paths[alone]
        low, high = Bands(self._stretches, history).around(middle, self._residuals())
        if np.min(history) >= 0.0:
            low, high = np.maximum(low, 0.0), np.maximum(high, 0.0)
        return low, middle, high

    def _residuals(self) -> Values:
        """Outcome less forecast of each issue by who speaks now, NaN where not known."""
        outcomes = self._issues.outcomes(self._count, self._history)
        if not self._speaker.naive:
            return outcomes - self._issues.blended(self._count)
        # What a naive forecast said is not kept: it is in the history.
        history, expert = self._history.filled, self._experts[self._speaker.naive]
        for row, at in enumerate(self._issues.moments(self._count)):
            before = history[: max(0, len(history) - (self._count - int(at)))]
            path = expert(before, self.seasons) if len(before) else None
            outcomes[row] -= np.nan if path is None else path
        return outcomes

    def _paths(self, history: Values) -> Values:
        """What all say, one a row, those on trial last; NaN where one is silent or says what cannot be."""
        limit = EXPLOSION_RATIO * max(float(np.max(np.abs(history))), 1e-12)
        contests = self._contests.values()
        followers = [*(each.champion for each in contests), *(each.challenger for each in contests)]
        said = [expert(history, self.seasons) for expert in self._experts.values()]
        said += [None if follower is None else follower.path(self.seasons) for follower in followers]
        paths = np.full((len(said), self.seasons.horizon_steps), np.nan)
        for row, path in enumerate(said):
            if path is not None and np.all(np.isfinite(path)) and np.max(np.abs(path)) <= limit:
                paths[row] = path
        if np.min(history) >= 0.0:
            np.maximum(paths, 0.0, out=paths)
        return paths

    def _blended(self, paths: Values) -> tuple[Values, Values]:
        """The weighted mean of paths, and the weights, one row a stretch."""
        known = paths[: len(self._names)]
        errors = self._errors()
        errors[:, np.isnan(known[:, 0])] = np.inf
        weights = shares(errors, ~np.isnan(known[:, 0]), self._pace.sharpness)
        filled = np.nan_to_num(known)
        blended = np.empty(self.seasons.horizon_steps)
        for row, (first, end) in enumerate(self._stretches):
            blended[first:end] = weights[row] @ filled[:, first:end]
        return blended, weights

    def _errors(self) -> Values:
        """Discounted mean absolute error of each expert in each stretch; inf where none is known."""
        ages, found = self._issues.errors(self._count)
        ends = np.array([end for _, end in self._stretches], dtype=np.float64)
        errors = lately(
            found[:, :, : len(self._names)],
            (ages[:, None] - ends) / self._issue_steps,
            self._pace.discount,
        )
        errors[:, 1:] *= 1.0 + self._pace.doubt_ratio
        return errors

    def state(self) -> State:
        """All that is needed to go on after a restart, as arrays for a file."""
        found: State = {
            "version": np.array(STATE_VERSION),
            "seasons": np.array([self.seasons.day_steps, self.seasons.horizon_steps]),
            "experts": np.array([*self._experts, "|", *self._contests]),
            "count": np.array(self._count),
            "speaker": np.array([self._speaker.naive, self._speaker.reason]),
        }
        found |= nested("history", self._history.state())
        found |= nested("issues", self._issues.state())
        for name, contest in self._contests.items():
            found |= nested(f"follower.{name}", contest.state())
        return found

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Go on from a state; raises ValueError that says what does not fit, and is unchanged then."""
        _ = integer(state, "version", least=STATE_VERSION, most=STATE_VERSION)
        mine = self.state()
        for name in ("seasons", "experts"):
            if name not in state or not np.array_equal(state[name], mine[name]):
                raise ValueError(f"{name}: {state.get(name)}, not {mine[name]}")
        count = integer(state, "count", most=2**53)
        fresh = Blend(
            self.seasons,
            self._experts,
            self._pace,
            {name: each.make for name, each in self._contests.items()},
        )
        fresh._history.restore(part("history", state))
        fresh._issues.restore(part("issues", state), count)
        speaker = np.asarray(state.get("speaker"))
        if speaker.shape != (2,) or (speaker[0] and str(speaker[0]) not in [name for _, name in self._naive]):
            raise ValueError(f"speaker: {speaker} is none of the naive forecasts")
        contests = {
            name: each.restored(part(f"follower.{name}", state)) for name, each in self._contests.items()
        }
        self._history, self._issues, self._count = fresh._history, fresh._issues, count
        self._speaker = Speaker(str(speaker[0]), str(speaker[1]))
        self._contests = contests


def stretches(horizon_steps: int) -> tuple[tuple[int, int], ...]:
    """Parts of the horizon that are weighed by themselves: 1, 1, 2, 4, 8 ... steps."""
    ends = [1]
    while ends[-1] < horizon_steps:
        ends.append(min(2 * ends[-1], horizon_steps))
    return tuple(zip([0, *ends[:-1]], ends, strict=True))
