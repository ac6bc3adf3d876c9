"""What a month of electricity is billed by: energy in tiers, demand charges by their hours, fixed charges.

One form for all tariff files. Hours are of the site's clock; what is billed is a calendar month.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

DAY_MINUTES = 1440
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
ALL_MONTHS = frozenset(range(1, 13))
ALL_DAYS = frozenset(range(7))

MonthDay = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Some hours of some weekdays (0 is Monday) of a part of the year, in minutes of the day, [from, to).

    The part of the year is the months, and in them the days from ``first_day`` to ``last_day``, both
    included, which may run over New Year.
    """

    months: frozenset[int] = ALL_MONTHS
    first_day: MonthDay = (1, 1)
    last_day: MonthDay = (12, 31)
    days: frozenset[int] = ALL_DAYS
    from_minute: int = 0
    to_minute: int = DAY_MINUTES

    def in_season(self, day: MonthDay) -> bool:
        """Whether the day of the year is in it, whatever its weekday."""
        if day[0] not in self.months:
            return False
        if self.first_day <= self.last_day:
            return self.first_day <= day <= self.last_day
        return day >= self.first_day or day <= self.last_day

    def on_day(self, local: datetime) -> bool:
        """Whether some of its hours are on that day."""
        return local.weekday() in self.days and self.in_season((local.month, local.day))

    def holds(self, local: datetime) -> bool:
        """Whether a local moment is in it."""
        minute = local.hour * 60 + local.minute + local.second / 60
        return self.from_minute <= minute < self.to_minute and self.on_day(local)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyTier:
    """A price for a month's kilowatt-hours up to a bound; None: no end; ``daily``: times its days."""

    price_per_kwh: float
    up_to_kwh: float | None = None
    daily: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyRate:
    """What energy costs within its windows; tiers in rising order, the last without an end.

    The bounds are of the month's whole import, and each hour pays the tiers in the shares of the whole month:
    so no hour is dearer for being late in it. ``sell_price_per_kwh`` is paid for exports; None: nothing.
    """

    name: str
    windows: tuple[Window, ...]
    tiers: tuple[EnergyTier, ...]
    sell_price_per_kwh: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandTier:
    """A price for the kilowatts of the peak up to a bound; None: no end."""

    price_per_kw: float
    up_to_kw: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandRate:
    """A charge on the highest demand of the month within its windows; tiers in rising order.

    What is billed is at least ``ratchet_ratio`` (one for each month, January first; empty: none) of the
    highest peak within the last ``ratchet_months`` months, its own or, where named, those of the charges in
    ``ratchet_on``.
    """

    name: str
    windows: tuple[Window, ...]
    tiers: tuple[DemandTier, ...]
    ratchet_ratio: tuple[float, ...] = ()
    ratchet_months: int = 0
    ratchet_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CoincidentRate:
    """A charge on a month's mean demand in the named hours: local starts, without a zone, an hour each.

    ``windows``: where hours that nobody has named yet can be; empty: anywhere.
    """

    name: str
    price_per_kw: float
    hours: tuple[datetime, ...]
    windows: tuple[Window, ...] = ()

    def is_open(self, year: int, month: int) -> bool:
        """Whether hours of that month may still be named: they are in order, so a later one closes it."""
        if any((hour.year, hour.month) >= (year, month) for hour in self.hours):
            return False
        days = (date(year, month, 1) + timedelta(days=number) for number in range(31))
        windows = self.windows or (Window(),)
        return any(
            window.in_season((day.month, day.day)) for day in days if day.month == month for window in windows
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingRules:
    """A whole tariff. Without ``energy`` it says nothing of energy, and prices have to come from elsewhere.

    Where windows of energy overlap the first counts; demand charges add up. Exports earn the price of their
    hour's first tier under ``net_metering``, unless a rate says its own. ``energy_adder_per_kwh`` (one for
    each month) comes on top of every tier.
    """

    name: str
    energy: tuple[EnergyRate, ...] = ()
    demand: tuple[DemandRate, ...] = ()
    coincident: tuple[CoincidentRate, ...] = ()
    energy_adder_per_kwh: tuple[float, ...] = (0.0,) * 12
    fixed_per_month: float = 0.0
    fixed_per_day: float = 0.0
    minimum_per_month: float = 0.0
    minimum_per_day: float = 0.0
    demand_interval_seconds: float = 900.0
    net_metering: bool = False

    def demand_rates(self, local: datetime) -> Iterator[DemandRate]:
        """The charges that a peak at a local moment would raise."""
        for rate in self.demand:
            if any(window.holds(local) for window in rate.windows):
                yield rate
