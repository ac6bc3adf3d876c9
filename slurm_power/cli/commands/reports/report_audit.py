"""``slurm-power report audit``: a year's ledger for an auditor, and the check of such a folder."""

import re
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from slurm_power import __version__, clock
from slurm_power.cli.commands.connection import json_option, print_json
from slurm_power.cli.commands.quantities import plain_text
from slurm_power.cli.commands.reports.report_options import optional_state_option, out_refused
from slurm_power.model.series import Resolution
from slurm_power.ports import SeriesReader, StoreError
from slurm_power.report.audit.audit import Row, Year, YearChain, measured_excesses, year_chain
from slurm_power.report.audit.audit_check import verify_audit
from slurm_power.report.audit.audit_folder import write_audit
from slurm_power.report.frame.document import Table
from slurm_power.store.sqlite import SqliteStore

_YEARS = range(2000, 2200)


@click.command()
@click.argument("year", type=int, required=False)
@optional_state_option
@click.option("--out", type=click.Path(path_type=Path), help="The folder to write, new or empty.")
@click.option(
    "--verify",
    "verified",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Check such a folder instead of writing one.",
)
@click.option("--seal", help="With --verify: the seal that was printed when the folder was written.")
@json_option
def audit(  # noqa: PLR0917 - click passes each option by its name
    year: int | None,
    state_directory: Path | None,
    out: Path | None,
    verified: Path | None,
    seal: str | None,
    as_json: bool,
) -> None:
    """Write all that was decided in YEAR (by UTC) into a folder that a stranger can check.

    The whole ledger of the year, changes of the policy with their authors, operators' deeds, limits exceeded,
    appeals with their answers, and the proof of the chain before, within and after the year. Note the seal
    that is printed where nobody who could change the folder can write.
    """
    if verified is not None:
        if year is not None or state_directory is not None or out is not None:
            raise click.UsageError("--verify: goes with --seal alone")
        _verify(verified, seal, as_json=as_json)
        return
    problems = []
    if year is None or year not in _YEARS:
        problems.append("YEAR: write a year such as 2026")
    if state_directory is None:
        problems.append("--state: missing; the state directory of powerctld, or a copy")
    if out is None:
        problems.append("--out: missing; the folder to write")
    elif problem := _out_problem(out):
        problems.append(f"--out: {problem}")
    if seal is not None:
        problems.append("--seal: goes with --verify")
    if problems or year is None or state_directory is None or out is None:
        raise click.UsageError("\n       ".join(problems))
    _export(Year(number=year), state_directory, out, as_json=as_json)


def _out_problem(out: Path) -> str:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        return f"{out} is no folder"
    if out.is_dir() and any(out.iterdir()):
        return f"{out} is not empty; name a new folder"
    return "" if out.parent.is_dir() else f"there is no folder {out.parent}"


def _export(year: Year, state_directory: Path, out: Path, *, as_json: bool) -> None:
    from slurm_power.store.places import LEDGER_NAME, open_series_reader  # noqa: PLC0415 - numpy

    file = state_directory / LEDGER_NAME
    if not file.is_file():
        raise click.ClickException(f"{file}: there is no store in this directory")
    try:
        store = SqliteStore(file, read_only=True)
        try:
            chain = year_chain(_shown(store.rows(), "following the chain"), year)
            if not chain.within.entries:
                raise click.ClickException(_nothing(chain))
            recorded = open_series_reader(state_directory)
            try:
                measured = _measured(recorded, year)
            finally:
                recorded.close()
            written = write_audit(
                out,
                chain,
                lambda: _shown(_rows(store, chain), "writing the year", chain.within.entries),
                site=_site(store),
                made_at=clock.now(),
                version=__version__,
                measured=measured,
            )
        finally:
            store.close()
    except (sqlite3.Error, StoreError, ValueError) as error:
        raise click.ClickException(plain_text(f"{file}: {error}")) from None
    except OSError as error:
        raise out_refused(error, out) from None
    whole = chain.broken_at is None
    if as_json:
        print_json(
            {
                "folder": str(out),
                "year": year.number,
                "files": list(written.files),
                "rows": written.rows,
                "seal": written.seal,
                "whole": whole,
                "broken_at_sequence": chain.broken_at,
                "unsigned_changes": written.unsigned_changes,
                "open_appeals": written.open_appeals,
            }
        )
    else:
        click.echo(f"wrote {len(written.files)} files into {out}, {chain.within.entries} ledger entries")
        click.echo(f"seal: {written.seal}")
        if written.unsigned_changes:
            click.echo(f"note: {written.unsigned_changes} changes of the policy are unsigned")
        if written.open_appeals:
            click.echo(f"note: {written.open_appeals} appeals wait for an answer")
    if not whole:
        click.echo(
            f"The ledger is NOT whole: entry {chain.broken_at} does not follow from its past.", err=True
        )
        sys.exit(1)


def _nothing(chain: YearChain) -> str:
    if chain.first_at is None or chain.last_at is None:
        return "the ledger has no entry"
    span = f"{chain.first_at:%Y-%m-%d} to {chain.last_at:%Y-%m-%d}"
    return f"the ledger has no entry of {chain.year.number}; it goes from {span}"


def _shown(rows: Iterable[Row], what: str, total: int | None = None) -> Iterator[Row]:
    """The same rows, with a bar at a terminal: a year may be millions."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(what, total=total)
        for number, row in enumerate(rows):
            if number % 1000 == 0:
                progress.update(task, completed=number)
            yield row


def _rows(store: SqliteStore, chain: YearChain) -> Iterator[Row]:
    first, last = chain.within.first_sequence or 0, chain.within.last_sequence or 0
    for row in store.rows(first - 1):
        if row[0] > last:
            return
        yield row


def _site(store: SqliteStore) -> str:
    """The site's name as the controller has noted it last."""
    book = store.state("policy_book")
    values = book.get("values") if isinstance(book, dict) else None
    return str(values.get("site.name") or "the site") if isinstance(values, dict) else "the site"


def _measured(recorded: SeriesReader, year: Year) -> Table | None:
    names = set(recorded.names())
    circuits = {}
    for name in sorted(names):
        if not (name.startswith("circuit.") and name.endswith(".limit_watts")):
            continue
        circuit = name.removeprefix("circuit.").removesuffix(".limit_watts")
        draw = f"circuit.{circuit}.watts"
        if draw in names:
            found = recorded.read([draw, name], year.start, year.end, Resolution.QUARTER_HOUR)
            circuits[circuit] = (found[draw], found[name])
    return measured_excesses(circuits) if circuits else None


def _verify(folder: Path, seal: str | None, *, as_json: bool) -> None:
    if seal is not None:
        seal = seal.strip().lower()
        if re.fullmatch("[0-9a-f]{64}", seal) is None:
            raise click.BadParameter("a seal has 64 digits 0-9 and a-f", param_hint="--seal")
    problems = [plain_text(problem) for problem in verify_audit(folder, seal)]
    if as_json:
        print_json({"good": not problems, "problems": problems})
    elif problems:
        for problem in problems[:100]:
            click.echo(problem, err=True)
        if len(problems) > 100:
            click.echo(f"and {len(problems) - 100} more", err=True)
    else:
        sealed = "" if seal is not None else "; without --seal it may have been written anew as a whole"
        click.echo(f"{folder}: complete and unchanged{sealed}")
    if problems:
        sys.exit(1)
