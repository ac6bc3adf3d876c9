"""A time-of-use tariff: what a kilowatt-hour and a kilowatt of the peak cost, by season, weekday and hour."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from slurm_power.model.billing_rules import (
    DAY_MINUTES,
    DemandRate,
    DemandTier,
    EnergyRate,
    EnergyTier,
    MonthDay,
    Window,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What holds at one moment. Prices may be negative; ``demand_price_per_kw`` None: no demand charge.

    With ``energy_tiers`` the price is the last tier's, which a site reaches that uses much.
    """

    price_per_kwh: float | None
    demand_price_per_kw: float | None = None
    energy_tiers: tuple[EnergyTier, ...] = ()
    sell_price_per_kwh: float | None = None


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
    """All seasons, and the demand charges that have hours of their own. Local time of the site decides."""

    name: str
    seasons: tuple[Season, ...]
    demand: tuple[DemandRate, ...] = ()

    def periods(self, local: datetime) -> Iterator[Period]:
        """All periods of the seasons that the local day is in, whatever their hours."""
        for season in self.seasons:
            if season.holds((local.month, local.day)):
                yield from season.periods

    def rates(self, local: datetime) -> Rates | None:
        """What holds at a local moment; None where nothing covers it. Demand charges add up."""
        minute = local.hour * 60 + local.minute + local.second / 60
        periods = (period for period in self.periods(local) if period.holds(local.weekday(), minute))
        found = next((period.rates for period in periods), None)
        charges = [
            rate.tiers[-1].price_per_kw
            for rate in self.demand
            if any(window.holds(local) for window in rate.windows)
        ]
        if not charges:
            return found
        known = Rates(price_per_kwh=None) if found is None else found
        return replace(known, demand_price_per_kw=sum(charges, known.demand_price_per_kw or 0.0))

    def seconds_to_next_edge(self, local: datetime) -> float:
        """How long, by the local clock, until something of that day begins or ends, or the day is over."""
        second = local.hour * 3600 + local.minute * 60 + local.second + local.microsecond / 1e6
        edges = {DAY_MINUTES}
        for period in self.periods(local):
            edges |= {period.from_minute, period.to_minute}
        for window in (window for rate in self.demand for window in rate.windows if window.on_day(local)):
            edges |= {window.from_minute, window.to_minute}
        return min(edge * 60 - second for edge in edges if edge * 60 > second)

    def energy_rates(self) -> tuple[EnergyRate, ...]:
        """The periods as they are billed: in each season those of one price are one rate."""
        windows: dict[tuple[str, tuple[EnergyTier, ...], float | None], list[Window]] = {}
        for season in self.seasons:
            for period in season.periods:
                rates = period.rates
                if rates.price_per_kwh is not None:
                    tiers = rates.energy_tiers or (EnergyTier(price_per_kwh=rates.price_per_kwh),)
                    key = (season.name, tiers, rates.sell_price_per_kwh)
                    windows.setdefault(key, []).append(_window(season, period))
        return tuple(
            EnergyRate(
                name=f"{name} at {tiers[0].price_per_kwh:g}",
                windows=tuple(found),
                tiers=tiers,
                sell_price_per_kwh=sell,
            )
            for (name, tiers, sell), found in windows.items()
        )

    def demand_rates(self) -> tuple[DemandRate, ...]:
        """The charges as they are billed: hours of one price are one charge, so no peak is paid twice."""
        windows: dict[float, list[Window]] = {}
        for season in self.seasons:
            for period in season.periods:
                price = period.rates.demand_price_per_kw
                if price is not None:
                    windows.setdefault(price, []).append(_window(season, period))
        by_price = tuple(
            DemandRate(
                name="demand" if len(windows) == 1 else f"demand at {price:g}",
                windows=tuple(found),
                tiers=(DemandTier(price_per_kw=price),),
            )
            for price, found in windows.items()
        )
        return by_price + self.demand


def _window(season: Season, period: Period) -> Window:
    return Window(
        first_day=season.first_day,
        last_day=season.last_day,
        days=period.days,
        from_minute=period.from_minute,
        to_minute=period.to_minute,
    )
