"""Moves jobs to other model tiers, step by step; each step is looked for in the world, so none is lost.

A running job is asked to save itself and end, by the file that it reads at each step: a signal would end
what else runs in its steps and does not know it. Its own script queues it again; one that only ends with the
status that says so, or has nothing to save, is queued again by us. While it waits its tier and its GPUs are
changed in one request. When it starts, its nodes are told the tier.

Whatever fails in between, the job runs: with its old tier if need be. Slurm
itself lets a job that was queued again start after two minutes, whoever is gone by then.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any, Protocol

from slurm_power import clock
from slurm_power.controller.advice_book import AdviceBook, Word
from slurm_power.controller.tier_book import OVER, Move, MoveState, TierBook
from slurm_power.model.action import ChangeTier
from slurm_power.model.job import Job, JobState
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.tier import Catalog
from slurm_power.model.tier_words import tier_of
from slurm_power.ports import Scheduler, SchedulerError
from slurm_power.tasks import end_all
from slurm_power.wire import Message

_KEY = "tier_moves"
# An order to save itself is renewed as long as it counts.
_ORDER_SECONDS = 10.0
# A job that waits changed starts so soon: not within the second of its end, which Slurm does not bear.
_START_SECONDS = 3.0
# A record that could not be changed is tried again, until the job starts by itself.
_AGAIN_SECONDS = 2.0


class Records(Protocol):
    """Where small values are kept."""

    def state(self, key: str, default: object = None) -> object:
        """What was remembered under a key."""
        ...

    def put_state(self, key: str, value: object) -> None:
        """Remember a value."""
        ...


class TierDesk:
    """Every move from its begin to its end; what is told to nodes about tiers goes by here."""

    def __init__(
        self,
        scheduler: Scheduler,
        store: Records,
        *,
        send: Callable[[str, Message], bool],
        advice: AdviceBook,
        catalog: Callable[[], Catalog],
        checkpoint_seconds: float,
        moved: Callable[[str, str], None],
        note: Callable[..., None],
    ) -> None:
        """``moved`` takes the job and the reason of each move that has begun."""
        self._moved = moved
        self._scheduler = scheduler
        self._store = store
        self._send = send
        self._advice = advice
        self._catalog = catalog
        self._checkpoint_seconds = checkpoint_seconds
        self._note = note
        self.book = TierBook.from_json(store.state(_KEY))
        self._written: object = self.book.to_json()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._starts: dict[str, int] = {}
        # Those who say that they save themselves when asked.
        self._saving: frozenset[str] = frozenset()

    async def begin(self, action: ChangeTier, job: Job | None) -> None:
        """Begin a move; raises SchedulerError."""
        if job is None:
            raise SchedulerError(f"job {action.job_id} is gone")
        if not action.running:
            await self._scheduler.change_tier(
                action.job_id, action.tier, action.gpu_count, None, action.reason
            )
        elif action.job_id in self._saving:
            self._ask(job.job_id, action.reason, clock.monotonic())
        else:
            await self._scheduler.requeue(action.job_id)

    def took(self, action: ChangeTier, job: Job | None, at: datetime) -> bool:
        """Note a move that has begun; always news."""
        start = self._starts.get(action.job_id, 0)
        before, by_us = "" if job is None else job.tier, action.job_id not in self._saving
        self.book.asked(action, before=before, start=start, by_us=by_us, at=at)
        self._moved(action.job_id, action.reason)
        self.keep()
        return True

    def refused(self, action: ChangeTier, job: Job | None, at: datetime) -> None:
        """Note a move that could not be begun."""
        self.book.refused(action, before="" if job is None else job.tier, at=at)

    def job_started(self, node: str, message: Message) -> None:
        """Tell a node which tier a start of a job is to run; it waits for that word a moment."""
        job_id, start = str(message.get("job_id")), message.get("restart_count")
        submitted = tier_of(message.get("tier"))
        if not submitted or not isinstance(start, int):
            return
        self._starts[job_id] = start
        move = self.book.get(job_id)
        moved = move is not None and move.state in (MoveState.CHANGED, MoveState.STARTED)
        tier = move.tier if move is not None and moved else submitted
        found = self._catalog().find(tier)
        model = "" if found is None else found[1].model_path
        self._send(
            node, {"type": "tier", "job_id": job_id, "tier": tier, "model": model, "restart_count": start}
        )

    def follow(self, snapshot: Snapshot, now_seconds: float, *, enabled: bool) -> None:
        """Take each move as far as the world lets it, and keep what has changed."""
        jobs = {job.job_id: job for job in snapshot.jobs}
        self._saving = frozenset(job_id for job_id, one in snapshot.progress.items() if one.checkpoints)
        if snapshot.jobs_age_seconds is not None:
            saved = self._saved(jobs, snapshot.at)
            self.book.follow({job_id: job.state for job_id, job in jobs.items()}, kept=saved)
            self._starts = {key: start for key, start in self._starts.items() if key in jobs}
        for job_id, move in self.book.under_way().items():
            job = jobs.get(job_id)
            if job is not None and job_id not in self._tasks:
                self._step(job, move, snapshot.at, now_seconds, enabled=enabled)
        self.keep()

    def _saved(self, jobs: Mapping[str, Job], at: datetime) -> set[str]:
        """Jobs that may have ended because we asked; they are queued again, also where we gave up since."""
        found = set()
        for job_id, move in self.book.asked_to_save().items():
            job = jobs.get(job_id)
            late = move.state in OVER and (at - move.since).total_seconds() > self._checkpoint_seconds
            if job is not None and job.state is JobState.ENDED and not late:
                found.add(job_id)
                if job_id not in self._tasks:
                    self._in_task(job_id, self._queue_saved(job, move))
        return found

    async def _queue_saved(self, job: Job, move: Move) -> None:
        try:
            queued = await self._scheduler.queue_saved(job.job_id)
        except SchedulerError as error:
            self._tell(job, "failed", str(error))
            await asyncio.sleep(_AGAIN_SECONDS)
            return
        if queued:
            # The list of jobs shows it in a moment.
            await asyncio.sleep(_AGAIN_SECONDS)
        elif move.state not in OVER:
            self._give_up(job, move, clock.now(), "it has ended")
            self.book.forget(job.job_id)
        else:
            self.book.forget(job.job_id)

    def keep(self) -> None:
        """Write the moves down where they have changed."""
        now = self.book.to_json()
        if now != self._written:
            self._store.put_state(_KEY, now)
            self._written = now

    def _step(self, job: Job, move: Move, at: datetime, now_seconds: float, *, enabled: bool) -> None:
        there = job.state in (JobState.STARTING, JobState.RUNNING, JobState.SUSPENDED)
        restarted = self._starts.get(job.job_id, move.start) > move.start or (
            job.started is not None and job.started > move.since and there
        )
        if move.state is MoveState.SAVING:
            if job.state is JobState.PENDING:
                self.book.turn(job.job_id, MoveState.QUEUED, at)
            elif restarted:
                self._give_up(job, move, at, "it had started again before it could be changed")
            elif not enabled or (at - move.asked_at).total_seconds() > self._checkpoint_seconds:
                self._advice.to_save(job.job_id, None)
                why = "it has not saved itself in time" if enabled else "powerctld only watches now"
                self._give_up(job, move, at, f"{why}, and goes on as it is")
            elif there and not move.by_us:
                self._ask(job.job_id, move.reason, now_seconds)
        elif move.state is MoveState.QUEUED:
            self._queued(job, move, at, there=there, enabled=enabled)
        elif there and (restarted or not move.running):
            # A node has been told by now, or tells its job the tier of its submission. The list of jobs may
            # be older than a node's word, and still have the GPUs of the run before.
            late = (at - move.since).total_seconds() > self._checkpoint_seconds
            if job.tier == move.tier and (job.gpu_count == move.gpu_count or late):
                self.book.turn(job.job_id, MoveState.STARTED, at)
                words = (
                    f"runs {move.tier} on {move.gpu_count} GPUs, in place of {move.before or 'another tier'}"
                )
                self._tell(job, "tier started", words)
            elif late:
                self._give_up(job, move, at, f"its node has told it {job.tier or 'no tier'}")

    def _queued(self, job: Job, move: Move, at: datetime, *, there: bool, enabled: bool) -> None:
        if job.tier == move.tier:
            # Slurm has the change, and a crash of ours kept us from writing it down.
            self.book.turn(job.job_id, MoveState.CHANGED, at)
        elif there:
            self._give_up(job, move, at, "it has started again with its old tier")
        elif job.state is JobState.PENDING and enabled:
            self._in_task(job.job_id, self._change(job, move))

    async def _change(self, job: Job, move: Move) -> None:
        """Change a job that waits. Errors come back at the next look, as long as it waits."""
        try:
            await self._scheduler.change_tier(
                job.job_id, move.tier, move.gpu_count, _START_SECONDS, move.reason
            )
        except SchedulerError as error:
            self._tell(job, "failed", str(error))
            await asyncio.sleep(_AGAIN_SECONDS)
            return
        found = self.book.get(job.job_id)
        if found is not None:
            self.book.turn(job.job_id, MoveState.CHANGED, clock.now())
            self.keep()
            self._tell(job, "tier changed", f"waits for {move.gpu_count} GPUs to go on with {move.tier}")

    def _in_task(self, job_id: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[job_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job_id, None))

    async def stop(self) -> None:
        """End what is under way; a job that waits changed starts by itself."""
        await end_all(list(self._tasks.values()))
        self.keep()

    def _ask(self, job_id: str, reason: str, now_seconds: float) -> None:
        until_seconds = now_seconds + _ORDER_SECONDS
        self._advice.to_save(job_id, Word(reason=reason, until_seconds=until_seconds, action="checkpoint"))

    def _give_up(self, job: Job, move: Move, at: datetime, why: str) -> None:
        self.book.turn(job.job_id, MoveState.GIVEN_UP, at)
        self._tell(job, "tier given up", f"not moved to {move.tier}: {why}")

    def _tell(self, job: Job, kind: str, reason: str) -> None:
        self._note("controller", kind, f"job:{job.job_id}", reason, job_id=job.job_id, user=job.user)
