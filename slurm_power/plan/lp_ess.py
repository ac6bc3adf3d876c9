"""The linear program of a battery: when it charges and discharges, for energy prices and demand charges.

    minimise  sum_t [p_t (c_t - d_t) + w d_t] h + sum_k D_k M_k - v s_n + f sum_t short_t + g sum_b over_b
    s_t = s_{t-1} + eta_c c_t h - d_t h / eta_d,   0 <= s_t <= E,   s_t + short_t >= R_t,   s_n >= S
    L_t + c_t - d_t <= M_k             for each demand charge k and each of its steps t
    sum_t d_t h / eta_d - over_b <= B_b           for each budget b and its steps t
    M_k >= M_k_now,   0 <= c_t <= min(P_c, room_t),   0 <= d_t <= min(P_d, L_t)

L: load, c: charge, d: discharge (kW at the battery's terminals), s: stored kWh, M: peaks (kW), p: energy
price, w: wear, v: value of what is left at the end, R: reserve, B: a budget of cycles, which costs g to pass:
more than any two prices differ by, so that only a demand charge can be worth it; h: hours a step.
With all of the future known it is the bound of perfect foresight. Where prices are negative a program may
charge and discharge at once; the net is what counts, and as a bound it stays one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slurm_power.plan.highs import INFINITY, Floats, Program
from slurm_power.plan.peak_level import Battery


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PaidPeak:
    """A demand charge: money per kW of the highest import within ``steps`` (bool, shape (n,)).

    ``least_watts`` is paid in any case: the peak so far, or a ratchet.
    """

    price_per_kw: float
    steps: np.ndarray
    least_watts: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """What a battery does: discharge in watts (negative: charge), kWh stored after each step; shape (n,)."""

    discharge_watts: Floats
    stored_kwh: Floats


def best_course(
    load_watts: Floats,
    energy_price_per_kwh: Floats,
    peaks: Sequence[PaidPeak],
    battery: Battery,
    *,
    stored_kwh: float,
    step_hours: float,
    end_stored_kwh: float = 0.0,
    end_value_per_kwh: float = 0.0,
    reserve_kwh: Floats | None = None,
    reserve_price_per_kwh: float = 0.0,
    charge_room_watts: Floats | None = None,
    budgets: Sequence[tuple[np.ndarray, float]] = (),
    most_seconds: float = 60.0,
) -> Course | None:
    """The cheapest course over the steps of ``load_watts``; None if the solver finds none in time.

    ``reserve_kwh``, shape (n,): what should be stored at the start of each step, soft at
    ``reserve_price_per_kwh`` an hour. ``charge_room_watts``, shape (n,): charging may not take more.
    ``budgets``: (steps as bool, shape (n,), kWh that may be taken out of the store in them). The battery
    never feeds the grid.
    """
    steps, hours = len(load_watts), step_hours
    load, price = load_watts / 1000.0, energy_price_per_kwh
    none = np.zeros(steps)
    room = (
        np.inf * np.ones(steps) if charge_room_watts is None else np.maximum(charge_room_watts, 0.0) / 1000.0
    )
    program = Program()
    charge = program.add_columns(price * hours, none, np.minimum(room, battery.charge_watts / 1000.0))
    discharge = program.add_columns(
        (battery.wear_per_kwh - price) * hours,
        none,
        np.clip(load, 0.0, battery.discharge_watts / 1000.0),
    )
    stored_cost = np.zeros(steps)
    stored_cost[-1] = -end_value_per_kwh
    stored_low = np.zeros(steps)
    stored_low[-1] = min(end_stored_kwh, battery.energy_kwh)
    stored = program.add_columns(stored_cost, stored_low, np.full(steps, battery.energy_kwh))
    balance_right = np.zeros(steps)
    balance_right[0] = min(stored_kwh, battery.energy_kwh)
    balance = program.add_rows(balance_right, balance_right)
    program.enter(balance, stored, 1.0)
    program.enter(balance[1:], stored[:-1], -1.0)
    program.enter(balance, charge, -battery.charge_ratio * hours)
    program.enter(balance, discharge, hours / battery.discharge_ratio)
    for peak in peaks:
        at = np.flatnonzero(peak.steps).astype(np.int32)
        if not len(at):
            continue
        column = program.add_columns(
            np.array([peak.price_per_kw]), np.array([peak.least_watts / 1000.0]), np.array([INFINITY])
        )
        rows = program.add_rows(np.full(len(at), -INFINITY), -load[at])
        program.enter(rows, charge[at], 1.0)
        program.enter(rows, discharge[at], -1.0)
        program.enter(rows, np.repeat(column, len(at)), -1.0)
    if reserve_kwh is not None and steps > 1:
        wanted = np.minimum(reserve_kwh[1:], battery.energy_kwh)
        short = program.add_columns(
            np.full(steps - 1, reserve_price_per_kwh * hours), none[1:], np.full(steps - 1, INFINITY)
        )
        rows = program.add_rows(wanted, np.full(steps - 1, INFINITY))
        program.enter(rows, stored[:-1], 1.0)
        program.enter(rows, short, 1.0)
    for counts, kwh in budgets:
        at = np.flatnonzero(counts).astype(np.int32)
        over_price = 1.0 + float(price.max() - price.min())
        over = program.add_columns(np.array([over_price]), np.zeros(1), np.array([INFINITY]))
        row = program.add_rows(np.array([-INFINITY]), np.array([kwh]))
        program.enter(np.repeat(row, len(at)), discharge[at], hours / battery.discharge_ratio)
        program.enter(row, over, -1.0)
    values = program.solved(most_seconds)
    if values is None:
        return None
    return Course(discharge_watts=1000.0 * (values[discharge] - values[charge]), stored_kwh=values[stored])
