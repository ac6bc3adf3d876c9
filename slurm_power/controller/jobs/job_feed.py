"""What the forecast worker is told of jobs: who runs, starts and has ended, and their watts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from slurm_power.forecast.run_times import JobKind, RunTimes
from slurm_power.model.forecast import ComingStart
from slurm_power.model.job import Job, JobState
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.loads import JobLoad
from slurm_power.plan.policy import Policy

# For a job without a limit: no record of run times reaches so far.
_NO_LIMIT_SECONDS = 30.0 * 86_400.0
# What a start that has begun still has to come takes about so long.
_RAMP_SECONDS = 10.0
_PLACED = (JobState.STARTING, JobState.RUNNING, JobState.SUSPENDED)


@dataclass(frozen=True, slots=True)
class _Running:
    job: Job
    started: datetime


class JobFeed:
    """Follows the jobs from snapshot to snapshot; ``message`` tells what the worker has to know.

    ``run_times`` learns here as it does in the worker, for who asks about a job before it is submitted.
    """

    def __init__(self, run_times: RunTimes | None = None) -> None:
        self.run_times = RunTimes() if run_times is None else run_times
        self._running: dict[str, _Running] = {}
        self._ended: list[list[Any]] = []

    def follow(self, snapshot: Snapshot) -> None:
        """Note who runs, and who has ended since."""
        if snapshot.jobs_age_seconds is None:
            return
        here = {
            job.job_id: _Running(job, job.started or snapshot.at)
            for job in snapshot.jobs
            if job.state in _PLACED and job.gpu_count > 0
        }
        for job_id, known in self._running.items():
            if job_id not in here:
                seconds = (snapshot.at - known.started).total_seconds()
                if seconds > 0.0:
                    self._ended.append([*_kind(known.job), round(seconds, 1)])
                    self.run_times.ended(JobKind(*_kind(known.job)), seconds)
        self._running = here

    def message(
        self,
        snapshot: Snapshot,
        policy: Policy,
        loads: Sequence[JobLoad],
        starts: Iterable[ComingStart],
        *,
        within_seconds: float,
    ) -> dict[str, Any]:
        """Jobs as JSON values; starts that are expected within so many seconds are planned ones.

        Rows are user, GPUs, limit, seconds (elapsed, until the start, or run) and watts by circuit.
        """
        running: list[list[Any]] = []
        planned: list[list[Any]] = []
        counted = set()
        for load in loads:
            known = self._running.get(load.job.job_id)
            # One in its prolog whose GPUs nobody has reported yet is still to come with all it has.
            if known is None or (load.job.state is JobState.STARTING and not load.reachable):
                continue
            counted.add(load.job.job_id)
            elapsed = max(0.0, (snapshot.at - known.started).total_seconds())
            now_watts = load.gpu_watts if load.coming_watts > 0.0 else load.uncapped_watts
            there_watts = max(0.0, now_watts - policy.idle_gpu_watts)
            running.append([*_kind(load.job), round(elapsed, 1), _on_circuits(load, there_watts)])
            if load.coming_watts > 0.0:
                planned.append([*_kind(load.job), _RAMP_SECONDS, _on_circuits(load, load.coming_watts)])
        jobs = {job.job_id: job for job in snapshot.jobs}
        for start in starts:
            lead = start.lead_seconds
            if lead is None or lead > within_seconds or start.job_id in counted:
                continue
            watts = {name: round(value, 1) for name, value in start.step_watts.items()}
            planned.append([*_kind(jobs[start.job_id]), round(lead, 1), watts])
        ended, self._ended = self._ended, []
        total = sum(len(node.gpus) for node in snapshot.nodes.values())
        used = sum(load.job.gpu_count for load in loads)
        return {
            "running": running,
            "planned": planned,
            "ended": ended,
            "total_gpus": max(total, used, 1),
            "free_gpus": max(0, total - used),
        }


def _kind(job: Job) -> tuple[str, int, float]:
    limit = job.time_limit_seconds
    return job.user, max(1, job.gpu_count), limit or _NO_LIMIT_SECONDS


def _on_circuits(load: JobLoad, watts_per_gpu: float) -> dict[str, float]:
    return {name: round(watts_per_gpu * weight, 1) for name, weight in load.circuit_weights.items()}
