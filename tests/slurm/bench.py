"""The scheduler port on a cluster, beside what Slurm itself says about a job."""

import asyncio
import importlib.util
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slurm_power.model.job import Job, JobState
from slurm_power.ports import Scheduler
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.scheduler_cli import CliScheduler
from slurm_power.slurm.scheduler_pyslurm import PyslurmScheduler, PyslurmWorker
from tests.slurm.cluster import Cluster, eventually

# With EligibleTime comes the begin time that was asked for, with Priority a hold of the user's.
OWN_FIELDS = (
    *("EligibleTime", "Priority", "AdminComment", "Comment", "ExcNodeList", "ReqNodeList", "TimeLimit"),
    *("Partition", "Nice", "Licenses", "Dependency", "NumNodes", "NumCPUs", "TRES", "Requeue"),
)


def adapters() -> tuple[str, ...]:
    """The adapters that can be tried here; pyslurm must not be imported to find out."""
    return ("cli", "pyslurm") if importlib.util.find_spec("pyslurm") else ("cli",)


class Bench:
    """The port, and what Slurm itself says about a job."""

    def __init__(self, cluster: Cluster, directory: Path, adapter: str) -> None:
        self.cluster = cluster
        self._directory = directory
        self._adapter = adapter
        self._workers: list[PyslurmWorker] = []

    def port(self, timeout_seconds: float = 5.0) -> Scheduler:
        """A new adapter each time, as after a restart: what it must know is not in memory."""
        commands = CommandRunner(self.cluster.conf, timeout_seconds=timeout_seconds)
        hold_file = self._directory / "holds.json"
        if self._adapter == "cli":
            return CliScheduler(commands, hold_file=hold_file)
        self.close()
        self._workers.append(PyslurmWorker(self.cluster.conf, timeout_seconds=timeout_seconds))
        return PyslurmScheduler(self._workers[-1], commands, hold_file=hold_file)

    def close(self) -> None:
        """End what adapters have started."""
        while self._workers:
            self._workers.pop().close()

    def hold(self, job_id: str, seconds: float, reason: str = "the grid is full") -> None:
        asyncio.run(self.port().hold(job_id, seconds, reason))

    def release(self, job_id: str) -> None:
        asyncio.run(self.port().release(job_id))

    def job(self, job_id: str) -> Job:
        jobs = asyncio.run(self.port().jobs())
        return next(job for job in jobs if job.job_id == job_id)

    def shown(self, job_id: str) -> str:
        return self.cluster.run("scontrol", "-o", "show", "job", job_id)

    def own_fields(self, job_id: str) -> dict[str, str]:
        """What of a job's record its user and we write; Slurm fills in other fields when it likes."""
        found = dict(re.findall(r"(?:^|\s)([A-Za-z]+)=(\S*)", self.shown(job_id)))
        return {key: found.get(key, "") for key in OWN_FIELDS}

    def comment(self, job_id: str) -> str:
        shown = self.cluster.run("squeue", "-h", "-t", "all", "-j", job_id, "-O", "admin_comment:#")
        return shown.split("#")[0].strip()

    def until(self, job_id: str, condition: Callable[[Job], bool], seconds: float = 20) -> None:
        eventually(lambda: condition(self.job(job_id)), seconds, f"job {job_id}: {self.job(job_id)}")


def running(job: Job) -> bool:
    return job.state is JobState.RUNNING


def begin_text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def soon(seconds: float) -> datetime:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).replace(microsecond=0)


def blocked(bench: Bench, *options: str) -> str:
    """A job that cannot start yet, and so is surely pending when we act on it."""
    return bench.cluster.submit("-n1", "--begin", begin_text(soon(6)), *options)
