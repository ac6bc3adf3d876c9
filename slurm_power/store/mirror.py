"""A local store with a copy of it in PostgreSQL: what is written is safe here first, and there soon after.

Control never waits for the copy. While the server is away, rows wait in the local file; afterwards they
follow in their order.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from slurm_power import clock
from slurm_power.model.ledger import LedgerEntry
from slurm_power.ports import StoreError
from slurm_power.store.postgres import PostgresStore
from slurm_power.store.sqlite import SqliteStore

log = logging.getLogger(__name__)

_RETRY_SECONDS = 2.0
_CLOSE_SECONDS = 10.0
_ROWS_AT_ONCE = 500
# A portion of rows takes far less; whoever takes longer hangs.
_PATIENCE_SECONDS = 15.0


class MirroredStore:
    """Implements ``ports.Store`` on the local store; ``copy_problem`` says why the copy is not up to date."""

    def __init__(
        self,
        local: SqliteStore,
        open_copy: Callable[[], PostgresStore],
        *,
        open_local: Callable[[], SqliteStore] | None = None,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        """Both are opened in the copying thread, again and again while that fails.

        ``open_local`` opens the local store for reading. After ``patience_seconds`` without an answer the
        copy counts as not up to date.
        """
        self._local = local
        self._open_copy = open_copy
        self._open_local = open_local or (lambda: SqliteStore(local.file, read_only=True))
        self._patience_seconds = patience_seconds
        self._asked_at_seconds: float | None = None
        self._changed = threading.Condition()
        self._dirty_jobs = dict(local.jobs())
        self._dirty_states = local.states()
        self._unseen = True
        self._closing = False
        self._problem = ""
        self._thread = threading.Thread(target=self._work, name="ledger copy", daemon=True)
        self._thread.start()

    @property
    def copy_problem(self) -> str:
        """Why the copy is not up to date, a server that hangs included; "" if it is."""
        asked = self._asked_at_seconds
        if not self._problem and asked is not None:
            silent_seconds = clock.monotonic() - asked
            if silent_seconds > self._patience_seconds:
                return f"no answer for {silent_seconds:.0f} s"
        return self._problem

    def append(self, entry: LedgerEntry) -> None:
        """Write one entry durably."""
        self._local.append(entry)
        self._wake()

    def entries(self, since: datetime | None = None, job_id: str | None = None) -> Iterable[LedgerEntry]:
        """Entries in order, oldest first."""
        return self._local.entries(since, job_id)

    def rows(
        self,
        after_sequence: int = 0,
        *,
        since: datetime | None = None,
        job_id: str | None = None,
        visible_to: str | None = None,
        most: int | None = None,
    ) -> Iterator[tuple[int, LedgerEntry, str]]:
        """Rows as (sequence, entry, stored hash), oldest first, those after ``after_sequence``."""
        return self._local.rows(after_sequence, since=since, job_id=job_id, visible_to=visible_to, most=most)

    @property
    def checked_sequence(self) -> int:
        """The last entry that ``broken_at_sequence`` has found in order; 0 before the first."""
        return self._local.checked_sequence

    def broken_at_sequence(self, most: int | None = None) -> int | None:
        """Sequence of the first entry that was altered, removed or inserted; looks at ``most`` of them."""
        return self._local.broken_at_sequence(most)

    def put_jobs(self, records: Mapping[str, Mapping[str, object]]) -> None:
        """Store what is known of several jobs, all or nothing, replacing what was."""
        self._local.put_jobs(records)
        with self._changed:
            self._dirty_jobs.update({job_id: dict(record) for job_id, record in records.items()})
        self._wake()

    def job(self, job_id: str) -> dict[str, object]:
        """What is known of one job; {} for an unknown one."""
        return self._local.job(job_id)

    def jobs(self) -> dict[str, dict[str, object]]:
        """All job records by job id."""
        return self._local.jobs()

    def latest_jobs(self, before: int | None, most: int) -> Sequence[tuple[int, dict[str, object]]]:
        """Up to ``most`` records, the last written first."""
        return self._local.latest_jobs(before, most)

    def put_state(self, key: str, value: object) -> None:
        """Remember a small JSON value."""
        self._local.put_state(key, value)
        with self._changed:
            self._dirty_states[key] = value
        self._wake()

    def state(self, key: str, default: object = None) -> object:
        """Read back a remembered value."""
        return self._local.state(key, default)

    def close(self) -> None:
        """Copy what is left, if that is soon done, and let go of both."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(_CLOSE_SECONDS)
        self._local.close()

    def _wake(self) -> None:
        with self._changed:
            self._unseen = True
            self._changed.notify()

    def _work(self) -> None:
        local: SqliteStore | None = None
        copy: PostgresStore | None = None
        try:
            while True:
                with self._changed:
                    while not (self._unseen or self._closing):
                        self._changed.wait()
                    self._unseen, closing = False, self._closing
                self._asked_at_seconds = clock.monotonic()
                try:
                    local = local or self._open_local()
                    copy = copy or self._open_copy()
                    self._copy(local, copy)
                except Exception as error:  # noqa: BLE001  # whatever it is, it must not end the thread
                    self._tell(str(error) or type(error).__name__)
                else:
                    self._tell("")
                self._asked_at_seconds = None
                if closing:
                    return
                if self._problem:
                    self._pause()
        finally:
            if local is not None:
                local.close()
            if copy is not None:
                copy.close()

    def _pause(self) -> None:
        """Wait before the next try, but not with closing."""
        with self._changed:
            self._unseen = True
            self._changed.wait_for(lambda: self._closing, _RETRY_SECONDS)

    def _copy(self, local: SqliteStore, copy: PostgresStore) -> None:
        """Bring the copy up to date; raises StoreError, and then what is left is copied the next time."""
        last_sequence, last_hash = copy.last
        if last_sequence > 0:
            ours = next(local.rows(last_sequence - 1, most=1), None)
            if ours is None or (ours[0], ours[2]) != (last_sequence, last_hash):
                raise StoreError(f"the database holds another ledger: its entry {last_sequence} is not ours")
        while True:
            rows = list(local.rows(copy.last[0], most=_ROWS_AT_ONCE))
            if not rows:
                break
            copy.append_rows(rows)
            self._asked_at_seconds = clock.monotonic()
        with self._changed:
            jobs, self._dirty_jobs = self._dirty_jobs, {}
            states, self._dirty_states = self._dirty_states, {}
        try:
            copy.put_jobs(jobs)
            copy.put_states(states)
        except Exception:
            with self._changed:
                self._dirty_jobs = {**jobs, **self._dirty_jobs}
                self._dirty_states = {**states, **self._dirty_states}
            raise

    def _tell(self, problem: str) -> None:
        if problem != self._problem:
            if problem:
                log.warning("the ledger's copy in PostgreSQL: %s", problem)
            else:
                log.info("the ledger's copy in PostgreSQL is up to date")
        self._problem = problem


def take_over(local: SqliteStore, copy: PostgresStore) -> int:
    """Fill an empty local store from the copy, on a controller that is new; returns how many entries came.

    All or nothing: half a ledger would be gone on with at the next start. Raises StoreError if the copy's
    chain is broken: what cannot be trusted is not gone on with either.
    """
    broken = copy.broken_at_sequence()
    if broken is not None:
        raise StoreError(f"its chain of entries is broken at entry {broken}")
    return local.fill((entry for _, entry, _ in copy.rows()), copy.jobs(), copy.states())
