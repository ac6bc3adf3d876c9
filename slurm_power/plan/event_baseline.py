"""The load before an event: means over the last minutes that no event has touched."""

from collections import deque
from dataclasses import dataclass

# Readings are summed into buckets of this length: a baseline is minutes long.
BUCKET_SECONDS = 10.0
# What is older than this is another day's load.
_OLDEST_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A mean load, in watts, and over how many seconds of readings it was measured."""

    watts: float
    seconds: float


@dataclass(slots=True)
class _Bucket:
    at_seconds: float
    watt_seconds: float = 0.0
    seconds: float = 0.0


class RecentLoad:
    """The last ``window_seconds`` of a circuit's readings, and up to a bucket more; a gap is no zero."""

    def __init__(self, window_seconds: float, *, bucket_seconds: float = BUCKET_SECONDS) -> None:
        self._window_seconds = window_seconds
        self._bucket_seconds = bucket_seconds
        self._buckets: deque[_Bucket] = deque()
        self._seconds = 0.0

    def add(self, at_seconds: float, watts: float, seconds: float) -> None:
        """Add a reading that stood for ``seconds``; time that runs back is a clock that was set."""
        if self._buckets and at_seconds < self._buckets[-1].at_seconds:
            self._buckets.clear()
            self._seconds = 0.0
        if not self._buckets or at_seconds - self._buckets[-1].at_seconds >= self._bucket_seconds:
            self._buckets.append(_Bucket(at_seconds))
        bucket = self._buckets[-1]
        bucket.watt_seconds += watts * seconds
        bucket.seconds += seconds
        self._seconds += seconds
        while self._seconds - self._buckets[0].seconds >= self._window_seconds:
            self._seconds -= self._buckets.popleft().seconds

    def mean(self, now_seconds: float) -> Baseline | None:
        """The mean over what is kept and less than a day old; None without any."""
        kept = [one for one in self._buckets if now_seconds - one.at_seconds < _OLDEST_SECONDS]
        seconds = sum(one.seconds for one in kept)
        if seconds <= 0.0:
            return None
        return Baseline(watts=sum(one.watt_seconds for one in kept) / seconds, seconds=seconds)

    def mean_of_last(self, seconds: float, now_seconds: float) -> float | None:
        """The mean over the last ``seconds``, to the length of a bucket; None without any."""
        kept = [one for one in self._buckets if now_seconds - one.at_seconds < seconds]
        total_seconds = sum(one.seconds for one in kept)
        return sum(one.watt_seconds for one in kept) / total_seconds if total_seconds > 0.0 else None

    def range_of_last(self, seconds: float, now_seconds: float) -> tuple[float, float] | None:
        """The lowest and highest mean of the buckets that reach into the last ``seconds``; None without any.

        A bucket counts when half of it is there: one reading may be the notch that a step leaves before a
        battery answers.
        """
        within = [
            one for one in self._buckets if now_seconds - one.at_seconds < seconds + self._bucket_seconds
        ]
        whole = [one for one in within if one.seconds >= 0.5 * self._bucket_seconds] or within
        means = [one.watt_seconds / one.seconds for one in whole if one.seconds > 0.0]
        return (min(means), max(means)) if means else None
