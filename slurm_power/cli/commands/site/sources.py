"""``slurm-power sources``: how far each reading of the site can be trusted, in one table."""

from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from slurm_power.cli.commands.connection import (
    Answer,
    ask,
    json_option,
    print_json,
    printable,
    socket_option,
)
from slurm_power.cli.commands.quantities import duration_text, percent_text, watts_text
from slurm_power.cli.commands.screen import is_narrow, screen

_COLOURS = {"good": "green", "questionable": "yellow", "invalid": "red"}


@click.command()
@click.option("--bad", is_flag=True, help="Only those that are not good; exit status 1 if there are any.")
@socket_option
@json_option
def sources(bad: bool, socket_path: Path | None, as_json: bool) -> None:
    """Show how far each meter, node and battery can be trusted.

    Every source with its value, age, quality and why.

    Coverage is the share of the last ten minutes' readings that could be used. Residual is what a meter shows
    above what it feeds explains, with the losses that have been learned.
    """
    answer = ask({"op": "sources"}, socket_path)
    rows = [row for row in answer["sources"] if not bad or row["quality"] != "good"]
    if as_json:
        print_json({**answer, "sources": rows})
    elif rows:
        console = screen()
        console.print(_table(printable(rows), narrow=is_narrow(console)))
    else:
        click.echo("every source is good")
    if bad and rows:
        raise SystemExit(1)


def _table(rows: list[Answer], *, narrow: bool) -> Table:
    table = Table(box=None, header_style="dim")
    table.add_column("source", no_wrap=True)
    if narrow:
        table.add_column("quality", no_wrap=True)
        table.add_column("why")
        for row in rows:
            colour = _COLOURS[row["quality"]]
            table.add_row(
                escape(row["source"]), f"[{colour}]{row['quality']}[/{colour}]", escape(row["reason"])
            )
        return table
    table.add_column("measures")
    for heading in ("power", "age", "quality", "coverage", "residual"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("why")
    for row in rows:
        colour = _COLOURS[row["quality"]]
        table.add_row(
            escape(row["source"]),
            escape(row["measures"]),
            watts_text(row["watts"]),
            duration_text(row["age_seconds"]),
            f"[{colour}]{row['quality']}[/{colour}]",
            percent_text(row["coverage_ratio"]),
            watts_text(row["residual_watts"]),
            escape(row["reason"]),
        )
    return table
