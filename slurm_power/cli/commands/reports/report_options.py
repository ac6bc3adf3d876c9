"""What all reports have in common at the command line: the state they read, and where they go."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table as TerminalTable

from slurm_power.cli.commands.connection import json_option
from slurm_power.cli.commands.quantities import plain_text
from slurm_power.ports import SeriesReader, StoreError
from slurm_power.report.frame.document import (
    Block,
    Document,
    Paragraph,
    Table,
    cell_text,
    document_json,
    out_problem,
    write_document,
)
from slurm_power.store.sqlite import SqliteStore

Command = TypeVar("Command", bound=Callable[..., Any])


def _state_option(*, required: bool) -> Callable[[Command], Command]:
    return click.option(
        "--state",
        "state_directory",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        required=required,
        help="The state directory of powerctld (or a copy).",
    )


state_option = _state_option(required=True)
# Of reports that may do without one: they say themselves when it is missing.
optional_state_option = _state_option(required=False)


def output_options(command: Command) -> Command:
    """Add ``--out``, ``--table`` and ``--json``: the arguments ``out``, ``table`` and ``as_json``."""
    command = json_option(command)
    command = click.option("--table", default=None, help="The one table that a .csv file is to hold.")(
        command
    )
    return click.option(
        "--out",
        type=click.Path(path_type=Path),
        default=None,
        callback=_checked_out,
        help="FILE.html, FILE.json, FILE.csv, or a folder for all tables as CSV (default: the terminal).",
    )(command)


def _checked_out(ctx: click.Context, param: click.Parameter, out: Path | None) -> Path | None:
    """Refuse a bad place before anything is computed."""
    if out is not None and (problem := out_problem(out)):
        raise click.BadParameter(problem, ctx, param)
    return out


@contextmanager
def open_state(state_directory: Path) -> Iterator[tuple[SqliteStore, SeriesReader]]:
    """Open ledger and series for reading, those of a running controller too.

    What goes wrong with them inside, a ValueError too, becomes a sentence for the user.
    """
    from slurm_power.store.places import LEDGER_NAME, open_series_reader  # noqa: PLC0415 - numpy

    file = state_directory / LEDGER_NAME
    if not file.is_file():
        raise click.ClickException(f"{file}: there is no store in this directory")
    try:
        store = SqliteStore(file, read_only=True)
        try:
            recorded = open_series_reader(state_directory)
            try:
                yield store, recorded
            finally:
                recorded.close()
        finally:
            store.close()
    except (sqlite3.Error, StoreError, ValueError) as error:
        raise click.ClickException(plain_text(f"{file}: {error}")) from None


def give(document: Document, out: Path | None, table: str | None, as_json: bool) -> None:
    """Write a report where it was asked for, or print it."""
    if out is None and table is not None and table not in document.tables:
        known = ", ".join(document.tables) or "none"
        raise click.BadParameter(f"there is no table {table!r}; there are: {known}", param_hint="--table")
    if out is not None:
        try:
            files = write_document(document, out, table)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--out") from None
        except OSError as error:
            raise out_refused(error, out) from None
        if not as_json:
            for file in files:
                click.echo(f"wrote {file}")
            return
    if as_json:
        click.echo(json.dumps(document_json(document), indent=2, allow_nan=False))
    else:
        _print(document, table)


def out_refused(error: OSError, out: Path) -> click.ClickException:
    """A file that could not be written, as a sentence."""
    place = error.filename or out
    return click.ClickException(f"{place}: {error.strerror or error}; nothing was written")


def _print(document: Document, table: str | None) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if table is not None:
        console.print(_terminal_table(document.tables[table]))
        return
    console.print(plain_text(document.title), style="bold")
    if document.subtitle:
        console.print(plain_text(document.subtitle))
    for name, value in document.labels.items():
        console.print(plain_text(f"{name}: {value}"))
    for check in document.checks:
        detail = f": {check.detail}" if check.detail else ""
        console.print(plain_text(f"{'ok' if check.good else 'NOT OK'}: {check.words}{detail}"))
    for tile in document.tiles:
        remark = f" ({tile.remark})" if tile.remark else ""
        console.print(plain_text(f"{tile.name}: {tile.value}{remark}"))
    for section in document.sections:
        console.print()
        console.print(plain_text(section.title), style="bold")
        for block in section.blocks:
            _print_block(console, block)
    if document.proof:
        console.print()
        console.print("Proof", style="bold")
        for line in document.proof:
            console.print(plain_text(line))


def _print_block(console: Console, block: Block) -> None:
    match block:
        case Table():
            console.print(_terminal_table(block))
        case Paragraph():
            console.print(plain_text(block.text))
        case _:
            console.print(plain_text(f"{block.title}: {block.text}"))


def _terminal_table(table: Table) -> TerminalTable:
    shown = TerminalTable(
        title=plain_text(table.title), title_justify="left", caption=plain_text(table.note) or None, box=None
    )
    for column in table.columns:
        shown.add_column(plain_text(column.title), justify="right" if column.kind == "number" else "left")
    for row in table.rows:
        cells = zip(row, table.columns, strict=True)
        shown.add_row(*(plain_text(cell_text(value, column)) for value, column in cells))
    return shown
