"""A year's audit as a folder of files that a stranger can check: written whole or not at all."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from slurm_power.report.audit.audit import Findings, Row, YearChain, ledger_line, ledger_table
from slurm_power.report.frame.document import (
    Check,
    Document,
    Paragraph,
    Section,
    Table,
    Tile,
    render_html,
    table_csv,
)

FORMAT = "slurm-power audit 1"
MANIFEST = "manifest.json"
LEDGER, CSV, CHAIN, _README, _PAGE = "ledger.jsonl", "ledger.csv", "chain.json", "README.txt", "audit.html"
_MEASURED = "limits-measured.csv"
# Of a longer table the page shows the first rows; its file has them all.
_MOST_SHOWN = 500
_BATCH = 2000

_WORDS = """\
Audit of {site}, {year} (by UTC)

ledger.jsonl         every entry of the ledger of that year, oldest first: its number, its hash, and as
                     "canonical" the text that was hashed, to the letter
ledger.csv           the same for a spreadsheet; control characters are marked, and a text that a spreadsheet
                     would take for a formula has an apostrophe in front
policy-changes.csv   each change of the policy, from what to what and by whom
deeds.csv            what operators and signals have done
limits-exceeded.csv  limits that could not be held, as the guard wrote them down
limits-measured.csv  quarter hours above their limit, by the meters (there only if series were kept)
appeals.csv          what users appealed against, and the answers
chain.json           the hash before the year, its first and last, and what came after until this was made
audit.html           the same in short, for reading
manifest.json        the SHA-256 of each file

To check it:  slurm-power report audit --verify FOLDER --seal SEAL

SEAL is the SHA-256 of manifest.json, which was printed when this was made, and is worth what the place is
worth where it was noted. Without slurm-power: each hash is the SHA-256 of the hash before, a line feed, and
the canonical text, as UTF-8. The first entry is chained to "hash_before" of chain.json.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written: its files, how many rows each has, and the seal to be noted elsewhere."""

    files: tuple[str, ...]
    rows: dict[str, int]
    seal: str
    unsigned_changes: int
    open_appeals: int


def write_audit(
    folder: Path,
    chain: YearChain,
    rows: Callable[[], Iterable[Row]],
    *,
    site: str,
    made_at: datetime,
    version: str,
    measured: Table | None = None,
) -> Written:
    """Write the folder. ``rows`` gives those of the year. Raises OSError with the path; then nothing is
    there.

    ``folder`` must not be there, or be empty.
    """
    part = folder.resolve().with_name(f".{folder.resolve().name}.{uuid.uuid4().hex}.part")
    try:
        part.mkdir(mode=0o700)
        written = _write(part, chain, rows, site=site, made_at=made_at, version=version, measured=measured)
        part.chmod(0o755)
        part.replace(folder.resolve())
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(folder)) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return written


def _write(
    part: Path,
    chain: YearChain,
    rows: Callable[[], Iterable[Row]],
    *,
    site: str,
    made_at: datetime,
    version: str,
    measured: Table | None,
) -> Written:
    findings = Findings()
    count = 0

    def passing() -> Iterator[Row]:
        nonlocal count
        for row in rows():
            findings.add(row)
            count += 1
            yield row

    _put(part / LEDGER, (ledger_line(row) for row in passing()))
    _put(part / CSV, csv_texts(rows()))
    tables = findings.tables()
    for table in tables:
        _put(part / f"{table.name}.csv", [table_csv(table)])
    if measured is not None:
        _put(part / _MEASURED, [table_csv(measured)])
        tables = (*tables, measured)
    facts = chain_facts(chain)
    _put(part / CHAIN, [_json(facts)])
    _put(part / _README, [_WORDS.format(site=site, year=chain.year.number)])
    _put(part / _PAGE, [render_html(_page(chain, findings, tables, count, site=site, made_at=made_at))])
    names = sorted(path.name for path in part.iterdir())
    counts = {LEDGER: count, **{f"{table.name}.csv": len(table.rows) for table in tables}}
    manifest = {
        "format": FORMAT,
        "site": site,
        "year": chain.year.number,
        "made_at": made_at.isoformat(),
        "made_by": f"slurm-power {version}",
        "rows": counts,
        "files": {
            name: {"sha256": sha256_of(part / name), "bytes": (part / name).stat().st_size} for name in names
        },
    }
    _put(part / MANIFEST, [_json(manifest)])
    return Written(
        files=(*names, MANIFEST),
        rows=counts,
        seal=sha256_of(part / MANIFEST),
        unsigned_changes=len(findings.unsigned),
        open_appeals=findings.open_appeals,
    )


def chain_facts(chain: YearChain) -> dict[str, Any]:
    """The chain's proof as plain values."""
    return {
        "year": chain.year.number,
        "hash_before": chain.hash_before,
        "before": chain.before.row(),
        "within": chain.within.row(),
        "after": chain.after.row(),
        "broken_at_sequence": chain.broken_at,
        "formula": 'hash = sha256(previous hash + "\\n" + canonical)',
    }


def _page(
    chain: YearChain,
    findings: Findings,
    tables: tuple[Table, ...],
    count: int,
    *,
    site: str,
    made_at: datetime,
) -> Document:
    whole = chain.broken_at is None
    checks = (
        Check(
            good=whole,
            yes="The ledger is whole, before the year, within it and after it.",
            no=f"The ledger is NOT whole: entry {chain.broken_at} was altered, removed or inserted.",
        ),
        Check(
            good=not findings.unsigned,
            yes="Somebody stands for each change of the policy.",
            no=f"{len(findings.unsigned)} changes of the policy are unsigned.",
        ),
        Check(
            good=not findings.open_appeals,
            yes="Each appeal is answered.",
            no=f"{findings.open_appeals} appeals wait for an answer.",
        ),
    )
    tiles = (
        Tile(name="Ledger entries", value=str(count)),
        *(Tile(name=table.title, value=str(len(table.rows))) for table in tables),
    )
    proof = (
        f"Before the year: {chain.before.entries} entries, hash {chain.hash_before}",
        f"Within it: entries {chain.within.first_sequence} to {chain.within.last_sequence}",
        f"Its first hash is {chain.within.first_hash}, its last {chain.within.last_hash}",
        f"After it: {chain.after.entries} entries until this was made, hash {chain.after.last_hash or '-'}",
        "To check: slurm-power report audit --verify FOLDER --seal SEAL.",
    )
    return Document(
        title=f"Audit {chain.year.number}",
        subtitle="All that was decided in a year, for an auditor",
        labels={"Site": site, "Made": made_at.isoformat(timespec="seconds")},
        checks=checks,
        tiles=tiles,
        sections=tuple(Section(title=table.title, blocks=_shown(table)) for table in tables),
        proof=proof,
    )


def _shown(table: Table) -> tuple[Table | Paragraph, ...]:
    if len(table.rows) <= _MOST_SHOWN:
        return (table,)
    words = f"The first {_MOST_SHOWN} of {len(table.rows)} rows; {table.name}.csv has them all."
    short = Table(
        name=table.name,
        title=table.title,
        columns=table.columns,
        rows=table.rows[:_MOST_SHOWN],
        note=table.note,
    )
    return Paragraph(words), short


def csv_texts(rows: Iterable[Row]) -> Iterator[str]:
    """The table of all entries, a piece at a time."""
    yield table_csv(ledger_table(()))
    left = iter(rows)
    while batch := tuple(islice(left, _BATCH)):
        yield table_csv(ledger_table(batch)).partition("\r\n")[2]


def _put(path: Path, texts: Iterable[str]) -> None:
    with path.open("x", encoding="utf-8", newline="") as file:
        for text in texts:
            file.write(text)
        file.flush()
        # Some file systems say only now that there is no room.
        os.fsync(file.fileno())


def _json(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
