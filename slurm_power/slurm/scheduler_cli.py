"""The scheduler port through ``squeue`` and ``scontrol``, for Slurm 22.05 to 26.05.

A hold is a start time in the near future, so it ends by itself when nobody renews it. What the user had
asked for (``--begin``) is remembered before it is overwritten, in the job's AdminComment or, where that
belongs to another tool, in a file of ours; nothing is kept only in memory, so a restart forgets nothing.
"""

import math
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slurm_power import clock
from slurm_power.model.job import Job, JobState
from slurm_power.model.pool import Pool
from slurm_power.ports import SchedulerError
from slurm_power.slurm import admin_comment
from slurm_power.slurm.admin_comment import HoldNote
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.hold_book import HoldBook
from slurm_power.slurm.hostlist import compress, expand
from slurm_power.slurm.node_note import NodeNote, node_note, with_nodes
from slurm_power.slurm.parse import JobRecord, parse_squeue, squeue_format
from slurm_power.slurm.pools import SINFO_FORMAT, parse_sinfo


class CliScheduler:
    """Implements ``ports.Scheduler``. Job ids are Slurm's raw ones, as ``SLURM_JOB_ID`` in the hooks.

    Arrays: the tasks still pending are one job (``task_count``), held and released together; each started
    task is a job of its own. Het jobs: each component is a job; holding or releasing one moves all. In a
    cluster where nothing else happens, Slurm sees a het job whose hold has expired only at the next event.
    """

    def __init__(self, commands: CommandRunner, *, hold_file: Path) -> None:
        self._commands = commands
        self._book = HoldBook(hold_file)

    async def jobs(self) -> tuple[Job, ...]:
        """All jobs that pend, run or have ended within Slurm's MinJobAge; raises SchedulerError."""
        return tuple(record.job for record in await self._records())

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

    async def pools(self) -> tuple[Pool, ...]:
        """The partitions; raises SchedulerError."""
        text = await self._commands.run("sinfo", "--noheader", "--all", f"--format={SINFO_FORMAT}")
        try:
            return parse_sinfo(text)
        except ValueError as error:
            raise SchedulerError(f"sinfo: {error}") from error

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
        excluded = await self._excluded(job_id)
        ours = note is not None and excluded == note.nodes | note.own
        own = note.own if note is not None and ours else excluded
        fresh = NodeNote(nodes=frozenset(avoid), own=own, reason=reason) if avoid else None
        comment = with_nodes(record.admin_comment, fresh)
        if comment is None:
            raise SchedulerError(
                f"job {job_id}: its AdminComment is another tool's, so it is not sent elsewhere"
            )
        words = [f"AdminComment={comment}"]
        if avoid or ours:
            words.append(f"ExcNodeList={compress({*own, *avoid})}")
        await self._commands.run("scontrol", "update", f"JobId={record.update_id}", *words)

    async def _excluded(self, job_id: str) -> frozenset[str]:
        """The nodes that a job may not start on by its own record."""
        text = await self._commands.run("squeue", "--noheader", "--all", f"--jobs={job_id}", "--format=%A|%x")
        rows = [line.strip().partition("|") for line in text.splitlines()]
        try:
            return frozenset(name for row in rows if row[0] == job_id for name in expand(row[2]))
        except ValueError as error:
            raise SchedulerError(f"squeue: {error}") from error

    async def _records(self, *selection: str) -> tuple[JobRecord, ...]:
        mark = f"~{secrets.token_hex(8)}~"
        text = await self._commands.run(
            "squeue", "--noheader", "--all", "--states=all", *selection, f"--Format={squeue_format(mark)}"
        )
        try:
            return parse_squeue(text, mark)
        except ValueError as error:
            raise SchedulerError(f"squeue: {error}") from error

    async def _record(self, job_id: str) -> JobRecord | None:
        """Read one job afresh, None if Slurm does not know it (any more)."""
        if not job_id.isdigit():
            raise SchedulerError(f"{job_id!r} is no job id")
        try:
            records = await self._records(f"--jobs={job_id}")
        except SchedulerError as error:
            if "Invalid job id" in str(error):
                return None
            raise
        # Asked for an array's id, squeue lists all its tasks.
        return next((record for record in records if record.job.job_id == job_id), None)

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
        words = []
        if start is not None:
            words.append(f"StartTime={start.astimezone(UTC):%Y-%m-%dT%H:%M:%S}")
        if comment is not None:
            words.append(f"AdminComment={comment}")
        elif note is not None:
            self._remember(record.job.job_id, note)
        if words:
            await self._commands.run("scontrol", "update", f"JobId={record.update_id}", *words)
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
