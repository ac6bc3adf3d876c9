"""What the weeks so far say about the batteries in this billing period: start levels, reserve and trade.

The same composition that ``simulate ess`` judges (:mod:`slurm_power.plan.ess_dispatch`), asked once a quarter
of an hour for the running moment. It takes seconds and pulls in a solver: for a thread, not for the guard.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slurm_power.plan.charges import DemandCharge
from slurm_power.plan.cycle_budget import TradeBudget
from slurm_power.plan.ess_dispatch import EssDispatch, start_level
from slurm_power.plan.ess_trade import RESERVE_QUANTILE, can_trade
from slurm_power.plan.ess_window import Window, limits_watts
from slurm_power.plan.load_paths import LoadPaths
from slurm_power.plan.peak_level import Battery, Values, raised_level, reserve_kwh

# A trade needs to know what energy costs for so long at least.
_LEAST_PRICED_HOURS = 4.0
# A rise below this share of the battery's power is the search's own rounding.
_ROUNDING_RATIO = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ahead:
    """An answer. ``levels_watts``: only charges whose level should be raised, by name.

    ``reserve_ratio`` of the battery's energy is kept for the levels; ``trade_watts`` None: nothing is traded.
    ``source``: who says where the load may go.
    """

    levels_watts: Mapping[str, float]
    reserve_ratio: float
    trade_watts: float | None
    source: str


def start_levels(
    charges: Sequence[DemandCharge], past_watts: Mapping[str, Values], battery: Battery, *, step_hours: float
) -> dict[str, float | None]:
    """Where each charge's level starts, by name; None where less than a week is known.

    ``past_watts``: loads of the last weeks by name of the charge, NaN where it did not count.
    """
    found: dict[str, float | None] = {}
    for charge in charges:
        level = start_level(past_watts[charge.name], battery, step_hours=step_hours)
        found[charge.name] = charge.floor_watts or None if level is None else max(level, charge.floor_watts)
    return found


def look_ahead(
    loads: LoadPaths,
    battery: Battery,
    charges: Sequence[DemandCharge],
    levels_watts: Mapping[str, float],
    *,
    step: int,
    step_hours: float,
    load_watts: float,
    natural_most_watts: float,
    stored_kwh: float,
    prices_per_kwh: Values,
    least_reserve_kwh: float = 0.0,
    budget: TradeBudget | None = None,
) -> Ahead:
    """Look at the present step of the planning grid, number ``step`` of the charges' billing period.

    ``load_watts`` is taken to go on as it was in the step before. ``prices_per_kwh``: from now on, as far as
    they are known. ``least_reserve_kwh`` is kept in any case, ``budget`` is what trading may still use up.
    Without a demand charge only prices count. A level that the battery simply cannot hold is not raised
    here: what is measured then raises it, and by no more than was drawn.
    """
    windows = [
        _window(charge, step, levels_watts[charge.name], step_hours)
        for charge in charges
        if charge.name in levels_watts
    ]
    if battery.is_none or not can_trade(loads, charges) or (charges and not windows):
        return Ahead(levels_watts={}, reserve_ratio=0.0, trade_watts=None, source="")
    dispatch = _dispatch(loads, battery, stored_kwh, step_hours)
    dispatch.start_period(windows, {window.name: np.empty(0) for window in windows})
    is_priced = len(prices_per_kwh) * step_hours >= _LEAST_PRICED_HOURS
    chosen = dispatch.step(
        load_watts,
        windows,
        slot=0,
        recent_most_watts=natural_most_watts,
        prices=(lambda: prices_per_kwh) if is_priced else None,
        budget=budget,
        least_reserve_kwh=least_reserve_kwh,
    )
    counting = [levels_watts[window.name] for window in windows if window.counts[0]]
    is_over = bool(counting) and load_watts > min(counting)
    return Ahead(
        levels_watts=_raised(
            windows,
            levels_watts,
            held_watts=chosen.level_watts,
            physical_watts=raised_level(
                min(counting, default=0.0),
                load_watts,
                None,
                battery,
                stored_kwh=stored_kwh,
                step_hours=step_hours,
            ),
            rounding_watts=_ROUNDING_RATIO * battery.discharge_watts,
        ),
        reserve_ratio=max(
            _reserve_ratio(loads.paths(load_watts), battery, windows, dispatch.level_watts, step_hours)
            if windows
            else 0.0,
            min(1.0, least_reserve_kwh / battery.energy_kwh),
        ),
        trade_watts=chosen.discharge_watts if dispatch.is_trading and not is_over else None,
        source=loads.source,
    )


def _dispatch(loads: LoadPaths, battery: Battery, stored_kwh: float, step_hours: float) -> EssDispatch:
    return EssDispatch(battery, loads, step_hours=step_hours, grid_hours=step_hours, stored_kwh=stored_kwh)


def _window(charge: DemandCharge, step: int, level_watts: float, step_hours: float) -> Window:
    left = charge.steps[step:]
    return Window(
        name=charge.name,
        price_per_kw=charge.price_per_kw,
        counts=left[: round(24.0 / step_hours)],
        floor_watts=level_watts,
        days_left=len(left) * step_hours / 24.0,
    )


def _raised(
    windows: Sequence[Window],
    levels_watts: Mapping[str, float],
    *,
    held_watts: float | None,
    physical_watts: float,
    rounding_watts: float,
) -> dict[str, float]:
    """The binding level, where what may come asks for more than what cannot be held now."""
    counting = [window.name for window in windows if window.counts[0]]
    if not counting or held_watts is None or held_watts <= physical_watts + rounding_watts:
        return {}
    return {min(counting, key=lambda name: levels_watts[name]): held_watts}


def _reserve_ratio(
    paths: Values | None,
    battery: Battery,
    windows: Sequence[Window],
    level_of: Callable[[Window], float],
    step_hours: float,
) -> float:
    if paths is None or len(paths) < 2:
        return 1.0
    limit = limits_watts(windows, level_of, len(paths))
    needed = reserve_kwh(paths, limit, battery, step_hours=step_hours, quantile=RESERVE_QUANTILE)
    return float(np.clip(needed[1] / battery.energy_kwh, 0.0, 1.0))
