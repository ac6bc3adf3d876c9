"""A battery against demand charges and prices, step by step, with nothing known but what has come.

The level of each demand charge is held first. What is stored beyond what the level may still need is sold
when energy is dear, and charging waits for cheap hours, never above what the site draws by itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slurm_power.plan.load_paths import LEAST_DAYS, SIMILAR, LoadPaths
from slurm_power.plan.lp_ess import Course, PaidPeak, best_course
from slurm_power.plan.peak_level import Battery, Values, held_levels, least_level, raised_level, reserve_kwh
from slurm_power.plan.rest_of_period import SEARCHED_DAYS, rest_levels

# The start level is the least that would have held over each of so many past weeks, and the lowest of them.
START_WEEKS = 4
# The level rises to what would have held on this share of the paths.
RAISE_QUANTILE = 0.6
# What the level needs on this share of the paths is not sold.
RESERVE_QUANTILE = 1.0
# A forecast for trading is looked at anew so often.
TRADE_SECONDS = 3600.0
# What a trade gains has to be so many times what it risks: no set of paths holds all that may come.
_RISK_WEIGHT = 3.0
# A kWh that is missing from the reserve for an hour costs so many times a demand charge's kW.
_RESERVE_WEIGHT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """A demand charge in the running billing period and the next day.

    ``counts``: bool, from now on to the end of what is looked at, whether a step counts. ``floor_watts`` is
    paid whatever is drawn. ``days_left``: how long the period still is, if ``counts`` ends before it.
    """

    name: str
    price_per_kw: float
    counts: np.ndarray
    floor_watts: float = 0.0
    days_left: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What the battery is asked for in a step, and which level it holds (None: none counts now)."""

    discharge_watts: float
    level_watts: float | None


# Prices per kWh of the coming steps of the planning grid, the present one first; None: not known.
PriceAhead = Callable[[], Values | None]


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
        self._traded_at = -1
        self._rest_day = -1
        self._rest_watts: Values | None = None
        self._plan: Values = np.empty(0)
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
        self._traded_at = -1

    def step(
        self,
        load_watts: float,
        windows: Sequence[Window],
        *,
        slot: int,
        recent_most_watts: float,
        prices: PriceAhead | None = None,
    ) -> Step:
        """Decide for a step whose load is known. ``slot`` numbers the steps of the planning grid.

        ``recent_most_watts``: the highest load of the last day. The battery is taken to do what it is asked.
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
            discharge = self._below(load_watts, level, windows, slot, recent_most_watts, prices)
        imported = load_watts - discharge
        for window in windows:
            if window.counts[0]:
                self._levels[window.name] = max(self.level_watts(window), imported)
        self.stored_kwh = battery.after(self.stored_kwh, discharge, self._hours)
        return Step(discharge_watts=discharge, level_watts=level)

    @property
    def is_trading(self) -> bool:
        """Whether the last step below the level followed a course, and not just the room there was."""
        return bool(len(self._plan))

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
        paths[~_on_grid(window.counts, len(paths))] = np.nan
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

    def _below(  # noqa: PLR0917  # one step's whole situation
        self,
        load_watts: float,
        level: float | None,
        windows: Sequence[Window],
        slot: int,
        recent_most_watts: float,
        prices: PriceAhead | None,
    ) -> float:
        """Below the level: charge, or trade what the level does not need."""
        battery = self._battery
        # Recharging must not set the peak that the battery is there to keep away.
        top_watts = max(self._natural_watts, recent_most_watts)
        room = (top_watts if level is None else min(level, top_watts)) - load_watts
        most_charge = max(0.0, min(battery.charge_bound_watts(self.stored_kwh, self._hours), room))
        planned = self._planned(load_watts, windows, slot, prices, top_watts)
        if planned is None:
            return -most_charge
        if planned < 0.0:
            return -min(-planned, most_charge)
        bound = battery.discharge_bound_watts(self.stored_kwh, self._hours)
        return min(planned, bound, max(0.0, load_watts))

    def _planned(
        self,
        load_watts: float,
        windows: Sequence[Window],
        slot: int,
        prices: PriceAhead | None,
        top_watts: float,
    ) -> float | None:
        """What trading wants in this slot; None where nothing is traded."""
        if prices is None or self._loads.days < LEAST_DAYS:
            return None
        every = max(1, round(TRADE_SECONDS / 3600.0 / self._grid_hours))
        if self._traded_at < 0 or slot - self._traded_at >= min(every, max(1, len(self._plan))):
            self._traded_at = slot
            self._plan = self._trade(load_watts, windows, prices, top_watts)
        at = slot - self._traded_at
        return float(self._plan[at]) if at < len(self._plan) else None

    def _trade(
        self, load_watts: float, windows: Sequence[Window], prices: PriceAhead, top_watts: float
    ) -> Values:
        """The cheapest course of the next day, if it gains more than it risks; empty: nothing is traded."""
        price = prices()
        if price is None or not self._pays(price):
            return np.empty(0)
        paths, expected = self._loads.paths(load_watts), self._loads.expected(load_watts)
        if paths is None or expected is None:
            return np.empty(0)
        steps = min(len(price), len(paths))
        paths, price, expected = paths[:steps], price[:steps], expected[:steps]
        limit = limits_watts(windows, self.level_watts, steps)
        battery, hours = self._battery, self._grid_hours
        wanted = reserve_kwh(paths, limit, battery, step_hours=hours, quantile=RESERVE_QUANTILE)
        dearest = max((window.price_per_kw for window in windows), default=0.0)
        middle = max(0.0, float(np.median(price)))
        courses = [
            best_course(
                expected,
                price,
                [
                    PaidPeak(
                        price_per_kw=window.price_per_kw,
                        steps=_on_grid(window.counts, steps),
                        least_watts=self.level_watts(window),
                    )
                    for window in windows
                ],
                battery,
                stored_kwh=self.stored_kwh,
                step_hours=hours,
                end_value_per_kwh=middle * battery.discharge_ratio,
                reserve_kwh=reserve,
                reserve_price_per_kwh=max(_RESERVE_WEIGHT * dearest, 2.0 * middle),
                charge_room_watts=np.minimum(limit, top_watts) - expected,
                most_seconds=2.0,
            )
            for reserve in (wanted, np.full(steps, battery.energy_kwh))
        ]
        trading, full = courses
        if trading is None or full is None:
            return np.empty(0)
        gain = self._cost(full, price, middle) - self._cost(trading, price, middle)
        chosen = trading if gain > _RISK_WEIGHT * self._risk(paths, windows, trading, full) else full
        return chosen.discharge_watts

    def _pays(self, price: Values) -> bool:
        """Whether any two of the prices are far enough apart for losses and wear."""
        battery = self._battery
        round_trip = battery.charge_ratio * battery.discharge_ratio
        # In either order: what is stored can be sold first and bought back.
        return bool((price.max() - battery.wear_per_kwh) * round_trip > price.min())

    def _cost(self, course: Course, price: Values, end_value_per_kwh: float) -> float:
        """What a course costs in energy and wear, less what is left at its end."""
        discharge = course.discharge_watts * (self._grid_hours / 1000.0)
        wear = self._battery.wear_per_kwh * float(np.maximum(discharge, 0.0).sum())
        left = end_value_per_kwh * self._battery.discharge_ratio * float(course.stored_kwh[-1])
        return wear - float(price @ discharge) - left

    def _risk(self, paths: Values, windows: Sequence[Window], trading: Course, full: Course) -> float:
        """What the demand charges are expected to rise by if an excess comes while less is stored."""
        risk = 0.0
        for window in windows:
            counts = _on_grid(window.counts, len(paths))
            if not counts.any():
                continue
            masked = np.where(counts[:, None], paths, np.nan)
            levels = [
                held_levels(
                    masked,
                    self._battery,
                    stored_kwh=float(course.stored_kwh.min()),
                    step_hours=self._grid_hours,
                    least_watts=self.level_watts(window),
                ).mean()
                for course in (trading, full)
            ]
            risk += window.price_per_kw * max(0.0, float(levels[0] - levels[1])) / 1000.0
        return risk


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


def limits_watts(windows: Sequence[Window], level_of: Callable[[Window], float], steps: int) -> Values:
    """The lowest level that counts at each step from now on, infinite where none does; shape (steps,)."""
    limits = np.full(steps, np.inf)
    for window in windows:
        counts = _on_grid(window.counts, steps)
        limits[counts] = np.minimum(limits[counts], level_of(window))
    return limits


def _on_grid(counts: np.ndarray, steps: int) -> np.ndarray:
    """``counts`` cut or filled with False to ``steps``: after the period nothing counts."""
    found = np.zeros(steps, dtype=bool)
    found[: len(counts)] = counts[:steps]
    return found
