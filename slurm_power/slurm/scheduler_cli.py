"""Slurm through ``squeue``, ``scontrol`` and ``sinfo``, for 22.05 to 26.05."""

import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from slurm_power.model.pool import Pool
from slurm_power.ports import SchedulerError
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.gpu_request import ASKED_AS
from slurm_power.slurm.hostlist import compress, expand
from slurm_power.slurm.parse import JobReader, JobRecord, squeue_format
from slurm_power.slurm.pools import SINFO_FORMAT, parse_sinfo
from slurm_power.slurm.scheduler import SlurmScheduler

# The status of the script, and the signal that ended it.
_EXIT = re.compile(r" ExitCode=(?P<status>\d+):(?P<signal>\d+)(?: |$)")
# Wider than any request for GPUs.
_WIDTH = 160


class CliAccess:
    """Implements ``scheduler.Access`` by one command a call."""

    def __init__(self, commands: CommandRunner) -> None:
        self._commands = commands
        self._reader = JobReader()

    async def records(self) -> tuple[JobRecord, ...]:
        """All jobs; raises SchedulerError."""
        return await self._records(self._reader)

    async def record(self, job_id: str) -> JobRecord | None:
        """One job afresh; raises SchedulerError."""
        try:
            records = await self._records(JobReader(), f"--jobs={job_id}")
        except SchedulerError as error:
            if "Invalid job id" in str(error):
                return None
            raise
        # Asked for an array's id, squeue lists all its tasks.
        return next((record for record in records if record.job.job_id == job_id), None)

    async def excluded(self, job_id: str) -> frozenset[str]:
        """The nodes a job avoids; raises SchedulerError."""
        text = await self._commands.run("squeue", "--noheader", "--all", f"--jobs={job_id}", "--format=%A|%x")
        rows = [line.strip().partition("|") for line in text.splitlines()]
        try:
            return frozenset(name for row in rows if row[0] == job_id for name in expand(row[2]))
        except ValueError as error:
            raise SchedulerError(f"squeue: {error}") from error

    async def update(
        self,
        record: JobRecord,
        *,
        start: datetime | None = None,
        comment: str | None = None,
        excluded: frozenset[str] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """Write to a job's record; raises SchedulerError."""
        words = [f"{name}={value}" for name, value in (more or {}).items()]
        if start is not None:
            words.append(f"StartTime={start.astimezone(UTC):%Y-%m-%dT%H:%M:%S}")
        if comment is not None:
            words.append(f"AdminComment={comment}")
        if excluded is not None:
            words.append(f"ExcNodeList={compress(excluded)}")
        await self._commands.run("scontrol", "update", f"JobId={record.update_id}", *words)

    async def suspend(self, job_id: str) -> None:
        """Stop a running job; raises SchedulerError."""
        await self._commands.run("scontrol", "suspend", job_id)

    async def resume(self, job_id: str) -> None:
        """Let a suspended job go on; raises SchedulerError."""
        await self._commands.run("scontrol", "resume", job_id)

    async def gpu_request(self, job_id: str) -> Mapping[str, str]:
        """The GPUs a job asks for; raises SchedulerError."""
        columns = ",".join(f"{name}:{_WIDTH}" for name in ("JobID", *ASKED_AS))
        text = await self._commands.run(
            "squeue", "--noheader", "--all", f"--jobs={job_id}", f"--Format={columns}"
        )
        for line in text.splitlines():
            row = [line[place : place + _WIDTH].strip() for place in range(0, len(line), _WIDTH)]
            if row[:1] == [job_id]:
                return {key: value for key, value in zip(ASKED_AS, row[1:], strict=False) if value != "N/A"}
        raise SchedulerError(f"squeue: no job {job_id}")

    async def exit_status(self, job_id: str) -> int | None:
        """The exit status of an ended job's script; raises SchedulerError."""
        text = await self._commands.run("scontrol", "--oneliner", "show", "job", job_id)
        for line in text.splitlines():
            found = _EXIT.search(line)
            if line.startswith(f"JobId={job_id} ") and found is not None:
                return int(found["status"]) if found["signal"] == "0" else None
        return None

    async def requeue(self, job_id: str) -> None:
        """Queue a running job again; raises SchedulerError."""
        await self._commands.run("scontrol", "requeue", job_id)

    async def pools(self) -> tuple[Pool, ...]:
        """The partitions; raises SchedulerError."""
        text = await self._commands.run("sinfo", "--noheader", "--all", f"--format={SINFO_FORMAT}")
        try:
            return parse_sinfo(text)
        except ValueError as error:
            raise SchedulerError(f"sinfo: {error}") from error

    async def _records(self, reader: JobReader, *selection: str) -> tuple[JobRecord, ...]:
        mark = f"~{secrets.token_hex(8)}~"
        text = await self._commands.run(
            "squeue", "--noheader", "--all", "--states=all", *selection, f"--Format={squeue_format(mark)}"
        )
        try:
            return reader.read(text, mark)
        except ValueError as error:
            raise SchedulerError(f"squeue: {error}") from error


class CliScheduler(SlurmScheduler):
    """The scheduler port by Slurm's commands alone."""

    def __init__(self, commands: CommandRunner, *, hold_file: Path) -> None:
        super().__init__(CliAccess(commands), hold_file=hold_file)
