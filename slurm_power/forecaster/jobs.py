"""What the worker is told of jobs, as the pure core wants it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.random import default_rng

from slurm_power.forecast.experts import Values
from slurm_power.forecast.jobs_ahead import ChangePaths, JobPaths, PlannedStart, RunningJob
from slurm_power.forecast.run_times import JobKind, RunTimes


class JobsAhead:
    """Paths of all jobs of one moment; each circuit asks for its own watts of them."""

    def __init__(
        self, told: Mapping[str, Any], run_times: RunTimes, *, end_seconds: float, steps_seconds: Values
    ) -> None:
        """Raises ValueError for what is malformed."""
        try:
            self._running = [_row(row) for row in told["running"]]
            self._planned = [_row(row) for row in told["planned"]]
            self._paths = JobPaths(
                [RunningJob(kind, sum(watts.values()), seconds) for kind, seconds, watts in self._running],
                [PlannedStart(kind, sum(watts.values()), seconds) for kind, seconds, watts in self._planned],
                run_times,
                steps_seconds=steps_seconds,
                free_gpus=float(told["free_gpus"]),
                total_gpus=max(1.0, float(told["total_gpus"])),
                # The same moment gives the same paths, so that a run can be repeated.
                chance=default_rng(int(end_seconds)),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no jobs: {type(error).__name__}: {error}") from None

    def on(self, circuit: str) -> ChangePaths | None:
        """What jobs may change on a circuit; None where there is none."""
        running, planned = _watts(self._running, circuit), _watts(self._planned, circuit)
        return self._paths.changes(running, planned) if running.any() or planned.any() else None


_Row = tuple[JobKind, float, Mapping[str, float]]


def learn_ended(run_times: RunTimes, told: Mapping[str, Any]) -> None:
    """Learn from jobs that have ended; raises ValueError for what is malformed."""
    try:
        for user, gpus, limit, seconds in told["ended"]:
            run_times.ended(JobKind(str(user), float(gpus), float(limit)), float(seconds))
    except (KeyError, TypeError) as error:
        raise ValueError(f"no jobs: {type(error).__name__}: {error}") from None


def _row(row: Sequence[Any]) -> _Row:
    user, gpus, limit, seconds, watts = row
    return JobKind(str(user), float(gpus), float(limit)), float(seconds), watts


def _watts(rows: Sequence[_Row], circuit: str) -> Values:
    return np.array([float(watts.get(circuit, 0.0)) for _, _, watts in rows], dtype=np.float64)
