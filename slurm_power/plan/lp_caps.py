"""The linear program behind a power cut: the best that any mixture of cap points and pauses could do.

Variables: the share of its GPU time that job j spends at its point i in the minutes of class m (all minutes
with one target are one class, since a linear program gains nothing by treating them apart), the battery's
discharge in each class, and one shortfall s for all.

    maximise    sum n_m w_j f_ji x_jmi
    subject to  sum_i x_jmi = 1                              for each job and class
                sum p_ji x_jmi <= target_m + d_m + s         for each class
                sum n_m f_ji x_jmi >= floor_j * sum n_m      for each job
                0 <= d_m <= P,   sum n_m d_m / 60 <= E

First s is made as small as it gets, then the gain as large as it gets with that s.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slurm_power.plan.highs import INFINITY, Floats, Program

_LEAST_SHORTFALL_WATTS = 1e-3
_HAIR_WATTS = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPoints:
    """What a job can do: its total watts and its performance at each point, its weight, and its floor."""

    watts: tuple[float, ...]
    performance_ratios: tuple[float, ...]
    weight: float
    floor_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The mean gain (weight times performance) over all minutes, and the least shortfall in watts."""

    gain: float
    shortfall_watts: float


def bound(
    jobs: Sequence[JobPoints],
    targets: Sequence[tuple[float, float]],
    *,
    ess_watts: float = 0.0,
    ess_watt_hours: float = 0.0,
) -> Bound:
    """Solve it for ``targets``: (watts, how many minutes).

    Raises RuntimeError if the solver finds no optimum.
    """
    minutes = np.array([count for _, count in targets], dtype=float)
    weights, none = minutes / minutes.sum(), np.zeros(len(targets))
    program = Program()
    discharge = program.add_columns(none, none, np.full(len(targets), ess_watts))
    shortfall = program.add_columns(np.zeros(1), np.zeros(1), np.full(1, INFINITY))
    power = program.add_rows(np.full(len(targets), -INFINITY), np.array([watts for watts, _ in targets]))
    program.enter(power, discharge, -1.0)
    program.enter(power, np.repeat(shortfall, len(targets)), -1.0)
    stored = program.add_rows(np.full(1, -INFINITY), np.full(1, ess_watt_hours))
    program.enter(np.repeat(stored, len(targets)), discharge, minutes / 60.0)
    gains = [none, np.zeros(1)]
    for job in jobs:
        points = len(job.watts)
        performance = np.outer(weights, job.performance_ratios).ravel()
        shares = program.add_columns(
            np.zeros(len(performance)), np.zeros(len(performance)), np.ones(len(performance))
        )
        whole = program.add_rows(np.ones(len(targets)), np.ones(len(targets)))
        program.enter(np.repeat(whole, points), shares, 1.0)
        program.enter(np.repeat(power, points), shares, np.tile(job.watts, len(targets)))
        floor = program.add_rows(np.full(1, job.floor_ratio), np.full(1, INFINITY))
        program.enter(np.repeat(floor, len(shares)), shares, performance)
        gains.append(job.weight * performance)
    program.cost[1] = np.ones(1)
    least = float(_solved(program)[shortfall[0]])
    short = least if least > _LEAST_SHORTFALL_WATTS else 0.0
    # A hair more than the least, or rounding would leave the second program without a solution.
    program.upper[1] = np.full(1, max(0.0, least) * (1.0 + 1e-9) + _HAIR_WATTS)
    # In shares of the heaviest: a solver's tolerances are of numbers about 1.
    heaviest = max((job.weight for job in jobs), default=1.0)
    program.cost = [-gain / heaviest for gain in gains]
    gain = float(np.concatenate(gains) @ _solved(program))
    return Bound(gain=gain, shortfall_watts=short)


def _solved(program: Program) -> Floats:
    values = program.solved(math.inf)
    if values is None:
        raise RuntimeError("the solver finds no optimum of a power cut")
    return values
