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

import numpy as np

from slurm_power.plan.highs import INFINITY, Integers, Program
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


def _columns(program: Program, count: int, upper: float = INFINITY, cost: float = 0.0) -> Integers:
    """``count`` columns from 0 to ``upper``."""
    return program.add_columns(np.full(count, cost), np.zeros(count), np.full(count, upper))


def _equal(program: Program, right: Watts) -> Integers:
    return program.add_rows(right, right)


def _at_most(program: Program, right: Watts) -> Integers:
    return program.add_rows(np.full(len(right), -INFINITY), right)


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
    program = Program()
    peak = _columns(program, 1, cost=1.0)
    tie = _TIE_WEIGHT / hours
    share = relaxation.capped_ratio * relaxation.saving_ratio
    saved = _columns(program, hours, INFINITY if share > 0.0 else 0.0, cost=tie)
    repaid = _columns(program, hours)
    backlog = _columns(program, hours)
    # -inf <= natural + moved - saved + repaid + charge - discharge - M <= 0
    balance = _at_most(program, -natural)
    program.enter(balance, np.repeat(peak, hours), -1.0)
    program.enter(balance, saved, -1.0)
    program.enter(balance, repaid, 1.0)
    cap_rows = _at_most(program, share * (natural - idle))
    program.enter(cap_rows, saved, 1.0)
    work = _equal(program, np.zeros(hours))
    program.enter(work, backlog, 1.0)
    program.enter(work[1:], backlog[:-1], -1.0)
    program.enter(work, saved, -relaxation.loss_ratio / relaxation.saving_ratio)
    program.enter(work, repaid, 1.0)
    done = _equal(program, np.zeros(1))
    program.enter(done, backlog[-1:], 1.0)
    if battery is not None and battery.power_watts > 0.0 and battery.energy_kwh > 0.0:
        _add_battery(program, balance, battery, tie)
    delays = _add_deferral(program, balance, cap_rows, share, movable, layout, begin, hours, relaxation)
    found = program.solved()
    if found is None:
        raise ValueError("the solver finds no bound for this window")
    moved = sum(float(found[column]) * lag for column, lag in delays)
    return Bound(
        peak_watts=1000.0 * float(found[peak[0]]),
        peak_without_watts=1000.0 * float(natural.max()),
        mean_delay_hours=moved / len(movable) if movable else 0.0,
    )


def _add_battery(program: Program, balance: Integers, battery: Battery, tie: float) -> None:
    hours = len(balance)
    eta = battery.efficiency_ratio
    power = battery.power_watts / 1000.0
    charge = _columns(program, hours, power, cost=0.1 * tie)
    discharge = _columns(program, hours, power, cost=0.1 * tie)
    stored = _columns(program, hours, battery.energy_kwh)
    program.enter(balance, charge, 1.0)
    program.enter(balance, discharge, -1.0)
    start = np.zeros(hours)
    start[0] = battery.soc_kwh
    rows = _equal(program, start)
    program.enter(rows, stored, 1.0)
    program.enter(rows[1:], stored[:-1], -1.0)
    program.enter(rows, charge, -eta)
    program.enter(rows, discharge, 1.0 / eta)
    last = program.add_rows(np.array([battery.soc_kwh]), np.array([INFINITY]))
    program.enter(last, stored[-1:], 1.0)


def _add_deferral(  # noqa: PLR0917  # the parts of one program
    program: Program,
    balance: Integers,
    cap_rows: Integers,
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
    count = len(movable) * lags
    costs = np.tile(_TIE_WEIGHT * np.arange(1, lags + 1) / (4.0 * len(movable)), len(movable))
    columns = program.add_columns(costs, np.zeros(count), np.ones(count)).reshape(len(movable), lags)
    limits = _at_most(program, np.ones(len(movable)))
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
            column = columns[number, lag - 1]
            columns_there = np.repeat(column, len(there))
            program.enter(balance[first + there], columns_there, change[there])
            if share > 0.0:
                program.enter(cap_rows[first + there], columns_there, -share * change[there])
            program.enter(limits[number : number + 1], columns[number, lag - 1 : lag], 1.0)
            delays.append((int(column), lag))
    return delays
