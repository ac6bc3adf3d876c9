"""What was said lately, by whom, and how wrong each of them was once the outcome was known.

A path is kept only until all its outcome is known; then its errors in each stretch of the horizon are. Of
what the blend itself said the path is kept, since bands and residual paths rest on it, in single precision
against the last value at that time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slurm_power.forecast.experts import Values
from slurm_power.forecast.history import History
from slurm_power.forecast.saved import State, positions, values_of

Stretches = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Open:
    """What was said and is not all settled: experts and the blend last, and p10, p50, p90; less the base."""

    paths: NDArray[np.float32]
    said: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the issues whose whole outcome is known, one row each, over the steps that had a value.

    ``absolute``: each judged path's errors, the blend's last, NaN for one that was silent. ``said``: the
    absolute errors of what was said, their sum with the sign (outcome less forecast), and how many outcomes
    lay inside the band.
    """

    steps: Values
    absolute: Values
    said: Values


class Issues:
    """The last ``most`` issues of one series; ``judged`` paths each, of which the last is the blend's."""

    def __init__(self, most: int, horizon_steps: int, stretches: Stretches, judged: int) -> None:
        self.most = most
        self._horizon = horizon_steps
        self._stretches = stretches
        self._judged = judged
        self._row_ending_at = {end: row for row, (_, end) in enumerate(stretches)}
        self._taken = 0
        self._at: NDArray[np.int64] = np.zeros(most, dtype=np.int64)
        self._base: Values = np.zeros(most)
        self._blended: NDArray[np.float32] = np.zeros((most, horizon_steps), dtype=np.float32)
        self._errors: NDArray[np.float32] = np.full((most, len(stretches), judged), np.nan, dtype=np.float32)
        # Steps with a value, sums of what was said (see Totals), and each judged path's; 0 steps while open.
        self._sums: Values = np.zeros((most, 4 + judged))
        self._open: dict[int, _Open] = {}

    def add(self, at: int, base: float, paths: Values, said: Values) -> None:
        """At ``at`` values all said ``paths`` (the blend's last), and p10, p50 and p90 were told."""
        slot = self._taken % self.most
        self._taken += 1
        self._open.pop(slot, None)
        self._at[slot], self._base[slot] = at, base
        self._blended[slot] = paths[-1] - base
        self._errors[slot] = np.nan
        self._sums[slot] = 0.0
        self._open[slot] = _Open((paths - base).astype(np.float32), (said - base).astype(np.float32))

    def settle(self, count: int, history: History) -> None:
        """Judge what has just become known; to be called after each value, with how many have come."""
        for slot in list(self._open):
            row = self._row_ending_at.get(count - int(self._at[slot]))
            if row is None:
                continue
            first, end = self._stretches[row]
            outcome = history.sound(end - first)
            if np.isfinite(outcome).all():
                misses = self._open[slot].paths[:, first:end] - (outcome - self._base[slot])
                self._errors[slot, row] = np.abs(misses).mean(axis=1)
            if row == len(self._stretches) - 1:
                self._close(slot, history)

    def _close(self, slot: int, history: History) -> None:
        was = self._open.pop(slot)
        outcome = history.actual[-self._horizon :] - self._base[slot]
        known = np.isfinite(outcome)
        outcome = outcome[known]
        low, middle, high = was.said[:, known]
        self._sums[slot, :4] = (
            len(outcome),
            np.abs(outcome - middle).sum(),
            (outcome - middle).sum(),
            # A bound that was met is met, whatever single precision makes of it.
            np.count_nonzero((outcome.astype(np.float32) >= low) & (outcome.astype(np.float32) <= high)),
        )
        self._sums[slot, 4:] = np.abs(was.paths[:, known] - outcome).sum(axis=1)

    def _order(self) -> NDArray[np.int64]:
        """The slots in use, the oldest issue first."""
        return np.arange(max(0, self._taken - self.most), self._taken) % self.most

    def errors(self, count: int) -> tuple[Values, NDArray[np.float32]]:
        """How many values came since each issue; its errors, one row a stretch, NaN where not known."""
        order = self._order()
        return (count - self._at[order]).astype(np.float64), self._errors[order]

    def forget(self, judged: int) -> None:
        """One of the judged is somebody else from now on: nothing is known of it."""
        self._errors[:, :, judged] = np.nan
        self._sums[:, 4 + judged] = np.nan
        for was in self._open.values():
            was.paths[judged] = np.nan

    def move(self, judged: int, to: int) -> None:
        """One of the judged takes another's place, with all that is known of it; then it is forgotten."""
        self._errors[:, :, to] = self._errors[:, :, judged]
        self._sums[:, 4 + to] = self._sums[:, 4 + judged]
        for was in self._open.values():
            was.paths[to] = was.paths[judged]
        self.forget(judged)

    def totals(self) -> Totals:
        """What the closed issues sum up to, of which at least one step had a value."""
        rows = self._sums[self._order()]
        rows = rows[rows[:, 0] > 0.0]
        return Totals(steps=rows[:, 0], said=rows[:, 1:4], absolute=rows[:, 4:])

    def moments(self, count: int) -> NDArray[np.int64]:
        """After how many values each issue was made of which an outcome may be known, oldest first."""
        at = self._at[self._order()]
        return at[at < count]

    def outcomes(self, count: int, history: History) -> Values:
        """What came after each of ``moments``, one a row; NaN for gaps and what is still to come."""
        actual = history.actual
        steps = np.arange(self._horizon) + (self.moments(count) - count + len(actual))[:, None]
        found: Values = actual[np.clip(steps, 0, len(actual) - 1)]
        found[(steps < 0) | (steps >= len(actual))] = np.nan
        return found

    def blended(self, count: int) -> Values:
        """What the blend said at each of ``moments``."""
        order = self._order()
        order = order[self._at[order] < count]
        return self._blended[order] + self._base[order, None]

    def state(self) -> State:
        """All that is needed to go on; paths only of what is open."""
        order = self._order()
        opened = [slot for slot in order if slot in self._open]
        # What the blend said is kept beside, and what was told is one of the paths.
        none = np.zeros((0, self._judged + 1, self._horizon), dtype=np.float32)
        both = [
            np.concatenate([self._open[slot].paths[:-1], self._open[slot].said[::2]])[None] for slot in opened
        ]
        told = [
            np.flatnonzero((self._open[slot].paths == self._open[slot].said[1]).all(axis=1))[-1]
            for slot in opened
        ]
        return {
            "at": self._at[order],
            "base": self._base[order],
            "blended": self._blended[order],
            "errors": self._errors[order],
            "sums": self._sums[order],
            "open": np.concatenate([none, *both]),
            "opened": np.flatnonzero(np.isin(order, opened)),
            "told": np.array(told, dtype=np.int64),
        }

    def restore(self, state: Mapping[str, NDArray[np.generic]], count: int) -> None:
        """Go on from a state; raises ValueError for one that does not fit, and is unchanged then."""
        used = len(state["at"]) if "at" in state and state["at"].ndim == 1 else 0
        if used > self.most:
            raise ValueError(f"at: {used} issues, not {self.most} at most")
        at = values_of(state, "at", (used,)).astype(np.int64)
        if used and not (np.all(np.diff(at) > 0) and at[0] > 0 and at[-1] <= count):
            raise ValueError("at: not in order")
        base = values_of(state, "base", (used,))
        blended = values_of(state, "blended", (used, self._horizon))
        errors = values_of(state, "errors", (used, len(self._stretches), self._judged), gaps=True)
        sums = values_of(state, "sums", (used, 4 + self._judged), gaps=True)
        opened = positions(state, "opened", used)
        paths = values_of(state, "open", (len(opened), self._judged + 1, self._horizon), gaps=True)
        told = values_of(state, "told", (len(opened),)).astype(np.int64)
        if len(told) and not 0 <= told.min() <= told.max() < self._judged:
            raise ValueError("told: none of the paths")
        # Experts, the blend, and the bounds.
        paths = np.concatenate([paths[:, :-2], blended[opened][:, None], paths[:, -2:]], axis=1)
        middle = paths[np.arange(len(told)), told]
        if np.isnan(sums[:, :4]).any() or np.isnan(paths[:, -3:]).any() or np.isnan(middle).any():
            raise ValueError("sums, open: not finite")
        self._taken = used
        self._at[:used], self._base[:used] = at, base
        self._blended[:used], self._errors[:used] = blended, errors
        self._sums[:used] = sums
        self._open = {}
        for slot, each, row in zip(opened, paths.astype(np.float32), told, strict=True):
            said = np.stack([each[-2], each[row], each[-1]])
            self._open[int(slot)] = _Open(each[: self._judged].copy(), said)
