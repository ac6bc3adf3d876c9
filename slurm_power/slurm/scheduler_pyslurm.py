"""Slurm through pyslurm for what concerns one job; lists, and what pyslurm cannot do, by Slurm's commands.

A hold is a look at the job and a write to it. By commands that is two processes, each of which reads
slurm.conf anew; by pyslurm two messages over a library that is loaded once, in a process of its own
(`pyslurm_worker`). Lists come from squeue, which takes less time than pyslurm's own.
"""

import asyncio
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from slurm_power import clock
from slurm_power.model.pool import Pool
from slurm_power.ports import SchedulerError
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.hostlist import expand
from slurm_power.slurm.parse import JobRecord, record_of
from slurm_power.slurm.scheduler import SlurmScheduler
from slurm_power.slurm.scheduler_cli import CliAccess

# Without what lies in the current directory, which may be anybody's.
WORKER = (sys.executable, "-P", "-m", "slurm_power.slurm.pyslurm_worker")
# What an interpreter needs to find pyslurm and our own package again.
_KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "HOME")


class PyslurmWorker:
    """The other process, started when it is needed. Not for several threads at once."""

    def __init__(
        self, slurm_conf: Path | None, *, timeout_seconds: float = 5.0, command: Sequence[str] = WORKER
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self._command = tuple(command)
        self._environment = {key: value for key in _KEPT if (value := os.environ.get(key)) is not None}
        self._environment |= {"TZ": "UTC", "LC_ALL": "C.UTF-8"}
        if slurm_conf is not None:
            self._environment["SLURM_CONF"] = str(slurm_conf)
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, op: str, **words: object) -> dict[str, Any]:
        """Ask it and return its answer; raises SchedulerError, at the latest when the time is over.

        What does not answer in time is killed: nobody knows what it still waits for.
        """
        deadline_seconds = clock.monotonic() + self.timeout_seconds
        try:
            process = self._running()
            assert process.stdin is not None
            process.stdin.write(json.dumps({"op": op, **words}).encode() + b"\n")
            process.stdin.flush()
            line = self._line(process, deadline_seconds)
        except OSError as error:
            self.close()
            raise SchedulerError(f"pyslurm: {error.strerror or error}") from error
        answer = json.loads(line)
        if "error" in answer:
            raise SchedulerError(f"pyslurm: {answer['error']}")
        return dict(answer)

    def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        return self._process

    def _line(self, process: "subprocess.Popen[bytes]", deadline_seconds: float) -> bytes:
        assert process.stdout is not None
        found = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not found.endswith(b"\n"):
                left_seconds = deadline_seconds - clock.monotonic()
                if left_seconds <= 0.0 or not selector.select(left_seconds):
                    self.close()
                    raise SchedulerError(f"pyslurm: no answer within {self.timeout_seconds:g} s")
                data = os.read(process.stdout.fileno(), 1 << 20)
                if not data:
                    self.close()
                    raise SchedulerError("pyslurm: its process has ended")
                found += data
        return found


class PyslurmAccess:
    """Implements ``scheduler.Access``. The worker's answers are waited for in a thread of its own."""

    def __init__(self, worker: PyslurmWorker, commands: CommandRunner) -> None:
        self._worker = worker
        self._cli = CliAccess(commands)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pyslurm")

    async def close(self) -> None:
        """End worker and thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._worker.close)
        self._thread.shutdown(wait=False)

    async def _ask(self, op: str, **words: object) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: self._worker.ask(op, **words))

    async def _do(self, op: str, job_id: str, **words: object) -> None:
        if (await self._ask(op, job_id=job_id, **words)).get("gone"):
            raise SchedulerError(f"pyslurm: job {job_id} has gone")

    async def records(self) -> tuple[JobRecord, ...]:
        """All jobs; raises SchedulerError."""
        return await self._cli.records()

    async def record(self, job_id: str) -> JobRecord | None:
        """One job afresh, without its GPUs; raises SchedulerError."""
        answer = await self._ask("record", job_id=job_id)
        if answer.get("gone"):
            return None
        if answer.get("other"):
            return await self._cli.record(job_id)
        return _record(answer)

    async def excluded(self, job_id: str) -> frozenset[str]:
        """The nodes a job avoids; raises SchedulerError."""
        answer = await self._ask("record", job_id=job_id)
        if answer.get("gone") or answer.get("other"):
            return await self._cli.excluded(job_id)
        try:
            return frozenset(expand(str(answer["excluded"])))
        except ValueError as error:
            raise SchedulerError(f"pyslurm: {error}") from error

    async def update(
        self,
        record: JobRecord,
        *,
        start: datetime | None = None,
        comment: str | None = None,
        excluded: frozenset[str] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """Write to a job's record; raises SchedulerError.

        pyslurm says nothing where something is to be taken away, and one number where a whole array or het
        job is meant.
        """
        if comment == "" or excluded == frozenset() or record.shared or more:
            await self._cli.update(record, start=start, comment=comment, excluded=excluded, more=more)
            return
        changes: dict[str, object] = {}
        if start is not None:
            changes["begin_time"] = int(start.timestamp())
        if comment is not None:
            changes["admin_comment"] = comment
        if excluded is not None:
            changes["excluded_nodes"] = sorted(excluded)
        await self._do("update", record.job.job_id, changes=changes)

    async def suspend(self, job_id: str) -> None:
        """Stop a running job; raises SchedulerError."""
        await self._do("suspend", job_id)

    async def resume(self, job_id: str) -> None:
        """Let a suspended job go on; raises SchedulerError."""
        await self._do("resume", job_id)

    async def gpu_request(self, job_id: str) -> Mapping[str, str]:
        """The GPUs a job asks for, by Slurm's commands; raises SchedulerError."""
        return await self._cli.gpu_request(job_id)

    async def exit_status(self, job_id: str) -> int | None:
        """The exit status of an ended job's script, by Slurm's commands; raises SchedulerError."""
        return await self._cli.exit_status(job_id)

    async def requeue(self, job_id: str) -> None:
        """Queue a running job again, by Slurm's commands; raises SchedulerError."""
        await self._cli.requeue(job_id)

    async def pools(self) -> tuple[Pool, ...]:
        """The partitions; raises SchedulerError."""
        return await self._cli.pools()


def _record(answer: Mapping[str, Any]) -> JobRecord:
    try:
        return record_of({str(key): str(value) for key, value in dict(answer["fields"]).items()})
    except (KeyError, TypeError, ValueError) as error:
        raise SchedulerError(f"pyslurm: {error}") from error


class PyslurmScheduler(SlurmScheduler):
    """The scheduler port by pyslurm, and by Slurm's commands for the rest."""

    def __init__(self, worker: PyslurmWorker, commands: CommandRunner, *, hold_file: Path) -> None:
        self._pyslurm = PyslurmAccess(worker, commands)
        super().__init__(self._pyslurm, hold_file=hold_file)

    async def close(self) -> None:
        """End the other process."""
        await self._pyslurm.close()
