"""The statement of energy as a report: lines, tree, users, accounts, jobs."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from slurm_power.model.money import money_text, money_unit
from slurm_power.model.series import Resolution
from slurm_power.report.audit.proof import ChainProof
from slurm_power.report.energy.energy import CircuitRow, Group, Statement
from slurm_power.report.energy.energy_reading import Metered
from slurm_power.report.energy.energy_tally import JobUse, total
from slurm_power.report.frame.document import (
    Check,
    Column,
    Document,
    Paragraph,
    Section,
    Table,
    Tile,
    Value,
    kilo,
    number_column,
    percent,
)
from slurm_power.report.site_facts import SiteFacts

_KWH = 3.6e6
_LEAST_GAP_SECONDS = 900.0
_MOST_GAPS = 50
_DASH = "\N{EN DASH}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyReport:
    """What the document is made of; ``span_words`` names the span, ``by`` what comes first of who used it."""

    made: Statement
    metered: Metered
    site: SiteFacts
    since: datetime
    until: datetime
    span_words: str
    by: str
    proof: ChainProof
    made_at: datetime
    billed: bool = False


def energy_document(report: EnergyReport) -> Document:
    """The report; names of users and jobs stand in it as they are, the frame makes them harmless."""
    made = report.made
    return Document(
        title=f"Energy statement of {report.site.name}",
        subtitle=report.span_words,
        checks=tuple(_checks(report)),
        tiles=tuple(_tiles(made)),
        sections=(
            Section(title="From the jobs to the meter", blocks=(_lines(made), Paragraph(_method(report)))),
            Section(title="Circuits", blocks=(_tree(made),)),
            *_who(report),
            *_gaps(report),
        ),
        proof=report.proof.lines,
        labels={
            "Site": report.site.name,
            "From": f"{report.since.astimezone(report.site.zone):%Y-%m-%d %H:%M:%S %Z}",
            "Until": f"{report.until.astimezone(report.site.zone):%Y-%m-%d %H:%M:%S %Z}",
            "Meter": made.metered.remark.partition(",")[0],
            "Made": f"{report.made_at:%Y-%m-%d %H:%M:%S} UTC",
        },
    )


def _checks(report: EnergyReport) -> Iterator[Check]:
    made = report.made
    total = sum(line.watt_hours for line in made.lines)
    yield Check(
        good=total == made.metered.watt_hours,
        yes="The lines add up to the meter",
        no="The lines do not add up to the meter",
        detail=f"{total / 1000.0:.3f} kWh of {made.metered.watt_hours / 1000.0:.3f} kWh",
    )
    yield Check(
        good=not made.is_estimate,
        yes="The meter was read",
        no="An estimate: the meter was read for less than 95 % of the span",
        detail=f"{100.0 * made.covered_ratio:.1f} % of it",
    )
    unsure = made.tally.unsure
    yield Check(
        good=not unsure,
        yes="The energy of all jobs is known",
        no="Of some jobs the energy is an estimate",
        detail=f"{unsure} of {made.tally.count} were read for less than 95 % of their time",
    )
    yield report.proof.check


def _tiles(made: Statement) -> Iterator[Tile]:
    word = "estimate" if made.is_estimate else ""
    yield Tile(name="Meter", value=f"{made.metered.watt_hours / 1000.0:.1f} kWh", remark=word)
    joules = made.tally.used.joules
    share = joules / 3600.0 / made.metered.watt_hours if made.metered.watt_hours else 0.0
    yield Tile(name="GPUs of jobs", value=f"{joules / _KWH:.1f} kWh", remark=f"{100.0 * share:.1f} % of it")
    rest = sum(line.watt_hours for line in made.lines if line.name.startswith("residual of "))
    part = rest / made.metered.watt_hours if made.metered.watt_hours else 0.0
    yield Tile(name="Residuals", value=f"{rest / 1000.0:.1f} kWh", remark=f"{100.0 * part:.1f} % of it")
    if made.metered.cost is not None:
        yield Tile(name="Energy cost", value=money_text(made.metered.cost, made.currency))
    if made.metered.carbon_grams is not None:
        yield Tile(name="CO2", value=f"{made.metered.carbon_grams / 1000.0:.1f} kg")


def _money_columns(made: Statement) -> tuple[Column, ...]:
    cost = (number_column("Cost", money_unit(made.currency), digits=2),) if made.has_costs else ()
    carbon = (number_column("CO2", "kg", digits=1),) if made.has_carbon else ()
    return cost + carbon


def _money(made: Statement, cost: float | None, grams: float | None) -> tuple[Value, ...]:
    return ((cost,) if made.has_costs else ()) + ((kilo(grams),) if made.has_carbon else ())


def _lines(made: Statement) -> Table:
    def row(
        line_name: str, watt_hours: int, cost: float | None, grams: float | None, remark: str
    ) -> tuple[Value, ...]:
        share = watt_hours / made.metered.watt_hours if made.metered.watt_hours else None
        return (line_name, watt_hours / 1000.0, percent(share), *_money(made, cost, grams), remark)

    rows = [row(one.name, one.watt_hours, one.cost, one.carbon_grams, one.remark) for one in made.lines]
    whole = made.metered
    rows.append(row("sum = meter", whole.watt_hours, whole.cost, whole.carbon_grams, whole.remark))
    return Table(
        name="lines",
        title="Lines",
        columns=(
            Column(heading="Line"),
            number_column("Energy", "kWh", digits=3),
            number_column("Share", "%", digits=1),
            *_money_columns(made),
            Column(heading="What it is"),
        ),
        rows=tuple(rows),
    )


def _tree(made: Statement) -> Table:
    def row(one: CircuitRow) -> tuple[Value, ...]:
        ratio = one.residual_ratio
        parts = (
            one.metered_watt_hours,
            one.below_watt_hours,
            one.job_gpu_watt_hours,
            one.idle_gpu_watt_hours,
            one.host_watt_hours,
            one.battery_watt_hours,
            one.residual_watt_hours,
        )
        return (
            one.name,
            one.parent or "",
            *(part / 1000.0 for part in parts),
            percent(ratio),
            100.0 * one.coverage_ratio,
            100.0 * one.estimated_ratio,
        )

    energies = ("Meter", "Meters below", "GPUs of jobs", "Idle GPUs", "Hosts", "Batteries", "Residual")
    return Table(
        name="circuits",
        title="What each meter counted, and what hangs on it directly",
        columns=(
            Column(heading="Circuit"),
            Column(heading="Fed by"),
            *(number_column(name, "kWh", digits=3) for name in energies),
            number_column("Residual", "%", digits=1),
            number_column("Read", "% of the span", digits=1),
            number_column("Of that estimated", "%", digits=1),
        ),
        rows=tuple(row(one) for one in made.circuits),
        note="GPUs by power readings. Meter = all other columns of energy together.",
    )


def _who(report: EnergyReport) -> Iterator[Section]:
    made = report.made
    sections = [("user", "Users"), ("account", "Accounts")]
    for by, title in reversed(sections) if report.by == "account" else sections:
        yield Section(title=title, blocks=(_groups(made, by),))
    yield Section(title="Jobs", blocks=(_jobs(made),))


def _groups(made: Statement, by: str) -> Table:
    def row(group: Group) -> tuple[Value, ...]:
        hosts = None if group.hosts_joules is None else group.hosts_joules / _KWH
        return (
            group.name,
            group.jobs,
            group.gpu_hours,
            group.joules / _KWH,
            100.0 * group.share_ratio,
            hosts,
            100.0 * group.coverage_ratio,
            "estimate" if group.is_estimate else "",
            *_money(made, group.cost, group.carbon_grams),
            group.whole_joules / _KWH,
            *_money(made, group.whole_cost, group.whole_carbon_grams),
        )

    cost = [number_column("Part of the cost", money_unit(made.currency), digits=2)]
    cost = cost if made.has_costs else []
    carbon = [number_column("Part of CO2", "kg", digits=1)] if made.has_carbon else []
    return Table(
        name=f"{by}s",
        title=f"Energy by {by}, the most first",
        columns=(
            Column(heading=by.capitalize()),
            number_column("Jobs", digits=0),
            number_column("GPU time", "GPU-hours", digits=1),
            number_column("GPUs", "kWh", digits=3),
            number_column("Of all jobs", "%", digits=1),
            number_column("Hosts", "kWh", digits=3),
            number_column("Read", "%", digits=1),
            Column(heading="How sure"),
            *_money_columns(made),
            number_column("Part of the meter", "kWh", digits=3),
            *cost,
            *carbon,
        ),
        rows=tuple(row(group) for group in made.groups(by)),
        note=(
            "Cost is of the GPUs alone, at the prices of the time they drew. A part of the meter is what all"
            " lines come to if they are shared by the energy of the jobs' GPUs: these parts add up to the"
            " meter, and to the energy part of the bill."
        ),
    )


def _jobs(made: Statement) -> Table:
    listed = made.jobs

    def row(job: JobUse) -> tuple[Value, ...]:
        coverage = percent(job.coverage_ratio)
        return (
            job.job_id,
            job.user,
            job.account,
            job.name,
            job.gpu_seconds / 3600.0,
            job.used.joules / _KWH,
            coverage,
            "estimate" if job.is_estimate else "",
            job.method,
            *_money(made, job.used.cost, job.used.carbon_grams),
        )

    rows = [row(job) for job in listed]
    others = made.tally.count - len(listed)
    if others:
        rest = made.tally.used.less(total(job.used for job in listed))
        gpu_seconds = sum(sums.gpu_seconds for sums in made.tally.users.values())
        gpu_hours = (gpu_seconds - sum(job.gpu_seconds for job in listed)) / 3600.0
        words = (
            f"{others} others",
            "",
            "",
            "",
            gpu_hours,
            rest.joules / _KWH,
            None,
            "",
            "--by job lists all",
        )
        rows.append((*words, *_money(made, rest.cost, rest.carbon_grams)))
    return Table(
        name="jobs",
        title="Jobs, the most energy first",
        columns=(
            Column(heading="Job"),
            Column(heading="User"),
            Column(heading="Account"),
            Column(heading="Name"),
            number_column("GPU time", "GPU-hours", digits=1),
            number_column("GPUs", "kWh", digits=3),
            number_column("Read", "%", digits=1),
            Column(heading="How sure"),
            Column(heading="Known by"),
            *_money_columns(made),
        ),
        rows=tuple(rows),
    )


def _gaps(report: EnergyReport) -> Iterator[Section]:
    found = report.metered.covered.gaps(
        report.since.timestamp(), report.until.timestamp(), _LEAST_GAP_SECONDS
    )
    if not found:
        return
    rows = tuple(
        (datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC), (last - first) / 3600.0)
        for first, last in found[:_MOST_GAPS]
    )
    more = f"and {len(found) - _MOST_GAPS} more" if len(found) > _MOST_GAPS else ""
    table = Table(
        name="gaps",
        title="When the meter was not read",
        columns=(
            Column(heading="From", kind="time"),
            Column(heading="Until", kind="time"),
            number_column("Hours", digits=2),
        ),
        rows=rows,
        note=more,
    )
    yield Section(title="Gaps", blocks=(table,))


def _method(report: EnergyReport) -> str:
    fine = "minutes" if report.metered.resolution is Resolution.MINUTE else "quarters of an hour"
    found = (
        f"Read by {fine}; each watt counts only while the meter of the top was read, so that all adds up, and"
        " rounding to whole watt-hours is in the last residual. Jobs that cross an end of the span are cut"
        " there by their recorded power, without it evenly in time."
    )
    if not report.made.has_costs:
        return f"{found} No costs: prices are known for less than 95 % of the time."
    if report.billed:
        return f"{found} Costs are scaled so that they add up to the energy part of the bill."
    return f"{found} Costs are by the energy price of each moment; demand and fixed charges are not in them."
