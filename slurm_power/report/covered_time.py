"""When a meter was read, and what energy cost and emitted then: one row an interval, asked about any span."""

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import NamedTuple


class Interval(NamedTuple):
    """Seconds of ``[start, start + length)`` that the meter was read in, and the rates; None: unknown."""

    start_seconds: float
    length_seconds: float
    covered_seconds: float
    price_per_kwh: float | None
    carbon_g_per_kwh: float | None


class CoveredTime:
    """Intervals in rising order that do not overlap; what lies between them was not read."""

    def __init__(self, intervals: list[Interval]) -> None:
        self._intervals = intervals
        self._starts = [one.start_seconds for one in intervals]
        self._sums = [0.0, *accumulate(one.covered_seconds for one in intervals)]

    def seconds(self, start_seconds: float, end_seconds: float) -> float:
        """How much of [start, end) the meter was read in."""
        return max(0.0, self._up_to(end_seconds) - self._up_to(start_seconds))

    def _up_to(self, moment: float) -> float:
        index = bisect_right(self._starts, moment) - 1
        if index < 0:
            return 0.0
        one = self._intervals[index]
        part = min(1.0, (moment - one.start_seconds) / one.length_seconds)
        return self._sums[index] + part * one.covered_seconds

    def mean_rates(self, start_seconds: float, end_seconds: float) -> tuple[float, float]:
        """Mean price and carbon over [start, end), 0.0 where none is known."""
        first = max(0, bisect_right(self._starts, start_seconds) - 1)
        some = self._intervals[first : bisect_left(self._starts, end_seconds)]
        prices = [one.price_per_kwh for one in some if one.price_per_kwh is not None]
        carbon = [one.carbon_g_per_kwh for one in some if one.carbon_g_per_kwh is not None]
        return _mean(prices), _mean(carbon)

    def gaps(
        self, since_seconds: float, until_seconds: float, least_seconds: float
    ) -> list[tuple[float, float]]:
        """Times of at least ``least_seconds`` in which nothing was read."""
        found, end = [], since_seconds
        for one in self._intervals:
            if one.covered_seconds <= 0.0:
                continue
            if one.start_seconds - end >= least_seconds:
                found.append((end, one.start_seconds))
            end = max(end, one.start_seconds + one.length_seconds)
        if until_seconds - end >= least_seconds:
            found.append((end, until_seconds))
        return found


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
