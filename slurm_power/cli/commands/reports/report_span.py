"""``slurm-power report span``: what the ledger and the series of a controller add up to, as one HTML file."""

from pathlib import Path

import click

from slurm_power.cli.commands.connection import json_option, print_json
from slurm_power.cli.commands.progress_bar import progress_bar
from slurm_power.cli.commands.reports.report_options import open_state, out_refused, state_option
from slurm_power.cli.commands.reports.stored import report_data


@click.command()
@state_option
@click.option(
    "--out", "out_file", type=click.Path(path_type=Path), required=True, help="The HTML file to write."
)
@click.option("--circuit", default=None, help="The circuit to judge (default: the one that draws most).")
@click.option("--title", default="Power report", show_default=True)
@json_option
def span(state_directory: Path, out_file: Path, circuit: str | None, title: str, as_json: bool) -> None:
    """Write all that a state directory holds as a self-contained HTML page."""
    from slurm_power.report.frame.html import write_report  # noqa: PLC0415 - matplotlib, a second and an extra

    with open_state(state_directory) as (store, recorded), progress_bar("reading ledger and series"):
        data = report_data(store, recorded, circuit=circuit, title=title)
    try:
        write_report(data, out_file)
    except OSError as error:
        raise out_refused(error, out_file) from None
    if as_json:
        print_json({"file": str(out_file), "held": data.verdict.limit_held, "jobs": len(data.jobs)})
    else:
        click.echo(f"wrote {out_file}")
