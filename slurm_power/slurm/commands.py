"""Runs Slurm's own commands: bounded in time and number, in a clean environment, errors as SchedulerError."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from slurm_power.ports import SchedulerError

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class CommandRunner:
    """Starts ``scontrol`` and ``squeue`` against one cluster.

    Slurm's clients retry for minutes when slurmctld is away, so each command is killed, with all it
    started, after ``timeout_seconds``. Times are printed in UTC because the commands get ``TZ=UTC``.
    """

    def __init__(
        self,
        slurm_conf: Path | None,
        *,
        timeout_seconds: float = 5.0,
        concurrency: int = 4,
        search_path: str | None = None,
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self._free = asyncio.Semaphore(concurrency)
        self._environment = {
            "PATH": search_path or f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}",
            "TZ": "UTC",
            "LC_ALL": "C.UTF-8",
            "SLURM_TIME_FORMAT": "standard",
            # Without it the task list of a sparse job array is cut after 64 characters.
            "SLURM_BITSTR_LEN": "0",
        }
        if slurm_conf is not None:
            self._environment["SLURM_CONF"] = str(slurm_conf)

    async def run(self, *words: str) -> str:
        """Run one command and return what it printed; raises SchedulerError with what it said.

        The time-out counts from the start of the command, not while it waits for a free place.
        """
        async with self._free:
            try:
                process = await asyncio.create_subprocess_exec(
                    *words,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env=self._environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise SchedulerError(f"{words[0]}: cannot be started: {error.strerror}") from error
            try:
                async with asyncio.timeout(self.timeout_seconds):
                    printed, complaint = await process.communicate()
            except TimeoutError:
                raise SchedulerError(f"{words[0]}: no answer within {self.timeout_seconds:g} s") from None
            finally:
                await _end(process)
        if process.returncode:
            said = " ".join(complaint.decode(errors="replace").split())
            raise SchedulerError(f"{words[0]}: {said or f'exit status {process.returncode}'}")
        return printed.decode(errors="replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of a command, also when we are cancelled, and reap it."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
