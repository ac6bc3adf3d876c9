"""A time-of-use tariff: what a kilowatt-hour and a kilowatt of the peak cost, by season, weekday and hour."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

DAY_MINUTES = 1440
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

MonthDay = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What holds at one moment. Prices may be negative; ``demand_price_per_kw`` None: no demand charge."""

    price_per_kwh: float | None
    demand_price_per_kw: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Some hours of some weekdays (0 is Monday), in minutes of the local day, [from, to)."""

    days: frozenset[int]
    from_minute: int
    to_minute: int
    rates: Rates

    def holds(self, weekday: int, minute: float) -> bool:
        """Whether it is in force on that day at that minute."""
        return weekday in self.days and self.from_minute <= minute < self.to_minute


@dataclass(frozen=True, slots=True, kw_only=True)
class Season:
    """A part of each year, from its first to its last day, both included; it may run over New Year."""

    name: str
    first_day: MonthDay
    last_day: MonthDay
    periods: tuple[Period, ...]

    def holds(self, day: MonthDay) -> bool:
        """Whether the day is in it."""
        if self.first_day <= self.last_day:
            return self.first_day <= day <= self.last_day
        return day >= self.first_day or day <= self.last_day


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """All seasons. Local time of the site decides which period is in force."""

    name: str
    seasons: tuple[Season, ...]

    def periods(self, local: datetime) -> Iterator[Period]:
        """All periods of the seasons that the local day is in, whatever their hours."""
        for season in self.seasons:
            if season.holds((local.month, local.day)):
                yield from season.periods

    def rates(self, local: datetime) -> Rates | None:
        """What holds at a local moment; None where no period covers it."""
        minute = local.hour * 60 + local.minute + local.second / 60
        for period in self.periods(local):
            if period.holds(local.weekday(), minute):
                return period.rates
        return None

    def seconds_to_next_edge(self, local: datetime) -> float:
        """How long, by the local clock, until a period of that day begins or ends, or the day is over."""
        second = local.hour * 3600 + local.minute * 60 + local.second + local.microsecond / 1e6
        edges = {DAY_MINUTES} | {
            edge for period in self.periods(local) for edge in (period.from_minute, period.to_minute)
        }
        return min(edge * 60 - second for edge in edges if edge * 60 > second)
