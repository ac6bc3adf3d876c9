"""Moves jobs to other model tiers, step by step; each step is looked for in the world, so none is lost.

A running job is asked to save itself and end, by the file that it reads at each step: a signal would end
what else runs in its steps and does not know it. Its own script queues it again; one that only ends with the
status that says so, or has nothing to save, is queued again by us. While it waits its tier and its GPUs are
changed in one request. When it starts, its nodes are told the tier that its record has.

Whatever fails in between, the job runs: with its old tier if need be. Slurm itself lets a job that was
queued again start after two minutes, whoever is gone by then.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any, Protocol

from slurm_power import clock
from slurm_power.controller.tiers.advice_book import AdviceBook, Word
from slurm_power.controller.tiers.tier_book import OVER, Move, MoveState, TierBook
from slurm_power.model.action import ChangeTier
from slurm_power.model.job import Job, JobState, Workload
from slurm_power.model.progress import JobProgress
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
# Slurm lets it start after two minutes: what still waits unchanged is held by somebody, or Slurm is silent.
_LONGEST_QUEUED_SECONDS = 300.0


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
        """``moved`` takes the job and the reason of each move that is done."""
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
        self._saves: frozenset[str] = frozenset()
        # What the records of jobs say that wait: the tier that they start with, whoever has written it.
        self._waiting: dict[str, str] = {}
        self._problems: dict[str, str] = {}
        self._again_seconds: dict[str, float] = {}
        # Those whose move begins, and which we have queued again ourselves.
        self._by_us: set[str] = set()

    def look(self, progress: Mapping[str, JobProgress]) -> None:
        """See which jobs save themselves: what is planned on, not what was so a cycle ago."""
        self._saves = frozenset(job_id for job_id, one in progress.items() if one.checkpoints)

    async def begin(self, action: ChangeTier, job: Job | None) -> None:
        """Begin a move; raises SchedulerError."""
        if job is None:
            raise SchedulerError(f"job {action.job_id} is gone")
        if action.job_id in self.book.under_way():
            raise SchedulerError(f"job {action.job_id} is on its way to another tier already")
        if action.running:
            # What could not be changed afterwards is not to save itself for nothing.
            await self._scheduler.check_tier(action.job_id, action.gpu_count)
        self._by_us.discard(action.job_id)
        if not action.running:
            await self._scheduler.change_tier(
                action.job_id, action.tier, action.gpu_count, None, action.reason
            )
        elif action.job_id in self._saves:
            self._ask(job.job_id, action.reason, clock.monotonic())
        elif Workload.TRAINING in (job.workload, self._family_workload(action.tier)):
            raise SchedulerError(f"job {action.job_id} trains, and does not say that it saves itself")
        else:
            await self._scheduler.requeue(action.job_id)
            self._by_us.add(action.job_id)

    def _family_workload(self, tier: str) -> Workload | None:
        found = self._catalog().find(tier)
        return None if found is None else found[0].workload

    def took(self, action: ChangeTier, job: Job | None, at: datetime) -> bool:
        """Note a move that has begun; always news."""
        start = self._starts.get(action.job_id)
        before, by_us = "" if job is None else job.tier, action.job_id in self._by_us
        self._by_us.discard(action.job_id)
        self.book.asked(action, before=before, start=start, by_us=by_us, at=at)
        self.keep()
        return True

    def refused(self, action: ChangeTier, job: Job | None, at: datetime) -> None:
        """Note a move that could not be begun."""
        self.book.refused(action, before="" if job is None else job.tier, at=at)

    def job_started(self, node: str, message: Message) -> None:
        """Tell a node which tier a start of a job is to run; it waits for that word a moment."""
        job_id, start = str(message.get("job_id")), message.get("restart_count")
        submitted = tier_of(message.get("tier"))
        if not submitted or type(start) is not int:
            return
        self._starts[job_id] = max(start, self._starts.get(job_id, 0))
        move = self.book.get(job_id)
        moved = move is not None and move.state in (MoveState.CHANGED, MoveState.STARTED)
        tier = move.tier if move is not None and moved else self._waiting.get(job_id) or submitted
        found = self._catalog().find(tier)
        model = "" if found is None else found[1].model_path
        self._send(
            node, {"type": "tier", "job_id": job_id, "tier": tier, "model": model, "restart_count": start}
        )

    def follow(self, snapshot: Snapshot, now_seconds: float, *, enabled: bool) -> None:
        """Take each move as far as the world lets it, and keep what has changed."""
        jobs = {job.job_id: job for job in snapshot.jobs}
        if snapshot.jobs_age_seconds is not None:
            self._forget(jobs, snapshot.at, now_seconds)
        for job_id, move in self.book.under_way().items():
            job = jobs.get(job_id)
            if job is not None and job_id not in self._tasks:
                self._step(job, move, snapshot.at, now_seconds, enabled=enabled)
        self.keep()

    def give_up(self, snapshot: Snapshot, reason: str) -> None:
        """Ask no job any more to save itself for a move."""
        for job in snapshot.jobs:
            move = self.book.get(job.job_id)
            if move is not None and move.state is MoveState.SAVING:
                self._give_up(job, move, snapshot.at, f"{reason}; it goes on as it is")
        self.keep()

    def _saved(self, jobs: Mapping[str, Job], at: datetime, now_seconds: float) -> set[str]:
        """Jobs that may have ended because we asked; they are queued again, also where we gave up since."""
        found = set()
        for job_id, move in self.book.asked_to_save().items():
            job = jobs.get(job_id)
            late = move.state in OVER and (at - move.since).total_seconds() > self._checkpoint_seconds
            if job is not None and job.state is JobState.ENDED and not late:
                found.add(job_id)
                if job_id not in self._tasks and self._may_try(job_id, now_seconds):
                    self._in_task(job_id, self._queue_saved(job, move, now_seconds))
        return found

    async def _queue_saved(self, job: Job, move: Move, now_seconds: float) -> None:
        try:
            queued = await self._scheduler.queue_saved(job.job_id)
        except SchedulerError as error:
            self._failed(job, error, now_seconds)
            return
        if queued:
            # The list of jobs shows it in a moment.
            self._again_seconds[job.job_id] = now_seconds + _AGAIN_SECONDS
            return
        if move.state not in OVER:
            self._give_up(job, move, clock.now(), "it has ended")
        self.book.forget(job.job_id)

    def _forget(self, jobs: Mapping[str, Job], at: datetime, now_seconds: float) -> None:
        saved = self._saved(jobs, at, now_seconds)
        cut_short = self.book.follow({job_id: job.state for job_id, job in jobs.items()}, kept=saved)
        for job_id, move in cut_short.items():
            why = f"not moved to {move.tier}: it has ended"
            user = jobs[job_id].user if job_id in jobs else ""
            self._note("controller", "tier given up", f"job:{job_id}", why, job_id=job_id, user=user)
        self._starts = {key: start for key, start in self._starts.items() if key in jobs}
        for book in (self._problems, self._again_seconds):
            for job_id in [key for key in book if self.book.get(key) is None]:
                del book[job_id]
        waiting = {key: job.tier for key, job in jobs.items() if job.tier and job.state is JobState.PENDING}
        # What has started since then started with that; its node may ask at any moment.
        began = {key: tier for key, tier in self._waiting.items() if key in jobs and key not in waiting}
        self._waiting = {**began, **waiting}

    def keep(self) -> None:
        """Write the moves down where they have changed."""
        now = self.book.to_json()
        if now != self._written:
            self._store.put_state(_KEY, now)
            self._written = now

    def _step(self, job: Job, move: Move, at: datetime, now_seconds: float, *, enabled: bool) -> None:
        there = job.state in (JobState.STARTING, JobState.RUNNING, JobState.SUSPENDED)
        match move.state:
            case MoveState.SAVING:
                self._while_it_saves(job, move, at, now_seconds, there=there, enabled=enabled)
            case MoveState.QUEUED if job.state is JobState.PENDING:
                if (at - move.since).total_seconds() > _LONGEST_QUEUED_SECONDS:
                    why = self._problems.get(job.job_id, "nobody was there to change it")
                    self._give_up(job, move, at, why)
                elif job.tier == move.tier:
                    # Slurm has the change, and a crash of ours kept us from writing it down.
                    self.book.turn(job.job_id, MoveState.CHANGED, at)
                elif enabled and self._may_try(job.job_id, now_seconds):
                    self._in_task(job.job_id, self._change(job, move, now_seconds))
            case MoveState.QUEUED | MoveState.CHANGED if there and self._goes_on(job, move):
                # The list of jobs may be older than a node's word, and have the GPUs of the run before.
                told = self._is_told(job, move, at)
                if job.tier == move.tier and (job.gpu_count == move.gpu_count or told):
                    self._started(job, move, at)
                elif told:
                    self._give_up(job, move, at, f"it has started again with {job.tier or 'no tier'}")
            case _:
                pass

    def _while_it_saves(
        self, job: Job, move: Move, at: datetime, now_seconds: float, *, there: bool, enabled: bool
    ) -> None:
        if job.state is JobState.PENDING:
            self.book.turn(job.job_id, MoveState.QUEUED, at)
        elif there and self._restarted(job, move):
            self._give_up(job, move, at, "it had started again before it could be changed")
        elif not enabled or (at - move.asked_at).total_seconds() > self._checkpoint_seconds:
            why = "it has not saved itself in time" if enabled else "powerctld only watches now"
            self._give_up(job, move, at, f"{why}, and goes on as it is")
        elif there and not move.by_us:
            self._ask(job.job_id, move.reason, now_seconds)

    def _goes_on(self, job: Job, move: Move) -> bool:
        """Whether a job that has waited is back. A node may still claim one whose last run has just ended."""
        return job.state is not JobState.STARTING or self._restarted(job, move)

    def _is_told(self, job: Job, move: Move, at: datetime) -> bool:
        """Whether its nodes have told it a tier by now: they do so when its script starts."""
        if move.state is MoveState.QUEUED and self._waiting.get(job.job_id) != move.tier:
            return True
        ran_seconds = (at - (job.started or at)).total_seconds()
        return job.state is not JobState.STARTING and ran_seconds > self._checkpoint_seconds

    def _restarted(self, job: Job, move: Move) -> bool:
        """Whether a job that is there has started since it was asked; one that waited then surely has."""
        start = self._starts.get(job.job_id)
        if not move.running or (start is not None and move.start is not None and start > move.start):
            return True
        # Slurm's times are whole seconds, and the job ran when it was asked.
        return job.started is not None and job.started > move.asked_at

    def _started(self, job: Job, move: Move, at: datetime) -> None:
        self.book.turn(job.job_id, MoveState.STARTED, at)
        self._moved(job.job_id, move.reason)
        before = move.before or "another tier"
        self._tell(job, "tier started", f"runs {move.tier} on {job.gpu_count} GPUs, in place of {before}")

    async def _change(self, job: Job, move: Move, now_seconds: float) -> None:
        """Change a job that waits. Errors come back at the next look, as long as it waits."""
        try:
            await self._scheduler.change_tier(
                job.job_id, move.tier, move.gpu_count, _START_SECONDS, move.reason
            )
        except SchedulerError as error:
            self._failed(job, error, now_seconds)
            return
        found = self.book.get(job.job_id)
        if found is not None and found.state is MoveState.QUEUED:
            self.book.turn(job.job_id, MoveState.CHANGED, clock.now())
            self._tell(job, "tier changed", f"waits for {move.gpu_count} GPUs to go on with {move.tier}")
            self.keep()

    def _failed(self, job: Job, error: SchedulerError, now_seconds: float) -> None:
        """Say what went wrong, once, and try again in a moment."""
        if self._problems.get(job.job_id) != str(error):
            self._problems[job.job_id] = str(error)
            self._tell(job, "failed", str(error))
        self._again_seconds[job.job_id] = now_seconds + _AGAIN_SECONDS

    def _may_try(self, job_id: str, now_seconds: float) -> bool:
        return now_seconds >= self._again_seconds.get(job_id, now_seconds)

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
        self._advice.to_save(job.job_id, None)
        self.book.turn(job.job_id, MoveState.GIVEN_UP, at)
        self._tell(job, "tier given up", f"not moved to {move.tier}: {why}")

    def _tell(self, job: Job, kind: str, reason: str) -> None:
        self._note("controller", kind, f"job:{job.job_id}", reason, job_id=job.job_id, user=job.user)
