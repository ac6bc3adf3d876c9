"""Stored series: how fine they are read, and what one point of them says."""

from enum import IntEnum
from typing import NamedTuple


class Resolution(IntEnum):
    """How fine a series is read, in seconds per point; RAW gives every tick as it was written."""

    RAW = 0
    MINUTE = 60
    QUARTER_HOUR = 900


class Point(NamedTuple):
    """One point of a series. It speaks for the interval [at, at + resolution); a raw one for its moment.

    ``mean``, ``least`` and ``most`` are None where nothing was known; ``coverage_ratio`` is the share of
    the interval with a known value. ``at_seconds`` is Unix time.
    """

    at_seconds: float
    mean: float | None
    least: float | None
    most: float | None
    coverage_ratio: float
