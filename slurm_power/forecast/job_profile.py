"""The draw of one job while it runs, tick by tick, in a few hundred bytes however long it runs.

Time under a cap of ours is left out. The alternative, to fill it with the draw from before the cap, would
count one moment's reading as hours of the job, and would take the swing away: a job that is capped half its
life would be remembered as a calm one.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from slurm_power.model.expected_power import PowerShape

# The 95th percentile is read from a histogram of this width, so it is never off by more than one bin.
BIN_WATTS = 25.0
_MOST_BINS = 200
# A level counts as held when it is the mean of so long: shorter peaks are swings, and no start step.
_HELD_SECONDS = 5.0
# The start step is looked for in this time; what comes later is the job's own course.
START_SECONDS = 300.0
_RAMPED_RATIO = 0.9
_P95 = 0.95
# A minute's swing counts when so much of the minute was seen.
_SEEN_OF_MINUTE_SECONDS = 45.0
# Between ticks further apart than this something was missed: what was held before is no longer known.
_GAP_SECONDS = 4.0
_VERSION = 1


@dataclass(slots=True)
class _Minute:
    """The minute that is being watched."""

    number: int = -1
    seconds: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf


@dataclass(slots=True)
class JobProfile:
    """Learns one job's power; ``idle_watts`` is what one of its GPUs draws without it."""

    idle_watts: float
    seconds: float = 0.0
    capped_seconds: float = 0.0
    _watt_seconds: float = 0.0
    _bins: dict[int, float] = field(default_factory=dict)
    _held: deque[tuple[float, float, float]] = field(default_factory=deque)
    _held_seconds: float = 0.0
    _held_joules: float = 0.0
    _highest_held: float = 0.0
    _start_held: float = 0.0
    # When each bin's level was first held, in seconds since the start.
    _reached: dict[int, float] = field(default_factory=dict)
    _minute: _Minute = field(default_factory=_Minute)
    _swings: float = 0.0
    _minutes: int = 0
    _first_swing: float = 0.0

    def tick(self, since_start: float, watts: float, *, seconds: float = 1.0, capped: bool = False) -> None:
        """The mean draw per GPU over the ``seconds`` before ``since_start``; nonsense is left out."""
        if not (
            math.isfinite(watts) and math.isfinite(since_start) and watts >= 0.0 and 0.0 < seconds < 60.0
        ):
            return
        if capped:
            self.capped_seconds += seconds
            self._let_go()
            return
        self.seconds += seconds
        self._watt_seconds += watts * seconds
        number = min(int(watts / BIN_WATTS), _MOST_BINS - 1)
        self._bins[number] = self._bins.get(number, 0.0) + seconds
        self._hold(since_start, watts, seconds)
        self._swing(since_start, watts, seconds)

    def _hold(self, since_start: float, watts: float, seconds: float) -> None:
        """Note which levels have been held, and since when."""
        held = self._held
        if held and not 0.0 <= since_start - held[-1][0] <= _GAP_SECONDS:
            self._let_go()
        held.append((since_start, watts, seconds))
        span, joules = self._held_seconds + seconds, self._held_joules + watts * seconds
        while span - held[0][2] >= _HELD_SECONDS - 1e-6:
            _, old_watts, old_seconds = held.popleft()
            span, joules = span - old_seconds, joules - old_watts * old_seconds
        self._held_seconds, self._held_joules = span, joules
        if span < _HELD_SECONDS - 1e-6:
            return
        level = max(0.0, joules) / span
        if since_start <= START_SECONDS:
            self._start_held = max(self._start_held, level)
        if level > self._highest_held:
            first = int(self._highest_held / BIN_WATTS) + 1 if self._reached else 0
            for number in range(first, min(int(level / BIN_WATTS), _MOST_BINS - 1) + 1):
                self._reached[number] = max(0.0, since_start - span)
            self._highest_held = level

    def _let_go(self) -> None:
        self._held.clear()
        self._held_seconds = self._held_joules = 0.0

    def _swing(self, since_start: float, watts: float, seconds: float) -> None:
        number = int(since_start // 60.0)
        if number != self._minute.number:
            self._end_minute()
            self._minute = _Minute(number)
        minute = self._minute
        minute.seconds += seconds
        minute.lowest, minute.highest = min(minute.lowest, watts), max(minute.highest, watts)

    def _end_minute(self) -> None:
        """The first minute holds the start, which is no swing: it counts only while there is no other."""
        minute = self._minute
        if minute.seconds < _SEEN_OF_MINUTE_SECONDS:
            return
        if minute.number == 0:
            self._first_swing = minute.highest - minute.lowest
        else:
            self._swings += minute.highest - minute.lowest
            self._minutes += 1

    def shape(self) -> PowerShape | None:
        """What has been seen so far; None before anything was."""
        if self.seconds <= 0.0:
            return None
        mean = self._watt_seconds / self.seconds
        start = self._start_held or mean
        ramped = int(_RAMPED_RATIO * mean / BIN_WATTS)
        spread = self._minute.highest - self._minute.lowest if self._minute.seconds else 0.0
        return PowerShape(
            mean_watts=mean,
            p95_watts=max(mean, self._quantile(_P95)),
            start_step_watts=max(0.0, start - self.idle_watts),
            ramp_seconds=self._reached.get(ramped, 0.0),
            swing_watts=self._swings / self._minutes if self._minutes else (self._first_swing or spread),
        )

    def _quantile(self, share: float) -> float:
        """Linear within the bin, so that a level that never moves is off by half a bin at most."""
        left = share * self.seconds
        for number in sorted(self._bins):
            there = self._bins[number]
            if left <= there:
                return BIN_WATTS * (number + left / there)
            left -= there
        return BIN_WATTS * (max(self._bins) + 1)

    def to_json(self) -> dict[str, Any]:
        """For the store: what a restart must not forget. The few seconds of the held level are not in it."""
        return {
            "version": _VERSION,
            "idle_watts": self.idle_watts,
            "seconds": round(self.seconds, 1),
            "capped_seconds": round(self.capped_seconds, 1),
            "watt_seconds": round(self._watt_seconds, 1),
            "bins": {str(number): round(seconds, 1) for number, seconds in self._bins.items()},
            "highest_held": self._highest_held,
            "start_held": self._start_held,
            "reached": {str(number): round(seconds, 1) for number, seconds in self._reached.items()},
            "swings": [self._swings, self._minutes, self._first_swing],
        }

    @classmethod
    def from_json(cls, value: object) -> "JobProfile":
        """Read one back; raises ValueError for what is none."""
        try:
            assert isinstance(value, dict)
            if value["version"] != _VERSION:
                raise ValueError(f"a job's profile of version {value['version']!r}")
            swings, minutes, first = value["swings"]
            return cls(
                idle_watts=_amount(value["idle_watts"]),
                seconds=_amount(value["seconds"]),
                capped_seconds=_amount(value["capped_seconds"]),
                _watt_seconds=_amount(value["watt_seconds"]),
                _bins=_numbered(value["bins"]),
                _highest_held=_amount(value["highest_held"]),
                _start_held=_amount(value["start_held"]),
                _reached=_numbered(value["reached"]),
                _swings=_amount(swings),
                _minutes=int(_amount(minutes)),
                _first_swing=_amount(first),
            )
        except (AssertionError, KeyError, TypeError) as error:
            raise ValueError(f"no profile of a job: {error!r}") from None


def _amount(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    if not math.isfinite(value) or value < 0.0:
        raise ValueError(f"{value!r} is no amount")
    return float(value)


def _numbered(value: object) -> dict[int, float]:
    if not isinstance(value, dict) or len(value) > _MOST_BINS:
        raise TypeError(f"{value!r:.60} is no histogram")
    found = {int(number): _amount(seconds) for number, seconds in value.items()}
    if any(not 0 <= number < _MOST_BINS for number in found):
        raise ValueError("a histogram with a bin outside it")
    return found
