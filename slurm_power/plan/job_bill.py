"""What a job's energy costs and emits, and what each flex class would change, before the job is submitted.

What nobody knows is None: a price, an emission or a bound is never made up.
"""

import math
from dataclasses import dataclass

from slurm_power.forecast.supply import SupplyAhead
from slurm_power.model.job import Flex, Job
from slurm_power.model.units import kwh_from_joules
from slurm_power.plan.curves import capped_performance_ratio, performance_ratio, promised_floor_watts
from slurm_power.plan.job_table import ASSUMED_TIME_LIMIT_SECONDS
from slurm_power.plan.policy import Policy

_GRAMS_PER_KILOGRAM = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Energy at the grid connection, its cost in the site's currency, and its CO2 in kilograms."""

    energy_kwh: float
    cost: float | None
    carbon_kg: float | None


def bill(ahead: SupplyAhead, watts: float, *, start_seconds: float, seconds: float) -> Bill:
    """What ``watts`` from ``start_seconds`` (Unix time) on come to; a time beyond ``ahead`` is unknown."""
    return Bill(
        energy_kwh=kwh_from_joules(watts * seconds),
        cost=_weighed(ahead, ahead.price_per_kwh, watts, start_seconds, seconds),
        carbon_kg=_scaled(
            _weighed(ahead, ahead.carbon_g_per_kwh, watts, start_seconds, seconds), 1.0 / _GRAMS_PER_KILOGRAM
        ),
    )


def _weighed(
    ahead: SupplyAhead, per_kwh: tuple[float | None, ...], watts: float, start: float, seconds: float
) -> float | None:
    """The sum over the steps of energy times a value per kWh; None where one of them is not known."""
    if seconds <= 0.0:
        return 0.0
    total = 0.0
    first = math.floor((start - ahead.start_seconds) / ahead.step_seconds)
    last = math.ceil((start + seconds - ahead.start_seconds) / ahead.step_seconds)
    if first < 0 or last > len(per_kwh):
        return None
    for index in range(first, last):
        value = per_kwh[index]
        if value is None:
            return None
        low = ahead.start_seconds + index * ahead.step_seconds
        inside = min(low + ahead.step_seconds, start + seconds) - max(low, start)
        total += kwh_from_joules(watts * inside) * value
    return total


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What a job draws: ``gpu_watts`` on each of ``gpus``, and what the grid connection sees of it.

    ``site_watts`` is for a whole job at ``gpu_watts``, ``site_watts_per_gpu_watt`` what one watt more on
    each of its GPUs adds. ``default_cap_watts``, ``min_cap_watts``: bounds of the site's GPUs, None: unknown.
    """

    gpu_watts: float
    site_watts: float
    site_watts_per_gpu_watt: float
    default_cap_watts: float | None
    min_cap_watts: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexTerms:
    """What a flex class would mean for one job.

    ``longest_hold_seconds`` and ``most_slowdown_ratio`` are its promise. ``room_watts``: what its cap could
    give at the grid connection. ``hold_saves_cost`` and ``hold_saves_carbon_kg``: the best that a later
    start, within that hold, could save; ``cap_saves_cost``: what the lowest cap would save over the whole
    run, less what the longer run costs.
    """

    flex: Flex
    longest_hold_seconds: float
    most_slowdown_ratio: float
    room_watts: float | None
    hold_saves_cost: float | None
    hold_saves_carbon_kg: float | None
    cap_saves_cost: float | None


def flex_terms(
    job: Job,
    flex: Flex,
    draw: Draw,
    policy: Policy,
    ahead: SupplyAhead,
    *,
    start_seconds: float,
    run_seconds: float | None,
    most_hold_seconds: float,
) -> FlexTerms:
    """What a class would mean for a job that starts at ``start_seconds`` and runs so long (None: unknown).

    ``most_hold_seconds``: what else bounds its hold, infinite for nothing.
    """
    limit_seconds = ASSUMED_TIME_LIMIT_SECONDS if job.time_limit_seconds is None else job.time_limit_seconds
    hold_seconds = max(0.0, min(flex.max_slowdown_ratio * limit_seconds, most_hold_seconds))
    floor_watts = _floor_watts(job, flex, draw, policy)
    saved: tuple[float | None, float | None, float | None] = (None, None, None)
    if run_seconds is not None:
        saved = _savings(
            job,
            draw,
            ahead,
            floor_watts,
            start_seconds=start_seconds,
            run_seconds=run_seconds,
            hold_seconds=hold_seconds,
        )
    room_watts = None
    if floor_watts is not None:
        room_watts = (draw.gpu_watts - floor_watts) * draw.site_watts_per_gpu_watt
    return FlexTerms(
        flex=flex,
        longest_hold_seconds=hold_seconds,
        most_slowdown_ratio=flex.max_slowdown_ratio,
        room_watts=room_watts,
        hold_saves_cost=saved[0],
        hold_saves_carbon_kg=saved[1],
        cap_saves_cost=saved[2],
    )


def _floor_watts(job: Job, flex: Flex, draw: Draw, policy: Policy) -> float | None:
    """The lowest draw per GPU that a class lets the job be brought to."""
    if flex.max_slowdown_ratio <= 0.0:
        return draw.gpu_watts
    if draw.default_cap_watts is None or draw.min_cap_watts is None:
        return None
    asked = Job(
        job_id=job.job_id,
        user=job.user,
        account=job.account,
        name=job.name,
        state=job.state,
        gpu_count=job.gpu_count,
        workload=job.workload,
        flex=flex,
    )
    floor_watts = promised_floor_watts(
        asked,
        uncapped_watts=draw.gpu_watts,
        default_cap_watts=draw.default_cap_watts,
        min_cap_watts=draw.min_cap_watts,
        policy=policy,
    )
    return min(floor_watts, draw.gpu_watts)


def _savings(
    job: Job,
    draw: Draw,
    ahead: SupplyAhead,
    floor_watts: float | None,
    *,
    start_seconds: float,
    run_seconds: float,
    hold_seconds: float,
) -> tuple[float | None, float | None, float | None]:
    """(cost by a hold, CO2 by a hold, cost by the lowest cap)."""
    now = bill(ahead, draw.site_watts, start_seconds=start_seconds, seconds=run_seconds)
    # Prices change at steps, so the best start is at one of them, or at the end of the hold.
    delays = [index * ahead.step_seconds for index in range(int(hold_seconds // ahead.step_seconds) + 1)]
    later = [
        bill(ahead, draw.site_watts, start_seconds=start_seconds + delay, seconds=run_seconds)
        for delay in [*delays, hold_seconds]
    ]
    cap_saves = None
    if floor_watts is not None and now.cost is not None:
        left = performance_ratio(job.workload, floor_watts / draw.gpu_watts) if draw.gpu_watts > 0.0 else 1.0
        site_watts = draw.site_watts - (draw.gpu_watts - floor_watts) * draw.site_watts_per_gpu_watt
        slow = bill(ahead, site_watts, start_seconds=start_seconds, seconds=run_seconds / left)
        cap_saves = None if slow.cost is None else now.cost - slow.cost
    return (
        _saved(now.cost, [one.cost for one in later]),
        _saved(now.carbon_kg, [one.carbon_kg for one in later]),
        cap_saves,
    )


def _saved(now: float | None, later: list[float | None]) -> float | None:
    known = [value for value in later if value is not None]
    return None if now is None or len(known) < len(later) else max(0.0, now - min(known))


def own_cap(job: Job, gpu_watts: float, cap_watts: float | None) -> tuple[float, float]:
    """(watts per GPU, share of performance taken) under a cap of the user's own."""
    if cap_watts is None or cap_watts >= gpu_watts:
        return gpu_watts, 0.0
    return cap_watts, 1.0 - capped_performance_ratio(job.workload, cap_watts / gpu_watts)


__all__ = ["Bill", "Draw", "FlexTerms", "bill", "flex_terms", "own_cap"]
