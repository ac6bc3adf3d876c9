"""What placed jobs have drawn since somebody last asked, added up as columns: thousands are each second."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from slurm_power.model.job import Job, JobState
from slurm_power.plan.job_table import Flags, PlacedJobs
from slurm_power.plan.loads import LoadTable
from slurm_power.plan.site_table import Watts


class Drawn(NamedTuple):
    """One job's part, all its GPUs together.

    ``running_seconds`` is how long it had its GPUs, ``seconds`` how much of that its draw was known for.
    """

    running_seconds: float = 0.0
    seconds: float = 0.0
    watt_seconds: float = 0.0
    peak_watts: float = 0.0


class JobDraws:
    """Sums by job; ``taken`` gives a job's and starts it anew."""

    def __init__(self) -> None:
        self._placed: PlacedJobs | None = None
        # Rows of what `Drawn` has, a column per placed job.
        self._sums: Watts = np.zeros((len(Drawn._fields), 0))
        self._gpus: Watts = np.zeros(0)
        self._running: Flags = np.zeros(0, dtype=bool)
        self._suspended: Flags = np.zeros(0, dtype=bool)
        self._gone: dict[str, Drawn] = {}

    def add(self, table: LoadTable, seconds: float) -> None:
        """Add what the jobs of ``table`` draw for so many seconds."""
        if table.placed is not self._placed:
            self._move(table.placed)
        covered = table.covered & ~self._suspended
        watts = np.where(covered, table.gpu_watts * self._gpus, 0.0)
        self._sums[0, self._running] += seconds
        self._sums[1, covered] += seconds
        self._sums[2] += watts * seconds
        np.maximum(self._sums[3], watts, out=self._sums[3])

    def _move(self, placed: PlacedJobs) -> None:
        """Go on with another list of placed jobs."""
        sums = np.zeros((len(Drawn._fields), len(placed.jobs)))
        if self._placed is not None:
            for job_id, row in self._placed.row.items():
                there = placed.row.get(job_id)
                if there is not None:
                    sums[:, there] = self._sums[:, row]
                elif self._sums[:2, row].any():
                    self._gone[job_id] = _added(self._gone.get(job_id), Drawn(*self._sums[:, row].tolist()))
        self._placed, self._sums = placed, sums
        self._gpus = np.array([job.gpu_count for job in placed.jobs], dtype=float)
        self._running = _which(placed, lambda job: job.gpu_count > 0 and job.state is not JobState.SUSPENDED)
        self._suspended = _which(placed, lambda job: job.state is JobState.SUSPENDED)

    def taken(self, job_id: str) -> Drawn:
        """What a job has drawn since this was last asked."""
        drawn = self._gone.pop(job_id, None)
        row = None if self._placed is None else self._placed.row.get(job_id)
        if row is not None:
            drawn = _added(drawn, Drawn(*self._sums[:, row].tolist()))
            self._sums[:, row] = 0.0
        return drawn or Drawn()


def _which(placed: PlacedJobs, is_it: Callable[[Job], bool]) -> Flags:
    return np.array([is_it(job) for job in placed.jobs], dtype=bool)


def _added(one: Drawn | None, other: Drawn) -> Drawn:
    if one is None:
        return other
    return Drawn(
        one.running_seconds + other.running_seconds,
        one.seconds + other.seconds,
        one.watt_seconds + other.watt_seconds,
        max(one.peak_watts, other.peak_watts),
    )
