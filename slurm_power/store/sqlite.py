"""The embedded store: one SQLite file with the hash-chained ledger, jobs and small state."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from slurm_power import clock
from slurm_power.model.ledger import GENESIS_HASH, LedgerEntry, chained_hash
from slurm_power.ports import StoreError
from slurm_power.store.private import private_file
from slurm_power.store.schema import LEDGER, bring_up_to_date, copy_name, look_before_opening, refuse_newer

# Both halves are ranges of an index, cut before they are put together.
_VISIBLE = """
SELECT seq FROM (
    SELECT seq FROM ledger WHERE user = :user AND seq > :after ORDER BY seq LIMIT :most
) UNION SELECT seq FROM (
    SELECT seq FROM ledger WHERE job_id IS NULL AND user IS NULL AND seq > :after ORDER BY seq LIMIT :most
)"""
# Before series had a file of their own they were rows here, kept for a week.
_OLD_SAMPLES_SECONDS = 7 * 86_400.0
_LEDGER_COLUMNS = "at, actor, kind, subject, reason, job_id, user, saved_watts, details, hash"
_INSERT = f"INSERT INTO ledger ({_LEDGER_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)"  # noqa: S608  # constant


class SqliteStore:
    """One open store. Only one process may write; readers may come and go.

    Ledger rows are on disk when ``append`` returns, and are kept for ever, as job records are. A file of an
    older version is brought to today's when it is opened for writing, after a copy; one of a newer version is
    not touched: NewerSchemaError.
    """

    def __init__(self, file: Path, *, read_only: bool = False) -> None:
        self.file = file
        if read_only:
            self._connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5.0)
            try:
                refuse_newer(self._connection, LEDGER, file)
            except StoreError:
                self._connection.close()
                raise
            was = LEDGER.version
        else:
            look_before_opening(file, LEDGER)
            private_file(file)
            self._connection = sqlite3.connect(file, timeout=5.0)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            was = bring_up_to_date(self._connection, LEDGER, file)
            self._drop_old_samples()
        self._last_hash = self._stored_last_hash()
        self._checked = (0, GENESIS_HASH)
        if 0 < was < LEDGER.version:
            self._note_migration(was)

    @property
    def copy_problem(self) -> str:
        """There is no copy of this one."""
        return ""

    def states(self) -> dict[str, object]:
        """All remembered values."""
        rows = self._connection.execute("SELECT key, value FROM state")
        return {key: json.loads(value) for key, value in rows}

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _note_migration(self, was: int) -> None:
        copy = copy_name(self.file, LEDGER.version)
        self.append(
            LedgerEntry(
                at=clock.now(),
                actor="controller",
                kind="migration",
                subject="store:ledger",
                reason=f"schema {was} became {LEDGER.version}; as it was before it is kept in {copy}",
                details={"from_version": was, "to_version": LEDGER.version},
            )
        )

    def _drop_old_samples(self) -> None:
        """Drop the series of an older version a week after the last was written; its pages are used again."""
        there = self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sample'").fetchone()
        if there is None:
            return
        newest = self._connection.execute("SELECT MAX(at) FROM sample").fetchone()[0] or 0.0
        if newest < clock.now().timestamp() - _OLD_SAMPLES_SECONDS:
            with self._transaction() as connection:
                connection.execute("DROP TABLE sample")

    def _stored_last_hash(self) -> str:
        row = self._connection.execute("SELECT hash FROM ledger ORDER BY seq DESC LIMIT 1").fetchone()
        return row[0] if row else GENESIS_HASH

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connection:
            yield self._connection

    @contextmanager
    def _durable_transaction(self) -> Iterator[sqlite3.Connection]:
        # The ledger must survive a power cut; a job's running figures may lose their last seconds.
        self._connection.execute("PRAGMA synchronous=FULL")
        try:
            with self._transaction() as connection:
                yield connection
        finally:
            self._connection.execute("PRAGMA synchronous=NORMAL")

    def append(self, entry: LedgerEntry) -> None:
        """Write one ledger entry durably, chained to the one before."""
        chained = chained_hash(self._last_hash, entry)
        with self._durable_transaction() as connection:
            connection.execute(_INSERT, (*_columns(entry), chained))
        self._last_hash = chained

    def fill(
        self,
        entries: Iterable[LedgerEntry],
        jobs: Mapping[str, Mapping[str, object]],
        states: Mapping[str, object],
    ) -> int:
        """Append what another store held, durably and all or nothing; returns how many entries came."""
        count, last_hash = 0, self._last_hash
        with self._durable_transaction() as connection:
            for entry in entries:
                last_hash = chained_hash(last_hash, entry)
                connection.execute(_INSERT, (*_columns(entry), last_hash))
                count += 1
            _put_jobs(connection, jobs)
            _put_states(connection, states)
        self._last_hash = last_hash
        return count

    def entries(self, since: datetime | None = None, job_id: str | None = None) -> list[LedgerEntry]:
        """Ledger entries, oldest first, optionally from ``since`` on and of one job."""
        return [entry for _, entry, _ in self.rows(since=since, job_id=job_id)]

    def rows(
        self,
        after_sequence: int = 0,
        *,
        since: datetime | None = None,
        job_id: str | None = None,
        visible_to: str | None = None,
        most: int | None = None,
    ) -> Iterator[tuple[int, LedgerEntry, str]]:
        """Ledger rows as (sequence, entry, stored hash), oldest first, those after ``after_sequence``.

        ``visible_to`` leaves entries about that user and about nobody. With ``most`` the work is
        bounded by the number of rows wanted and those of the job, not by the length of the ledger.
        """
        wanted = {
            "after": after_sequence,
            "since": since.astimezone(UTC).isoformat() if since else None,
            "job": job_id,
            "user": visible_to,
            "most": -1 if most is None else most,
        }
        if since is not None:
            first = self._connection.execute(
                "SELECT seq FROM ledger WHERE at >= :since ORDER BY at LIMIT 1", wanted
            ).fetchone()
            if first is None:
                return
            wanted["after"] = max(after_sequence, first[0] - 1)
        condition = "seq > :after AND (:since IS NULL OR at >= :since)"
        if job_id is not None:
            condition += " AND job_id = :job AND (:user IS NULL OR user = :user)"
        elif visible_to is not None:
            condition += f" AND seq IN ({_VISIBLE})"
        rows = self._connection.execute(
            f"SELECT seq, {_LEDGER_COLUMNS} FROM ledger WHERE {condition} ORDER BY seq LIMIT :most",  # noqa: S608  # constant text
            wanted,
        )
        for sequence, *columns in rows:
            yield (sequence, *_entry(columns))

    @property
    def checked_sequence(self) -> int:
        """The last ledger entry that ``broken_at_sequence`` has found in order; 0 before the first."""
        return self._checked[0]

    def broken_at_sequence(self, most: int | None = None) -> int | None:
        """Sequence of the first ledger entry that was altered, removed or inserted; None for a whole chain.

        Entries checked once are not read again while this store stays open. With ``most``, no more than
        that many are looked at in one call: None then speaks for those up to ``checked_sequence``. Entries
        cut off at the end are missed, unless this store has written them.
        """
        sequence, stored = self._checked
        for current, entry, stored_hash in self.rows(sequence, most=most):
            if current != sequence + 1 or chained_hash(stored, entry) != stored_hash:
                return sequence + 1
            sequence, stored = current, stored_hash
            self._checked = (sequence, stored)
        return None

    def put_job(self, job_id: str, record: Mapping[str, object]) -> None:
        """Store what is known of a job, replacing what was."""
        self.put_jobs({job_id: record})

    def put_jobs(self, records: Mapping[str, Mapping[str, object]]) -> None:
        """Store what is known of several jobs at once."""
        with self._transaction() as connection:
            _put_jobs(connection, records)

    def job(self, job_id: str) -> dict[str, object]:
        """What is known of one job; {} for an unknown one."""
        row = self._connection.execute("SELECT record FROM job WHERE job_id = ?", (job_id,)).fetchone()
        return json.loads(row[0]) if row else {}

    def jobs(self) -> dict[str, dict[str, object]]:
        """All job records by job id."""
        rows = self._connection.execute("SELECT job_id, record FROM job")
        return {job_id: json.loads(record) for job_id, record in rows}

    def latest_jobs(self, before: int | None, most: int) -> list[tuple[int, dict[str, object]]]:
        """Up to ``most`` records, the last written first, each with a number; those with lower ones only."""
        # A record that is replaced becomes the newest row.
        rows = self._connection.execute(
            "SELECT rowid, record FROM job WHERE :before IS NULL OR rowid < :before"
            " ORDER BY rowid DESC LIMIT :most",
            {"before": before, "most": most},
        )
        return [(number, json.loads(record)) for number, record in rows]

    def put_state(self, key: str, value: object) -> None:
        """Remember a small JSON value across restarts."""
        with self._transaction() as connection:
            _put_states(connection, {key: value})

    def state(self, key: str, default: object = None) -> object:
        """Read back a remembered value."""
        row = self._connection.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else default


def _put_jobs(connection: sqlite3.Connection, records: Mapping[str, Mapping[str, object]]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO job (job_id, record) VALUES (?,?)",
        [(job_id, json.dumps(dict(record))) for job_id, record in records.items()],
    )


def _put_states(connection: sqlite3.Connection, values: Mapping[str, object]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO state (key, value) VALUES (?,?)",
        [(key, json.dumps(value)) for key, value in values.items()],
    )


def _columns(entry: LedgerEntry) -> tuple[object, ...]:
    return (
        entry.at.isoformat(),
        entry.actor,
        entry.kind,
        entry.subject,
        entry.reason,
        entry.job_id,
        entry.user,
        entry.saved_watts,
        json.dumps(dict(entry.details)),
    )


def _entry(row: Iterable[object]) -> tuple[LedgerEntry, str]:
    at, actor, kind, subject, reason, job_id, user, saved_watts, details, stored_hash = row
    entry = LedgerEntry(
        at=datetime.fromisoformat(str(at)),
        actor=str(actor),
        kind=str(kind),
        subject=str(subject),
        reason=str(reason),
        job_id=None if job_id is None else str(job_id),
        user=None if user is None else str(user),
        saved_watts=saved_watts if isinstance(saved_watts, float) else None,
        details=json.loads(str(details)),
    )
    return entry, str(stored_hash)
