"""Which form a store's file has, how an older one is brought to today's, and who must not touch a newer one.

The number is SQLite's ``user_version``. Files of before it have 0 and are told by their tables.
"""

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from slurm_power.ports import StoreError
from slurm_power.store.private import private_file


class NewerSchemaError(StoreError):
    """A file was written by a later slurm-power. It has not been touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """One kind of file: its ``version`` today and its tables, as SQL that makes those that are missing.

    ``recognise`` tells the version of a file that has tables but no number; ``steps`` bring a file from the
    version that they stand under to the next, within one transaction. ``copied``: a file is copied before
    it is changed; series may be too large for that, and their steps so far change no row.
    """

    what: str
    version: int
    tables: str
    recognise: Callable[[sqlite3.Connection], int]
    steps: Mapping[int, tuple[str, ...]]
    copied: bool = True


def stored_version(connection: sqlite3.Connection, schema: Schema) -> int:
    """The version of an open file; 0 for one without tables."""
    stamped = int(connection.execute("PRAGMA user_version").fetchone()[0])
    return stamped or schema.recognise(connection)


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Whether an open file has a table of that name."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,))
    return found.fetchone() is not None


def refuse_newer(connection: sqlite3.Connection, schema: Schema, file: Path) -> None:
    """Raise NewerSchemaError for a file that this program does not know."""
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > schema.version:
        raise NewerSchemaError(
            f"{file}: has schema {found} of {schema.what}, and this slurm-power knows {schema.version}:"
            " install the newer slurm-power again, or restore the copy that was made before the upgrade"
            f" ({copy_name(file, found)}); nothing was changed"
        )


def copy_name(file: Path, version: int) -> str:
    """Where the copy is that is made before a file is brought to a version."""
    return f"{file.name}.before-schema-{version}"


def look_before_opening(file: Path, schema: Schema) -> None:
    """Raise NewerSchemaError before anything of a file is opened for writing."""
    if not file.is_file() or file.stat().st_size == 0:
        return
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5.0)) as connection:
        refuse_newer(connection, schema, file)


def bring_up_to_date(connection: sqlite3.Connection, schema: Schema, file: Path) -> int:
    """Make an open file's tables, or bring them to today's version; returns what was found.

    A file that has to be changed is copied first, to the file beside it that ``copy_name`` says. All steps
    happen or none; raises NewerSchemaError, sqlite3.Error, OSError.
    """
    refuse_newer(connection, schema, file)
    found = stored_version(connection, schema)
    if found == schema.version:
        return found
    if found and schema.copied:
        _copy(connection, file.with_name(copy_name(file, schema.version)))
    steps = [line for version in range(found, schema.version) for line in schema.steps.get(version, ())]
    script = ";\n".join(["BEGIN IMMEDIATE", schema.tables.strip().rstrip(";"), *(steps if found else ())])
    try:
        connection.executescript(f"{script};\nPRAGMA user_version = {schema.version};\nCOMMIT;")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.rollback()
        raise
    return found


def _copy(connection: sqlite3.Connection, target: Path) -> None:
    """Copy an open file; an older copy of that name gives way only to a whole new one."""
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    private_file(partial)
    with closing(sqlite3.connect(partial)) as copy:
        connection.backup(copy)
    partial.replace(target)


def _ledger_version(connection: sqlite3.Connection) -> int:
    if has_table(connection, "sample"):
        return 1
    return 2 if has_table(connection, "ledger") else 0


def _series_version(connection: sqlite3.Connection) -> int:
    return 1 if has_table(connection, "series") else 0


LEDGER = Schema(
    what="the ledger",
    version=3,
    tables="""
CREATE TABLE IF NOT EXISTS ledger (
    seq INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason TEXT NOT NULL,
    job_id TEXT,
    user TEXT,
    saved_watts REAL,
    details TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS ledger_job ON ledger (job_id);
CREATE INDEX IF NOT EXISTS ledger_user ON ledger (user);
CREATE INDEX IF NOT EXISTS ledger_at ON ledger (at);
CREATE TABLE IF NOT EXISTS job (
    job_id TEXT PRIMARY KEY,
    record TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS state (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
""",
    recognise=_ledger_version,
    # 1: series in a table ``sample``, which stays readable until its last row is a week old. 2: series in a
    # file of their own. 3: the number, so that a program of before a change can tell that it does not know.
    steps={},
)
SERIES = Schema(
    what="the series",
    version=2,
    tables="""
CREATE TABLE IF NOT EXISTS series (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, step REAL NOT NULL, UNIQUE (name, step)
);
CREATE TABLE IF NOT EXISTS tick (at_ms INTEGER PRIMARY KEY, ids BLOB NOT NULL, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS block (start_ms INTEGER PRIMARY KEY, times BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS chunk (
    tier INTEGER NOT NULL, start_ms INTEGER NOT NULL, part INTEGER NOT NULL,
    members BLOB NOT NULL, data BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS chunk_by_part ON chunk (tier, part, start_ms);
CREATE INDEX IF NOT EXISTS chunk_by_time ON chunk (tier, start_ms);
""",
    recognise=_series_version,
    # 1: without a number. 2: with it.
    steps={},
    copied=False,
)
