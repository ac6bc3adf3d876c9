"""Energy receipts: made when a job has ended and its nodes have closed their accounts.

Making one waits for nothing: it is put together from the job's record, and stays there. The queue then gives
it to Slurm, where there is an accounting to take it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from slurm_power.controller.jobs.job_rates import EnergyPoints, JobRates, Rates
from slurm_power.controller.jobs.receipt_queue import Accounting, ReceiptQueue
from slurm_power.model.job import Job, JobState
from slurm_power.model.receipt import StepTimes, receipt_from_json, receipt_of, step_energies
from slurm_power.model.snapshot import Snapshot

__all__ = ["Accounting", "ReceiptDesk"]

_KEY = "receipts"
_BEAT_SECONDS = 2.0
# How long a node that has not told of a job's end is waited for: its daemon may be gone.
_CLOSE_SECONDS = 30.0
# Receipts made in one cycle: an array of 10,000 may end at once.
_MOST_CLOSED = 500
# The queue is kept when it has changed, what energy cost now and then.
_KEEP_SECONDS = 10.0
_KEEP_RATES_SECONDS = 60.0
# With fewer looks at a job's energy nothing is told of its steps.
_LEAST_POINTS = 3
# How old on average what nodes tell is: each tells every second of a reading of the second before, by a
# sensor that shows the mean of a time before that. Measured: with steps of 9 s at full power.
_TOLD_LATE_SECONDS = 1.5
_ACTIVE = frozenset({JobState.RUNNING, JobState.SUSPENDED, JobState.ENDING})


class JobPen(Protocol):
    """Where the records of jobs are that are listed now."""

    def job_record(self, job_id: str) -> Mapping[str, Any]:
        """What is known of a job so far, {} for one that is not listed."""
        ...

    def job_energy(self, job_id: str, figures: Mapping[str, Any]) -> None:
        """Put figures into the record of a listed job."""
        ...


class Records(Protocol):
    """Where all records and small values are kept."""

    def job(self, job_id: str) -> dict[str, object]:
        """What is known of a job, {} for an unknown one."""
        ...

    def put_jobs(self, records: Mapping[str, Mapping[str, object]]) -> None:
        """Store records."""
        ...

    def state(self, key: str, default: object = None) -> object:
        """What was remembered under a key."""
        ...

    def put_state(self, key: str, value: object) -> None:
        """Remember a value."""
        ...


class Energies(Protocol):
    """Who knows what jobs have used so far."""

    def energies_joules(self) -> Mapping[str, float]:
        """By job, of its GPUs."""
        ...


class Controlled(Protocol):
    """What receipts need of the controller."""

    @property
    def recorder(self) -> JobPen:
        """The records of listed jobs."""
        ...

    @property
    def store(self) -> Records:
        """All records."""
        ...

    @property
    def telemetry(self) -> Energies:
        """What nodes say."""
        ...


class ReceiptDesk:
    """Makes receipts, and keeps what a restart must not lose: the queue, and what energy cost so far."""

    def __init__(
        self,
        site: "Controlled",
        accounting: Accounting | None,
        *,
        rates: Callable[[Snapshot], Rates],
        note: Callable[..., None],
        fault: Callable[[str, str], None],
    ) -> None:
        """Without ``accounting`` receipts stay in the records. ``rates`` tells what energy costs now.

        The attribute ``rates`` is what it told last, None before the first look.
        """
        self._pen = site.recorder
        self._store = store = site.store
        self._energies = site.telemetry
        self._rates_now = rates
        self.rates: Rates | None = None
        stored = store.state(_KEY)
        document = stored if isinstance(stored, dict) else {}
        self.queue: ReceiptQueue | None = None
        if accounting is not None:
            self.queue = ReceiptQueue(
                accounting,
                self._with_steps,
                has_steps=lambda job_id: len(self._points.of(job_id)) >= _LEAST_POINTS,
                note=note,
                fault=fault,
                stored=document.get("waiting"),
            )
        self._rates = JobRates(document.get("rates"))
        self._points = EnergyPoints()
        self._listed: tuple[Job, ...] = ()
        self._active: set[str] = set()
        self._closing: dict[str, float] = {}
        self._ended: dict[str, Job] = {}
        self._done: set[str] = set()
        self._beat_at_seconds = self._kept_at_seconds = float("-inf")

    async def run(self) -> None:
        """Hand receipts out until cancelled."""
        if self.queue is None:
            await asyncio.Event().wait()
        else:
            await self.queue.run()

    def observe(self, snapshot: Snapshot, *, enabled: bool) -> None:
        """Take one cycle: which jobs have ended, and how far the others' energy is.

        ``enabled``: receipts go to Slurm; else, in shadow mode, they stay in the records.
        """
        at_seconds = snapshot.at.timestamp()
        if at_seconds - self._beat_at_seconds >= _BEAT_SECONDS:
            self._beat_at_seconds = at_seconds
            joules = self._energies.energies_joules()
            self.rates = self._rates_now(snapshot)
            self._rates.look(joules, self.rates, at_seconds)
            self._points.add(joules, at_seconds - _TOLD_LATE_SECONDS)
        if snapshot.jobs is not self._listed:
            self._follow(snapshot, at_seconds)
        left = _MOST_CLOSED
        for job_id, since_seconds in list(self._closing.items()):
            job = self._ended.get(job_id)
            # Its nodes are those that still have it, once it has ended.
            open_accounts = job is not None and bool(job.gpus_by_node)
            if left and (not open_accounts or at_seconds - since_seconds >= _CLOSE_SECONDS):
                left -= 1
                del self._closing[job_id]
                self._close(job_id, snapshot, enabled=enabled)
        changed = self.queue is not None and self.queue.changed
        if at_seconds - self._kept_at_seconds >= (_KEEP_SECONDS if changed else _KEEP_RATES_SECONDS):
            self._kept_at_seconds = at_seconds
            self.keep()

    def keep(self) -> None:
        """Write what a restart must not lose."""
        waiting = {} if self.queue is None else self.queue.document()
        self._store.put_state(_KEY, {"waiting": waiting, "rates": self._rates.document()})

    def _follow(self, snapshot: Snapshot, at_seconds: float) -> None:
        self._listed = snapshot.jobs
        placed = {job.job_id: job for job in snapshot.jobs if job.state is not JobState.PENDING}
        self._ended = {job_id: job for job_id, job in placed.items() if job.state is JobState.ENDED}
        self._done &= self._ended.keys()
        # Who is listed no more has ended, too: Slurm forgets jobs, after a while or with its state.
        gone = self._active - placed.keys()
        if gone:
            gone -= {job.job_id for job in snapshot.jobs}
        for job_id in (self._ended.keys() - self._done) | gone:
            self._closing.setdefault(job_id, at_seconds)
        for job_id in self._closing.keys() & (placed.keys() - self._ended.keys()):
            del self._closing[job_id]
        self._active = {job_id for job_id, job in placed.items() if job.state in _ACTIVE}
        self._rates.keep({*placed, *self._closing})
        self._points.keep({*placed, *self._closing, *(self.queue.jobs if self.queue else ())})

    def _close(self, job_id: str, snapshot: Snapshot, *, enabled: bool) -> None:
        self._done.add(job_id)
        record = self._record(job_id)
        start = record.get("started")
        if not record or ("receipt" in record and record.get("receipt_of_start") == start):
            return  # made before a restart
        joules = record.get("energy_joules")
        known_joules = float(joules) if isinstance(joules, int | float) else None
        record |= self._rates.taken(job_id, known_joules)
        receipt = receipt_of(record)
        if receipt is None:
            return
        if known_joules is not None:
            self._points.add({job_id: known_joules}, snapshot.at.timestamp())
        self._put(
            job_id,
            {"ended": snapshot.at.isoformat(), "receipt": receipt.as_json(), "receipt_of_start": start},
        )
        if enabled and self.queue is not None:
            self.queue.add(job_id)

    def _record(self, job_id: str) -> dict[str, Any]:
        return dict(self._pen.job_record(job_id) or self._store.job(job_id))

    def _put(self, job_id: str, figures: Mapping[str, Any]) -> None:
        if self._pen.job_record(job_id):
            self._pen.job_energy(job_id, figures)
        else:
            self._store.put_jobs({job_id: {**self._store.job(job_id), **figures}})

    def _with_steps(self, job_id: str, steps: Sequence[StepTimes]) -> dict[str, object] | None:
        """A job's receipt with what is known of its steps; None for a job that has none, or runs again."""
        record = self._record(job_id)
        receipt = receipt_from_json(record.get("receipt"))
        if receipt is None:
            return None
        points = self._points.of(job_id)
        if steps and points and isinstance(start := record.get("started"), str):
            points.insert(0, (datetime.fromisoformat(start).timestamp(), 0.0))
        joules, left_out = step_energies(points, steps)
        if joules or left_out:
            receipt = replace(receipt, step_joules=joules, steps_left_out=left_out)
            self._put(job_id, {"receipt": receipt.as_json()})
        return receipt.as_json()
