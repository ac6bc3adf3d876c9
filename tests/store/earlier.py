"""The files that earlier versions of slurm-power wrote, by the very SQL that they made them with."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

from slurm_power.model.ledger import GENESIS_HASH, LedgerEntry, chained_hash
from slurm_power.store.series import SqliteSeries
from tests.store.contract_series import START

_LEDGER = """
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
"""
_SAMPLE = """
CREATE TABLE IF NOT EXISTS sample (
    at REAL NOT NULL,
    name TEXT NOT NULL,
    value REAL,
    PRIMARY KEY (at, name)
) WITHOUT ROWID;
"""
_REST = """
CREATE TABLE IF NOT EXISTS job (
    job_id TEXT PRIMARY KEY,
    record TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS state (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
"""
# By the schema's number: the first version of slurm-power, and the one that gave series their own file.
LEDGERS = {1: _LEDGER + _SAMPLE + _REST, 2: _LEDGER + _REST}
REASONS = ("tight", 'with "quotes"', "\N{SNOWMAN} and more")


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        yield connection
        connection.commit()


def earlier_ledger(file: Path, version: int, *, sampled: int = 10) -> None:
    """Write a ledger of a version with three entries, a job and a state; the first has series of its own."""
    with _opened(file) as connection:
        connection.executescript(LEDGERS[version])
        last = GENESIS_HASH
        for number, reason in enumerate(REASONS):
            entry = LedgerEntry(
                at=START + timedelta(seconds=number),
                actor="guard",
                kind="cap",
                subject="job:17",
                reason=reason,
                job_id="17",
                user="alice",
                saved_watts=700.0 * number,
                details={"cap_watts": 400.0},
            )
            last = chained_hash(last, entry)
            connection.execute(
                "INSERT INTO ledger (at, actor, kind, subject, reason, job_id, user, saved_watts, details,"
                " hash) VALUES (?,?,?,?,?,?,?,?,?,?)",
                (
                    *(entry.at.isoformat(), entry.actor, entry.kind, entry.subject, entry.reason),
                    *(entry.job_id, entry.user, entry.saved_watts, '{"cap_watts": 400.0}', last),
                ),
            )
        connection.execute('INSERT INTO job VALUES (\'17\', \'{"user": "alice", "seconds": 20.0}\')')
        connection.execute("INSERT INTO state VALUES ('fairness', '{\"users\": {}}')")
        if version == 1:
            connection.executemany(
                "INSERT INTO sample VALUES (?, 'circuit.grid.watts', ?)",
                [(START.timestamp() + second, 900.0 + second) for second in range(sampled)],
            )


def earlier_series(file: Path) -> None:
    """Write series of version 1: as today's, without a number."""
    series = SqliteSeries(file)
    for second in range(130):
        series.add(START + timedelta(seconds=second), {"circuit.grid.watts": 1000.0 + second})
    series.close()
    with _opened(file) as connection:
        connection.execute("PRAGMA user_version = 0")
