"""Watch one source of readings and say how far each can be trusted, with a reason."""

import math
from dataclasses import dataclass, replace

from slurm_power.model.coverage import Coverage
from slurm_power.model.reading import PowerReading, Quality, judged

# A reading above this many ratings is no power but a slip of a unit or a broken register.
HIGHEST_RATINGS = 3.0
# One reading that jumps by more than what hangs here is believed when the next one says the same.
STEP_RATIO = 1.0
# An unchanged value is stuck when what it should see has moved by so much, for longer than so many refreshes.
STUCK_REFRESHES = 2.5
LEAST_STUCK_SECONDS = 4.0
STUCK_RATIO = 0.05
LEAST_STUCK_WATTS = 150.0
# What has moved and is back counts for less with time: a load that swings adds up, a glitch a day does not.
FORGIVEN_RATIO = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What is plausible for a source; ``lowest_watts`` below zero is what batteries may feed back.

    ``below_refresh_seconds`` is how often the slowest of what it feeds is read.
    """

    rating_watts: float
    lowest_watts: float
    max_age_seconds: float
    refresh_seconds: float = 2.0
    below_refresh_seconds: float = 1.0


class Watch:
    """One source. Times are monotonic seconds of the caller."""

    def __init__(self, source: str, expectation: Expectation) -> None:
        self.source = source
        self._expected = expectation
        self._watts: float | None = None
        self._read_at_seconds = float("-inf")
        self._changed_at_seconds = float("-inf")
        self._settling_seconds = expectation.refresh_seconds + 2.0 * expectation.below_refresh_seconds
        self._error = "never read"
        self._wrong = ""
        self._jumped_from: float | None = None
        self._compared_at_seconds = float("-inf")
        self._base: float | None = None
        self._has_changed = False
        self._held: float | None = None
        self._held_since_seconds = float("-inf")
        self._moved_seconds = 0.0
        self._stuck = ""
        self._coverage = Coverage()

    def take(self, watts: float, now_seconds: float) -> None:
        """A reading has come."""
        self._error = ""
        self._wrong = self._implausible(watts)
        self._coverage.add(0.0 if self._wrong else 1.0, now_seconds)
        self._read_at_seconds = now_seconds
        if self._wrong:
            return
        before = self._watts
        if watts != before:
            self._changed_at_seconds = now_seconds
            self._has_changed = before is not None
            self._base = None
            self._moved_seconds = 0.0
            self._stuck = ""
        step_watts = 0.0 if before is None else abs(watts - before)
        jumped = step_watts > STEP_RATIO * self._expected.rating_watts
        self._jumped_from = before if jumped else None
        self._watts = watts

    def _implausible(self, watts: float) -> str:
        if not math.isfinite(watts):
            return "no number"
        highest = HIGHEST_RATINGS * self._expected.rating_watts
        if watts > highest:
            return f"out of range: {watts:.0f} W is above {highest:.0f} W"
        if watts < self._expected.lowest_watts:
            return f"out of range: {watts:.0f} W is below {self._expected.lowest_watts:.0f} W"
        return ""

    def failed(self, error: str, now_seconds: float) -> None:
        """The source could not be read; its last value ages on."""
        self._error = error
        self._coverage.add(0.0, now_seconds)

    def saw_below(self, watts: float, now_seconds: float, doubt_watts: float = 0.0) -> None:
        """What the source should see has this power now: while it moves, the source may not stand still.

        ``doubt_watts``: how much of it is only assumed. Nothing is held against a source that is not read, or
        that may still be about to show what has moved.
        """
        if self._watts is None or self._read_at_seconds < self._compared_at_seconds:
            return
        pause_seconds = min(now_seconds - self._compared_at_seconds, self._expected.refresh_seconds)
        self._compared_at_seconds = now_seconds
        much_watts = max(STUCK_RATIO * abs(self._watts), LEAST_STUCK_WATTS) + doubt_watts
        if self._held is None or abs(watts - self._held) > 0.5 * much_watts:
            self._held, self._held_since_seconds = watts, now_seconds
        self._settle(now_seconds)
        if self._base is None:
            return
        moved_watts = abs(watts - self._base)
        if moved_watts <= much_watts:
            self._moved_seconds = max(0.0, self._moved_seconds - FORGIVEN_RATIO * pause_seconds)
            return
        self._moved_seconds += pause_seconds
        if self._moved_seconds > max(STUCK_REFRESHES * self._expected.refresh_seconds, LEAST_STUCK_SECONDS):
            still_seconds = now_seconds - self._changed_at_seconds
            self._stuck = f"stuck for {still_seconds:.0f} s while what it feeds moved by {moved_watts:.0f} W"

    def _settle(self, now_seconds: float) -> None:
        """Take what is below now as what belongs to the value that is shown, if it came about with it.

        Both are measured at other moments, and what is below may be told later, by a reading and a refresh
        of its own. What did not last as long as a refresh may never have been shown: it does not count,
        unless nothing lasts.
        """
        came_seconds = self._held_since_seconds - self._changed_at_seconds
        lasts = now_seconds - self._held_since_seconds >= self._expected.refresh_seconds
        if self._base is None:
            # The first value has not come about now: it belongs to whatever there is.
            late = now_seconds - self._changed_at_seconds > 2.0 * self._settling_seconds
            settled = lasts or late or not self._has_changed
        else:
            settled = self._has_changed and lasts and came_seconds <= self._settling_seconds
        if settled:
            self._base = self._held

    def graded(self, now_seconds: float) -> PowerReading:
        """The latest reading with its quality."""
        age_seconds = now_seconds - self._read_at_seconds
        reading = judged(self.source, self._watts, age_seconds, self._expected.max_age_seconds)
        if self._wrong:
            return replace(reading, quality=Quality.INVALID, reason=self._wrong)
        if self._stuck:
            return replace(reading, quality=Quality.INVALID, reason=self._stuck)
        if self._error and reading.quality is not Quality.GOOD:
            reason = f"{reading.reason}; {self._error}" if reading.reason else self._error
            return replace(reading, reason=reason)
        if self._jumped_from is not None and reading.watts is not None:
            # For limits the higher of the two counts until the next reading has decided.
            watts = max(reading.watts, self._jumped_from)
            reason = f"impossible step from {self._jumped_from:.0f} to {reading.watts:.0f} W"
            if reading.quality is Quality.GOOD:
                return replace(reading, watts=watts, quality=Quality.QUESTIONABLE, reason=reason)
        return reading

    def coverage_ratio(self, now_seconds: float) -> float | None:
        """The share of the readings of the last ten minutes that could be used; None before the first."""
        return self._coverage.ratio(now_seconds)
