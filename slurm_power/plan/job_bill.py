"""What a job's energy costs and emits, and what each flex class would change, before the job is submitted.

What nobody knows is None: a price, an emission or a bound is never made up.
"""

import math
from dataclasses import dataclass
from itertools import accumulate

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


class Prices:
    """Prices and CO2 ahead, as running sums, so that any span of time costs the same to ask about."""

    def __init__(self, ahead: SupplyAhead) -> None:
        self.step_seconds = ahead.step_seconds
        self._start = ahead.start_seconds
        self._prices = _Column(ahead.price_per_kwh)
        self._carbon = _Column(ahead.carbon_g_per_kwh)

    def bill(self, watts: float, *, start_seconds: float, seconds: float) -> Bill:
        """What ``watts`` from ``start_seconds`` (Unix time) on come to; beyond the steps all is unknown."""
        first = (start_seconds - self._start) / self.step_seconds
        last = (start_seconds + seconds - self._start) / self.step_seconds
        energy_kwh = kwh_from_joules(watts * self.step_seconds)  # of one step
        cost, grams = self._prices.between(first, last), self._carbon.between(first, last)
        return Bill(
            energy_kwh=kwh_from_joules(watts * seconds),
            cost=None if cost is None else cost * energy_kwh,
            carbon_kg=None if grams is None else grams * energy_kwh / _GRAMS_PER_KILOGRAM,
        )


class _Column:
    """Values of steps, None where unknown."""

    def __init__(self, values: tuple[float | None, ...]) -> None:
        self._values = values
        self._sums = [0.0, *accumulate(0.0 if value is None else value for value in values)]
        self._unknown = [0, *accumulate(int(value is None) for value in values)]

    def between(self, first: float, last: float) -> float | None:
        """The integral over [first, last) in steps; None where any part of it is unknown."""
        if last <= first:
            return 0.0
        low, high = math.floor(first), math.ceil(last)
        if low < 0 or high > len(self._values) or self._unknown[high] > self._unknown[low]:
            return None
        return self._up_to(last) - self._up_to(first)

    def _up_to(self, step: float) -> float:
        whole = math.floor(step)
        part = step - whole
        within = self._values[whole] if part and whole < len(self._values) else None
        return self._sums[whole] + part * (within or 0.0)


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
    prices: Prices,
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
            prices,
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
    prices: Prices,
    floor_watts: float | None,
    *,
    start_seconds: float,
    run_seconds: float,
    hold_seconds: float,
) -> tuple[float | None, float | None, float | None]:
    """(cost by a hold, CO2 by a hold, cost by the lowest cap)."""
    now = prices.bill(draw.site_watts, start_seconds=start_seconds, seconds=run_seconds)
    last = prices.bill(draw.site_watts, start_seconds=start_seconds + hold_seconds, seconds=run_seconds)
    later = [last]
    if last.cost is not None or last.carbon_kg is not None:  # else the hold ends beyond all that is known
        # Prices change at steps, so the best start is at one of them, or at the end of the hold.
        later += [
            prices.bill(
                draw.site_watts,
                start_seconds=start_seconds + index * prices.step_seconds,
                seconds=run_seconds,
            )
            for index in range(int(hold_seconds // prices.step_seconds) + 1)
        ]
    cap_saves = None
    if floor_watts is not None and now.cost is not None:
        left = performance_ratio(job.workload, floor_watts / draw.gpu_watts) if draw.gpu_watts > 0.0 else 1.0
        site_watts = draw.site_watts - (draw.gpu_watts - floor_watts) * draw.site_watts_per_gpu_watt
        slow = prices.bill(site_watts, start_seconds=start_seconds, seconds=run_seconds / left)
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


__all__ = ["Bill", "Draw", "FlexTerms", "Prices", "flex_terms", "own_cap"]
