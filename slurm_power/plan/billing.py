"""What electricity costs: the prices that a dispatch has to weigh in a month, and the exact bill of one.

A billing period is a calendar month of the clock that the times are given in. A step is priced by the window
that it begins in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from slurm_power.model.billing_rules import BillingRules
from slurm_power.model.units import JOULES_PER_KWH
from slurm_power.plan.charges import (
    Column,
    DemandCharge,
    EarlierPeaks,
    Month,
    coincident_steps,
    demand_charges,
    demand_intervals,
    import_prices,
    rate_of_steps,
    sell_prices,
    tier_shares,
)
from slurm_power.plan.local_calendar import LocalCalendar, LocalTimes

__all__ = [
    "Bill",
    "BillLine",
    "Column",
    "DemandCharge",
    "EarlierPeaks",
    "PeriodTerms",
    "bill",
    "monthly_bills",
    "period_terms",
]

_HOUR_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PeriodTerms:
    """The prices of one billing period, for whoever decides when to draw.

    ``energy_price_per_kwh``, shape (n,), is for imports: where there are tiers it is the mix that
    ``expected_import_kwh`` pays, without one the last tier, which a large site is in. Charges on announced
    coincident hours are in it: within these hours each kilowatt-hour raises their mean.
    ``sell_price_per_kwh``, shape (n,), is earned by exports. Nobody can influence ``fixed``; a minimum
    bill is not in the terms.
    """

    energy_price_per_kwh: Column
    sell_price_per_kwh: Column
    demand: tuple[DemandCharge, ...]
    fixed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BillLine:
    """One line: ``amount`` is ``quantity`` of ``unit`` at ``price``; ``part`` is energy, demand or fixed."""

    part: str
    name: str
    quantity: float
    unit: str
    price: float
    amount: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCharge:
    """A charge on hours of the grid's own peak that nobody has named yet; it is in no line and no sum.

    ``least`` and ``most``: what it comes to if one of the hours that it can be in is its hour; None: the
    tariff does not say which these are.
    """

    name: str
    price_per_kw: float
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a billing period costs. ``peaks_watts``: what each demand charge measured, without its ratchet.

    ``open``: what is not yet known of it.
    """

    energy: float
    demand: float
    fixed: float
    lines: tuple[BillLine, ...]
    peaks_watts: Mapping[str, float] = field(default_factory=dict)
    open: tuple[OpenCharge, ...] = ()

    @property
    def total(self) -> float:
        """All there is to pay; below zero where exports or negative prices earned more."""
        return self.energy + self.demand + self.fixed


def period_terms(
    rules: BillingRules,
    local_times: LocalTimes,
    step_seconds: float,
    prices_per_kwh: Column | None = None,
    *,
    earlier_peaks_watts: EarlierPeaks | None = None,
    expected_import_kwh: float | None = None,
    pro_rata: bool = False,
) -> PeriodTerms:
    """Price the steps of one billing period; ``prices_per_kwh``, shape (n,), replace the tariff's energy.

    A part of a month is charged as a whole one, unless it is ``pro_rata``. Raises ValueError where the steps
    are not of one calendar month, or nobody says what energy costs.
    """
    month = Month.of(local_times, step_seconds, pro_rata=pro_rata)
    energy = import_prices(rules, month, expected_import_kwh) if prices_per_kwh is None else prices_per_kwh
    energy = np.array(month.column(energy, "prices_per_kwh"))
    sell = sell_prices(rules, month, energy if prices_per_kwh is not None else None)
    for rate in rules.coincident:
        at = coincident_steps(month, rate.hours)
        if at.any():
            energy[at] += rate.price_per_kw / (at.sum() * month.step_seconds / _HOUR_SECONDS)
    return PeriodTerms(
        energy_price_per_kwh=energy,
        sell_price_per_kwh=sell,
        demand=demand_charges(rules, month, earlier_peaks_watts or {}),
        fixed=month.fixed(rules),
    )


def bill(
    rules: BillingRules,
    local_times: LocalTimes,
    import_watts: Column,
    step_seconds: float,
    prices_per_kwh: Column | None = None,
    *,
    earlier_peaks_watts: EarlierPeaks | None = None,
    pro_rata: bool = False,
) -> Bill:
    """Bill the import of one billing period, shape (n,); negative watts are exports.

    Demand is the mean of each of the tariff's intervals where steps are shorter, else of each step. Raises
    ValueError as ``period_terms`` does, and for watts or prices that are not finite.
    """
    month = Month.of(local_times, step_seconds, pro_rata=pro_rata)
    watts = month.column(import_watts, "import_watts")
    prices = None if prices_per_kwh is None else month.column(prices_per_kwh, "prices_per_kwh")
    kwh = watts * (month.step_seconds / JOULES_PER_KWH)
    imported = np.maximum(kwh, 0.0)
    if prices is None:
        lines = _tier_lines(rules, month, imported)
    else:
        lines = [_line("energy", "hourly prices", float(imported.sum()), "kWh", float(imported @ prices))]
    lines += _export_lines(rules, month, kwh, prices)
    peaks, demand_lines = _demand_lines(rules, month, watts, earlier_peaks_watts or {})
    lines += demand_lines
    lines.append(_line("fixed", "fixed charges", 1.0, "month", month.fixed(rules)))
    minimum = month.share * (rules.minimum_per_month + rules.minimum_per_day * month.days)
    if minimum > 0.0:
        short = max(0.0, minimum - sum(line.amount for line in lines))
        lines.append(_line("fixed", "up to the minimum bill", 1.0, "month", short))
    lines = [line for line in lines if line.amount or (line.quantity and line.part != "fixed")]
    parts = {
        part: sum(line.amount for line in lines if line.part == part)
        for part in ("energy", "demand", "fixed")
    }
    return Bill(**parts, lines=tuple(lines), peaks_watts=peaks, open=_open_charges(rules, month, watts))


def monthly_bills(
    rules: BillingRules,
    local_times: LocalTimes,
    import_watts: Column,
    step_seconds: float,
    prices_per_kwh: Column | None = None,
    *,
    earlier_peaks_watts: EarlierPeaks | None = None,
    pro_rata: bool = False,
) -> dict[str, Bill]:
    """Bill a longer series month by month ("2024-02"); peaks count in the ratchets of later months."""
    calendar = LocalCalendar.of(local_times)
    earlier = {name: list(peaks) for name, peaks in (earlier_peaks_watts or {}).items()}
    bills = {}
    for label, steps in calendar.months():
        bills[label] = bill(
            rules,
            calendar[steps],
            import_watts[steps],
            step_seconds,
            None if prices_per_kwh is None else prices_per_kwh[steps],
            earlier_peaks_watts=earlier,
            pro_rata=pro_rata,
        )
        for name in (rate.name for rate in rules.demand):
            earlier.setdefault(name, []).append(bills[label].peaks_watts.get(name, 0.0))
    return bills


def _open_charges(rules: BillingRules, month: Month, watts: Column) -> tuple[OpenCharge, ...]:
    """The coincident charges whose hours of this month may still be named, with what each hour would cost."""
    found = []
    for rate in rules.coincident:
        if not rate.is_open(month.year, month.number):
            continue
        means, first = demand_intervals(month.calendar, watts, month.step_seconds, _HOUR_SECONDS)
        within = np.maximum(means[month.calendar.within(rate.windows)[first]], 0.0) / 1000.0
        known = bool(rate.windows) and within.size > 0
        found.append(
            OpenCharge(
                name=rate.name,
                price_per_kw=rate.price_per_kw,
                least=rate.price_per_kw * float(within.min()) if known else None,
                most=rate.price_per_kw * float(within.max()) if known else None,
            )
        )
    return tuple(found)


def _line(part: str, name: str, quantity: float, unit: str, amount: float) -> BillLine:
    price = amount / quantity if quantity else 0.0
    return BillLine(part=part, name=name, quantity=quantity, unit=unit, price=price, amount=amount)


def _tier_lines(rules: BillingRules, month: Month, imported_kwh: Column) -> list[BillLine]:
    by_rate = np.bincount(rate_of_steps(rules, month), weights=imported_kwh, minlength=len(rules.energy))
    total, adder = float(imported_kwh.sum()), rules.energy_adder_per_kwh[month.number - 1]
    lines = []
    for rate, kwh in zip(rules.energy, by_rate.tolist(), strict=True):
        shares = tier_shares(rate, month, total)
        for number, (share, tier) in enumerate(zip(shares, rate.tiers, strict=True), start=1):
            name = rate.name if len(rate.tiers) == 1 else f"{rate.name}, tier {number}"
            lines.append(
                _line("energy", name, kwh * share, "kWh", kwh * share * (tier.price_per_kwh + adder))
            )
    return lines


def _export_lines(rules: BillingRules, month: Month, kwh: Column, prices: Column | None) -> list[BillLine]:
    exported = np.maximum(-kwh, 0.0)
    if not exported.any():
        return []
    earned = float(exported @ sell_prices(rules, month, prices))
    return [_line("energy", "exports", float(exported.sum()), "kWh", -earned)]


def _demand_lines(
    rules: BillingRules, month: Month, watts: Column, earlier: EarlierPeaks
) -> tuple[dict[str, float], list[BillLine]]:
    interval = rules.demand_interval_seconds
    means, first = demand_intervals(month.calendar, watts, month.step_seconds, interval)
    peaks, lines = {}, []
    for charge in demand_charges(rules, month, earlier):
        within = means[charge.steps[first]]
        peaks[charge.name] = float(max(within.max(initial=0.0), 0.0))
        billed = charge.billed_watts(peaks[charge.name])
        amount = charge.cost(peaks[charge.name])
        name = charge.name if billed <= peaks[charge.name] else f"{charge.name} (ratchet)"
        lines.append(_line("demand", name, billed / 1000.0, "kW", amount))
    for rate in rules.coincident:
        at = coincident_steps(month, rate.hours)
        if at.any():
            kilowatts = max(0.0, float(watts[at].mean())) / 1000.0
            lines.append(_line("demand", rate.name, kilowatts, "kW", kilowatts * rate.price_per_kw))
    return peaks, lines
