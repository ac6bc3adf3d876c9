"""``slurm-power report energy``: energy of each job, user and account, up to the meter."""

import math
from datetime import datetime
from pathlib import Path

import click

from slurm_power import clock
from slurm_power.cli.commands.connection import socket_option
from slurm_power.cli.commands.reports.own_energy import own_energy
from slurm_power.cli.commands.reports.report_options import (
    give,
    open_state,
    optional_state_option,
    output_options,
)
from slurm_power.cli.commands.reports.report_spans import asked_span, site_of, span_options
from slurm_power.ports import SeriesReader
from slurm_power.report.audit.proof import chain_proof
from slurm_power.store.sqlite import SqliteStore

_SURE_RATIO = 0.95
_MOST_JOBS = 500
# Of a month with gaps the bill is reckoned with what was filled in, and would not be that of the meter.
_WHOLE_RATIO = 0.999


@click.command()
@optional_state_option
@click.option(
    "--mine",
    is_flag=True,
    help="Your own jobs alone, by Slurm's accounting and powerctld's socket: needs no rights, no --state.",
)
@socket_option
@span_options
@click.option(
    "--by",
    type=click.Choice(["job", "user", "account"]),
    default="user",
    show_default=True,
    help="What comes first; job lists every job, else the 500 that used most, and the others together.",
)
@click.option(
    "--energy-bill",
    type=float,
    default=None,
    metavar="AMOUNT",
    help="The energy part of the bill: costs are scaled so that they add up to it.",
)
@output_options
def energy(  # noqa: PLR0917  # click gives them by name
    state_directory: Path | None,
    mine: bool,
    socket_path: Path | None,
    month: str | None,
    since: datetime | None,
    until: datetime | None,
    site_file: Path | None,
    by: str,
    energy_bill: float | None,
    out: Path | None,
    table: str | None,
    as_json: bool,
) -> None:
    """Say what each job, user and account used, so that it adds up to the meter.

    What no job used stands in lines of its own: idle GPUs, hosts, batteries, and the residual of each
    circuit. With --mine, for every user: their own jobs, and sums by account of these.
    """
    from slurm_power.report.energy.energy import statement  # noqa: PLC0415 - only here
    from slurm_power.report.energy.energy_document import EnergyReport, energy_document  # noqa: PLC0415 - only here
    from slurm_power.report.energy.energy_jobs import job_uses  # noqa: PLC0415 - only here
    from slurm_power.report.energy.energy_reading import read_metered  # noqa: PLC0415 - only here

    asked = asked_span(month, since, until)
    if mine:
        others = {"--state": state_directory, "--site": site_file, "--energy-bill": energy_bill}
        if given := [name for name, value in others.items() if value is not None]:
            raise click.UsageError(f"{', '.join(given)}: not with --mine, which reads no site's files")
        give(own_energy(asked, socket_path), out, table, as_json)
        return
    if socket_path is not None:
        raise click.UsageError("--socket: goes with --mine; all others' jobs are read from --state")
    if state_directory is None:
        raise click.UsageError(
            "--state: missing; the state directory of powerctld, or a copy. Without its rights: --mine"
        )
    if energy_bill is not None and not math.isfinite(energy_bill):
        raise click.BadParameter("must be an amount of money, such as 1234.50", param_hint="--energy-bill")
    with open_state(state_directory) as (store, recorded):
        site = site_of(store, site_file)
        first, last = asked.bounds(site.zone)
        metered = read_metered(recorded, site, first, last)
        priced = metered.priced_ratio >= _SURE_RATIO
        if energy_bill is None and site_file is not None and asked.month is not None and priced:
            whole = metered.covered.seconds(first.timestamp(), last.timestamp())
            if whole >= _WHOLE_RATIO * (last - first).total_seconds():
                energy_bill = _billed(site_file, store, recorded, asked.month, last)
        if energy_bill is not None and not priced:
            raise click.BadParameter(
                "prices are known for less than 95 % of this time, so no bill can be shared by them",
                param_hint="--energy-bill",
            )
        made = statement(
            metered.circuits,
            job_uses(store, recorded, metered.covered, first, last, now=clock.now()),
            most_listed=None if by == "job" else _MOST_JOBS,
            energy_bill=energy_bill,
            has_costs=priced,
            has_carbon=metered.carbon_ratio >= _SURE_RATIO,
            currency=site.currency,
        )
        proof = chain_proof(store.rows())
    report = EnergyReport(
        made=made,
        metered=metered,
        site=site,
        since=first,
        until=last,
        span_words=asked.words(site.zone),
        by=by,
        proof=proof,
        made_at=clock.now(),
        billed=energy_bill is not None,
    )
    give(energy_document(report), out, table, as_json)


def _billed(
    site_file: Path, store: SqliteStore, recorded: SeriesReader, month: tuple[int, int], until: datetime
) -> float | None:
    """The energy part of the month's bill by the site's tariff, as ``report month`` has it; None without one.

    Raises BadParameter for files of the site that cannot be used.
    """
    from slurm_power.config.site import load_site  # noqa: PLC0415 - only here
    from slurm_power.controller.planning.month_terms import site_terms  # noqa: PLC0415 - only here
    from slurm_power.report.month.month import month_account  # noqa: PLC0415 - only here
    from slurm_power.signals.held_file import SupplyFileError  # noqa: PLC0415 - only here

    try:
        terms = site_terms(load_site(site_file))
    except SupplyFileError as error:
        raise click.BadParameter("\n".join(error.problems), param_hint="--site") from None
    if terms.rules is None:
        return None
    bill = month_account(store, recorded, f"{month[0]}-{month[1]:02}", terms, until=until).bill
    return None if bill is None else bill.energy
