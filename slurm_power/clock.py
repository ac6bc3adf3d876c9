"""The only place that reads a clock: wall time for records, monotonic time for ages and time-outs."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Return the wall time, aware, in UTC."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Return monotonic seconds; only differences mean anything, and only within one boot."""
    return time.monotonic()


def boottime() -> float:
    """Return seconds since this machine has started, sleep included: the same for all its processes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
