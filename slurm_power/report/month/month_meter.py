"""The part of a month's report about its meter data: how good they are, the worst moments, every day."""

import numpy as np

from slurm_power.model.units import JOULES_PER_KWH
from slurm_power.report.frame.document import Column, Paragraph, Section, Table, Value, number_column
from slurm_power.report.month.month import SURE_RATIO, MonthAccount, worst_excursions
from slurm_power.report.month.month_columns import Values

_MOST_GAPS = 20


def meter_section(account: MonthAccount) -> Section:
    """Coverage with its gaps, the worst excursions, and a row for each day."""
    columns = account.columns
    gaps = columns.gaps()
    hours = sum(until - since for since, until in gaps) / 3600.0
    words = f"Meter data cover {100 * columns.coverage:.2f} % of the time"
    if gaps:
        words += f"; {len(gaps)} gaps, {hours:,.1f} h in all"
    if columns.coverage < SURE_RATIO:
        words += f". Below {100 * SURE_RATIO:.0f} % all figures here are estimates"
    longest = sorted(sorted(gaps, key=lambda gap: gap[0] - gap[1])[:_MOST_GAPS])
    gap_table = Table(
        name="gaps",
        title="Without meter data" if len(gaps) <= _MOST_GAPS else f"The {_MOST_GAPS} longest gaps",
        columns=(
            Column(heading="From", kind="time"),
            Column(heading="To", kind="time"),
            number_column("Hours", digits=2),
        ),
        rows=tuple(
            (
                account.moment(round((since - columns.start_seconds) / columns.step_seconds)),
                _end(account, until),
                (until - since) / 3600.0,
            )
            for since, until in longest
        ),
    )
    return Section(
        title="Meter data", blocks=(Paragraph(f"{words}."), gap_table, _excursions(account), _days(account))
    )


def _end(account: MonthAccount, seconds: float) -> Value:
    step = round((seconds - account.columns.start_seconds) / account.columns.step_seconds)
    if step < account.columns.steps:
        return account.moment(step)
    return account.end


def _excursions(account: MonthAccount) -> Table:
    return Table(
        name="excursions",
        title="The worst moments above the limit",
        columns=(
            Column(heading="From", kind="time"),
            number_column("Highest", "kW", digits=2),
            number_column("Limit", "kW", digits=2),
            Column(heading="The mean too"),
        ),
        rows=tuple(
            (at, highest / 1000.0, limit / 1000.0, mean)
            for at, highest, limit, mean in worst_excursions(account)
        ),
        note="The highest reading in a quarter of an hour, where it lay above all limits that held in it.",
    )


def _days(account: MonthAccount) -> Table:
    """One row for each day of the site's clock."""
    columns = account.columns
    calendar = columns.calendar(account.zone)
    cuts = np.flatnonzero(np.diff(calendar.day)) + 1
    rows: list[tuple[Value, ...]] = []
    for steps in np.split(np.arange(columns.steps), cuts):
        first = int(steps[0])
        rows.append(
            (
                f"{account.moment(first):%Y-%m-%d}",
                _kwh(account.import_watts[steps], columns.step_seconds),
                _kwh(account.natural_watts[steps], columns.step_seconds),
                _highest_kw(columns.import_watts[steps]),
                _highest_kw(np.where(columns.known[steps], account.natural_watts[steps], np.nan)),
                100.0 * float(columns.coverage_ratio[steps].mean()),
            )
        )
    return Table(
        name="days",
        title="Every day",
        columns=(
            Column(heading="Day"),
            number_column("Energy", "kWh", digits=1),
            number_column("Without us", "kWh", digits=1),
            number_column("Peak", "kW", digits=1),
            number_column("Without us", "kW", digits=1),
            number_column("Metered", "%", digits=1),
        ),
        rows=tuple(rows),
    )


def _kwh(watts: Values, step_seconds: float) -> float:
    return float(np.maximum(watts, 0.0).sum()) * step_seconds / JOULES_PER_KWH


def _highest_kw(watts: Values) -> float | None:
    known = watts[~np.isnan(watts)]
    return float(known.max()) / 1000.0 if len(known) else None
