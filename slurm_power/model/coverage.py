"""The share of what should have been read that could be used, over the last ten minutes."""

from collections import deque

COVERAGE_SECONDS = 600.0
_BUCKET_SECONDS = 10.0


class Coverage:
    """One source. Looks are summed up by ten seconds, so that memory does not grow with their number."""

    def __init__(self) -> None:
        self._buckets: deque[list[float]] = deque(maxlen=int(COVERAGE_SECONDS / _BUCKET_SECONDS) + 1)

    def add(self, usable_ratio: float, now_seconds: float) -> None:
        """A look found this share of it usable, 0 to 1. Times are the caller's monotonic seconds."""
        bucket = now_seconds // _BUCKET_SECONDS
        if not self._buckets or self._buckets[-1][0] != bucket:
            self._buckets.append([bucket, 0.0, 0.0])
        self._buckets[-1][1] += usable_ratio
        self._buckets[-1][2] += 1.0

    def ratio(self, now_seconds: float) -> float | None:
        """The mean share; None if nobody has looked in this time."""
        since = (now_seconds - COVERAGE_SECONDS) // _BUCKET_SECONDS
        recent = [bucket for bucket in self._buckets if bucket[0] >= since]
        looks = sum(bucket[2] for bucket in recent)
        return sum(bucket[1] for bucket in recent) / looks if looks else None
