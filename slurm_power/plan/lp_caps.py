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

from collections.abc import Sequence
from dataclasses import dataclass

import highspy
import numpy as np

from slurm_power.plan.highs import INFINITY, QuietHighs

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
    minutes = [count for _, count in targets]
    total_minutes = sum(minutes)
    highs = QuietHighs()  # type: ignore[no-untyped-call]  # as highspy has it
    highs.silent()
    highs.setOptionValue("parallel", "off")
    cost: list[float] = []
    power_rows: list[tuple[list[int], list[float]]] = [([], []) for _ in targets]
    floor_rows: list[tuple[list[int], list[float]]] = [([], []) for _ in jobs]
    share_rows: list[list[int]] = []
    for number, job in enumerate(jobs):
        for group, count in enumerate(minutes):
            columns = list(range(len(cost), len(cost) + len(job.watts)))
            share_rows.append(columns)
            power_rows[group][0].extend(columns)
            power_rows[group][1].extend(job.watts)
            floor_rows[number][0].extend(columns)
            floor_rows[number][1].extend(count / total_minutes * ratio for ratio in job.performance_ratios)
            cost.extend(count / total_minutes * job.weight * ratio for ratio in job.performance_ratios)
    shares = len(cost)
    first_discharge, shortfall = shares, shares + len(targets)
    _add_columns(highs, [1.0] * shares + [ess_watts] * len(targets) + [INFINITY])
    for columns in share_rows:
        _add_row(highs, 1.0, 1.0, columns, [1.0] * len(columns))
    for group, (watts, _) in enumerate(targets):
        columns, values = power_rows[group]
        _add_row(
            highs, -INFINITY, watts, [*columns, first_discharge + group, shortfall], [*values, -1.0, -1.0]
        )
    for job, (columns, values) in zip(jobs, floor_rows, strict=True):
        _add_row(highs, job.floor_ratio, INFINITY, columns, values)
    discharges = list(range(first_discharge, shortfall))
    _add_row(highs, -INFINITY, ess_watt_hours, discharges, [count / 60.0 for count in minutes])
    least = _solved(highs, [0.0] * shortfall + [1.0])
    short = least if least > _LEAST_SHORTFALL_WATTS else 0.0
    # A hair more than the least, or rounding would leave the second program without a solution.
    highs.changeColBounds(shortfall, 0.0, least * (1.0 + 1e-9) + _HAIR_WATTS)
    gain = -_solved(highs, [-value for value in cost] + [0.0] * (len(targets) + 1))
    return Bound(gain=gain, shortfall_watts=short)


def _add_columns(highs: highspy.Highs, upper: list[float]) -> None:
    count = len(upper)
    highs.addVars(count, np.zeros(count), np.array(upper))


def _add_row(highs: highspy.Highs, low: float, high: float, columns: list[int], values: list[float]) -> None:
    highs.addRow(low, high, len(columns), np.array(columns, dtype=np.int32), np.array(values))


def _solved(highs: highspy.Highs, cost: list[float]) -> float:
    highs.changeColsCost(len(cost), np.arange(len(cost), dtype=np.int32), np.array(cost))
    highs.run()
    status = highs.getModelStatus()
    if status != highspy.HighsModelStatus.kOptimal:
        raise RuntimeError(f"the solver says {highs.modelStatusToString(status)}")
    return float(highs.getInfo().objective_function_value)
