"""The local clock of a series of steps as columns, so that windows are looked up for all steps at once."""

from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from slurm_power.model.billing_rules import MonthDay, Window

Steps = NDArray[np.bool_]

# Clocks are put forward and back at multiples of this in UTC, in every zone of today.
_CLOCK_CHANGE_SECONDS = 900
_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True, eq=False)
class LocalCalendar:
    """Where each of n steps begins by the local clock: ``local``, naive datetime64[s] (n,), and its parts.

    ``weekday`` is 0 for Monday, ``minute`` of the day is a float. An hour that comes twice has the same clock
    twice; one that is left out is not there.
    """

    local: "NDArray[np.datetime64]"
    year: "NDArray[np.int64]"
    month: "NDArray[np.int64]"
    day: "NDArray[np.int64]"
    weekday: "NDArray[np.int64]"
    minute: "NDArray[np.float64]"

    @classmethod
    def of(cls, local_times: "LocalTimes") -> "LocalCalendar":
        """Take the times' own clock: aware datetimes are not moved to another zone."""
        if isinstance(local_times, LocalCalendar):
            return local_times
        if isinstance(local_times, np.ndarray):
            local = local_times.astype("datetime64[s]")
        else:
            local = np.array([at.replace(tzinfo=None) for at in local_times], dtype="datetime64[s]")
        days = local.astype("datetime64[D]")
        months = days.astype("datetime64[M]")
        month_number = months.astype(np.int64)
        return cls(
            local=local,
            year=month_number // 12 + 1970,
            month=month_number % 12 + 1,
            day=(days - months).astype(np.int64) + 1,
            weekday=(days.astype(np.int64) + 3) % 7,  # 1970-01-01 was a Thursday
            minute=(local - days).astype(np.int64) / 60.0,
        )

    @classmethod
    def from_epoch(cls, times_seconds: NDArray[np.float64], zone: tzinfo = UTC) -> "LocalCalendar":
        """Read Unix times by the clock of a zone, with its summer time."""
        whole = np.floor(times_seconds).astype(np.int64)
        return cls.of((whole + _offsets(whole, zone)).astype("datetime64[s]"))

    def __len__(self) -> int:
        return len(self.local)

    def __getitem__(self, steps: slice) -> "LocalCalendar":
        return LocalCalendar(
            local=self.local[steps],
            year=self.year[steps],
            month=self.month[steps],
            day=self.day[steps],
            weekday=self.weekday[steps],
            minute=self.minute[steps],
        )

    def months(self) -> list[tuple[str, slice]]:
        """The calendar months in order, as ("2024-02", steps); the steps have to be in order of time."""
        if not len(self):
            return []
        number = self.year * 12 + self.month
        cuts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(self)]
        return [
            (f"{self.year[first]:04}-{self.month[first]:02}", slice(first, end))
            for first, end in pairwise(cuts)
        ]

    def within(self, windows: Sequence[Window]) -> Steps:
        """Which steps begin in one of the windows, shape (n,)."""
        inside = np.zeros(len(self), dtype=bool)
        there = set(np.unique(self.month).tolist())
        day_of_year = self.month * 100 + self.day
        for window in windows:
            if window.months.isdisjoint(there):
                continue
            inside |= (
                _table(window.months, 13)[self.month]
                & _table(window.days, 7)[self.weekday]
                & (self.minute >= window.from_minute)
                & (self.minute < window.to_minute)
                & _in_season(day_of_year, window)
            )
        return inside


LocalTimes = LocalCalendar | NDArray[np.datetime64] | Sequence[datetime]


def month_days(year: int, month: int) -> list[MonthDay]:
    """All days of a calendar month."""
    return [(month, day) for day in range(1, monthrange(year, month)[1] + 1)]


def _table(members: frozenset[int], size: int) -> Steps:
    table = np.zeros(size, dtype=bool)
    table[sorted(members)] = True
    return table


def _in_season(day_of_year: NDArray[np.int64], window: Window) -> Steps:
    first, last = (month * 100 + day for month, day in (window.first_day, window.last_day))
    if first <= last:
        return (day_of_year >= first) & (day_of_year <= last)
    return (day_of_year >= first) | (day_of_year <= last)


def _offsets(whole: NDArray[np.int64], zone: tzinfo) -> NDArray[np.int64]:
    """Seconds ahead of UTC at each moment: asked once a day, and each quarter of an hour where it changes."""

    def offset(at: int) -> int:
        there = datetime.fromtimestamp(at, zone).utcoffset()
        return 0 if there is None else round(there.total_seconds())

    days, day_of = np.unique(whole // _DAY_SECONDS, return_inverse=True)
    starts = [offset(day * _DAY_SECONDS) for day in days.tolist()]
    ends = [offset((day + 1) * _DAY_SECONDS) for day in days.tolist()]
    offsets = np.array(starts, dtype=np.int64)[day_of]
    for index in np.flatnonzero(np.array(starts) != np.array(ends)).tolist():
        at = np.flatnonzero(day_of == index)
        quarters, quarter_of = np.unique(whole[at] // _CLOCK_CHANGE_SECONDS, return_inverse=True)
        exact = [offset(quarter * _CLOCK_CHANGE_SECONDS) for quarter in quarters.tolist()]
        offsets[at] = np.array(exact, dtype=np.int64)[quarter_of]
    return offsets
