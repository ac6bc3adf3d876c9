"""The findings of shadow mode as a document."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from slurm_power.model.money import money_text, money_unit
from slurm_power.model.units import kilowatts_text
from slurm_power.report.frame.document import (
    Check,
    Column,
    Document,
    Figure,
    Paragraph,
    Section,
    Table,
    Tile,
    kilo,
    number_column,
    percent,
)
from slurm_power.report.shadow.shadow import ShadowFindings
from slurm_power.report.shadow.shadow_courses import Case

# Less of the span than this, and the figures speak of something else than the span.
_ENOUGH_RATIO = 0.9
_METHOD = (
    "Only watching changes nothing, so each wish was made in a site where no earlier wish had come true."
    " These figures are no replay: a second's watts are those that would have been taken in that second,"
    " and what was delayed does not come back later in them. Caps count with what their job drew above them."
    " Held starts take nothing off the course: such a job started all the same, and caps were wished for"
    " from then on; its wait is a lower bound."
)
_BATTERY = (
    "A battery that only watches stays charged, so the truth lies between two bounds: what one charge of it"
    " can give, put back only where charging was wished for, and a battery that is never empty."
)


def shadow_document(
    findings: ShadowFindings,
    *,
    circuit: str,
    labels: Mapping[str, str],
    others: Sequence[tuple[str, Case, Case]] = (),
    figure: str = "",
    proof: tuple[str, ...] = (),
    currency: str = "",
) -> Document:
    """A report; ``others``: circuits above their own limits, as they were and with the wishes.

    ``figure`` is SVG, "" without one; ``currency`` what the tariff counts, "" where nobody says.
    """
    was, best = findings.cases[0], findings.cases[-1]
    sections = [
        Section(
            title="What it would have saved",
            blocks=tuple(_saved(findings, circuit, others, figure, currency)),
        ),
        Section(title="What it would have delayed", blocks=_delayed(findings)),
        Section(title="How sure this is", blocks=_sure(findings)),
    ]
    return Document(
        title="Shadow mode: what would have been",
        subtitle=f"{circuit}: nothing was done; this is what slurm-power would have done",
        checks=(_limit_check(was, best, circuit), *_sure_checks(findings)),
        tiles=tuple(_tiles(findings, currency)),
        sections=tuple(sections),
        proof=proof,
        labels=labels,
    )


def _limit_check(was: Case, best: Case, circuit: str) -> Check:
    held = was.seconds_above == 0.0
    left = "" if held else f"with all it wished for: {_duration(best.seconds_above)}"
    return Check(
        good=held,
        yes=f"{circuit} stayed below its limit by itself",
        no=f"{circuit} was above its limit for {_duration(was.seconds_above)}, by up to"
        f" {kilowatts_text(was.worst_above_watts)}",
        detail=left,
    )


def _sure_checks(findings: ShadowFindings) -> list[Check]:
    share = f"{findings.coverage_ratio:.0%} of the span"
    checks = [
        Check(
            good=findings.coverage_ratio >= _ENOUGH_RATIO,
            yes=f"{share} was only watched, with a meter that answered",
            no=f"only {share} was watched with a meter that answered: the rest is in no figure",
        )
    ]
    right = findings.forecast
    if right is not None:
        checks.append(
            Check(
                good=right.mae_watts <= right.naive_mae_watts,
                yes="the forecast was better than the best naive one",
                no="the forecast was worse than the best naive one",
                detail=f"off by {kilowatts_text(right.mae_watts)} on average, the naive one by"
                f" {kilowatts_text(right.naive_mae_watts)}",
            )
        )
    return checks


def _tiles(findings: ShadowFindings, currency: str) -> list[Tile]:
    was, rest = findings.cases[0], findings.cases[1:]
    tiles = []
    if was.peak_watts is not None:
        peaks = [case.peak_watts for case in rest if case.peak_watts is not None]
        tiles.append(
            Tile(
                name="Peak (quarter of an hour)",
                value=kilowatts_text(was.peak_watts),
                remark=f"would have been {_between(peaks, kilowatts_text)}" if peaks else "",
            )
        )
    if was.bill is not None:
        bills = [case.bill for case in rest if case.bill is not None]
        tiles.append(
            Tile(
                name="Bill",
                value=money_text(was.bill, currency),
                remark=f"would have been {_between(bills, partial(money_text, currency=currency))}"
                if bills
                else "",
            )
        )
    delays = [job.delay_seconds for job in findings.jobs]
    tiles.append(
        Tile(
            name="Jobs that would have been touched",
            value=str(len(findings.jobs)),
            remark=f"the longest delay {_duration(max(delays))}" if delays else "",
        )
    )
    if findings.forecast is not None:
        tiles.append(
            Tile(
                name="Forecast inside its 80 % band",
                value=f"{findings.forecast.coverage_ratio:.0%}",
                remark=f"over {findings.forecast.hours} hours",
            )
        )
    return tiles


def _between(values: Sequence[float], text: Callable[[float], str]) -> str:
    low, high = text(min(values)), text(max(values))
    return low if low == high else f"between {low} and {high}"


def _saved(
    findings: ShadowFindings,
    circuit: str,
    others: Sequence[tuple[str, Case, Case]],
    figure: str,
    currency: str,
) -> list[Figure | Table | Paragraph]:
    blocks: list[Figure | Table | Paragraph] = []
    if figure:
        text = f"Power at {circuit} as it was and as it would have been, against its limit"
        blocks.append(Figure(title="Power", svg=figure, text=text))
    with_bill = any(case.bill is not None for case in findings.cases)
    columns = [
        Column(heading="course"),
        number_column("highest quarter", "kW", digits=1),
        number_column("above the limit", "s", digits=0),
        number_column("worst", "kW", digits=1),
        number_column("energy above", "kWh", digits=3),
        number_column("energy", "kWh", digits=1),
    ]
    blocks.append(
        Table(
            name="courses",
            title=f"{circuit} as it was, and as it would have been",
            columns=(*columns, number_column("bill", money_unit(currency), digits=2))
            if with_bill
            else tuple(columns),
            rows=tuple(
                (case.name, *_numbers(case), *((case.bill,) if with_bill else ())) for case in findings.cases
            ),
            note=_bill_note(findings) if with_bill else "",
        )
    )
    if others:
        blocks.append(
            Table(
                name="circuits",
                title="Other circuits that were above their limits",
                columns=(
                    Column(heading="circuit"),
                    number_column("above", "s", digits=0),
                    number_column("worst", "kW", digits=1),
                    number_column("above with all wishes", "s", digits=0),
                ),
                rows=tuple(
                    (name, was.seconds_above, was.worst_above_watts / 1000.0, would.seconds_above)
                    for name, was, would in others
                ),
            )
        )
    blocks.append(
        Table(
            name="levers",
            title="What was wished for",
            columns=(
                Column(heading="lever"),
                number_column("stood for", "s", digits=0),
                number_column("would have taken", "kWh", digits=3),
                number_column("at most", "kW", digits=1),
                number_column("jobs in one hour, at most", digits=0),
            ),
            rows=tuple(
                (lever.kind, lever.seconds, lever.kwh, lever.most_watts / 1000.0, lever.jobs)
                for lever in findings.levers
            ),
            note="Of held starts it tells what they would have added; they took nothing off the course.",
        )
    )
    return blocks


def _bill_note(findings: ShadowFindings) -> str:
    known = findings.quarters - findings.unknown_quarters
    return (
        f"Bills are of the {known:,} quarters of an hour of this span that are known, fixed and demand"
        " charges pro rata for them. One that is known in part counts with the mean of that part."
    )


def _numbers(case: Case) -> tuple[float | None, ...]:
    peak = kilo(case.peak_watts)
    return peak, case.seconds_above, case.worst_above_watts / 1000.0, case.kwh_above, case.kwh


def _delayed(findings: ShadowFindings) -> tuple[Table, ...]:
    return (
        Table(
            name="users",
            title="By user",
            columns=(
                Column(heading="user"),
                number_column("jobs", digits=0),
                number_column("touched", digits=0),
                number_column("delay of all", "s", digits=0),
                number_column("longest", "s", digits=0),
                number_column("GPU time lost", "h", digits=2),
                number_column("of all GPU time", "%", digits=1),
            ),
            rows=tuple(
                (
                    row.user,
                    row.jobs,
                    row.touched,
                    row.delay_seconds,
                    row.longest_delay_seconds,
                    row.lost_gpu_hours,
                    percent(row.slowdown_ratio),
                )
                for row in findings.users
            ),
            note="Jobs that nothing would have met count too.",
        ),
        Table(
            name="jobs",
            title="By job, the longest delay first",
            columns=(
                Column(heading="job"),
                Column(heading="user"),
                number_column("GPUs", digits=0),
                number_column("capped", "s", digits=0),
                number_column("lowest cap", "W", digits=0),
                number_column("slower by", "s", digits=0),
                number_column("held", "s", digits=0),
                number_column("paused", "s", digits=0),
                number_column("would have saved", "kWh", digits=3),
            ),
            rows=tuple(
                (
                    job.job_id,
                    job.user,
                    job.gpu_count,
                    job.capped_seconds,
                    job.lowest_cap_watts,
                    job.slowed_seconds,
                    job.held_seconds,
                    job.paused_seconds,
                    job.kwh,
                )
                for job in findings.jobs
            ),
        ),
    )


def _sure(findings: ShadowFindings) -> tuple[Paragraph, ...]:
    said = [Paragraph(_METHOD)]
    if findings.unknown_quarters:
        said.append(
            Paragraph(
                f"Unknown: {findings.unknown_quarters:,} of {findings.quarters:,} quarters of an hour:"
                " nobody measured, powerctld was away, or control was on. They are left out of both sides,"
                " of what was and of what would have been: of peaks, energy and bills alike. So the bills"
                " are of the other quarters alone, and lower than the utility's."
            )
        )
    if len(findings.cases) > 2:
        said.append(Paragraph(f"{_BATTERY} One charge is {findings.usable_kwh:.1f} kWh here."))
    right = findings.forecast
    if right is None:
        said.append(
            Paragraph("No hour tells how the forecast did: it was off, too young, or no hour is over yet.")
        )
    else:
        said.append(
            Paragraph(
                "The forecast of the next hour judges itself by what came:"
                f" {right.coverage_ratio:.0%} of outcomes were inside its 80 % band; it was worse than the"
                f" best naive one in {right.hours_beaten_by_naive} of {right.hours} hours."
            )
        )
    return tuple(said)


def _duration(seconds: float) -> str:
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 7200.0 else f"{seconds / 3600.0:.1f} h"
