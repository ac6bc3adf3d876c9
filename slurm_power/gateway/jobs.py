"""Each tier as a Slurm job of the service's owner: submitted, found again by its name, ended."""

import asyncio
import contextlib
import os
import shutil
import signal
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from slurm_power.gateway.backends import BackendsError, JobSight
from slurm_power.gateway.members import JobSeen
from slurm_power.gateway.service_file import ServiceFile
from slurm_power.ports import SchedulerError
from slurm_power.slurm.commands import SYSTEM_PATH, CommandRunner
from slurm_power.slurm.parse import time_limit_seconds

SUBMIT_SECONDS = 30.0
MOST_ADDRESS_BYTES = 512

_SEEN = {
    "PENDING": JobSeen.PENDING,
    "CONFIGURING": JobSeen.PENDING,
    "REQUEUED": JobSeen.PENDING,
    "REQUEUE_HOLD": JobSeen.PENDING,
    "REQUEUE_FED": JobSeen.PENDING,
    "SPECIAL_EXIT": JobSeen.PENDING,
    "RUNNING": JobSeen.RUNNING,
    "SUSPENDED": JobSeen.RUNNING,
    "STOPPED": JobSeen.RUNNING,
    "SIGNALING": JobSeen.RUNNING,
    "STAGE_OUT": JobSeen.ENDING,
    "COMPLETING": JobSeen.ENDING,
}


class SlurmJobs:
    """The jobs of one service. ``slurm_conf`` is handed to Slurm's commands where it is not their default."""

    def __init__(self, service: ServiceFile, *, slurm_conf: Path | None = None) -> None:
        self._service = service
        named = os.environ.get("SLURM_CONF")
        self._slurm_conf = slurm_conf or (Path(named) if named else None)
        self._runner = CommandRunner(self._slurm_conf)

    async def look(self, tiers_by_key: Mapping[str, str]) -> dict[str, JobSight]:
        """Ask squeue by name. A second job of one name, from a submission that was thought lost, is ended."""
        if not tiers_by_key:
            return {}
        names = {self._name(key, tier): key for key, tier in tiers_by_key.items()}
        words = ["squeue", "--noheader", f"--user={os.getuid()}", f"--name={','.join(names)}"]
        try:
            printed = await self._runner.run(*words, "--format=%i|%T|%L|%a|%j")
        except SchedulerError as error:
            raise BackendsError(str(error)) from None
        found: dict[str, JobSight] = {}
        for line in sorted(printed.splitlines(), key=_number):
            job_id, state, left, account, name = line.strip().split("|", 4)
            seen = _SEEN.get(state)
            key = names.get(name)
            if key is None or seen is None:
                continue
            if key in found:
                with contextlib.suppress(BackendsError):
                    await self.end(job_id, hard=True)
                continue
            found[key] = JobSight(
                job_id=job_id,
                seen=seen,
                address=self.address(job_id) if seen is JobSeen.RUNNING else "",
                left_seconds=time_limit_seconds(left),
                account=account,
            )
        return found

    def address(self, job_id: str) -> str:
        """What the job's file says; empty for none, and for one that others could have written."""
        path = self._service.directory / self._service.address_file.format(job_id=job_id)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return ""
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o002:
                return ""
            lines = file.read(MOST_ADDRESS_BYTES).decode(errors="replace").split("\n")
        # Without its newline it is half written.
        return lines[0].strip() if len(lines) > 1 else ""

    async def submit(self, key: str, tier: str) -> str:
        """Submit a tier's job under a name by which it is found again."""
        job = self._service.job_of(tier)
        if job is None:
            return f"the service has no script for tier {tier}"
        words = [*_program(self._service.submit), f"--job-name={self._name(key, tier)}"]
        words.append(f"--chdir={self._service.directory}")
        if self._service.account:
            words.append(f"--account={self._service.account}")
        if Path(self._service.submit[0]).name == "psbatch":
            # The gateway is who moves the service: the job itself stays what it is.
            words += [f"--tier={self._service.family}/{tier}", "--tiers-ok=none"]
        words += [*job.sbatch, str(job.script)]
        environment = {**_clean_environment(), **job.environment}
        environment["SLURM_POWER_TIER"] = f"{self._service.family}/{tier}"
        if self._slurm_conf is not None:
            environment["SLURM_CONF"] = str(self._slurm_conf)
        return await _submitted(words, environment)

    async def end(self, job_id: str, *, hard: bool) -> None:
        """SIGTERM to the batch script, which lets its server finish; or scancel."""
        words = ["scancel", job_id] if hard else ["scancel", "--signal=TERM", "--batch", job_id]
        try:
            await self._runner.run(*words)
        except SchedulerError as error:
            raise BackendsError(str(error)) from None

    def _name(self, key: str, tier: str) -> str:
        return f"{self._service.name}.{tier}.{key}"


def _number(line: str) -> tuple[int, str]:
    digits = line.strip().partition("|")[0]
    return (int(digits) if digits.isdecimal() else 0, line)


def _program(submit: tuple[str, ...]) -> list[str]:
    """The command of the service file; one of our own may lie beside this interpreter, off the PATH."""
    beside = Path(sys.executable).parent / submit[0]
    if "/" not in submit[0] and shutil.which(submit[0]) is None and beside.is_file():
        return [str(beside), *submit[1:]]
    return list(submit)


def _clean_environment() -> dict[str, str]:
    """Ours without what Slurm says of the job that the gateway itself may run in."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SLURM_") or name in {"SLURM_CONF", "SLURM_POWER_CONF"}
    }
    return {**kept, "PATH": f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"}


async def _submitted(words: list[str], environment: dict[str, str]) -> str:
    """Why the command did not do it, empty where it did."""
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        return f"{words[0]}: {error.strerror}"
    try:
        async with asyncio.timeout(SUBMIT_SECONDS):
            printed, _ = await process.communicate()
    except TimeoutError:
        return f"{words[0]}: no answer within {SUBMIT_SECONDS:g} s"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    said = " ".join(printed.decode(errors="replace").split())
    return "" if process.returncode == 0 else said or f"{words[0]}: exit status {process.returncode}"
