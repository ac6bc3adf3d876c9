"""By what a month is billed: tariff, prices, what was billed before, and when each demand charge arose."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo

import numpy as np

from slurm_power.forecast.supply import HeldValues, Supply
from slurm_power.model.billing_rules import BillingRules
from slurm_power.model.site import Site
from slurm_power.model.units import JOULES_PER_KWH
from slurm_power.plan.billing import Bill, EarlierPeaks, bill
from slurm_power.plan.charges import Month, demand_charges, demand_intervals
from slurm_power.plan.local_calendar import LocalCalendar
from slurm_power.ports import SeriesReader
from slurm_power.report.month.month_columns import (
    QUARTER_SECONDS,
    MonthColumns,
    Values,
    filled,
    month_before,
    month_bounds,
    read_columns,
)

_MINUTE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """By what a month is billed. ``rules`` None: nobody has said.

    ``billed_peaks_kw`` by charge and month are what was billed before, ahead of what was metered. ``supply``
    has prices, where they come from a file, and carbon intensity.
    """

    rules: BillingRules | None = None
    supply: Supply = field(default_factory=Supply)
    billed_peaks_kw: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    wear_per_kwh: float | None = None
    currency: str = ""
    site: Site | None = None

    @property
    def zone(self) -> tzinfo:
        """The site's clock."""
        return self.supply.zone

    @property
    def step_seconds(self) -> float:
        """How finely a month has to be read: a quarter of an hour, unless demand is billed by less."""
        whole = self.rules is None or self.rules.demand_interval_seconds % QUARTER_SECONDS == 0.0
        return QUARTER_SECONDS if whole else _MINUTE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChargePeak:
    """When a demand charge arose, and with what; ``floor_watts`` is its ratchet."""

    name: str
    at: datetime
    watts: float
    floor_watts: float
    price_per_kw: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BillBasis:
    """What any import of one month is billed by; ``prices_per_kwh``, shape (n,), come before the tariff's."""

    rules: BillingRules | None
    prices_per_kwh: Values | None
    earlier_peaks_watts: EarlierPeaks
    calendar: LocalCalendar
    step_seconds: float

    def bill(self, import_watts: Values) -> Bill | None:
        """The bill of an import, shape (n,); None where nobody has said what energy costs."""
        if self.rules is None or (self.prices_per_kwh is None and not self.rules.energy):
            return None
        return bill(
            self.rules,
            self.calendar,
            import_watts,
            self.step_seconds,
            self.prices_per_kwh,
            earlier_peaks_watts=self.earlier_peaks_watts,
        )


def prices_of(terms: Terms, columns: MonthColumns) -> tuple[Values | None, float]:
    """Prices from a file, if there is one, and the hours that it leaves out: those have the mean price."""
    if terms.supply.price_per_kwh is None:
        return None, 0.0
    prices = held_means(terms.supply.price_per_kwh, columns)
    unknown = np.isnan(prices)
    if unknown.all():
        if terms.rules is not None and terms.rules.energy:
            return None, 0.0
        raise ValueError("the file of prices says nothing of this month")
    prices[unknown] = prices[~unknown].mean()
    return prices, float(unknown.sum()) * columns.step_seconds / 3600.0


def held_means(values: HeldValues | None, columns: MonthColumns) -> Values:
    """The mean of values over each step; NaN where any part of it is unknown."""
    found = np.full(columns.steps, np.nan)
    if values is None:
        return found
    sums, known = np.zeros(columns.steps), np.zeros(columns.steps)
    for since, until, value in values.pieces(columns.start_seconds, columns.end_seconds):
        if value is None:
            continue
        first = (since - columns.start_seconds) / columns.step_seconds
        last = (until - columns.start_seconds) / columns.step_seconds
        for step in range(int(first), min(int(np.ceil(last)), columns.steps)):
            part = min(last, step + 1.0) - max(first, float(step))
            sums[step] += part * value
            known[step] += part
    whole = known > 1.0 - 1e-6
    found[whole] = sums[whole] / known[whole]
    return found


def co2_kg(watts: Values, carbon_g_per_kwh: Values, step_seconds: float) -> float | None:
    """What the import emitted, in the steps of which the carbon intensity is known; None if it never is."""
    known = ~np.isnan(carbon_g_per_kwh)
    if not known.any():
        return None
    kwh = np.maximum(watts[known], 0.0) * step_seconds / JOULES_PER_KWH
    return float(kwh @ carbon_g_per_kwh[known]) / 1000.0


def earlier_peaks(
    recorded: SeriesReader, circuit: str, label: str, terms: Terms
) -> tuple[EarlierPeaks, tuple[str, ...]]:
    """What each charge measured in the months before that ratchets look back at, and the months nobody knows.

    Of what was billed and what was metered the higher counts.
    """
    rules = terms.rules
    months = max((rate.ratchet_months for rate in rules.demand), default=0) if rules is not None else 0
    if rules is None or not months:
        return {}, ()
    found: dict[str, list[float]] = {rate.name: [] for rate in rules.demand}
    unknown = []
    for back in range(months, 0, -1):
        before = month_before(label, back)
        said = {name: peaks[before] for name, peaks in terms.billed_peaks_kw.items() if before in peaks}
        metered = _metered_peaks(recorded, circuit, before, terms)
        if not metered and not said:
            unknown.append(before)
        for name, peaks in found.items():
            peaks.append(max(1000.0 * said.get(name, 0.0), metered.get(name, 0.0)))
    return found, tuple(unknown)


def _metered_peaks(recorded: SeriesReader, circuit: str, label: str, terms: Terms) -> Mapping[str, float]:
    assert terms.rules is not None
    start, end = month_bounds(label, terms.zone)
    step = terms.step_seconds
    columns = read_columns(recorded, circuit, start, end, step_seconds=step, ess_names=())
    if not columns.known.any():
        return {}
    # Energy is not asked for, and a tariff need not say what it costs.
    none = np.zeros(columns.steps)
    return bill(
        terms.rules, columns.calendar(terms.zone), filled(columns, terms.zone), step, none
    ).peaks_watts


def charge_peaks(
    columns: MonthColumns, watts: Values, terms: Terms, earlier: EarlierPeaks
) -> tuple[ChargePeak, ...]:
    """Each demand charge of the tariff with the interval that it arose in."""
    if terms.rules is None:
        return ()
    calendar = columns.calendar(terms.zone)
    month = Month.of(calendar, columns.step_seconds, pro_rata=False)
    means, first = demand_intervals(
        calendar, watts, columns.step_seconds, terms.rules.demand_interval_seconds
    )
    found: list[ChargePeak] = []
    for charge in demand_charges(terms.rules, month, earlier):
        within = np.flatnonzero(charge.steps[first])
        if not len(within):
            continue
        highest = within[int(np.argmax(means[within]))]
        at = datetime.fromtimestamp(columns.times[first[highest]], UTC).astimezone(terms.zone)
        found.append(
            ChargePeak(
                name=charge.name,
                at=at,
                watts=float(means[highest]),
                floor_watts=charge.floor_watts,
                price_per_kw=charge.price_per_kw,
            )
        )
    return tuple(found)
