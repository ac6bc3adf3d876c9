"""Ledger and metadata in PostgreSQL: one database for each site, one writer at a time.

An entry stands as the JSON text that its hash is over; the columns beside it are for queries, and are
compared with it when the chain is checked. All JSON is kept as text: the json type refuses NaN and NUL.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg

from slurm_power.model.ledger import GENESIS_HASH, LedgerEntry, chained_hash
from slurm_power.ports import StoreError
from slurm_power.store.schema import NewerSchemaError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger (
    seq bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    job_id text,
    user_name text,
    saved_watts double precision,
    reason text NOT NULL,
    entry text NOT NULL,
    hash text NOT NULL
);
CREATE INDEX IF NOT EXISTS ledger_job ON ledger (job_id, seq);
CREATE INDEX IF NOT EXISTS ledger_user ON ledger (user_name, seq);
CREATE INDEX IF NOT EXISTS ledger_at ON ledger (at);
CREATE TABLE IF NOT EXISTS job (job_id text PRIMARY KEY, record text NOT NULL);
CREATE TABLE IF NOT EXISTS state (key text PRIMARY KEY, value text NOT NULL);
CREATE TABLE IF NOT EXISTS schema_version (one boolean PRIMARY KEY CHECK (one), version integer NOT NULL);
INSERT INTO schema_version VALUES (true, 2) ON CONFLICT (one) DO UPDATE SET version = excluded.version;
"""
# 1: without the table of the version. 2: with it.
_VERSION = 2
_COLUMNS = "seq, at, actor, kind, subject, job_id, user_name, saved_watts, reason, entry, hash"
_INSERT = f"INSERT INTO ledger ({_COLUMNS}) VALUES (%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s)"  # noqa: S608  # constant
# Any number that nobody else is likely to use: the advisory lock of the one writer.
_WRITER_LOCK = 7_310_579_120_114_311
_FETCHED_ROWS = 1000
_CONNECT_SECONDS = 5
# A server ends the session of a writer that has just gone some time after that has let go.
_CLAIM_SECONDS = 3


class PostgresStore:
    """One open store; raises StoreError for whatever the server does not do, and connects again by itself.

    Rows are on the server's disk when ``append`` returns, unless the server is told otherwise.
    """

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        """Connect and make the tables; raises StoreError, also while another writer has the database."""
        self._url = url
        self._read_only = read_only
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._last = (0, GENESIS_HASH)
        self._checked = (0, GENESIS_HASH)
        self._connected()

    @property
    def copy_problem(self) -> str:
        """There is no copy of this one."""
        return ""

    def close(self) -> None:
        """Let go of the connection, and with it of the lock."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def last(self) -> tuple[int, str]:
        """Sequence and hash of the last entry; 0 and the genesis hash before the first."""
        self._connected()
        return self._last

    def append(self, entry: LedgerEntry) -> None:
        """Write one entry durably, chained to the one before."""
        sequence, last_hash = self.last
        self.append_rows([(sequence + 1, entry, chained_hash(last_hash, entry))])

    def append_rows(self, rows: Sequence[tuple[int, LedgerEntry, str]]) -> None:
        """Write rows that are chained already, all or none; raises StoreError if they do not follow."""
        if not rows:
            return
        sequence, last_hash = self.last
        for number, entry, stored_hash in rows:
            if number != sequence + 1 or chained_hash(last_hash, entry) != stored_hash:
                raise StoreError(
                    f"entry {number} does not follow entry {sequence} of the database: two ledgers do not mix"
                )
            sequence, last_hash = number, stored_hash
        self._many(_INSERT, [(number, *_columns(entry), text) for number, entry, text in rows])
        self._last = (sequence, last_hash)

    def entries(self, since: datetime | None = None, job_id: str | None = None) -> list[LedgerEntry]:
        """Entries, oldest first, optionally from ``since`` on and of one job."""
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

        ``visible_to`` leaves entries about that user and about nobody.
        """
        found = self._raw_rows(after_sequence, since=since, job_id=job_id, visible_to=visible_to, most=most)
        for sequence, columns in found:
            yield sequence, _entry(columns[-2]), str(columns[-1])

    def _raw_rows(
        self,
        after_sequence: int,
        *,
        since: datetime | None = None,
        job_id: str | None = None,
        visible_to: str | None = None,
        most: int | None = None,
    ) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Rows in portions, so that neither side holds a whole ledger."""
        condition = "seq > %(after)s"
        if since is not None:
            condition += " AND at >= %(since)s"
        if job_id is not None:
            condition += " AND job_id = %(job)s"
        if visible_to is not None:
            condition += (
                " AND user_name = %(user)s"
                if job_id
                else " AND (user_name = %(user)s OR (job_id IS NULL AND user_name IS NULL))"
            )
        text = f"SELECT {_COLUMNS} FROM ledger WHERE {condition} ORDER BY seq LIMIT %(limit)s"  # noqa: S608  # constant
        wanted = {"after": after_sequence, "since": since, "job": _plain(job_id), "user": _plain(visible_to)}
        left = most
        while left is None or left > 0:
            limit = _FETCHED_ROWS if left is None else min(left, _FETCHED_ROWS)
            portion = self._all(text, {**wanted, "limit": limit})
            for sequence, *columns in portion:
                yield sequence, tuple(columns)
            if len(portion) < limit:
                return
            wanted["after"] = portion[-1][0]
            left = None if left is None else left - limit

    @property
    def checked_sequence(self) -> int:
        """The last entry that ``broken_at_sequence`` has found in order; 0 before the first."""
        return self._checked[0]

    def broken_at_sequence(self, most: int | None = None) -> int | None:
        """Sequence of the first entry that was altered, removed or inserted; None for a whole chain.

        Entries checked once are not read again while this store stays open; looks at ``most`` in one call.
        """
        sequence, last_hash = self._checked
        for current, columns in self._raw_rows(sequence, most=most):
            try:
                entry = _entry(columns[-2])
                sound = columns[:-2] == _columns(entry)[:-1] and chained_hash(last_hash, entry) == columns[-1]
            except (KeyError, TypeError, ValueError):
                sound = False
            if current != sequence + 1 or not sound:
                return sequence + 1
            sequence, last_hash = current, str(columns[-1])
            self._checked = (sequence, last_hash)
        return None

    def put_jobs(self, records: Mapping[str, Mapping[str, object]]) -> None:
        """Store what is known of several jobs, all or nothing, replacing what was."""
        self._many(
            "INSERT INTO job VALUES (%s, %s) ON CONFLICT (job_id) DO UPDATE SET record = excluded.record",
            [(job_id, json.dumps(dict(record))) for job_id, record in records.items()],
        )

    def job(self, job_id: str) -> dict[str, object]:
        """What is known of one job; {} for an unknown one."""
        found = self._all("SELECT record FROM job WHERE job_id = %(job)s", {"job": _plain(job_id)})
        return json.loads(found[0][0]) if found else {}

    def jobs(self) -> dict[str, dict[str, object]]:
        """All job records by job id."""
        return {job_id: json.loads(record) for job_id, record in self._all("SELECT job_id, record FROM job")}

    def put_state(self, key: str, value: object) -> None:
        """Remember a small JSON value."""
        self.put_states({key: value})

    def put_states(self, values: Mapping[str, object]) -> None:
        """Remember several small JSON values, all or nothing."""
        self._many(
            "INSERT INTO state VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [(key, json.dumps(value)) for key, value in values.items()],
        )

    def state(self, key: str, default: object = None) -> object:
        """Read back a remembered value."""
        found = self._all("SELECT value FROM state WHERE key = %(key)s", {"key": key})
        return json.loads(found[0][0]) if found else default

    def states(self) -> dict[str, object]:
        """All remembered values."""
        return {key: json.loads(value) for key, value in self._all("SELECT key, value FROM state")}

    def _all(self, text: str, wanted: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        try:
            return self._connected().execute(text, wanted).fetchall()
        except psycopg.Error as error:
            raise self._failed(error) from error

    def _many(self, text: str, rows: Iterable[tuple[object, ...]]) -> None:
        connection = self._connected()
        try:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(text, rows)
        except psycopg.Error as error:
            raise self._failed(error) from error

    def _connected(self) -> "psycopg.Connection[tuple[Any, ...]]":
        """The connection, made anew where there is none, and then what is last; raises StoreError."""
        if self._connection is not None:
            return self._connection
        try:
            connection = psycopg.connect(
                self._url, autocommit=True, connect_timeout=_CONNECT_SECONDS, application_name="slurm-power"
            )
        except psycopg.Error as error:
            raise StoreError(_words(error)) from error
        self._connection = connection
        try:
            _refuse_newer(connection)
            if not self._read_only:
                self._claim(connection)
            row = connection.execute("SELECT seq, hash FROM ledger ORDER BY seq DESC LIMIT 1").fetchone()
        except psycopg.Error as error:
            raise self._failed(error) from error
        except StoreError:
            self.close()
            raise
        self._last = (row[0], row[1]) if row else (0, GENESIS_HASH)
        return connection

    def _claim(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        connection.execute(f"SET lock_timeout = '{_CLAIM_SECONDS}s'")
        try:
            connection.execute("SELECT pg_advisory_lock(%s)", (_WRITER_LOCK,))
        except psycopg.errors.LockNotAvailable:
            raise StoreError("another powerctld writes to this database") from None
        connection.execute("SET lock_timeout = 0")
        connection.execute("SET client_min_messages TO warning")
        for statement in _SCHEMA.split(";")[:-1]:
            connection.execute(statement)

    def _failed(self, error: psycopg.Error) -> StoreError:
        """Drop a connection whose state nobody knows; what was being written is looked up at the next one."""
        self.close()
        return StoreError(_words(error))


def _refuse_newer(connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
    """Raise NewerSchemaError before anything is written to a database that this program does not know."""
    there = connection.execute("SELECT to_regclass('schema_version')").fetchone()
    if there is None or there[0] is None:
        return
    row = connection.execute("SELECT version FROM schema_version").fetchone()
    if row is not None and row[0] > _VERSION:
        raise NewerSchemaError(
            f"the database has schema {row[0]} of the ledger's copy, and this slurm-power knows {_VERSION}:"
            " install the newer slurm-power again, or give this one another database; nothing was changed"
        )


def _words(error: psycopg.Error) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _plain(text: str | None) -> str | None:
    """A text as PostgreSQL can hold it in a column: no NUL."""
    return None if text is None else text.replace("\0", "\ufffd")


def _columns(entry: LedgerEntry) -> tuple[object, ...]:
    watts = None if entry.saved_watts is None else float(entry.saved_watts)
    names = (entry.actor, entry.kind, entry.subject, entry.job_id, entry.user)
    return (entry.at, *map(_plain, names), watts, _plain(entry.reason), entry.canonical())


def _entry(text: str) -> LedgerEntry:
    """The entry from its JSON; raises TypeError or ValueError, KeyError too, for what is none."""
    row = json.loads(text)
    return LedgerEntry(**{**row, "at": datetime.fromisoformat(row["at"])})
