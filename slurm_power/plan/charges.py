"""The parts of a month's bill: which prices and which demand charges hold at which of its steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from slurm_power.model.billing_rules import BillingRules, DemandRate, DemandTier, EnergyRate
from slurm_power.plan.local_calendar import LocalCalendar, LocalTimes, Steps, month_days

Column = NDArray[np.float64]
# What each demand charge measured in the months before, by its name, oldest first.
EarlierPeaks = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DemandCharge:
    """A charge on the highest demand within ``steps``, shape (n,), of one billing period.

    What is billed is the peak or ``floor_watts`` (a ratchet), whichever is more. ``price_per_kw`` is what a
    further kilowatt costs in the last tier; ``cost`` counts all tiers.
    """

    name: str
    price_per_kw: float
    steps: Steps
    floor_watts: float = 0.0
    tiers: tuple[DemandTier, ...] = ()

    def cost(self, peak_watts: float) -> float:
        """What a month with that peak is charged."""
        tiers = self.tiers or (DemandTier(price_per_kw=self.price_per_kw),)
        return sum(
            kilowatts * tier.price_per_kw for kilowatts, tier in _blocks(self.billed_watts(peak_watts), tiers)
        )

    def billed_watts(self, peak_watts: float) -> float:
        """The watts that are paid for with that peak: never below zero or the ratchet."""
        return max(peak_watts, self.floor_watts, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Month:
    """The steps of one billing period; ``share`` of its charges counts."""

    calendar: LocalCalendar
    step_seconds: float
    year: int
    number: int
    share: float

    @classmethod
    def of(cls, local_times: LocalTimes, step_seconds: float, *, pro_rata: bool) -> "Month":
        """Check that the steps are of one month; raises ValueError."""
        calendar = LocalCalendar.of(local_times)
        if not len(calendar) or not step_seconds > 0.0:
            raise ValueError("a billing period needs steps, and a step has to last")
        year, number = int(calendar.year[0]), int(calendar.month[0])
        if not ((calendar.year == year) & (calendar.month == number)).all():
            raise ValueError("a billing period is one calendar month; these steps are of several")
        share = _month_share(calendar, step_seconds) if pro_rata else 1.0
        return cls(calendar=calendar, step_seconds=step_seconds, year=year, number=number, share=share)

    @property
    def days(self) -> int:
        """How many days the calendar month has."""
        return len(month_days(self.year, self.number))

    def column(self, values: Column, name: str) -> Column:
        """Check that there is one finite number for each step; raises ValueError that names them."""
        column = np.asarray(values, dtype=np.float64)
        if column.shape != (len(self.calendar),) or not np.isfinite(column).all():
            raise ValueError(f"{name}: {len(self.calendar)} finite numbers are needed, one for each step")
        return column

    def fixed(self, rules: BillingRules) -> float:
        """The charges that nobody can influence."""
        return self.share * (rules.fixed_per_month + rules.fixed_per_day * self.days)


def _month_share(calendar: LocalCalendar, step_seconds: float) -> float:
    """Which share of the month's days the steps are; all of them also where the clock leaves out an hour."""
    month = calendar.local[0].astype("datetime64[M]")
    start, end = (edge.astype("datetime64[s]").astype(np.int64) for edge in (month, month + 1))
    first, last = calendar.local[[0, -1]].astype(np.int64)
    if first <= start and last + step_seconds >= end:
        return 1.0
    return min(1.0, float(len(calendar) * step_seconds / (end - start)))


def _blocks(watts: float, tiers: Sequence[DemandTier]) -> list[tuple[float, DemandTier]]:
    """How many kilowatts fall into each tier."""
    blocks, lower, kilowatts = [], 0.0, watts / 1000.0
    for tier in tiers:
        upper = kilowatts if tier.up_to_kw is None else min(kilowatts, tier.up_to_kw)
        blocks.append((max(0.0, upper - lower), tier))
        lower = max(lower, upper)
    return blocks


def rate_of_steps(rules: BillingRules, month: Month) -> NDArray[np.int64]:
    """Which energy rate each step is in; the first that holds."""
    if not rules.energy:
        raise ValueError(
            f"the tariff {rules.name} has no energy prices; they have to come from a file of prices"
        )
    rate_of = np.full(len(month.calendar), -1, dtype=np.int64)
    for index in range(len(rules.energy) - 1, -1, -1):
        rate_of[month.calendar.within(rules.energy[index].windows)] = index
    if (rate_of < 0).any():
        at = month.calendar.local[int(np.argmax(rate_of < 0))]
        raise ValueError(f"the tariff {rules.name} has no energy price at {at}")
    return rate_of


def tier_shares(rate: EnergyRate, month: Month, import_kwh: float | None) -> list[float]:
    """Which share of the month's import each tier takes; with None all of it is in the last."""
    if import_kwh is None:
        return [0.0] * (len(rate.tiers) - 1) + [1.0]
    shares: list[float] = []
    lower = 0.0
    for tier in rate.tiers:
        days = month.days if tier.daily else 1
        bound = np.inf if tier.up_to_kwh is None else tier.up_to_kwh * days * month.share
        upper = min(import_kwh, bound)
        shares.append(max(0.0, upper - lower) / import_kwh if import_kwh > 0.0 else float(not shares))
        lower = max(lower, upper)
    return shares


def import_prices(rules: BillingRules, month: Month, import_kwh: float | None) -> Column:
    """What an imported kilowatt-hour costs at each step, with the tiers in the mix of that much import."""
    rate_of = rate_of_steps(rules, month)
    mixes = [
        sum(
            share * tier.price_per_kwh
            for share, tier in zip(tier_shares(rate, month, import_kwh), rate.tiers, strict=True)
        )
        for rate in rules.energy
    ]
    return np.array(mixes)[rate_of] + rules.energy_adder_per_kwh[month.number - 1]


def sell_prices(rules: BillingRules, month: Month, prices: Column | None) -> Column:
    """What an exported kilowatt-hour earns at each step."""
    paid = np.zeros(len(month.calendar))
    if rules.net_metering and prices is not None:
        paid += prices
    if not rules.energy:
        return paid
    rate_of = rate_of_steps(rules, month)
    for index, rate in enumerate(rules.energy):
        if rate.sell_price_per_kwh is not None:
            paid[rate_of == index] = rate.sell_price_per_kwh
        elif rules.net_metering and prices is None:
            adder = rules.energy_adder_per_kwh[month.number - 1]
            paid[rate_of == index] = rate.tiers[0].price_per_kwh + adder
    return paid


def demand_charges(rules: BillingRules, month: Month, earlier: EarlierPeaks) -> tuple[DemandCharge, ...]:
    """The charges that the month knows; prices in the shares of the month's days that they are in season."""
    charges = []
    for rate in rules.demand:
        days = month_days(month.year, month.number)
        in_season = sum(any(window.in_season(day) for window in rate.windows) for day in days)
        share = month.share * in_season / len(days)
        steps = month.calendar.within(rate.windows)
        floor = _ratchet_watts(rate, month, earlier) if in_season else 0.0
        if not steps.any() and not floor:
            continue
        tiers = tuple(
            DemandTier(price_per_kw=share * tier.price_per_kw, up_to_kw=tier.up_to_kw) for tier in rate.tiers
        )
        charge = DemandCharge(
            name=rate.name, price_per_kw=tiers[-1].price_per_kw, steps=steps, floor_watts=floor, tiers=tiers
        )
        charges.append(charge)
    return tuple(charges)


def _ratchet_watts(rate: DemandRate, month: Month, earlier: EarlierPeaks) -> float:
    if not rate.ratchet_ratio or not rate.ratchet_months:
        return 0.0
    names = rate.ratchet_on or (rate.name,)
    peaks = [peak for name in names for peak in list(earlier.get(name, ()))[-rate.ratchet_months :]]
    return rate.ratchet_ratio[month.number - 1] * max(peaks, default=0.0)


def coincident_steps(month: Month, hours: Sequence[datetime]) -> Steps:
    """Which steps begin in one of the hours."""
    starts = np.array(hours, dtype="datetime64[s]")
    hour_of = month.calendar.local[:, None] - starts[None, :]
    inside = (hour_of >= np.timedelta64(0, "s")) & (hour_of < np.timedelta64(3600, "s"))
    return np.asarray(inside.any(axis=1), dtype=bool)


def demand_intervals(
    calendar: LocalCalendar, import_watts: Column, step_seconds: float, interval_seconds: float
) -> tuple[Column, NDArray[np.int64]]:
    """The mean of each demand interval, and the step that each begins with.

    Intervals begin at whole multiples of their length after midnight. Steps as long or longer stay as they
    are; a gap or a clock that is put back ends an interval.
    """
    if step_seconds >= interval_seconds:
        return import_watts, np.arange(len(import_watts))
    slot = np.floor(calendar.minute * 60.0 / interval_seconds)
    elapsed = np.diff(calendar.local).astype(np.int64)
    breaks = (np.diff(slot) != 0) | (elapsed <= 0) | (elapsed >= interval_seconds)
    first = np.concatenate(([0], np.flatnonzero(breaks) + 1))
    counts = np.diff(np.append(first, len(import_watts)))
    return np.add.reduceat(import_watts, first) / counts, first
