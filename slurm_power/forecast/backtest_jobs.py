"""The job-aware hour over a log of jobs that is already known, against "as now".

From an origin only this is visible: jobs that were submitted by then, the starts of queued ones within the
horizon (a controller that releases jobs itself knows those), and how long jobs ran that had ended.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slurm_power.forecast.experts import Values
from slurm_power.forecast.jobs_ahead import ChangePaths, PlannedStart, RunningJob, change_paths
from slurm_power.forecast.run_times import JobKind, RunTimes

STEP_SECONDS = 60.0
# Origins lie in this last share of the log: before it, run times are learned.
JUDGED_RATIO = 0.4


@dataclass(frozen=True, slots=True)
class LoggedJob:
    """A job that has run; times are epoch seconds, ``watts`` what it drew on all its GPUs."""

    kind: JobKind
    watts: float
    submit_seconds: float
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsScore:
    """Mean absolute errors over all steps of the horizon, over persistence's; None if nothing ever changed.

    ``planned``: starts of queued jobs known, ends drawn. ``nothing_planned``: no start known. ``true_ends``:
    a bound that nobody can reach, with the ends known too. ``at_end``: ``planned`` at the last step alone.
    """

    origins: int
    horizon_seconds: float
    persistence_watts: float
    planned: float | None
    nothing_planned: float | None
    true_ends: float | None
    at_end: float | None
    coverage_ratio: float
    milliseconds: float


def judge(
    jobs: Sequence[LoggedJob],
    *,
    horizon_seconds: float,
    origins: int,
    total_gpus: float | None,
    clock: Callable[[], float],
) -> JobsScore:
    """Forecast from origins drawn by chance; raises ValueError for a log that is too short.

    Without ``total_gpus`` it is the most that was in use at once up to each origin.
    """
    log = _Log(jobs)
    first = log.starts.min() + (1.0 - JUDGED_RATIO) * (log.ends.max() - log.starts.min())
    last = log.ends.max() - horizon_seconds
    steps: Values = STEP_SECONDS * np.arange(1, round(horizon_seconds / STEP_SECONDS) + 1, dtype=np.float64)
    if last <= first or not len(steps):
        raise ValueError("the log is too short for this horizon")
    moments = np.sort(np.random.default_rng(0).uniform(first, last, origins))
    run_times, learned = RunTimes(), 0
    by_end = np.argsort(log.ends, kind="stable")
    truth, planned, unplanned, bound, inside, seconds = [], [], [], [], [], 0.0
    for at in moments:
        while learned < len(by_end) and log.ends[by_end[learned]] <= at:
            job = jobs[by_end[learned]]
            run_times.ended(job.kind, job.end_seconds - job.start_seconds)
            learned += 1
        began = clock()
        seen = log.ahead(at, run_times, steps, total_gpus, with_starts=True)
        seconds += clock() - began
        actual = log.watts(at + steps) - log.watts(np.array([at]))
        truth.append(actual)
        planned.append(seen.quantile(0.5))
        inside.append((actual >= seen.quantile(0.1)) & (actual <= seen.quantile(0.9)))
        unplanned.append(log.ahead(at, run_times, steps, total_gpus, with_starts=False).quantile(0.5))
        bound.append(log.with_true_ends(at, steps))
    base = float(np.abs(truth).mean())
    base_at_end = float(np.abs(np.stack(truth)[:, -1]).mean())

    def ratio(found: list[Values]) -> float | None:
        return float(np.abs(np.stack(truth) - np.stack(found)).mean()) / base if base > 0.0 else None

    misses_at_end = np.abs(np.stack(truth)[:, -1] - np.stack(planned)[:, -1])
    return JobsScore(
        origins=len(moments),
        horizon_seconds=horizon_seconds,
        persistence_watts=base,
        planned=ratio(planned),
        nothing_planned=ratio(unplanned),
        true_ends=ratio(bound),
        at_end=float(misses_at_end.mean()) / base_at_end if base_at_end > 0.0 else None,
        coverage_ratio=float(np.mean(inside)),
        milliseconds=1000.0 * seconds / len(moments),
    )


class _Log:
    """A log as columns; what a moment may see of it."""

    def __init__(self, jobs: Sequence[LoggedJob]) -> None:
        if not jobs:
            raise ValueError("the log is too short for this horizon")
        self._jobs = jobs
        self.submits = np.array([job.submit_seconds for job in jobs])
        self.starts = np.array([job.start_seconds for job in jobs])
        self.ends = np.array([job.end_seconds for job in jobs])
        self._watts = np.array([job.watts for job in jobs])
        self._gpus = np.array([job.kind.gpus for job in jobs])
        # Ends first: a job that starts at the moment another ends takes over its GPUs.
        moments = np.concatenate([self.ends, self.starts])
        order = np.argsort(moments, kind="stable")
        self._moments = moments[order]
        self._levels = np.cumsum(np.concatenate([-self._watts, self._watts])[order])
        self._most_used = np.maximum.accumulate(np.cumsum(np.concatenate([-self._gpus, self._gpus])[order]))

    def watts(self, at: Values) -> Values:
        """What all jobs draw at these moments."""
        rows = np.searchsorted(self._moments, at, side="right") - 1
        return np.where(rows >= 0, self._levels[np.maximum(rows, 0)], 0.0)

    def most_used_gpus(self, at: float) -> float:
        """The most GPUs that were in use at once up to a moment."""
        row = int(np.searchsorted(self._moments, at, side="right")) - 1
        return float(self._most_used[row]) if row >= 0 else 0.0

    def _running(self, at: float) -> NDArray[np.intp]:
        return np.flatnonzero((self.starts <= at) & (self.ends > at))

    def _starting(self, at: float, horizon_seconds: float) -> NDArray[np.intp]:
        until = at + horizon_seconds
        return np.flatnonzero((self.submits <= at) & (self.starts > at) & (self.starts <= until))

    def ahead(
        self, at: float, run_times: RunTimes, steps: Values, total_gpus: float | None, *, with_starts: bool
    ) -> ChangePaths:
        rows = self._running(at)
        running = [
            RunningJob(self._jobs[row].kind, self._jobs[row].watts, at - self._jobs[row].start_seconds)
            for row in rows
        ]
        planned = [
            PlannedStart(self._jobs[row].kind, self._jobs[row].watts, self._jobs[row].start_seconds - at)
            for row in (self._starting(at, float(steps[-1])) if with_starts else ())
        ]
        used = float(self._gpus[rows].sum())
        total = max(self.most_used_gpus(at) if total_gpus is None else total_gpus, used, 1.0)
        return change_paths(
            running,
            planned,
            run_times,
            steps_seconds=steps,
            free_gpus=total - used,
            total_gpus=total,
            chance=np.random.default_rng(int(at)),
        )

    def with_true_ends(self, at: float, steps: Values) -> Values:
        change = np.zeros(len(steps))
        for row in self._running(at):
            change -= self._watts[row] * (self.ends[row] <= at + steps)
        for row in self._starting(at, float(steps[-1])):
            change += self._watts[row] * ((self.starts[row] <= at + steps) & (self.ends[row] > at + steps))
        return change
