"""``slurm-power report fairness``: who was slowed or held, by how much, and whether promises were kept."""

from dataclasses import replace
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import click

from slurm_power import clock
from slurm_power.cli.commands.reports.report_options import give, open_state, output_options, state_option
from slurm_power.cli.commands.reports.report_spans import asked_span, site_of, span_options
from slurm_power.report.audit.proof import chain_proof


@click.command()
@state_option
@span_options
@click.option(
    "--anonymous",
    is_flag=True,
    help="For publishing: pseudonyms in place of names and jobs, and nothing of what people wrote.",
)
@output_options
def fairness(  # noqa: PLR0917  # click gives them by name
    state_directory: Path,
    month: str | None,
    since: datetime | None,
    until: datetime | None,
    site_file: Path | None,
    anonymous: bool,
    out: Path | None,
    table: str | None,
    as_json: bool,
) -> None:
    """Say who was slowed or held, by how much, and how evenly that lies on users and accounts.

    With promises kept and exceeded, each user's part of each grid event, and appeals with their answers.
    """
    from slurm_power.report.fairness.fairness import fairness as sums  # noqa: PLC0415 - only here
    from slurm_power.report.fairness.fairness_document import (  # noqa: PLC0415 - only here
        FairnessReport,
        distribution_words,
        fairness_document,
        without_names,
    )
    from slurm_power.report.fairness.fairness_reading import (  # noqa: PLC0415 - only here
        job_losses,
        read_events,
        read_ledger,
    )

    asked = asked_span(month, since, until)
    with open_state(state_directory) as (store, _):
        site = site_of(store, site_file)
        first, last = asked.bounds(site.zone)
        ledger = read_ledger(store, first, last)
        fair = sums(job_losses(store, ledger, first, last, now=clock.now()), site.wait_lost_ratio)
        report = FairnessReport(
            fair=fair,
            events=read_events(store, first, last),
            appeals=ledger.appeals,
            site=site,
            since=first,
            until=last,
            span_words=asked.words(site.zone),
            proof=chain_proof(store.rows()),
            made_at=clock.now(),
        )
    if anonymous:
        report = without_names(report)
    if fair.users and out is not None and out.suffix == ".html" and find_spec("matplotlib") is not None:
        from slurm_power.report.fairness.fairness_figure import fairness_figure  # noqa: PLC0415 - an extra

        ratios = [share.lost_ratio for share in fair.users]
        report = replace(report, figure=fairness_figure(ratios, distribution_words(fair)))
    give(fairness_document(report), out, table, as_json)
