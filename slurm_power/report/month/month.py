"""A month as it was and as it would have been without us: peak, energy, bill, battery, events, CO2.

Without us is a replay of the same month: what was imported, plus what batteries gave, plus what caps
withheld, less what slowed jobs drew longer. Where nothing was metered both are the same, so what is not known
is never counted as saved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

import numpy as np

from slurm_power.model.billing_rules import BillingRules
from slurm_power.model.units import JOULES_PER_KWH
from slurm_power.plan.billing import Bill
from slurm_power.plan.charges import demand_intervals
from slurm_power.ports import LocalStore, SeriesReader
from slurm_power.report.month.month_battery import BatteryAccount, battery_account
from slurm_power.report.month.month_bill import (
    BillBasis,
    ChargePeak,
    Terms,
    charge_peaks,
    co2_kg,
    earlier_peaks,
    held_means,
    prices_of,
)
from slurm_power.report.month.month_columns import (
    QUARTER_SECONDS,
    MonthColumns,
    Values,
    filled,
    largest_circuit,
    month_bounds,
    read_columns,
)
from slurm_power.report.month.month_events import EventRow, event_rows
from slurm_power.report.month.month_jobs import JobShifts, job_shifts, records_since

# Below this a figure is called an estimate.
SURE_RATIO = 0.95
METHOD = (
    "replay of the metered load: import plus what batteries gave plus what caps withheld, less what slowed"
    " jobs drew longer; held and paused jobs and hours without meter data count as nothing saved"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MonthAccount:
    """All figures of a month (or the part of it that has passed), and the columns that they come from.

    ``import_watts`` and ``natural_watts`` (without us), shape (n,), have no gaps; ``reckoned_watts`` is
    without us but for what slowed and held jobs change, ``most_natural_watts`` counts held and paused jobs
    too. Bills are None without a tariff, kilograms of CO2 without carbon intensity.
    """

    label: str
    columns: MonthColumns
    month_end_seconds: float
    zone: tzinfo
    terms: Terms
    import_watts: Values
    reckoned_watts: Values
    natural_watts: Values
    most_natural_watts: Values
    shifts: JobShifts
    bill: Bill | None
    bill_without: Bill | None
    bill_without_most: Bill | None
    bill_battery_alone: Bill | None
    charge_peaks: tuple[ChargePeak, ...]
    basis: BillBasis
    unknown_months: tuple[str, ...]
    unpriced_hours: float
    co2_kg: float | None
    co2_without_kg: float | None
    co2_known_ratio: float
    batteries: Mapping[str, BatteryAccount]
    events: tuple[EventRow, ...]

    @property
    def is_whole(self) -> bool:
        """Whether the month is over."""
        return self.columns.end_seconds >= self.month_end_seconds

    @property
    def estimate(self) -> bool:
        """Whether too little was measured, or priced, to be sure."""
        return self.columns.coverage < SURE_RATIO or self.unpriced_hours > 0.0 or bool(self.unknown_months)

    @property
    def metered_kwh(self) -> float:
        """What the meter has seen."""
        known = self.columns.import_watts[self.columns.known]
        return float(np.maximum(known, 0.0).sum()) * self.columns.step_seconds / JOULES_PER_KWH

    @property
    def import_kwh(self) -> float:
        """The import with the gaps filled."""
        return float(np.maximum(self.import_watts, 0.0).sum()) * self.columns.step_seconds / JOULES_PER_KWH

    def peak(self, watts: Values) -> tuple[float, datetime]:
        """The highest quarter of an hour of a column, and when it began."""
        means, first = demand_intervals(
            self.columns.calendar(self.zone), watts, self.columns.step_seconds, QUARTER_SECONDS
        )
        at = int(np.argmax(means))
        return float(means[at]), self.moment(int(first[at]))

    def moment(self, step: int) -> datetime:
        """When a step begins, by the site's clock."""
        return datetime.fromtimestamp(self.columns.times[step], UTC).astimezone(self.zone)

    @property
    def end(self) -> datetime:
        """Where the last step ends, by the site's clock."""
        return datetime.fromtimestamp(self.columns.end_seconds, UTC).astimezone(self.zone)

    @property
    def saved(self) -> float | None:
        """What the month would have cost more without us; below zero if less."""
        if self.bill is None or self.bill_without is None:
            return None
        return self.bill_without.total - self.bill.total


def savings(account: MonthAccount) -> dict[str, object]:
    """A month in the few figures of a page; None for what is not known.

    ``saved_most``: with all that held and paused jobs did not draw counted as saved, too. ``metered_ratio``:
    the measured share of the month so far.
    """
    events = len(account.events)
    most = None
    if account.bill is not None and account.bill_without_most is not None:
        most = round(account.bill_without_most.total - account.bill.total, 2)
    return {
        "month": account.label,
        "currency": account.terms.currency,
        "bill": None if account.bill is None else round(account.bill.total, 2),
        "bill_without": None if account.bill_without is None else round(account.bill_without.total, 2),
        "saved": None if account.saved is None else round(account.saved, 2),
        "saved_most": most,
        "peak_watts": account.peak(account.import_watts)[0],
        "peak_without_watts": account.peak(account.natural_watts)[0],
        "co2_kg_saved": None
        if account.co2_kg is None or account.co2_without_kg is None
        else round(account.co2_without_kg - account.co2_kg, 3),
        "events_delivered": sum(event.delivered for event in account.events),
        "events": events,
        "estimate": account.estimate,
        "metered_ratio": round(account.columns.coverage, 4),
        "unpriced_hours": round(account.unpriced_hours, 2),
        "unknown_months": list(account.unknown_months),
        "method": METHOD,
    }


def month_account(
    store: LocalStore,
    recorded: SeriesReader,
    label: str,
    terms: Terms,
    *,
    circuit: str | None = None,
    until: datetime | None = None,
) -> MonthAccount:
    """Reckon a month such as 2026-11, up to ``until`` where it is not over.

    ``circuit`` is the site's root by default, or the one that drew most. Raises ValueError where nothing of
    it is known or the tariff does not fit, and StoreError.
    """
    start, month_end = month_bounds(label, terms.zone)
    end = month_end
    if until is not None:
        end = min(end, until.timestamp() // terms.step_seconds * terms.step_seconds)
    if end <= start:
        raise ValueError(f"the month {label} has not begun")
    columns = _columns(recorded, circuit, start, end, terms)
    step = columns.step_seconds
    shifts = job_shifts(
        records_since(store, start),
        start_seconds=start,
        step_seconds=step,
        steps=columns.steps,
        site=terms.site,
    )
    imported = filled(columns, terms.zone)
    reckoned = _reckoned(columns, imported)
    # What slowed jobs drew longer cannot be more than is there.
    slowed = np.maximum(reckoned + shifts.slowed_watts, np.minimum(reckoned, 0.0))
    natural = np.where(columns.known, slowed, imported)
    most_natural = np.maximum(natural + np.where(columns.known, shifts.delayed_watts, 0.0), 0.0)
    prices, unpriced_hours = prices_of(terms, columns)
    earlier, unknown = earlier_peaks(recorded, columns.circuit, label, terms)

    # Prices alone are a tariff too.
    rules = terms.rules or (None if prices is None else BillingRules(name="prices"))
    basis = BillBasis(
        rules=rules,
        prices_per_kwh=prices,
        earlier_peaks_watts=earlier,
        calendar=columns.calendar(terms.zone),
        step_seconds=step,
    )
    carbon = held_means(terms.supply.carbon_g_per_kwh, columns)
    co2_known = ~np.isnan(carbon)
    return MonthAccount(
        label=label,
        columns=columns,
        month_end_seconds=month_end,
        zone=terms.zone,
        terms=terms,
        import_watts=imported,
        reckoned_watts=reckoned,
        natural_watts=natural,
        most_natural_watts=most_natural,
        shifts=shifts,
        bill=basis.bill(imported),
        bill_without=basis.bill(natural),
        bill_without_most=basis.bill(most_natural),
        bill_battery_alone=basis.bill(natural - np.where(columns.known, columns.discharge_watts, 0.0)),
        charge_peaks=charge_peaks(columns, imported, terms, earlier),
        basis=basis,
        unknown_months=unknown,
        unpriced_hours=unpriced_hours,
        co2_kg=co2_kg(imported, carbon, step),
        co2_without_kg=co2_kg(natural, carbon, step),
        co2_known_ratio=float(co2_known.mean()),
        batteries={name: battery_account(one, step) for name, one in columns.batteries.items()},
        events=event_rows(store, circuit=None, start_seconds=start, end_seconds=end),
    )


def _columns(
    recorded: SeriesReader, circuit: str | None, start: float, end: float, terms: Terms
) -> MonthColumns:
    site = terms.site
    if circuit is None:
        circuit = site.root.name if site is not None else largest_circuit(recorded, start, end)
    if circuit is not None:
        ess_names = None
        if site is not None:
            ess_names = site.ess_behind(circuit) if circuit in site.circuits else ()
        step = terms.step_seconds
        columns = read_columns(recorded, circuit, start, end, step_seconds=step, ess_names=ess_names)
        if columns.known.any():
            return columns
    where = f" at {circuit}" if circuit is not None else ""
    raise ValueError(f"nothing was metered{where} from {_day(start, terms)} to {_day(end, terms)}")


def _day(seconds: float, terms: Terms) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone(terms.zone):%Y-%m-%d %H:%M}"


def _reckoned(columns: MonthColumns, imported: Values) -> Values:
    """The load with no lever as of each moment; where nothing was metered, or reckoned, what was imported."""
    # Series of an older version have no load: put together then what it is made of.
    parts = columns.import_watts + columns.discharge_watts + np.nan_to_num(columns.withheld_watts)
    reckoned = np.where(np.isnan(columns.load_watts), parts, columns.load_watts)
    return np.where(columns.known, reckoned, imported)


def worst_excursions(account: MonthAccount, most: int = 10) -> Sequence[tuple[datetime, float, float, bool]]:
    """Steps with a tick above all their limits: (begin, highest watts, limit, whether the mean was too)."""
    columns = account.columns
    over = columns.highest_watts - columns.highest_limit_watts
    steps = [int(step) for step in np.argsort(-np.nan_to_num(over))[:most] if over[step] > 0.0]
    return [
        (
            account.moment(step),
            float(columns.highest_watts[step]),
            float(columns.highest_limit_watts[step]),
            bool(columns.import_watts[step] > columns.highest_limit_watts[step]),
        )
        for step in steps
    ]
