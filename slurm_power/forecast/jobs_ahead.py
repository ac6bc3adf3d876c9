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
        order = np.argsort(self.change_watts, axis=0)
        bounds = np.cumsum(self.weights[order], axis=0)
        at = (bounds < ratio * bounds[-1]).sum(axis=0)
        rows = np.take_along_axis(order, at[None, :], axis=0)
        found: Values = np.take_along_axis(self.change_watts, rows, axis=0)[0]
        return found


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
    """Draw who ends when; ``steps_seconds`` are the moments ahead, rising.

    GPUs that get free and are not planned for count as refilled by nobody: that belongs to what is planned.
    """
    watts = np.zeros((paths, len(steps_seconds)))
    gpus = np.zeros_like(watts)
    for job in running:
        remaining = run_times.remaining(job.kind, job.elapsed_seconds, chance, paths)
        over = remaining[:, None] <= steps_seconds
        watts -= job.watts * over
        gpus -= job.kind.gpus * over
    for start in planned:
        until = start.in_seconds + run_times.remaining(start.kind, 0.0, chance, paths)
        there = (steps_seconds >= start.in_seconds) & (until[:, None] > steps_seconds)
        watts += start.watts * there
        gpus += start.kind.gpus * there
    shortfall = np.maximum(0.0, gpus - free_gpus).max(axis=1) / total_gpus
    return ChangePaths(watts, np.exp(-(shortfall - shortfall.min()) / SHORTFALL_RATIO))
