"""The next hour from what Slurm and the plan know: who starts when, and who may end.

The forecast is a set of whole paths, not a sum of expected values. Within half an hour most jobs go on and
few end, so the expected value is a change that nearly never comes; the median of paths is what does. And a
start that is planned needs room: paths on which it would not fit into the GPUs that are there count less,
which says more about who ends soon than any record of run times.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from slurm_power.forecast.experts import Values
from slurm_power.forecast.run_times import JobKind, RunTimes

PATHS = 300
# A path that needs this share of all GPUs more than there are counts 1/e.
SHORTFALL_RATIO = 0.025


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that runs and draws ``watts`` until it ends."""

    kind: JobKind
    watts: float
    elapsed_seconds: float


@dataclass(frozen=True, slots=True)
class PlannedStart:
    """A job that draws ``watts`` more from ``in_seconds`` on."""

    kind: JobKind
    watts: float
    in_seconds: float


@dataclass(frozen=True, slots=True)
class ChangePaths:
    """What jobs may change: watts against now, shape ``(paths, steps)``, and how likely each path is."""

    change_watts: Values
    weights: Values

    def quantile(self, ratio: float) -> Values:
        """For each step the change that a share ``ratio`` of the paths stays below."""
        found: Values = self.quantiles((ratio,))[0]
        return found

    def quantiles(self, ratios: Sequence[float]) -> Values:
        """The same for several shares, one a row."""
        order = np.argsort(self.change_watts, axis=0)
        bounds = np.cumsum(self.weights[order], axis=0)
        at = np.stack([(bounds < ratio * bounds[-1]).sum(axis=0) for ratio in ratios])
        rows = np.take_along_axis(order, at, axis=0)
        found: Values = np.take_along_axis(self.change_watts, rows, axis=0)
        return found


class JobPaths:
    """Who ends and who starts when, drawn once for the whole site.

    Each circuit then has its own watts of the same draws: what happens on a rack happens on its feeder too,
    and quantiles of a sum are those of summed paths.
    """

    def __init__(
        self,
        running: Sequence[RunningJob],
        planned: Sequence[PlannedStart],
        run_times: RunTimes,
        *,
        steps_seconds: Values,
        free_gpus: float,
        total_gpus: float,
        chance: Generator,
        paths: int = PATHS,
    ) -> None:
        """``steps_seconds`` are the moments ahead, rising.

        GPUs that get free and are not planned for count as refilled by nobody: that belongs to what is
        planned.
        """
        self._steps, self._paths = len(steps_seconds), paths
        ends = [run_times.remaining(job.kind, job.elapsed_seconds, chance, paths) for job in running]
        starts = [start.in_seconds for start in planned]
        untils = [start.in_seconds + run_times.remaining(start.kind, 0.0, chance, paths) for start in planned]
        # In which step each is there for the last, or first, time; one beyond the last: not in sight.
        self._end_steps = _first_steps(steps_seconds, ends, paths)
        self._start_steps = np.searchsorted(steps_seconds, np.array(starts, dtype=np.float64))
        self._until_steps = _first_steps(steps_seconds, untils, paths)
        gpus = self._changes(
            np.array([job.kind.gpus for job in running]), np.array([start.kind.gpus for start in planned])
        )
        shortfall = np.maximum(0.0, gpus - free_gpus).max(axis=1, initial=0.0) / total_gpus
        self._weights: Values = np.exp(-(shortfall - shortfall.min()) / SHORTFALL_RATIO)

    def changes(self, running_watts: Values, planned_watts: Values) -> ChangePaths:
        """What the jobs change on a circuit that has so many watts of each, in the order they were given."""
        return ChangePaths(self._changes(running_watts, planned_watts), self._weights)

    def _changes(self, running: Values, planned: Values) -> Values:
        """Sums over jobs of what ends (less) and starts (more), shape ``(paths, steps)``."""
        total = np.zeros((self._paths, self._steps + 1))
        there = np.flatnonzero(running)
        _add(total, self._end_steps[there], -running[there])
        there = np.flatnonzero(planned)
        starts = np.repeat(self._start_steps[there][:, None], self._paths, axis=1)
        _add(total, starts, planned[there])
        # One that is planned to end before the first step after its start is never seen.
        _add(total, np.maximum(self._until_steps[there], starts), -planned[there])
        summed: Values = np.cumsum(total[:, :-1], axis=1)
        return summed


def _first_steps(steps_seconds: Values, moments: list[Values], paths: int) -> NDArray[np.intp]:
    """The first step at or after each moment, shape ``(jobs, paths)``."""
    found = np.searchsorted(steps_seconds, np.array(moments, dtype=np.float64).reshape(-1, paths))
    return np.asarray(found, dtype=np.intp)


def _add(total: Values, at: NDArray[np.intp], amounts: Values) -> None:
    """Add each job's amount to every path at the step where it comes or goes."""
    if not len(amounts):
        return
    paths, width = total.shape
    cells = at + width * np.arange(paths)
    total += np.bincount(cells.ravel(), weights=np.repeat(amounts, paths), minlength=paths * width).reshape(
        paths, width
    )


def change_paths(
    running: Sequence[RunningJob],
    planned: Sequence[PlannedStart],
    run_times: RunTimes,
    *,
    steps_seconds: Values,
    free_gpus: float,
    total_gpus: float,
    chance: Generator,
    paths: int = PATHS,
) -> ChangePaths:
    """What all jobs together change: `JobPaths` of the watts they carry."""
    drawn = JobPaths(
        running,
        planned,
        run_times,
        steps_seconds=steps_seconds,
        free_gpus=free_gpus,
        total_gpus=total_gpus,
        chance=chance,
        paths=paths,
    )
    return drawn.changes(
        np.array([job.watts for job in running], dtype=np.float64),
        np.array([start.watts for start in planned], dtype=np.float64),
    )
