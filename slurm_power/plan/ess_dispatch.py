"""A battery against demand charges and prices, step by step, with nothing known but what has come.

The level of each demand charge is held first. What is stored beyond what the level may still need is sold
when energy is dear, and charging waits for cheap hours, never above what the site draws by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slurm_power.plan.cycle_budget import TradeBudget
from slurm_power.plan.ess_trade import EssTrade, PriceAhead, Standing, can_trade
from slurm_power.plan.ess_window import Window, on_grid
from slurm_power.plan.load_paths import SIMILAR, LoadPaths
from slurm_power.plan.peak_level import Battery, Values, least_level, raised_level
from slurm_power.plan.rest_of_period import SEARCHED_DAYS, rest_levels

# The start level is the least that would have held over each of so many past weeks, and the lowest of them.
START_WEEKS = 4
# The level rises to what would have held on this share of the paths.
RAISE_QUANTILE = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What the battery is asked for in a step, and which level it holds (None: none counts now)."""

    discharge_watts: float
    level_watts: float | None


class EssDispatch:
    """One battery at one connection; ``step_hours``: a step of control, ``grid_hours``: one of planning."""

    def __init__(
        self, battery: Battery, loads: LoadPaths, *, step_hours: float, grid_hours: float, stored_kwh: float
    ) -> None:
        self._battery = battery
        self._loads = loads
        self._hours = step_hours
        self._grid_hours = grid_hours
        self.stored_kwh = stored_kwh
        self._levels: dict[str, float] = {}
        self._targets: dict[str, float] = {}
        self._slot = -1
        self._trade = EssTrade(battery, loads, grid_hours=grid_hours)
        self._rest_day = -1
        self._rest_watts: Values | None = None
        self._natural_watts = 0.0

    def start_period(self, windows: Sequence[Window], past_watts: Mapping[str, Values]) -> None:
        """Begin a billing period: every level starts where the recent weeks could have been held.

        ``past_watts`` by name of the charge: recent loads on the control grid, NaN where it did not count.
        """
        self._natural_watts = 0.0
        self._levels = {
            window.name: max(
                start_level(past_watts[window.name], self._battery, step_hours=self._hours) or 0.0,
                window.floor_watts,
            )
            for window in windows
        }
        self._targets.clear()
        self._trade.forget()

    def step(
        self,
        load_watts: float,
        windows: Sequence[Window],
        *,
        slot: int,
        recent_most_watts: float,
        prices: PriceAhead | None = None,
        budget: TradeBudget | None = None,
        least_reserve_kwh: float = 0.0,
    ) -> Step:
        """Decide for a step whose load is known. ``slot`` numbers the steps of the planning grid.

        ``recent_most_watts``: the highest load of the last day. ``budget``: what trading may still use up,
        None where nobody counts. ``least_reserve_kwh`` is not sold. The battery is taken to do what it is
        asked.
        """
        self._natural_watts = max(self._natural_watts, load_watts)
        if slot != self._slot:
            self._slot = slot
            self._targets.clear()
        battery = self._battery
        binding = None
        for window in windows:
            if window.counts[0] and (binding is None or self.level_watts(window) < self.level_watts(binding)):
                binding = window
        level = None if binding is None else self.level_watts(binding)
        discharge = 0.0
        if binding is not None and level is not None and load_watts > level and not battery.is_none:
            level = self._raised(binding, level, load_watts)
            bound = battery.discharge_bound_watts(self.stored_kwh, self._hours)
            discharge = min(load_watts - level, bound)
        elif not battery.is_none:
            # Recharging must not set the peak that the battery is there to keep away.
            standing = Standing(
                load_watts=load_watts,
                stored_kwh=self.stored_kwh,
                top_watts=max(self._natural_watts, recent_most_watts),
                least_reserve_kwh=least_reserve_kwh,
                budget=budget,
            )
            discharge = self._below(standing, level, windows, slot, prices)
        imported = load_watts - discharge
        for window in windows:
            if window.counts[0]:
                self._levels[window.name] = max(self.level_watts(window), imported)
        self.stored_kwh = battery.after(self.stored_kwh, discharge, self._hours)
        return Step(discharge_watts=discharge, level_watts=level)

    @property
    def is_trading(self) -> bool:
        """Whether the last step below the level followed a course, and not just the room there was."""
        return self._trade.is_trading

    def level_watts(self, window: Window) -> float:
        """What the import is held to while the charge counts."""
        return self._levels.get(window.name, window.floor_watts)

    def _raised(self, window: Window, level: float, load_watts: float) -> float:
        """The level to hold against a load above it; what the paths say is asked once a planning step."""
        target = self._targets.get(window.name)
        physical = raised_level(
            level, load_watts, None, self._battery, stored_kwh=self.stored_kwh, step_hours=self._hours
        )
        if target is None and load_watts > physical:
            target = self._target(window, level, load_watts)
            self._targets[window.name] = target
        return max(physical, min(load_watts, physical if target is None else target))

    def _target(self, window: Window, level: float, load_watts: float) -> float:
        paths = self._loads.paths(load_watts)
        if paths is None:
            return level
        paths[~on_grid(window.counts, len(paths))] = np.nan
        return raised_level(
            level,
            load_watts,
            paths,
            self._battery,
            stored_kwh=self.stored_kwh,
            step_hours=self._grid_hours,
            quantile=RAISE_QUANTILE,
            rest_watts=self._rest(window),
        )

    def _rest(self, window: Window) -> Values | None:
        """What the rest of the period may need; looked up once a day.

        Only for loads without a daily shape: where there is one, the last days say it better than all weeks.
        And only where all hours count, as all hours of the past are looked at.
        """
        if window.days_left is None or self._loads.source != SIMILAR or not window.counts.all():
            return None
        day = int(self._loads.days)
        if self._rest_day != day:
            self._rest_day = day
            self._rest_watts = rest_levels(
                self._loads.recent(SEARCHED_DAYS),
                window.days_left,
                self._battery,
                day_steps=round(24.0 / self._grid_hours),
                step_hours=self._grid_hours,
            )
        return self._rest_watts

    def _below(
        self,
        standing: Standing,
        level: float | None,
        windows: Sequence[Window],
        slot: int,
        prices: PriceAhead | None,
    ) -> float:
        """Below the level: charge, or trade what the level does not need."""
        battery, load = self._battery, standing.load_watts
        top_watts = standing.top_watts if level is None else min(level, standing.top_watts)
        room = top_watts - load
        most_charge = max(0.0, min(battery.charge_bound_watts(self.stored_kwh, self._hours), room))
        planned = None
        if prices is not None and can_trade(self._loads, windows):
            planned = self._trade.planned(slot, standing, windows, self.level_watts, prices)
        if planned is None:
            return -most_charge
        if planned < 0.0:
            return -min(-planned, most_charge)
        kwh = self.stored_kwh if standing.budget is None else min(self.stored_kwh, standing.budget.today_kwh)
        return min(planned, battery.discharge_bound_watts(kwh, self._hours), max(0.0, load))


def start_level(past_watts: Values, battery: Battery, *, step_hours: float) -> float | None:
    """Where a level starts: the lowest of what each of the last weeks could have been held to.

    ``past_watts``: loads, NaN where the charge did not count. None where less than a week is known.
    """
    week = round(7 * 24 / step_hours)
    half = 0.5 * battery.energy_kwh
    found = []
    for number in range(START_WEEKS):
        part = past_watts[max(0, len(past_watts) - (number + 1) * week) : len(past_watts) - number * week]
        if len(part) < week or np.isnan(part).all():
            break
        found.append(least_level(part, battery, stored_kwh=half, end_stored_kwh=half, step_hours=step_hours))
    return min(found, default=None)
