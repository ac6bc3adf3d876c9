"""``slurm-power report shadow``: what would have been saved and delayed while powerctld only watched."""

import importlib.util
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_power import clock
from slurm_power.cli.commands.quantities import plain_text
from slurm_power.cli.commands.reports.report_options import give, open_state, output_options, state_option
from slurm_power.cli.commands.reports.report_spans import asked_span, span_options
from slurm_power.config import ConfigError, SiteConfig, load_site
from slurm_power.config.supply import zone_named
from slurm_power.model.series import Resolution
from slurm_power.ports import SeriesReader
from slurm_power.report.site_facts import SITE_KEY, site_facts

if TYPE_CHECKING:
    from slurm_power.report.shadow.shadow_courses import Billing, ShadowColumns

_WEEK = timedelta(days=7)
# What is added up at this moment belongs to a span that ends now.
_STILL_OPEN = timedelta(minutes=1)
# Up to here every tick is read, in steps of five seconds; beyond that, means of a minute.
_RAW_SECONDS = 3 * 3600.0
_RAW_STEP_SECONDS = 5.0
_MOST_CIRCUITS = 20
# A read goes through all that is stored; of too many at once a week does not fit into memory.
_READ_AT_ONCE = 30


@click.command()
@state_option
@span_options
@click.option("--circuit", default=None, help="The circuit to judge (default: the grid connection).")
@click.option(
    "--tariff",
    "tariff_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=None,
    help="A tariff, to tell the bill too, instead of the site's.",
)
@click.option(
    "--zone", "zone_name", default=None, help="Without --site: the clock that bills are made by (else UTC)."
)
@output_options
def shadow(
    *,
    state_directory: Path,
    month: str | None,
    since: datetime | None,
    until: datetime | None,
    site_file: Path | None,
    circuit: str | None,
    tariff_file: Path | None,
    zone_name: str | None,
    out: Path | None,
    table: str | None,
    as_json: bool,
) -> None:
    """Tell what slurm-power would have done while it only watched (policy.control = false).

    What would have been saved and delayed, whom it would have met, and how sure that is. Without a span of
    the last seven days.
    """
    from slurm_power.report.audit.proof import chain_proof  # noqa: PLC0415 - only when called
    from slurm_power.report.shadow.shadow import shadow_findings  # noqa: PLC0415 - numpy
    from slurm_power.report.shadow.shadow_courses import cases  # noqa: PLC0415 - numpy
    from slurm_power.report.shadow.shadow_document import shadow_document  # noqa: PLC0415 - only when called
    from slurm_power.report.shadow.shadow_wishes import open_entries  # noqa: PLC0415 - numpy

    if month is None and since is None:
        since = (until or clock.now()) - _WEEK
    asked = asked_span(month, since, until)
    config = _site(site_file, zone_name)
    zone = config.zone if config is not None else _zone(zone_name or "UTC")
    billing = _billing(tariff_file or (config.supply.tariff_file if config is not None else None), zone)
    since, until = asked.bounds(zone)
    with open_state(state_directory) as (store, recorded):
        names = recorded.names()
        if "shadow.withheld_watts" not in names:
            raise click.ClickException(
                f"{state_directory}: powerctld has never only watched here (policy.control = false),"
                " or keeps its series elsewhere: there is nothing to report"
            )
        name = _circuit(names, circuit)
        root = f"shadow.{name}.relief_watts" not in names
        (columns,) = _columns(recorded, [name], since, until, root=root)
        entries = [entry for entry in store.entries(since) if entry.at < until]
        if clock.now() - until < _STILL_OPEN:
            entries += open_entries(store.state("shadow"), until)
        records = {job_id: record for job_id, record in store.jobs().items() if _ended_after(record, since)}
        proof = chain_proof(store.rows())
        site = site_facts(store.state(SITE_KEY))
        currency = "" if site is None else site.currency
        if config is not None:
            currency = config.supply.currency or ""
        others = []
        below = _others(names, name) if root else []
        for few in (below[at : at + _READ_AT_ONCE] for at in range(0, len(below), _READ_AT_ONCE)):
            for other, seen in zip(few, _columns(recorded, few, since, until, root=False), strict=True):
                found = cases(seen, 0.0)
                if found[0].seconds_above > 0.0:
                    others.append((other, found[0], found[-1]))
    findings = shadow_findings(columns, entries, records, billing)
    drawn = out is not None and out.suffix == ".html" and importlib.util.find_spec("matplotlib") is not None
    figure = ""
    if drawn:
        from slurm_power.report.shadow.shadow_figure import shadow_figure  # noqa: PLC0415 - matplotlib

        figure = shadow_figure(columns, name)
    document = shadow_document(
        findings,
        circuit=name,
        others=sorted(others, key=lambda row: -row[1].seconds_above)[:_MOST_CIRCUITS],
        figure=figure,
        proof=proof.lines,
        labels={
            "from": f"{datetime.fromtimestamp(columns.start_seconds, UTC):%Y-%m-%d %H:%M} UTC",
            "until": f"{until:%Y-%m-%d %H:%M} UTC",
            "circuit": name,
            "steps": f"{columns.step_seconds:.0f} s",
        },
        currency=currency,
    )
    give(document, out, table, as_json)


def _site(site_file: Path | None, zone_name: str | None) -> SiteConfig | None:
    if site_file is None:
        return None
    if zone_name is not None:
        raise click.BadParameter("site.toml says the clock", param_hint="--zone")
    try:
        return load_site(site_file)
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="--site") from None


def _zone(name: str) -> tzinfo:
    found = zone_named(name)
    if found is None:
        raise click.BadParameter(f"{name!r} is no time zone", param_hint="--zone")
    return found


def _billing(tariff_file: Path | None, zone: tzinfo) -> "Billing | None":
    from slurm_power.report.shadow.shadow_courses import Billing  # noqa: PLC0415 - numpy
    from slurm_power.signals.billing_file import read_billing_rules  # noqa: PLC0415 - only with a tariff
    from slurm_power.signals.held_file import SupplyFileError  # noqa: PLC0415 - only with a tariff

    if tariff_file is None:
        return None
    try:
        return Billing(rules=read_billing_rules(tariff_file), zone=zone)
    except SupplyFileError as error:
        raise click.BadParameter(plain_text(str(error)), param_hint="--tariff") from None


def _circuit(names: Sequence[str], asked: str | None) -> str:
    """The circuit that is asked for; the one that no relief is kept of apart is the grid connection."""
    circuits = [each.removeprefix("circuit.").removesuffix(".limit_watts") for each in names if _limit(each)]
    if asked is not None:
        if asked not in circuits:
            raise click.BadParameter(
                f"no series of circuit {asked!r}; there are: {', '.join(circuits) or 'none'}",
                param_hint="--circuit",
            )
        return asked
    known = set(names)
    roots = [name for name in circuits if f"shadow.{name}.relief_watts" not in known]
    if len(roots) != 1:
        raise click.UsageError(
            f"which circuit is to be judged? give --circuit: {', '.join(roots or circuits)}"
        )
    return roots[0]


def _others(names: Sequence[str], root: str) -> list[str]:
    known = set(names)
    circuits = [each.removeprefix("circuit.").removesuffix(".limit_watts") for each in names if _limit(each)]
    return [name for name in circuits if name != root and f"shadow.{name}.relief_watts" in known]


def _limit(name: str) -> bool:
    return name.startswith("circuit.") and name.endswith(".limit_watts")


def _ended_after(record: Mapping[str, object], since: datetime) -> bool:
    """Whether a job's record may be of the span; one that does not say when it ran counts."""
    started, seconds = record.get("started"), record.get("seconds")
    if record.get("state") != "ended" or not isinstance(started, str) or not isinstance(seconds, int | float):
        return True
    try:
        return datetime.fromisoformat(started) + timedelta(seconds=seconds) >= since
    except (ValueError, TypeError, OverflowError):
        return True


def _columns(
    recorded: SeriesReader, circuits: Sequence[str], since: datetime, until: datetime, *, root: bool
) -> "list[ShadowColumns]":
    """The columns of circuits; the relief of those that are not the root is in the place of caps."""
    from slurm_power.report.shadow.shadow_courses import ShadowColumns, grid_means  # noqa: PLC0415 - numpy

    raw = (until - since).total_seconds() <= _RAW_SECONDS
    step = _RAW_STEP_SECONDS if raw else float(Resolution.MINUTE)
    wanted = {
        name: (
            f"circuit.{name}.watts",
            f"circuit.{name}.limit_watts",
            "shadow.withheld_watts" if root else f"shadow.{name}.relief_watts",
            "shadow.discharge_watts",
        )
        for name in circuits
    }
    series = sorted({each for names in wanted.values() for each in names})
    points = recorded.read(series, since, until, Resolution.RAW if raw else Resolution.MINUTE)
    moments = [point.at_seconds for each in points.values() for point in (*each[:1], *each[-1:])]
    if not moments:
        raise click.ClickException(f"there are no series of {circuits[0]} since {since:%Y-%m-%d %H:%M} UTC")
    start = min(moments) // step * step
    count = int((max(moments) - start) // step) + 1
    found = []
    for names in wanted.values():
        watts, limit, withheld, discharge = (grid_means(points[each], start, step, count) for each in names)
        found.append(
            ShadowColumns(
                start_seconds=start,
                step_seconds=step,
                watts=watts,
                limit_watts=limit,
                withheld_watts=withheld,
                discharge_watts=discharge if root else 0.0 * discharge,
            )
        )
    return found
