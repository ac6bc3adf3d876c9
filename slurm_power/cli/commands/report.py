"""``slurm-power report``: what the ledger and the series of a controller add up to, as one HTML file."""

import sqlite3
from pathlib import Path

import click

from slurm_power.cli.commands.connection import json_option, print_json
from slurm_power.cli.commands.stored import report_data
from slurm_power.ports import StoreError
from slurm_power.store.sqlite import SqliteStore


@click.command()
@click.option(
    "--state",
    "state_directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="The state directory of powerctld (or a copy).",
)
@click.option(
    "--out", "out_file", type=click.Path(path_type=Path), required=True, help="The HTML file to write."
)
@click.option("--circuit", default=None, help="The circuit to judge (default: the one that draws most).")
@click.option("--title", default="Power report", show_default=True)
@json_option
def report(state_directory: Path, out_file: Path, circuit: str | None, title: str, as_json: bool) -> None:
    """Write a self-contained HTML report."""
    from slurm_power.report.html import write_report  # noqa: PLC0415 - matplotlib, a second and an extra
    from slurm_power.store.places import LEDGER_NAME, open_series_reader  # noqa: PLC0415 - numpy

    file = state_directory / LEDGER_NAME
    if not file.is_file():
        raise click.ClickException(f"{file}: there is no store in this directory")
    try:
        store = SqliteStore(file, read_only=True)
        try:
            recorded = open_series_reader(state_directory)
            try:
                data = report_data(store, recorded, circuit=circuit, title=title)
            finally:
                recorded.close()
        finally:
            store.close()
    except (sqlite3.Error, StoreError, ValueError) as error:
        raise click.ClickException(f"{file}: {error}") from None
    write_report(data, out_file)
    if as_json:
        print_json({"file": str(out_file), "held": data.verdict.limit_held, "jobs": len(data.jobs)})
    else:
        click.echo(f"wrote {out_file}")
