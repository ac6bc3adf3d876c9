"""The linear program of the day: when jobs of each class start, what caps and batteries do meanwhile.

For class k and hour t, x[k,t] is how many of its jobs start then (in parts: thousands are behind it).

    minimise    delay + unstarted + capped work + energy + wear + demand charge + penalty * short
    subject to  sum_t x[k,t] <= n[k]                                                     for each class
                sum_k g[k] * sum_{t-h[k] < u <= t} x[k,u] <= G - running_gpus[t]         for each hour
                p[t] = base[t] + running[t] + sum_k w[k] * sum_{t-h[k] < u <= t} x[k,u]
                       - c[t] * capable[t] - discharge[t] + charge[t]                    for each hour
                p[t] <= limit[t] + short[t],  p[t] <= peak                               for each hour
                soc[t+1] = soc[t] + e * charge[t] - discharge[t] / e,  0 <= soc <= E     for each hour

e is the root of the round trip's efficiency. A job that waits costs its GPUs' weight for each hour, more
beyond what was promised to it. The duals of the limit and GPU rows are the shadow prices.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import highspy
import numpy as np

from slurm_power.model.day_plan import DayPlan, JobClass
from slurm_power.model.job import Flex
from slurm_power.plan.class_problem import ClassProblem
from slurm_power.plan.highs import QuietHighs
from slurm_power.plan.site_table import Numbers, Watts

_KILO = 1000.0
# What cannot be met costs more than any job or battery could: per kW and hour.
_SHORT_PRICE = 1000.0
# An hour beyond the promise counts as so many within it; a job that is not started at all as one more day.
_BROKEN_PROMISE = 5.0
_PART = 1e-6


def solve(problem: ClassProblem, made_at: datetime, *, most_seconds: float = 5.0) -> DayPlan | None:
    """The plan of the day, None where the solver finds none in ``most_seconds``; never raises for that."""
    program = _Program(problem)
    solver = QuietHighs()  # type: ignore[no-untyped-call]
    # Not "threads": HiGHS has one pool for the process, and fails where two programs want it of two sizes.
    for option, value in (("output_flag", False), ("parallel", "off"), ("time_limit", most_seconds)):
        solver.setOptionValue(option, value)
    solver.passModel(program.model())
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    solution = solver.getSolution()
    return program.plan(
        made_at,
        np.array(solution.col_value),
        np.array(solution.row_dual),
        float(solver.getInfo().objective_function_value),
    )


@dataclass(slots=True)
class _Entries:
    """A sparse matrix in the making."""

    rows: list[Numbers]
    columns: list[Numbers]
    values: list[Watts]

    def add(self, rows: Numbers, columns: Numbers, values: Watts | float) -> None:
        self.rows.append(rows)
        self.columns.append(columns)
        self.values.append(np.broadcast_to(np.asarray(values, dtype=np.float64), rows.shape))


class _Program:
    """Columns: x by class and hour, then cap, discharge, charge, soc, power and short by hour; the peak."""

    def __init__(self, problem: ClassProblem) -> None:
        self._problem = problem
        hours, classes = len(problem.limit_watts), len(problem.classes)
        self._hours, self._classes = hours, classes
        first = classes * hours
        each = np.arange(hours, dtype=np.int64)
        self._cap, self._discharge, self._charge = (first + number * hours + each for number in range(3))
        self._soc, self._power, self._short = (first + number * hours + each for number in range(3, 6))
        self._peak = first + 6 * hours
        self._x = np.arange(first, dtype=np.int64).reshape(classes, hours)
        # Rows: one a class, then GPUs, balance, limit, peak, storage by hour.
        self._gpu_row, self._balance_row, self._limit_row, self._peak_row, self._soc_row = (
            classes + number * hours + each for number in range(5)
        )

    def model(self) -> "highspy.HighsLp":
        """The program as HiGHS takes it, by columns."""
        problem, hours = self._problem, self._hours
        columns, rows = self._peak + 1, self._classes + 5 * hours
        lower, upper = np.zeros(columns), np.full(columns, highspy.kHighsInf)
        upper[self._x] = problem.counts[:, None]
        upper[self._cap] = 1.0
        upper[self._discharge] = upper[self._charge] = problem.ess_watts / _KILO
        upper[self._soc] = problem.ess_kwh
        lower[self._power] = -highspy.kHighsInf
        lower[self._peak] = problem.peak_watts / _KILO
        row_lower, row_upper = np.full(rows, -highspy.kHighsInf), np.zeros(rows)
        row_upper[: self._classes] = problem.counts
        row_upper[self._gpu_row] = np.maximum(0.0, problem.gpus - problem.running_gpus)
        fixed = (problem.base_watts + problem.running_watts) / _KILO
        row_lower[self._balance_row] = row_upper[self._balance_row] = fixed
        row_upper[self._limit_row] = problem.limit_watts / _KILO
        row_lower[self._soc_row] = 0.0
        row_lower[self._soc_row[0]] = row_upper[self._soc_row[0]] = problem.soc_kwh
        matrix = self._matrix()
        order = np.lexsort((np.concatenate(matrix.rows), np.concatenate(matrix.columns)))
        where = np.concatenate(matrix.columns)[order]
        program = highspy.HighsLp()
        program.num_col_, program.num_row_ = columns, rows
        program.col_cost_ = self._costs()
        program.col_lower_, program.col_upper_ = lower, upper
        program.row_lower_, program.row_upper_ = row_lower, row_upper
        program.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        program.a_matrix_.start_ = np.searchsorted(where, np.arange(columns + 1)).astype(np.int32)
        program.a_matrix_.index_ = np.concatenate(matrix.rows)[order].astype(np.int32)
        program.a_matrix_.value_ = np.concatenate(matrix.values)[order]
        return program

    def _matrix(self) -> _Entries:
        problem, hours = self._problem, self._hours
        made = _Entries([], [], [])
        made.add(np.repeat(np.arange(self._classes), hours), self._x.ravel(), 1.0)
        # A start at u holds its GPUs and watts in every hour from u until it ends, or the day does.
        klass, start, hour = np.nonzero(self._running())
        made.add(self._gpu_row[hour], self._x[klass, start], problem.class_gpus[klass])
        made.add(self._balance_row[hour], self._x[klass, start], -problem.class_watts[klass] / _KILO)
        made.add(self._balance_row, self._power, 1.0)
        made.add(self._balance_row, self._cap, problem.capable_watts / _KILO)
        made.add(self._balance_row, self._discharge, 1.0)
        made.add(self._balance_row, self._charge, -1.0)
        made.add(self._limit_row, self._power, 1.0)
        made.add(self._limit_row, self._short, -1.0)
        made.add(self._peak_row, self._power, 1.0)
        made.add(self._peak_row, np.full(hours, self._peak), -1.0)
        root = float(np.sqrt(problem.round_trip_ratio))
        made.add(self._soc_row, self._soc, 1.0)
        made.add(self._soc_row[1:], self._soc[:-1], -1.0)
        made.add(self._soc_row, self._discharge, 1.0 / root)
        made.add(self._soc_row, self._charge, -root)
        return made

    def _running(self) -> Watts:
        """1.0 where a job of a class that starts in one hour still runs in another: class, start, hour."""
        hours = np.arange(self._hours)
        age = hours[None, :] - hours[:, None]
        lasts = self._problem.class_hours[:, None, None]
        return ((age[None] >= 0) & (age[None] < lasts)).astype(float)

    def _costs(self) -> Watts:
        problem, hours = self._problem, self._hours
        costs = np.zeros(self._peak + 1)
        each_hour = problem.class_gpus * problem.class_weights * problem.delay_price_per_gpu_hour
        waited = np.arange(hours)[None, :]
        beyond = np.maximum(0.0, waited - problem.patience_hours[:, None])
        never = hours + _BROKEN_PROMISE * np.maximum(0.0, hours - problem.patience_hours[:, None])
        delay = waited + _BROKEN_PROMISE * beyond - never
        costs[self._x] = delay * each_hour[:, None]
        costs[self._cap] = problem.capped_gpus * problem.value_per_gpu_hour
        costs[self._discharge] = problem.wear_per_kwh
        costs[self._power] = problem.energy_price_per_kwh
        costs[self._short] = _SHORT_PRICE
        # What is left in the battery is worth what it would cost to buy it again.
        costs[self._soc[-1]] = -max(0.0, float(np.mean(problem.energy_price_per_kwh)))
        costs[self._peak] = problem.demand_price_per_kw
        return costs

    def plan(self, made_at: datetime, values: Watts, duals: Watts, cost: float) -> DayPlan:
        """The solution in words."""
        problem, starts = self._problem, values[self._x]
        by_class: dict[JobClass, tuple[float, ...]] = {
            key: tuple(row) for key, row in zip(problem.classes, starts.tolist(), strict=True)
        }
        return DayPlan(
            made_at=made_at,
            starts=by_class,
            deferred=self._deferred(starts),
            grid_watts=tuple((_KILO * values[self._power]).tolist()),
            discharge_watts=tuple((_KILO * (values[self._discharge] - values[self._charge])).tolist()),
            cap_ratio=tuple(values[self._cap].tolist()),
            power_price_per_kwh=tuple(np.maximum(0.0, -duals[self._limit_row]).tolist()),
            gpu_price_per_hour=tuple(np.maximum(0.0, -duals[self._gpu_row]).tolist()),
            short_watts=tuple((_KILO * values[self._short]).tolist()),
            cost=cost,
        )

    def _deferred(self, starts: Watts) -> Mapping[JobClass, int]:
        """Who waits in the first hour for another reason than a lack of GPUs, the scheduler's to see."""
        problem = self._problem
        used = float(starts[:, 0] @ problem.class_gpus) + float(problem.running_gpus[0])
        left = problem.gpus - used
        return {
            key: int(count - start + _PART)
            for key, count, start, gpus in zip(
                problem.classes, problem.counts, starts[:, 0], problem.class_gpus, strict=True
            )
            if key.flex is not Flex.FLEX0 and gpus <= left and count - start + _PART >= 1.0
        }
