"""The lowest peak that battery, caps and deferral together could have had, knowing everything beforehand.

A linear relaxation on a grid of hours, in kW at the grid connection:

    min M
    base_t + sum_j,k x_jk profile_jk,t - u_t + r_t + c_t - d_t <= M
    u_t <= capped_ratio * saving_ratio * dynamic_t            (dynamic_t moves with the deferred jobs)
    b_t = b_t-1 + (loss_ratio / saving_ratio) u_t - r_t >= 0,  b_end = 0        work is repaid later
    s_t = s_t-1 + eta c_t - d_t / eta,  0 <= s_t <= E,  0 <= c_t, d_t <= P,  s_end >= s_start
    sum_k x_jk = 1, k = 0 .. defer_hours                       share of a deferrable job started k hours later

with u the watts that caps save, r the power of repaid work, b the backlog. At most half of the dynamic power
is capped, each capped job gives 30 % of it for 10 % of its work. It is a bound: jobs are split, GPUs are not
counted, and every future is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import highspy
import numpy as np
from numpy.typing import NDArray

from slurm_power.simulate.cluster import Layout, PlantJob, Watts, natural_watts
from slurm_power.simulate.jobs_run import Battery, Window

HOUR_SECONDS = 3600.0
# Of all solutions with the lowest peak the one is wanted that caps, defers and cycles least.
_TIE_WEIGHT = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """What the bound may do. Zero for a lever that it is not to use."""

    capped_ratio: float = 0.5
    saving_ratio: float = 0.3
    loss_ratio: float = 0.1
    defer_hours: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The lowest peak in watts on the hourly grid, and the mean delay of a deferrable job in hours."""

    peak_watts: float
    peak_without_watts: float
    mean_delay_hours: float


class _QuietHighs(highspy.Highs):
    """HiGHS prints a banner as its callbacks are enabled: after the log is off it does not."""

    def enableCallbacks(self) -> None:  # noqa: N802 - highspy's name
        """Enable them quietly; called while it is made."""
        self.setOptionValue("output_flag", False)
        super().enableCallbacks()  # type: ignore[no-untyped-call]  # as the package has it


class _Model:
    """Rows and columns as they come, handed to HiGHS at the end."""

    def __init__(self) -> None:
        self.cost: list[Watts] = []
        self.lower: list[Watts] = []
        self.upper: list[Watts] = []
        self.columns = 0
        self._at: list[tuple[NDArray[np.int64], NDArray[np.int64], Watts]] = []
        self.row_lower: list[Watts] = []
        self.row_upper: list[Watts] = []
        self.rows = 0

    def add_columns(self, count: int, upper: float | Watts = np.inf, cost: float = 0.0) -> NDArray[np.int64]:
        """``count`` columns from 0 to ``upper``; returns their numbers."""
        self.cost.append(np.full(count, cost))
        self.lower.append(np.zeros(count))
        self.upper.append(np.broadcast_to(np.asarray(upper, dtype=np.float64), count))
        self.columns += count
        return np.arange(self.columns - count, self.columns)

    def add_rows(self, count: int, lower: float | Watts, upper: float | Watts) -> NDArray[np.int64]:
        """``count`` rows; returns their numbers."""
        self.row_lower.append(np.broadcast_to(np.asarray(lower, dtype=np.float64), count))
        self.row_upper.append(np.broadcast_to(np.asarray(upper, dtype=np.float64), count))
        self.rows += count
        return np.arange(self.rows - count, self.rows)

    def put(self, rows: NDArray[np.int64], columns: NDArray[np.int64], values: float | Watts) -> None:
        """Coefficients at (row, column)."""
        filled = np.broadcast_to(np.asarray(values, dtype=np.float64), rows.shape)
        self._at.append((rows, np.broadcast_to(columns, rows.shape), filled))

    def solve(self) -> Watts:
        """Solve; raises ValueError when there is no optimum."""
        rows = np.concatenate([at[0] for at in self._at])
        columns = np.concatenate([at[1] for at in self._at])
        values = np.concatenate([at[2] for at in self._at])
        order = np.lexsort((rows, columns))
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = self.columns, self.rows
        lp.col_cost_ = np.concatenate(self.cost)
        lp.col_lower_, lp.col_upper_ = np.concatenate(self.lower), np.concatenate(self.upper)
        lp.row_lower_, lp.row_upper_ = np.concatenate(self.row_lower), np.concatenate(self.row_upper)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_ = np.searchsorted(columns[order], np.arange(self.columns + 1))
        lp.a_matrix_.index_ = rows[order]
        lp.a_matrix_.value_ = values[order]
        solver = _QuietHighs()  # type: ignore[no-untyped-call]  # as the package has it
        solver.passModel(lp)
        solver.run()
        if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            raise ValueError(f"the bound has no optimum: {solver.getModelStatus()}")
        found: Watts = np.array(solver.getSolution().col_value)
        return found


def combined_bound(
    layout: Layout,
    jobs: Sequence[PlantJob],
    window: Window,
    *,
    deferrable: Sequence[bool],
    battery: Battery | None,
    relaxation: Relaxation,
) -> Bound:
    """The bound for jobs as they ran; ``deferrable`` says which of ``jobs`` may start later.

    Only jobs that become eligible in the window can be deferred. The last hours of the window that make no
    whole hour are left out.
    """
    hours = int((window.end_seconds - window.begin_seconds) // HOUR_SECONDS)
    if hours < 1:
        raise ValueError("a bound needs an hour at least")
    begin = window.begin_seconds
    natural = natural_watts(layout, jobs, begin, HOUR_SECONDS, hours) / 1000.0
    idle = float(layout.idle_watts[0]) / 1000.0
    movable = [
        job
        for job, may in zip(jobs, deferrable, strict=True)
        if may and relaxation.defer_hours > 0 and begin <= job.eligible_seconds < window.end_seconds
    ]
    model = _Model()
    peak = model.add_columns(1, cost=1.0)
    tie = _TIE_WEIGHT / hours
    share = relaxation.capped_ratio * relaxation.saving_ratio
    saved = model.add_columns(hours, np.inf if share > 0.0 else 0.0, cost=tie)
    repaid = model.add_columns(hours)
    backlog = model.add_columns(hours)
    # -inf <= natural + moved - saved + repaid + charge - discharge - M <= 0
    balance = model.add_rows(hours, -np.inf, -natural)
    model.put(balance, peak, -1.0)
    model.put(balance, saved, -1.0)
    model.put(balance, repaid, 1.0)
    cap_rows = model.add_rows(hours, -np.inf, share * (natural - idle))
    model.put(cap_rows, saved, 1.0)
    work = model.add_rows(hours, 0.0, 0.0)
    model.put(work, backlog, 1.0)
    model.put(work[1:], backlog[:-1], -1.0)
    model.put(work, saved, -relaxation.loss_ratio / relaxation.saving_ratio)
    model.put(work, repaid, 1.0)
    done = model.add_rows(1, 0.0, 0.0)
    model.put(done, backlog[-1:], 1.0)
    if battery is not None and battery.power_watts > 0.0 and battery.energy_kwh > 0.0:
        _add_battery(model, balance, battery, tie)
    delays = _add_deferral(model, balance, cap_rows, share, movable, layout, begin, hours, relaxation)
    found = model.solve()
    moved = sum(float(found[column]) * lag for column, lag in delays)
    return Bound(
        peak_watts=1000.0 * float(found[peak[0]]),
        peak_without_watts=1000.0 * float(natural.max()),
        mean_delay_hours=moved / len(movable) if movable else 0.0,
    )


def _add_battery(model: _Model, balance: NDArray[np.int64], battery: Battery, tie: float) -> None:
    hours = len(balance)
    eta = battery.efficiency_ratio
    power = battery.power_watts / 1000.0
    charge = model.add_columns(hours, power, cost=0.1 * tie)
    discharge = model.add_columns(hours, power, cost=0.1 * tie)
    stored = model.add_columns(hours, battery.energy_kwh)
    model.put(balance, charge, 1.0)
    model.put(balance, discharge, -1.0)
    start = np.zeros(hours)
    start[0] = battery.soc_kwh
    rows = model.add_rows(hours, start, start)
    model.put(rows, stored, 1.0)
    model.put(rows[1:], stored[:-1], -1.0)
    model.put(rows, charge, -eta)
    model.put(rows, discharge, 1.0 / eta)
    last = model.add_rows(1, battery.soc_kwh, np.inf)
    model.put(last, stored[-1:], 1.0)


def _add_deferral(  # noqa: PLR0917  # the parts of one program
    model: _Model,
    balance: NDArray[np.int64],
    cap_rows: NDArray[np.int64],
    share: float,
    movable: Sequence[PlantJob],
    layout: Layout,
    begin: float,
    hours: int,
    relaxation: Relaxation,
) -> list[tuple[int, int]]:
    """Columns for the share of each job that starts k = 1.. hours later (0 is what is left); their delays."""
    delays: list[tuple[int, int]] = []
    if not movable:
        return delays
    lags = relaxation.defer_hours
    columns = model.add_columns(len(movable) * lags, 1.0).reshape(len(movable), lags)
    model.cost[-1] = np.tile(_TIE_WEIGHT * np.arange(1, lags + 1) / (4.0 * len(movable)), len(movable))
    limits = model.add_rows(len(movable), -np.inf, 1.0)
    for number, job in enumerate(movable):
        first = int((job.eligible_seconds - begin) // HOUR_SECONDS)
        reach = int((job.eligible_seconds + job.work_seconds - begin) // HOUR_SECONDS) + lags + 2
        count = min(hours, reach) - first
        at = begin + first * HOUR_SECONDS
        own = natural_watts(layout, [job], at, HOUR_SECONDS, count) - layout.idle_watts[0]
        for lag in range(1, lags + 1):
            shifted = np.zeros(count)
            shifted[lag:] = own[: max(0, count - lag)]
            change = (shifted - own) / 1000.0
            there = np.flatnonzero(np.abs(change) > 1e-9)
            column = columns[number, lag - 1 : lag]
            model.put(balance[first + there], column, change[there])
            if share > 0.0:
                model.put(cap_rows[first + there], column, -share * change[there])
            model.put(limits[number : number + 1], column, 1.0)
            delays.append((int(column[0]), lag))
    return delays
