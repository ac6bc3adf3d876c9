"""The part of a month's report about money: every line of the bill, and the same month without us."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from slurm_power.model.money import money_text, money_unit
from slurm_power.model.units import JOULES_PER_KWH
from slurm_power.plan.billing import Bill
from slurm_power.report.frame.document import Column, Paragraph, Section, Table, Value, number_column
from slurm_power.report.month.month import METHOD, MonthAccount
from slurm_power.report.month.month_columns import Values

_DASH = "\N{EN DASH}"


def bill_tables(account: MonthAccount) -> Iterator[Table | Paragraph]:
    """Every line of both bills, and when each demand charge arose."""
    assert account.bill is not None
    columns = (
        Column(heading="Part"),
        Column(heading="Line"),
        number_column("Quantity", digits=2),
        Column(heading="Unit"),
        number_column("Price", digits=5),
        number_column("Amount", money_unit(account.terms.currency), digits=2),
    )
    yield Table(
        name="bill", title="Every line", columns=columns, rows=_lines(account.bill), note=_bill_note(account)
    )
    if account.bill.open:
        yield _open_table(account.bill)
    if account.charge_peaks:
        yield Table(
            name="demand-charges",
            title="When the demand charges arose",
            columns=(
                Column(heading="Charge"),
                Column(heading="Interval from", kind="time"),
                number_column("Measured", "kW", digits=2),
                number_column("Ratchet", "kW", digits=2),
                number_column("Price", f"{money_unit(account.terms.currency)} per kW", digits=4),
            ),
            rows=tuple(
                (
                    peak.name,
                    peak.at,
                    peak.watts / 1000.0,
                    peak.floor_watts / 1000.0 or None,
                    peak.price_per_kw,
                )
                for peak in account.charge_peaks
            ),
        )
    if account.unknown_months:
        months = ", ".join(account.unknown_months)
        yield Paragraph(
            f"The ratchet may be higher: nobody knows the peaks of {months}."
            " Write what was billed into supply.billed_peaks_kw."
        )
    if account.bill_without is not None:
        yield Table(
            name="bill-without",
            title="The bill without us",
            columns=columns,
            rows=_lines(account.bill_without),
        )


def _open_table(bill: Bill) -> Table:
    return Table(
        name="not-yet-known",
        title="Not yet known",
        columns=(
            Column(heading="Charge"),
            Column(heading="Price", unit="per kW", kind="number", digits=4),
            Column(heading="At least", kind="number", digits=2),
            Column(heading="At most", kind="number", digits=2),
        ),
        rows=tuple((charge.name, charge.price_per_kw, charge.least, charge.most) for charge in bill.open),
        note=(
            "Nobody has named the hours of the grid's own peak in this month, so these charges are in no sum"
            " of this report. The range is by the hours that the tariff says they can be in, if one of them"
            " is in this month; where it does not say, there is none. Once known, write them into hours of"
            " [[coincident]]."
        ),
    )


def _lines(bill: Bill) -> tuple[tuple[Value, ...], ...]:
    rows: list[tuple[Value, ...]] = [
        (line.part, line.name, line.quantity, line.unit, line.price, line.amount) for line in bill.lines
    ]
    return (*rows, ("total", "", None, "", None, bill.total))


def _bill_note(account: MonthAccount) -> str:
    words = []
    filled = account.import_kwh - account.metered_kwh
    if filled > 0.0:
        words.append(
            f"{filled:,.1f} kWh in hours without meter data are filled in,"
            " by the mean of the same time of day."
        )
    if account.unpriced_hours:
        words.append(f"{account.unpriced_hours:.1f} h had no price: they have the mean price of the month.")
    return " ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Alternative:
    """The load without us by another method, shape (n,), which ``text`` tells; watts None: it failed."""

    watts: Values | None
    text: str


def without_section(
    account: MonthAccount, bound: Bill | None, alternative: Alternative | None = None
) -> Section:
    """What the month would have been, by which method, and how sure that is."""
    peak, without, most = (
        account.peak(column)[0] / 1000.0
        for column in (account.import_watts, account.natural_watts, account.most_natural_watts)
    )
    scale = account.columns.step_seconds / JOULES_PER_KWH
    energy = [
        float(np.maximum(column, 0.0).sum()) * scale
        for column in (account.import_watts, account.natural_watts, account.most_natural_watts)
    ]
    rows: list[tuple[Value, ...]] = [
        ("Peak (kW)", peak, without, most, without - peak),
        ("Energy (kWh)", *energy, energy[1] - energy[0]),
    ]
    bills = (account.bill, account.bill_without, account.bill_without_most)
    if account.bill is not None and account.bill_without is not None:
        for part in ("energy", "demand", "total"):
            found = [None if each is None else float(getattr(each, part)) for each in bills]
            unit = money_unit(account.terms.currency)
            name = f"Bill ({unit})" if part == "total" else f"Bill, {part} ({unit})"
            rows.append((name, *found, float(found[1] or 0.0) - float(found[0] or 0.0)))
    if account.co2_kg is not None and account.co2_without_kg is not None:
        rows.append(
            (
                "CO2 (kg)",
                account.co2_kg,
                account.co2_without_kg,
                None,
                account.co2_without_kg - account.co2_kg,
            )
        )
    table = Table(
        name="without-us",
        title="The same month without us",
        columns=(
            Column(heading=""),
            number_column("As it was", digits=2),
            number_column("Without us", digits=2),
            number_column("Without us at most", digits=2),
            number_column("Less by us", digits=2),
        ),
        rows=tuple(rows),
        note=(
            "At most: had each held or paused job drawn its power at once, which nobody can know. What caps"
            " withheld is an estimate by what the same jobs drew uncapped."
        ),
    )
    words = [f"Method: {METHOD}."]
    shifts = account.shifts
    words.append(
        f"Jobs slowed: {shifts.slowed_jobs}, by {shifts.lost_gpu_hours:,.1f} GPU-hours; held or paused:"
        f" {shifts.delayed_jobs}, for {shifts.held_gpu_hours:,.1f} GPU-hours."
    )
    if bound is not None and account.bill_without is not None and account.saved is not None:
        best = account.bill_without.total - bound.total
        words.append(
            "A battery that had known the whole month beforehand could have saved"
            f" {money_text(best, account.terms.currency)} without any other lever;"
            f" {money_text(account.saved, account.terms.currency)} were saved."
        )
    blocks: list[Table | Paragraph] = [table, Paragraph(" ".join(words))]
    if alternative is not None:
        blocks += [*_alternative_table(account, alternative.watts), Paragraph(alternative.text)]
    return Section(title="Without us", blocks=tuple(blocks))


def _alternative_table(account: MonthAccount, watts: Values | None) -> Iterator[Table]:
    if watts is None:
        return
    kwh = float(np.maximum(watts, 0.0).sum()) * account.columns.step_seconds / JOULES_PER_KWH
    rows: list[tuple[Value, ...]] = [
        ("Peak (kW)", account.peak(watts)[0] / 1000.0),
        ("Energy (kWh)", kwh),
    ]
    found = account.basis.bill(watts)
    if found is not None and account.bill is not None:
        unit = money_unit(account.terms.currency)
        rows += [(f"Bill ({unit})", found.total), (f"Saved ({unit})", found.total - account.bill.total)]
    columns = (Column(heading=""), number_column("Without us", digits=2))
    yield Table(name="without-us-simulated", title="By the simulator", columns=columns, rows=tuple(rows))


def bill_text(account: MonthAccount, bill: Bill | None) -> str:
    """What a bill comes to, with its currency; a dash for unknown."""
    return _DASH if bill is None else money_text(bill.total, account.terms.currency)
