"""Moves jobs to other model tiers, step by step; each step is looked for in the world, so none is lost.

A running job is asked to save itself and end, and its own script queues it again (one that has nothing to
save is queued again by us). While it waits its tier and its GPUs are changed in one request. When it starts,
its nodes are told the tier. Whatever fails in between, the job runs: with its old tier if need be. Slurm
itself lets a job that was queued again start after two minutes, whoever is gone by then.
"""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, Protocol

from slurm_power import clock
from slurm_power.controller.advice_book import AdviceBook, Word
from slurm_power.controller.tier_book import Move, MoveState, TierBook
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
            await self._scheduler.ask_to_save(action.job_id)
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
            self.book.follow({job_id: job.state for job_id, job in jobs.items()})
            self._starts = {key: start for key, start in self._starts.items() if key in jobs}
        for job_id, move in self.book.under_way().items():
            job = jobs.get(job_id)
            if job is not None and job_id not in self._tasks:
                self._step(job, move, snapshot.at, now_seconds, enabled=enabled)
        self.keep()

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
            if there:
                self._give_up(job, move, at, "it has started again with its old tier")
            elif job.state is JobState.PENDING and enabled:
                self._in_task(job.job_id, self._change(job, move))
        elif there and (restarted or not move.running):
            # A node has been told by now, or tells its job the tier of its submission.
            if job.tier == move.tier:
                self.book.turn(job.job_id, MoveState.STARTED, at)
                words = (
                    f"runs {move.tier} on {move.gpu_count} GPUs, in place of {move.before or 'another tier'}"
                )
                self._tell(job, "tier started", words)
            elif (at - move.since).total_seconds() > self._checkpoint_seconds:
                self._give_up(job, move, at, f"its node has told it {job.tier or 'no tier'}")

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
