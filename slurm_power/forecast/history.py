"""The last weeks of one series: as measured, and as experts see it, without gaps and short accidents."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from slurm_power.forecast.experts import Values
from slurm_power.forecast.saved import State, integer, positions, values_of

# A value is far off when it lies this share of all that the last days have shown outside of it,
# and at least this share of its size.
FAR_RATIO, LEAST_FAR_RATIO = 0.5, 0.05
# What the last days have shown is looked at over so many days, and not before there are so many.
SHOWN_DAYS, LEAST_SHOWN_DAYS = 14, 3


class Recent:
    """The last ``kept`` of the values that have come, as one array."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._buffer: Values = np.empty(2 * kept)
        self._end = 0

    def append(self, value: float) -> None:
        """Take the next value; the oldest of them is forgotten."""
        if self._end == len(self._buffer):
            self._buffer[: self._kept] = self._buffer[self._end - self._kept :]
            self._end = self._kept
        self._buffer[self._end] = value
        self._end += 1

    def replace(self, values: Values) -> None:
        """Forget all and take these, at most ``kept``."""
        self._end = len(values)
        self._buffer[: self._end] = values

    @property
    def values(self) -> Values:
        """What is kept, the last value last: a view."""
        return self._buffer[max(0, self._end - self._kept) : self._end]


class History:
    """One series. A gap gets a stand-in for the experts; so does, once it is over, a short accident.

    An accident is load far outside all that the last fourteen days have shown, which ends within
    ``mend_steps``: an outage, a test. What lasts longer is the new level, and what comes again within
    fourteen days has been seen, so both stay. While it lasts experts see it as it is.
    """

    def __init__(self, kept_steps: int, day_steps: int, mend_steps: int) -> None:
        self._day_steps = day_steps
        self._mend_steps = mend_steps
        self._kept = kept_steps
        self._actual = Recent(kept_steps)
        self._filled = Recent(kept_steps)
        # Values before the first known one have no stand-in.
        self._unknown = 0
        # How many steps the present excursion has lasted, and outside of what it is one.
        self._away_steps = 0
        self._shown = 0.0, 0.0

    @property
    def actual(self) -> Values:
        """As measured, NaN for gaps."""
        return self._actual.values

    @property
    def filled(self) -> Values:
        """From the first known value on, without gaps and accidents; ends where ``actual`` does."""
        values = self._filled.values
        return values[min(self._unknown, len(values)) :]

    @property
    def known(self) -> int:
        """How many of the kept steps had a value."""
        return int(np.isfinite(self.actual).sum())

    @property
    def away_steps(self) -> int:
        """How long the last values have been far off; 0 while they are not, or are the new level."""
        return self._away_steps

    def sound(self, last: int) -> Values:
        """The last steps as measured, NaN for gaps and accidents that are over."""
        actual, filled = self.actual[-last:], self._filled.values[-last:]
        return np.where(actual == filled, actual, np.nan)

    def take(self, value: float) -> int:
        """Take the next value, NaN for a gap; returns how many steps before it turned out an accident."""
        is_known = bool(np.isfinite(value))
        is_far = is_known and self._mend_steps > 0 and self._is_far(value)
        self._actual.append(value if is_known else np.nan)
        self._filled.append(value if is_known else self._stand_in())
        if not np.isfinite(self._filled.values[-1]):
            self._unknown += 1
        elif self._unknown:
            self._unknown = int(np.argmax(np.isfinite(self._filled.values)))
        if self._away_steps and is_known and not is_far:
            mended_steps, self._away_steps = self._away_steps, 0
            self._mend(mended_steps)
            return mended_steps
        if is_far or self._away_steps:
            self._away_steps += 1
            if self._away_steps > self._mend_steps:
                self._away_steps = 0
        return 0

    def _is_far(self, value: float) -> bool:
        if not self._away_steps:
            shown = self.actual[-SHOWN_DAYS * self._day_steps :]
            if len(self.filled) < LEAST_SHOWN_DAYS * self._day_steps or np.isnan(shown).all():
                return False
            self._shown = float(np.nanmin(shown)), float(np.nanmax(shown))
        low, high = self._shown
        margin = max(FAR_RATIO * (high - low), LEAST_FAR_RATIO * max(abs(low), abs(high)))
        return not low - margin <= value <= high + margin

    def _mend(self, steps: int) -> None:
        """Give the ``steps`` before the last the values that the day before had."""
        filled, day = self._filled.values, self._day_steps
        for back in range(steps + 1, 1, -1):
            if len(filled) >= back + day:
                filled[-back] = filled[-back - day]

    def _stand_in(self) -> float:
        """For a gap the same time yesterday, else the value before; NaN before the first value."""
        day, filled = self._day_steps, self._filled.values
        if len(filled) >= day and np.isfinite(filled[-day]):
            return float(filled[-day])
        return float(filled[-1]) if len(filled) else float("nan")

    def state(self) -> State:
        """All that is needed to go on; stand-ins only where there are some."""
        differs = self.actual != self._filled.values
        return {
            "actual": self.actual.copy(),
            "filled_at": np.flatnonzero(differs),
            "filled": self._filled.values[differs],
            "away_steps": np.array(self._away_steps),
            "shown": np.array(self._shown),
        }

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Go on from a state; raises ValueError for one that does not fit, and is unchanged then."""
        count = len(state["actual"]) if "actual" in state and state["actual"].ndim == 1 else 0
        if count > self._kept:
            raise ValueError(f"actual: {count} values, not {self._kept} at most")
        actual = values_of(state, "actual", (count,), gaps=True)
        filled = actual.copy()
        at = positions(state, "filled_at", count)
        filled[at] = values_of(state, "filled", at.shape, gaps=True)
        shown = values_of(state, "shown", (2,))
        away_steps = integer(state, "away_steps", most=self._mend_steps)
        known = np.isfinite(filled)
        unknown = int(np.argmax(known)) if known.any() else count
        if not known[unknown:].all():
            raise ValueError("filled: not finite after the first known value")
        self._actual.replace(actual)
        self._filled.replace(filled)
        self._unknown, self._away_steps = unknown, away_steps
        self._shown = float(shown[0]), float(shown[1])
