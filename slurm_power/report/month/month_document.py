"""A month's account as a report."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np

from slurm_power.model.money import money_text, money_unit
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.billing import Bill
from slurm_power.report.audit.proof import ChainProof
from slurm_power.report.frame.document import (
    Check,
    Column,
    Document,
    Figure,
    Paragraph,
    Section,
    Table,
    Tile,
    Value,
    kilo,
    number_column,
    percent,
)
from slurm_power.report.month.month import SURE_RATIO, MonthAccount, worst_excursions
from slurm_power.report.month.month_events import LeverUse
from slurm_power.report.month.month_meter import meter_section
from slurm_power.report.month.month_money import (
    Alternative,
    bill_tables,
    bill_text,
    without_section,
)

_DASH = "\N{EN DASH}"


def month_document(
    account: MonthAccount,
    *,
    before: MonthAccount | None,
    levers: Sequence[LeverUse],
    proof: ChainProof,
    bound: Bill | None = None,
    alternative: Alternative | None = None,
    site: str = "",
    made_at: datetime | None = None,
    figures: bool = True,
) -> Document:
    """The whole report; ``bound`` is the bill of a battery that knew the month beforehand,
    ``alternative`` the load without us by another method.

    Without ``figures`` nothing is drawn, and no plotting library is loaded.
    """
    columns = account.columns
    first, last = account.moment(0), account.moment(columns.steps - 1)
    labels = {"Site": site} if site else {}
    labels |= {"Circuit": columns.circuit, "Clock": str(account.zone)}
    if made_at is not None:
        labels["Made"] = f"{made_at:%Y-%m-%d %H:%M %Z}"
    rest = (
        ""
        if account.is_whole
        else ", the month is not over: demand and fixed charges are those of a whole month"
    )
    return Document(
        title=f"Power in {account.label}",
        subtitle=f"{first:%Y-%m-%d} to {last:%Y-%m-%d}{rest}",
        labels=labels,
        checks=tuple(_checks(account, proof)),
        tiles=tuple(_tiles(account)),
        sections=tuple(_sections(account, before, levers, bound, alternative, figures=figures)),
        proof=proof.lines,
    )


def _checks(account: MonthAccount, proof: ChainProof) -> Iterator[Check]:
    over = [row for row in worst_excursions(account, 10_000) if row[3]]
    limits_known = not np.isnan(account.columns.limit_watts).all()
    yield Check(
        good=limits_known and not over,
        yes="The limit held",
        no=f"The limit did not hold in {len(over)} quarters of an hour"
        if limits_known
        else "No limit is known",
        detail="by the mean of each quarter of an hour",
    )
    coverage = account.columns.coverage
    yield Check(
        good=coverage >= SURE_RATIO,
        yes="Metered throughout",
        no="An estimate: too little was metered",
        detail=f"meter data cover {100 * coverage:.1f} % of the time",
    )
    yield proof.check


def _tiles(account: MonthAccount) -> Iterator[Tile]:
    peak, at = account.peak(account.import_watts)
    without, _ = account.peak(account.natural_watts)
    estimate = "estimate" if account.estimate else ""
    yield Tile(name="Peak", value=kilowatts_text(peak), remark=f"{at:%d %b, %H:%M}")
    lower = f"{100 * (without - peak) / without:.1f} % higher" if without > peak else ""
    yield Tile(name="Peak without us", value=kilowatts_text(without), remark=lower)
    filled = account.import_kwh - account.metered_kwh
    yield Tile(
        name="Energy",
        value=f"{account.import_kwh:,.0f} kWh",
        remark=f"{filled:,.0f} kWh of it filled in" if filled > 0.0 else "metered",
    )
    unknown = [] if account.bill is None else [charge.name for charge in account.bill.open]
    rest = f"without {', '.join(unknown)}, not yet known" if unknown else ""
    remark = ", ".join(filter(None, (estimate, rest)))
    yield Tile(name="Bill", value=bill_text(account, account.bill), remark=remark)
    saved = account.saved
    yield Tile(
        name="Saved" if saved is None or saved >= 0.0 else "Cost more by",
        value=_DASH if saved is None else money_text(abs(saved), account.terms.currency),
        remark=estimate or "against the same month without us",
    )
    if account.co2_kg is not None and account.co2_without_kg is not None:
        less = account.co2_without_kg - account.co2_kg
        word = "less" if less >= 0.0 else "more"
        yield Tile(
            name="CO\N{SUBSCRIPT TWO}",
            value=f"{account.co2_kg:,.0f} kg",
            remark=f"{abs(less):,.1f} kg {word} than without us{_of_time(account.co2_known_ratio)}",
        )
    if account.events:
        done = sum(event.delivered for event in account.events)
        yield Tile(name="Grid events", value=f"{done} of {len(account.events)}", remark="delivered")


def _of_time(ratio: float) -> str:
    return "" if ratio > 0.999 else f"; carbon intensity known {100 * ratio:.0f} % of the time"


def _sections(  # what there is, in order
    account: MonthAccount,
    before: MonthAccount | None,
    levers: Sequence[LeverUse],
    bound: Bill | None,
    alternative: Alternative | None,
    *,
    figures: bool,
) -> Iterator[Section]:
    if figures:
        # matplotlib takes a second.
        from slurm_power.report.month.month_figure import (  # noqa: PLC0415  # what draws and reads a month is loaded for that alone
            bill_plot,
            bill_words,
            load_plot,
            load_words,
        )

        plot = Figure(title="Power", svg=load_plot(account), text=load_words(account))
        yield Section(title="Power", blocks=(plot,))
        drawn = bill_plot(account)
        more = (Figure(title="Both bills", svg=drawn, text=bill_words(account)),) if drawn else ()
    else:
        more = ()
    if account.bill is None:
        text = (
            "Nobody has said what electricity costs: name a tariff with tariff_file in [supply], or --tariff."
        )
        yield Section(title="Bill", blocks=(Paragraph(text),))
    else:
        yield Section(title="Bill", blocks=(*more, *bill_tables(account)))
    yield without_section(account, bound, alternative)
    if account.batteries:
        yield _battery_section(account)
    yield _events_section(account)
    yield _lever_section(levers)
    yield meter_section(account)
    yield _comparison(account, before)


def _battery_section(account: MonthAccount) -> Section:
    wear = account.terms.wear_per_kwh
    rows: list[tuple[Value, ...]] = [
        (
            name,
            one.discharged_kwh,
            one.charged_kwh,
            one.lost_kwh,
            one.full_cycles,
            percent(one.soh_ratio),
            None if wear is None else wear * one.discharged_kwh,
        )
        for name, one in account.batteries.items()
    ]
    table = Table(
        name="batteries",
        title="What went through",
        columns=(
            Column(heading="Battery"),
            number_column("Given", "kWh", digits=1),
            number_column("Taken", "kWh", digits=1),
            number_column("Lost", "kWh", digits=1),
            number_column("Full cycles", digits=2),
            number_column("Health", "%", digits=1),
            number_column("Wear", money_unit(account.terms.currency), digits=2),
        ),
        rows=tuple(rows),
        note=(
            "Full cycles: the falls of the state of charge added up."
            " Wear: ess_wear_per_kwh for each kWh given."
        ),
    )
    blocks: list[Table | Paragraph] = [table]
    if account.bill_without is not None and account.bill_battery_alone is not None:
        demand = account.bill_without.demand - account.bill_battery_alone.demand
        energy = account.bill_without.energy - account.bill_battery_alone.energy
        shaved, shifted = (
            money_text(amount, account.terms.currency, signed=True) for amount in (demand, energy)
        )
        blocks.append(
            Paragraph(
                f"Against the month without us the batteries alone saved in demand charges"
                f" {shaved} (peaks shaved) and in energy {shifted}"
                " (cheap hours for dear ones, less what is lost on the way)."
            )
        )
    return Section(title="Battery", blocks=tuple(blocks))


def _events_section(account: MonthAccount) -> Section:
    table = Table(
        name="events",
        title="Grid events",
        columns=(
            Column(heading="Event"),
            Column(heading="Circuit"),
            Column(heading="From", kind="time"),
            Column(heading="To", kind="time"),
            number_column("Asked", "kW", digits=1),
            number_column("Delivered", "kW", digits=1),
            number_column("Delivered", "kWh", digits=2),
            number_column("Metered", "%", digits=0),
            Column(heading="Done"),
        ),
        rows=tuple(
            (
                event.event_id,
                event.circuit,
                event.starts_at.astimezone(account.zone),
                event.ends_at.astimezone(account.zone),
                kilo(event.promised_watts),
                kilo(event.delivered_watts),
                event.delivered_kwh,
                percent(event.coverage_ratio),
                event.delivered,
            )
            for event in account.events
        ),
        note="Done: at least 95 % of what was asked, by the event's own report; a limit, if it was kept.",
    )
    return Section(title="Grid events", blocks=(table,))


def _lever_section(levers: Sequence[LeverUse]) -> Section:
    table = Table(
        name="levers",
        title="What was done",
        columns=(
            Column(heading="Lever"),
            number_column("Times"),
            number_column("Jobs"),
            number_column("Users"),
            number_column("Most at once", "kW", digits=1),
        ),
        rows=tuple(
            (
                use.name,
                use.times,
                use.jobs,
                use.users,
                kilo(use.most_watts),
            )
            for use in levers
        ),
        note="From the ledger; the most that one use was reckoned to be worth.",
    )
    return Section(title="What was done", blocks=(table,))


def _comparison(account: MonthAccount, before: MonthAccount | None) -> Section:
    if before is None:
        return Section(title="The month before", blocks=(Paragraph("Nothing is known of the month before."),))

    def figures(one: MonthAccount) -> tuple[float | None, ...]:
        return (
            one.peak(one.import_watts)[0] / 1000.0,
            one.import_kwh,
            None if one.bill is None else one.bill.total,
            one.saved,
            one.co2_kg,
            100.0 * one.columns.coverage,
        )

    unit = money_unit(account.terms.currency)
    names = ("Peak (kW)", "Energy (kWh)", f"Bill ({unit})", f"Saved ({unit})", "CO2 (kg)", "Metered (%)")
    table = Table(
        name="month-before",
        title="The month before",
        columns=(
            Column(heading=""),
            number_column(account.label, digits=2),
            number_column(before.label, digits=2),
        ),
        rows=tuple(zip(names, figures(account), figures(before), strict=True)),
    )
    return Section(title="The month before", blocks=(table,))
