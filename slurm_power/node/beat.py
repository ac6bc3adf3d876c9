"""When the GPUs are read next: on a steady beat, faster for a while when asked, seldom while nothing runs."""

import math

# How often a node without jobs and leases opens the driver for a look.
RESTING_SECONDS = 10.0


class Beat:
    """The rhythm of sampling; times are monotonic seconds. Without jobs and leases it rests after a while."""

    def __init__(self, sample_seconds: float, rest_after_seconds: float) -> None:
        self._sample_seconds = sample_seconds
        self._rest_after_seconds = rest_after_seconds
        self._fast_seconds = sample_seconds
        self._fast_until_seconds = -math.inf
        self._busy_at_seconds: float | None = None
        self.next_seconds = 0.0

    def hasten(self, sample_seconds: float, for_seconds: float, now_seconds: float) -> None:
        """Sample at another interval for a while; a later wish replaces an earlier one."""
        self._fast_seconds = sample_seconds
        self._fast_until_seconds = now_seconds + for_seconds
        self.next_seconds = min(self.next_seconds, now_seconds)

    def interval_seconds(self, now_seconds: float) -> float:
        """The interval in force."""
        if now_seconds < self._fast_until_seconds:
            return self._fast_seconds
        if self.resting(now_seconds):
            return max(self._sample_seconds, RESTING_SECONDS)
        return self._sample_seconds

    def look(self, now_seconds: float, *, busy: bool) -> None:
        """Note whether the node has jobs or leases now; one that wakes up is sampled at once."""
        was_resting = self.resting(now_seconds)
        if busy or self._busy_at_seconds is None or now_seconds < self._fast_until_seconds:
            self._busy_at_seconds = now_seconds
        if was_resting and not self.resting(now_seconds):
            self.next_seconds = min(self.next_seconds, now_seconds)

    def resting(self, now_seconds: float) -> bool:
        """Whether nothing has run for so long that the driver is let go of between samples."""
        at_seconds = self._busy_at_seconds
        return at_seconds is not None and now_seconds - at_seconds >= self._rest_after_seconds

    def due(self, now_seconds: float) -> bool:
        """Whether a sample is due; if so the next one is planned, on the same beat unless that was missed."""
        if now_seconds < self.next_seconds:
            return False
        interval_seconds = self.interval_seconds(now_seconds)
        planned_seconds = self.next_seconds + interval_seconds
        self.next_seconds = (
            planned_seconds if planned_seconds > now_seconds else now_seconds + interval_seconds
        )
        return True
