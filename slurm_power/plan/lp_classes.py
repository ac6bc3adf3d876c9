"""The linear program of the day: when jobs of each class start, what caps and batteries do meanwhile.

For class k and hour t, x[k,t] is how many of its jobs start then (in parts: thousands are behind it).

    minimise    delay + unstarted + capped work + energy + wear + demand charge + penalty * short
    subject to  sum_t x[k,t] <= n[k]                                                     for each class
                sum_k g[k] * sum_{t-h[k] < u <= t} x[k,u] <= G - running_gpus[t]         for each hour
                p[t] = base[t] + running[t] + sum_k w[k] * sum_{t-h[k] < u <= t} x[k,u]
                       - c[t] * capable[t] - discharge[t] + charge[t]                    for each hour
                p[t] <= limit[t] + short[t],  p[t] <= peak where its charge counts       for each hour
                soc[t+1] = soc[t] + e * charge[t] - discharge[t] / e,  0 <= soc <= E     for each hour

peak is at least what is paid for in any case: the level that stands in the billing period.
e is the root of the round trip's efficiency. A job that waits costs its GPUs' weight for each hour, more
beyond what was promised to it. The duals of the limit and GPU rows are the shadow prices.
"""

from collections.abc import Mapping
from datetime import datetime

import numpy as np

from slurm_power.model.day_plan import DayPlan, JobClass
from slurm_power.model.job import Flex
from slurm_power.plan.class_problem import ClassProblem
from slurm_power.plan.highs import INFINITY, Integers, Program, Solution
from slurm_power.plan.site_table import Watts

_KILO = 1000.0
# What cannot be met costs more than any job or battery could: per kW and hour.
_SHORT_PRICE = 1000.0
# An hour beyond the promise counts as so many within it; a job that is not started at all as one more day.
_BROKEN_PROMISE = 5.0
_PART = 1e-6


def solve(problem: ClassProblem, made_at: datetime, *, most_seconds: float = 5.0) -> DayPlan | None:
    """The plan of the day, None where the solver finds none in ``most_seconds``; never raises for that."""
    program = _DayProgram(problem)
    found = program.program.solution(most_seconds)
    return None if found is None else program.plan(made_at, found)


class _DayProgram:
    """The program with the numbers of its columns and rows, by class and hour or by hour."""

    def __init__(self, problem: ClassProblem) -> None:
        self._problem = problem
        self._hours = hours = len(problem.limit_watts)
        self.program = program = Program()
        none, all_ess = np.zeros(hours), np.full(hours, problem.ess_watts / _KILO)
        starts = np.repeat(problem.counts, hours)
        self._x = program.add_columns(self._start_costs().ravel(), np.zeros(len(starts)), starts).reshape(
            len(problem.classes), hours
        )
        self._cap = program.add_columns(
            problem.capped_gpus * problem.value_per_gpu_hour, none, np.ones(hours)
        )
        self._discharge = program.add_columns(np.full(hours, problem.wear_per_kwh), none, all_ess)
        self._charge = program.add_columns(none, none, all_ess)
        stored_cost = np.zeros(hours)
        # What is left in the battery is worth what it would cost to buy it again.
        stored_cost[-1] = -max(0.0, float(np.mean(problem.energy_price_per_kwh)))
        self._soc = program.add_columns(stored_cost, none, np.full(hours, problem.ess_kwh))
        free = np.full(hours, INFINITY)
        self._power = program.add_columns(problem.energy_price_per_kwh, -free, free)
        self._short = program.add_columns(np.full(hours, _SHORT_PRICE), none, free)
        self._peak = program.add_columns(
            np.array([problem.demand_price_per_kw]), np.array([problem.peak_watts / _KILO]), free[:1]
        )
        self._add_jobs()
        self._add_power()
        self._add_battery()

    def _start_costs(self) -> Watts:
        """What each start costs, by class and hour: later is dearer, not at all the dearest."""
        problem, hours = self._problem, self._hours
        each_hour = problem.class_gpus * problem.class_weights * problem.delay_price_per_gpu_hour
        waited = np.arange(hours)[None, :]
        beyond = np.maximum(0.0, waited - problem.patience_hours[:, None])
        never = hours + _BROKEN_PROMISE * np.maximum(0.0, hours - problem.patience_hours[:, None])
        costs: Watts = (waited + _BROKEN_PROMISE * beyond - never) * each_hour[:, None]
        return costs

    def _at_most(self, right: Watts) -> Integers:
        return self.program.add_rows(np.full(len(right), -INFINITY), right)

    def _equal(self, right: Watts) -> Integers:
        return self.program.add_rows(right, right)

    def _add_jobs(self) -> None:
        problem, program = self._problem, self.program
        of_class = self._at_most(problem.counts)
        program.enter(np.repeat(of_class, self._hours), self._x.ravel(), 1.0)
        self._gpu_row = self._at_most(np.maximum(0.0, problem.gpus - problem.running_gpus))
        # A start at u holds its GPUs and watts in every hour from u until it ends, or the day does.
        self._running = np.nonzero(self._runs())
        klass, start, hour = self._running
        program.enter(self._gpu_row[hour], self._x[klass, start], problem.class_gpus[klass])

    def _add_power(self) -> None:
        problem, program = self._problem, self.program
        klass, start, hour = self._running
        balance = self._equal((problem.base_watts + problem.running_watts) / _KILO)
        program.enter(balance[hour], self._x[klass, start], -problem.class_watts[klass] / _KILO)
        program.enter(balance, self._power, 1.0)
        program.enter(balance, self._cap, problem.capable_watts / _KILO)
        program.enter(balance, self._discharge, 1.0)
        program.enter(balance, self._charge, -1.0)
        self._limit_row = self._at_most(problem.limit_watts / _KILO)
        program.enter(self._limit_row, self._power, 1.0)
        program.enter(self._limit_row, self._short, -1.0)
        counts = np.flatnonzero(problem.demand_counts)
        peak = self._at_most(np.zeros(len(counts)))
        program.enter(peak, self._power[counts], 1.0)
        program.enter(peak, np.repeat(self._peak, len(counts)), -1.0)

    def _add_battery(self) -> None:
        problem, program = self._problem, self.program
        root = float(np.sqrt(problem.round_trip_ratio))
        before = np.zeros(self._hours)
        before[0] = problem.soc_kwh
        stored = self._equal(before)
        program.enter(stored, self._soc, 1.0)
        program.enter(stored[1:], self._soc[:-1], -1.0)
        program.enter(stored, self._discharge, 1.0 / root)
        program.enter(stored, self._charge, -root)

    def _runs(self) -> Watts:
        """1.0 where a job of a class that starts in one hour still runs in another: class, start, hour."""
        hours = np.arange(self._hours)
        age = hours[None, :] - hours[:, None]
        lasts = self._problem.class_hours[:, None, None]
        return ((age[None] >= 0) & (age[None] < lasts)).astype(float)

    def plan(self, made_at: datetime, found: Solution) -> DayPlan:
        """The solution in words."""
        values, duals = found.values, found.row_duals
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
            cost=found.cost,
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
