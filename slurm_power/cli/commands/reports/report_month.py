"""``slurm-power report month``: peak, bill and savings of a month, from ledger and series."""

from dataclasses import replace
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_power import clock
from slurm_power.cli.commands.reports.report_options import give, open_state, output_options, state_option
from slurm_power.config import ConfigError, SiteConfig, load_site
from slurm_power.config.supply import zone_named
from slurm_power.ports import LocalStore

if TYPE_CHECKING:  # numpy
    from slurm_power.report.month.month import MonthAccount
    from slurm_power.report.month.month_money import Alternative


@click.command()
@click.argument("label", metavar="MONTH", required=False)
@click.option("--month", "named", default=None, metavar="YYYY-MM", help="The same as MONTH.")
@state_option
@click.option(
    "--site",
    "site_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="site.toml: the tree, tariff, prices, carbon intensity and clock.",
)
@click.option(
    "--tariff",
    "tariff_file",
    type=click.Path(path_type=Path),
    help="A tariff instead of the site's: our TOML, URDB JSON (FILE#LABEL to choose), ACN JSON.",
)
@click.option("--circuit", default=None, help="What is billed (default: the site's root, or what drew most).")
@click.option("--zone", "zone_name", default=None, help="Without --site: the clock, such as Europe/Berlin.")
@click.option("--currency", default="", help="What the tariff's prices are in, such as EUR.")
@click.option("--bound", is_flag=True, help="Also the bill of a battery that knew the month beforehand.")
@click.option("--replay", is_flag=True, help="Also without us by the simulator, levers off; needs --site.")
@output_options
def month(  # noqa: PLR0917  # click gives them by name
    label: str | None,
    named: str | None,
    state_directory: Path,
    site_file: Path | None,
    tariff_file: Path | None,
    circuit: str | None,
    zone_name: str | None,
    currency: str,
    bound: bool,
    replay: bool,
    out: Path | None,
    table: str | None,
    as_json: bool,
) -> None:
    """Report a calendar month such as 2026-11, by the site's clock.

    What it was, what it would have been without us by replaying the same month, and what that is worth.
    """
    # numpy, and the tariffs of all kinds
    from slurm_power.controller.planning.month_terms import site_terms  # noqa: PLC0415  # what draws and reads a month is loaded for that alone
    from slurm_power.report.month.month_columns import month_bounds  # noqa: PLC0415  # what draws and reads a month is loaded for that alone
    from slurm_power.report.month.month_report import month_report  # noqa: PLC0415  # what draws and reads a month is loaded for that alone
    from slurm_power.signals.held_file import SupplyFileError  # noqa: PLC0415  # what draws and reads a month is loaded for that alone

    if (label is None) == (named is None):
        raise click.UsageError("give one month: report month 2026-11, or --month 2026-11")
    label = label or named or ""
    problems = []
    config, zone = None, None
    if site_file is not None:
        try:
            config = load_site(site_file)
        except ConfigError as error:
            problems += [f"--site: {problem}" for problem in error.problems]
        if zone_name is not None:
            problems.append("--zone: site.toml says the clock")
    elif replay:
        problems.append("--replay: needs --site, for the nodes")
    elif zone_name is not None and (zone := zone_named(zone_name)) is None:
        problems.append(f"--zone: {zone_name!r} is no time zone; write Europe/Berlin or UTC")
    terms = None
    if not problems:
        try:
            terms = site_terms(config, tariff_file, currency)
        except SupplyFileError as error:
            problems += error.problems
    if terms is not None and zone is not None:
        terms = replace(terms, supply=replace(terms.supply, zone=zone))
    try:
        month_bounds(label, UTC)
    except ValueError as error:
        problems.append(f"MONTH: {error}")
    if terms is None or problems:
        raise click.UsageError("\n".join(problems))
    with open_state(state_directory) as (store, recorded):
        document = month_report(
            store,
            recorded,
            label,
            terms,
            circuit=circuit,
            now=clock.now(),
            site=config.site.name if config is not None else "",
            bound=bound,
            replay=partial(_replay, store, config) if replay and config is not None else None,
            figures=out is not None and out.suffix == ".html",
        )
    give(document, out, table, as_json)


def _replay(store: LocalStore, config: SiteConfig, account: "MonthAccount") -> "Alternative":
    """The month's jobs in the virtual machine; why not, where it cannot run them."""
    from slurm_power.cli.commands.reports.month_replay import replayed  # noqa: PLC0415 - numpy
    from slurm_power.report.month.month_jobs import records_since  # noqa: PLC0415 - numpy
    from slurm_power.report.month.month_money import Alternative  # noqa: PLC0415 - numpy

    try:
        found = replayed(
            records_since(store, account.columns.start_seconds), account, config.site, config.policy
        )
    except ValueError as error:
        return Alternative(watts=None, text=f"The simulator cannot run this month's jobs: {error}.")
    left_out = f" {found.left_out} jobs without a known draw are left out." if found.left_out else ""
    return Alternative(
        watts=found.watts,
        text=(
            f"{found.jobs} jobs were run by the simulator with all levers off: each from the moment it could"
            " have started, when there were GPUs for it. The difference to the same jobs as they ran, put"
            f" onto the metered load, counts what holds delayed.{left_out}"
        ),
    )
