"""A store that cannot be written for a while, on a full disk say: what it was told waits in memory."""

import logging
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from slurm_power.model.ledger import LedgerEntry
from slurm_power.ports import LocalStore, StoreError

# Ledger entries that wait; what comes after so many is lost, and told.
_MOST_WAITING = 10_000
_WRITE_ERRORS = (sqlite3.Error, OSError, StoreError)

log = logging.getLogger(__name__)


class PatientStore:
    """Passes everything on to ``store``. A write that fails is kept, in order, and tried again with the next.

    ``problem`` says why nothing can be written now, "" when all is. Control must go on without its pen.
    """

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._entries: deque[LedgerEntry] = deque()
        self._jobs: dict[str, Mapping[str, object]] = {}
        self._states: dict[str, object] = {}
        self.problem = ""
        self.lost_entries = 0

    @property
    def copy_problem(self) -> str:
        """Why a copy elsewhere is not up to date; "" if it is, or there is none."""
        return self._store.copy_problem

    def append(self, entry: LedgerEntry) -> None:
        """Write one entry durably, now or when that is possible again."""
        if len(self._entries) < _MOST_WAITING:
            self._entries.append(entry)
        else:
            self.lost_entries += 1
        self._write()

    def put_jobs(self, records: Mapping[str, Mapping[str, object]]) -> None:
        """Store what is known of several jobs, replacing what was."""
        self._jobs.update({job_id: dict(record) for job_id, record in records.items()})
        self._write()

    def put_state(self, key: str, value: object) -> None:
        """Remember a small JSON value."""
        self._states[key] = value
        self._write()

    def put_state_at_once(self, key: str, value: object) -> None:
        """Remember what must be on disk before anything is done with it; raises StoreError."""
        try:
            self._store.put_state(key, value)
        except _WRITE_ERRORS as error:
            raise StoreError(f"{key}: cannot be written: {error}") from error

    def _write(self) -> None:
        try:
            while self._entries:
                # What is wrong in itself is raised, and gone: it must not keep the rest from being written.
                entry = self._entries.popleft()
                try:
                    self._store.append(entry)
                except _WRITE_ERRORS:
                    self._entries.appendleft(entry)
                    raise
            if self._jobs:
                self._store.put_jobs(self._jobs)
                self._jobs = {}
            for key in list(self._states):
                self._store.put_state(key, self._states[key])
                del self._states[key]
        except _WRITE_ERRORS as error:
            if not self.problem:
                log.error("ledger and records cannot be written: %s; they wait in memory", error)
            self.problem = str(error) or type(error).__name__
        else:
            if self.problem:
                log.warning("ledger and records are written again; %d entries were lost", self.lost_entries)
            self.problem = ""

    def entries(self, since: datetime | None = None, job_id: str | None = None) -> Iterable[LedgerEntry]:
        """Entries that are written, oldest first."""
        return self._store.entries(since, job_id)

    def rows(
        self,
        after_sequence: int = 0,
        *,
        since: datetime | None = None,
        job_id: str | None = None,
        visible_to: str | None = None,
        most: int | None = None,
    ) -> Iterator[tuple[int, LedgerEntry, str]]:
        """Rows that are written, as (sequence, entry, stored hash), oldest first."""
        return self._store.rows(after_sequence, since=since, job_id=job_id, visible_to=visible_to, most=most)

    @property
    def checked_sequence(self) -> int:
        """The last entry that ``broken_at_sequence`` has found in order; 0 before the first."""
        return self._store.checked_sequence

    def broken_at_sequence(self, most: int | None = None) -> int | None:
        """Sequence of the first entry that was altered, removed or inserted; looks at ``most`` of them."""
        return self._store.broken_at_sequence(most)

    def job(self, job_id: str) -> dict[str, object]:
        """What is known of one job; {} for an unknown one."""
        waiting = self._jobs.get(job_id)
        return self._store.job(job_id) if waiting is None else dict(waiting)

    def jobs(self) -> dict[str, dict[str, object]]:
        """All job records by job id."""
        return {**self._store.jobs(), **{job_id: dict(record) for job_id, record in self._jobs.items()}}

    def latest_jobs(self, before: int | None, most: int) -> Sequence[tuple[int, dict[str, object]]]:
        """Records that are written, the last written first."""
        return self._store.latest_jobs(before, most)

    def state(self, key: str, default: object = None) -> object:
        """Read back a remembered value."""
        return self._states[key] if key in self._states else self._store.state(key, default)

    def close(self) -> None:
        """Write what waits, if that is possible now, and let go."""
        self._write()
        if self._entries:
            log.error("%d ledger entries could not be written and are lost", len(self._entries))
        self._store.close()
