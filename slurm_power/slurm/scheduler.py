"""The scheduler port over Slurm, whichever way Slurm is spoken to.

A hold is a start time in the near future, so it ends by itself when nobody renews it. What the user had
asked for (``--begin``) is remembered before it is overwritten, in the job's AdminComment or, where that
belongs to another tool, in a file of ours; nothing is kept only in memory, so a restart forgets nothing.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from slurm_power import clock
from slurm_power.model.job import Job, JobState
from slurm_power.model.pool import Pool
from slurm_power.ports import NotRunningError, SchedulerError
from slurm_power.slurm import admin_comment
from slurm_power.slurm.admin_comment import HoldNote
from slurm_power.slurm.gpu_request import changed_request
from slurm_power.slurm.hold_book import HoldBook
from slurm_power.slurm.node_note import NodeNote, node_note, with_nodes
from slurm_power.slurm.parse import JobRecord

# What batch scripts of ours, and slurm_power.advice, end with to say "saved, queue me again".
SAVED_EXIT_STATUS = 85


class Access(Protocol):
    """A way to speak to Slurm. All calls raise SchedulerError, within a bounded time."""

    async def records(self) -> tuple[JobRecord, ...]:
        """All jobs that pend, run or have ended within Slurm's MinJobAge."""
        ...

    async def record(self, job_id: str) -> JobRecord | None:
        """One job afresh, None if Slurm does not know it (any more); its GPUs need not be told."""
        ...

    async def excluded(self, job_id: str) -> frozenset[str]:
        """The nodes that a job may not start on by its own record."""
        ...

    async def update(
        self,
        record: JobRecord,
        *,
        start: datetime | None = None,
        comment: str | None = None,
        excluded: frozenset[str] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """Write what is given, and nothing else, in one request: start time, AdminComment, nodes to avoid.

        ``more`` are further words for scontrol, by their names.

        An empty comment, or no node, takes away what was there. It is for all pending tasks of an array, and
        all components of a het job.
        """
        ...

    async def suspend(self, job_id: str) -> None:
        """Stop a running job."""
        ...

    async def resume(self, job_id: str) -> None:
        """Let a suspended job go on."""
        ...

    async def gpu_request(self, job_id: str) -> Mapping[str, str]:
        """The GPUs that a job asks for, by the names of ``gpu_request.ASKED_AS``."""
        ...

    async def exit_status(self, job_id: str) -> int | None:
        """The exit status of an ended job's script, None where it was killed or Slurm does not know."""
        ...

    async def requeue(self, job_id: str) -> None:
        """Queue a running job again."""
        ...

    async def pools(self) -> tuple[Pool, ...]:
        """The partitions."""
        ...


class SlurmScheduler:
    """Implements ``ports.Scheduler``. Job ids are Slurm's raw ones, as ``SLURM_JOB_ID`` in the hooks.

    Arrays: the tasks still pending are one job (``task_count``), held and released together; each started
    task is a job of its own. Het jobs: each component is a job; holding or releasing one moves all. In a
    cluster where nothing else happens, Slurm sees a het job whose hold has expired only at the next event.
    """

    def __init__(self, access: Access, *, hold_file: Path) -> None:
        self._access = access
        self._book = HoldBook(hold_file)

    async def jobs(self) -> tuple[Job, ...]:
        """All jobs that pend, run or have ended within Slurm's MinJobAge; raises SchedulerError."""
        return tuple([record.job for record in await self._access.records()])

    async def pools(self) -> tuple[Pool, ...]:
        """The partitions; raises SchedulerError."""
        return await self._access.pools()

    async def hold(self, job_id: str, seconds: float, reason: str) -> None:
        """Keep a pending job from starting for ``seconds`` from now; renews or shortens a hold of ours.

        Does nothing if the user's own begin time is later still. Raises SchedulerError if the job is gone,
        has started, or is held by its user or an administrator.
        """
        record = await self._record(job_id)
        if record is None or record.job.state is not JobState.PENDING:
            raise SchedulerError(f"job {job_id} is not pending, so it cannot be held")
        if record.job.held_by_user:
            raise SchedulerError(
                f"job {job_id} is held by {record.job.pending_reason or 'its user'}: left alone"
            )
        note = self._note(record)
        begin = note.begin if note is not None and _ours(record, note) else record.job.begin
        until = _whole_second(clock.now() + timedelta(seconds=seconds))
        if begin is not None and begin >= until:
            if note is not None:
                await self._let_go(record, note)
            return
        await self._write(record, HoldNote(until=until, reason=reason, begin=begin), until)

    async def release(self, job_id: str) -> None:
        """End our hold now, back to the user's own begin time; touches no job that we do not hold."""
        record = await self._record(job_id)
        if record is None:
            self._remember(job_id, None)
            return
        note = self._note(record)
        if note is not None:
            await self._let_go(record, note)

    async def pause(self, job_id: str, seconds: float, reason: str) -> None:  # noqa: ARG002  # leased by the nodes
        """Suspend a running job: its processes stop, its GPUs, memory and licences stay its own.

        Slurm's own clock of the time limit stops as well. Suspending does not end by itself: the job's
        nodes hold the lease of ``seconds``. Raises NotRunningError if the job does not run, so that one
        that somebody else has suspended is never taken for ours.
        """
        record = await self._record(job_id)
        if record is None or record.job.state is not JobState.RUNNING:
            raise NotRunningError(f"job {job_id} does not run, so it cannot be paused")
        await self._access.suspend(job_id)

    async def resume(self, job_id: str) -> None:
        """Resume a suspended job; one that is not suspended, or is gone, is left as it is."""
        record = await self._record(job_id)
        if record is not None and record.job.state is JobState.SUSPENDED:
            await self._access.resume(job_id)

    async def relocate(self, job_id: str, avoid: Sequence[str], reason: str) -> None:
        """Exclude nodes for a pending job beside those its user excludes; none gives all but these back.

        The partitions stay as the user listed them: Slurm starts the job in one whose nodes are left, with
        that partition's own rules. Raises SchedulerError where the job has started, is held by its user,
        names nodes itself, or its AdminComment is another tool's, since nothing could tell what is ours.
        """
        record = await self._record(job_id)
        note = None if record is None else node_note(record.admin_comment)
        if record is None or record.job.state is not JobState.PENDING:
            if avoid:
                raise SchedulerError(f"job {job_id} is not pending, so it cannot be sent elsewhere")
            return
        if not avoid and note is None:
            return
        if avoid and (record.job.held_by_user or record.job.pinned):
            raise SchedulerError(f"job {job_id} is held by its user or names its nodes: left alone")
        excluded = await self._access.excluded(job_id)
        ours = note is not None and excluded == note.nodes | note.own
        own = note.own if note is not None and ours else excluded
        fresh = NodeNote(nodes=frozenset(avoid), own=own, reason=reason) if avoid else None
        comment = with_nodes(record.admin_comment, fresh)
        if comment is None:
            raise SchedulerError(
                f"job {job_id}: its AdminComment is another tool's, so it is not sent elsewhere"
            )
        nodes = own.union(avoid) if avoid or ours else None
        await self._access.update(record, comment=comment, excluded=nodes)

    async def queue_saved(self, job_id: str) -> bool:
        """Queue a job again whose script has ended with status 85; Slurm lets it start in two minutes."""
        record = await self._record(job_id)
        if record is None:
            return False
        if record.job.state is not JobState.ENDED:
            return True
        if not record.job.requeues or await self._access.exit_status(job_id) != SAVED_EXIT_STATUS:
            return False
        await self._access.requeue(job_id)
        return True

    async def requeue(self, job_id: str) -> None:
        """Queue a running batch job again; Slurm lets it start in two minutes. Raises NotRunningError."""
        await self._running(job_id)
        await self._access.requeue(job_id)

    async def _running(self, job_id: str) -> None:
        record = await self._record(job_id)
        if record is None or record.job.state is not JobState.RUNNING:
            raise NotRunningError(f"job {job_id} does not run")

    async def change_tier(
        self, job_id: str, tier: str, gpu_count: int, start_in_seconds: float | None, reason: str
    ) -> None:
        """Write tier, GPUs and start in one request, so that a job has all of it or nothing.

        What waits of an array is changed as one. Raises SchedulerError where the job has started, is held by
        its user, is part of a het job, asks for GPUs in a way that cannot be changed, or where its
        AdminComment is another tool's, since nothing would tell its next reader what it runs.
        """
        record = await self._record(job_id)
        if record is None or record.job.state is not JobState.PENDING:
            raise SchedulerError(f"job {job_id} is not pending, so its tier cannot be changed")
        if record.job.held_by_user:
            raise SchedulerError(f"job {job_id} is held by its user: left alone")
        if record.het:
            raise SchedulerError(f"job {job_id} is part of a het job: left alone")
        comment = admin_comment.with_tier(record.admin_comment, tier, reason)
        if comment is None:
            raise SchedulerError(f"job {job_id}: its AdminComment is another tool's, so its tier stays")
        try:
            words = changed_request(
                await self._access.gpu_request(job_id),
                node_count=record.job.node_count,
                gpu_count=gpu_count,
            )
        except SchedulerError as error:
            raise SchedulerError(f"job {job_id}: {error}") from error
        start = None if start_in_seconds is None else clock.now() + timedelta(seconds=start_in_seconds)
        await self._access.update(
            record, start=None if start is None else _whole_second(start), comment=comment, more=words
        )

    async def _record(self, job_id: str) -> JobRecord | None:
        if not job_id.isdigit():
            raise SchedulerError(f"{job_id!r} is no job id")
        return await self._access.record(job_id)

    def _note(self, record: JobRecord) -> HoldNote | None:
        return admin_comment.hold_note(record.admin_comment) or self._book.get(record.job.job_id)

    async def _let_go(self, record: JobRecord, note: HoldNote) -> None:
        """Forget the hold and, if the job still waits for it alone, give back the user's begin time."""
        now = clock.now()
        start: datetime | None = None
        if record.job.state is JobState.PENDING and _ours(record, note) and note.until > now:
            start = now if note.begin is None else max(note.begin, now)
        await self._write(record, None, start)

    async def _write(self, record: JobRecord, note: HoldNote | None, start: datetime | None) -> None:
        """Write note and start time in one request; a note that goes to our file is there first."""
        comment = admin_comment.with_hold(record.admin_comment, note)
        if comment is None and note is not None:
            self._remember(record.job.job_id, note)
        if start is not None or comment is not None:
            await self._access.update(record, start=start, comment=comment)
        if comment is not None or note is None:
            self._remember(record.job.job_id, None)

    def _remember(self, job_id: str, note: HoldNote | None) -> None:
        try:
            self._book.put(job_id, note)
        except OSError as error:
            raise SchedulerError(f"job {job_id}: its hold cannot be noted: {error}") from error


def _ours(record: JobRecord, note: HoldNote) -> bool:
    """Whether the start time in the record is the one we wrote; else the user has set a new one since."""
    return record.eligible is not None and abs((record.eligible - note.until).total_seconds()) <= 1.0


def _whole_second(time: datetime) -> datetime:
    """Round up to what Slurm can say, so that a hold is never shorter than promised."""
    return datetime.fromtimestamp(math.ceil(time.timestamp()), UTC)
