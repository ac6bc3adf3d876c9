"""When a battery buys and sells for the price of energy alone: with what no level needs, and no limit.

Two courses of the next day are compared, one that trades and one that stays as full as it can. The trade has
to gain more than what it risks: that an excess comes while less is stored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from slurm_power.plan.cycle_budget import TradeBudget
from slurm_power.plan.ess_window import LevelOf, Window, limits_watts, on_grid
from slurm_power.plan.load_paths import LEAST_DAYS, LoadPaths
from slurm_power.plan.lp_ess import Course, PaidPeak, best_course
from slurm_power.plan.peak_level import Battery, Values, held_levels, reserve_kwh

# What the level needs on this share of the paths is not sold.
RESERVE_QUANTILE = 1.0
# A forecast for trading is looked at anew so often.
TRADE_SECONDS = 3600.0
# What a trade gains has to be so many times what it risks: no set of paths holds all that may come.
_RISK_WEIGHT = 3.0
# A kWh that is missing from the reserve for an hour costs so many times a demand charge's kW.
_RESERVE_WEIGHT = 0.1
_SOLVER_SECONDS = 2.0

# Prices per kWh of the coming steps of the planning grid, the present one first; None: not known.
PriceAhead = Callable[[], Values | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a trade begins with. ``top_watts``: charging never makes the import pass it.

    ``least_reserve_kwh`` is never sold, whatever the levels need. ``budget`` None: cycles are not counted.
    """

    load_watts: float
    stored_kwh: float
    top_watts: float
    least_reserve_kwh: float = 0.0
    budget: TradeBudget | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Day:
    """The coming steps; shape (steps,), paths (steps, n). ``limit_watts``: the lowest level that counts."""

    price: Values
    expected_watts: Values
    paths_watts: Values
    limit_watts: Values

    @property
    def middle_price(self) -> float:
        """What energy costs in the middle of the day, at least nothing."""
        return max(0.0, float(np.median(self.price)))


class EssTrade:
    """Follows one course for an hour; ``grid_hours`` is a step of the planning grid."""

    def __init__(self, battery: Battery, loads: LoadPaths, *, grid_hours: float) -> None:
        self._battery = battery
        self._loads = loads
        self._hours = grid_hours
        self._at = -1
        self._plan: Values = np.empty(0)

    @property
    def is_trading(self) -> bool:
        """Whether there is a course to follow."""
        return bool(len(self._plan))

    def forget(self) -> None:
        """Look anew at the next step."""
        self._at = -1

    def planned(
        self, slot: int, standing: Standing, windows: Sequence[Window], level_of: LevelOf, prices: PriceAhead
    ) -> float | None:
        """What trading wants in this step of the planning grid (watts, negative buys); None: no trade."""
        every = max(1, round(TRADE_SECONDS / 3600.0 / self._hours))
        if self._at < 0 or slot - self._at >= min(every, max(1, len(self._plan))):
            self._at = slot
            self._plan = self._course(standing, windows, level_of, prices())
        at = slot - self._at
        return float(self._plan[at]) if at < len(self._plan) else None

    def _course(
        self, standing: Standing, windows: Sequence[Window], level_of: LevelOf, price: Values | None
    ) -> Values:
        """The cheapest course of the next day, if it gains more than it risks; empty: nothing is traded."""
        if price is None or not pays(price, self._battery):
            return np.empty(0)
        day = self._day(standing, windows, level_of, price)
        if day is None:
            return np.empty(0)
        battery = self._battery
        needed = reserve_kwh(
            day.paths_watts, day.limit_watts, battery, step_hours=self._hours, quantile=RESERVE_QUANTILE
        )
        needed = np.maximum(needed, min(standing.least_reserve_kwh, battery.energy_kwh))
        trading = self._best(day, standing, windows, level_of, needed)
        full = self._best(day, standing, windows, level_of, np.full(len(day.price), battery.energy_kwh))
        if trading is None or full is None:
            return np.empty(0)
        gain = self._cost(full, day) - self._cost(trading, day)
        risk = self._risk(day, windows, level_of, trading, full)
        return (trading if gain > _RISK_WEIGHT * risk else full).discharge_watts

    def _day(
        self, standing: Standing, windows: Sequence[Window], level_of: LevelOf, price: Values
    ) -> _Day | None:
        """What is expected, as far as prices are known; None where too little is known of the load."""
        load = standing.load_watts
        paths, expected = self._loads.paths(load), self._loads.expected(load)
        if paths is None or expected is None:
            if windows:
                return None
            # Without a peak that is paid for, the load only bounds what can be sold: it may as well stay.
            expected = np.full(len(price), max(0.0, load))
            paths = expected[:, None]
        steps = min(len(price), len(paths))
        return _Day(
            price=price[:steps],
            expected_watts=expected[:steps],
            paths_watts=paths[:steps],
            limit_watts=limits_watts(windows, level_of, steps),
        )

    def _best(
        self,
        day: _Day,
        standing: Standing,
        windows: Sequence[Window],
        level_of: LevelOf,
        reserve: Values,
    ) -> Course | None:
        steps, battery = len(day.price), self._battery
        dearest = max((window.price_per_kw for window in windows), default=0.0)
        found = best_course(
            day.expected_watts,
            day.price,
            [
                PaidPeak(
                    price_per_kw=window.price_per_kw,
                    steps=on_grid(window.counts, steps),
                    least_watts=level_of(window),
                )
                for window in windows
            ],
            battery,
            stored_kwh=standing.stored_kwh,
            step_hours=self._hours,
            end_value_per_kwh=self._left_value(day),
            reserve_kwh=reserve,
            reserve_price_per_kwh=max(_RESERVE_WEIGHT * dearest, 2.0 * day.middle_price),
            charge_room_watts=np.minimum(day.limit_watts, standing.top_watts) - day.expected_watts,
            budgets=() if standing.budget is None else standing.budget.bounds(steps),
            most_seconds=_SOLVER_SECONDS,
        )
        if found is None or float(day.price.min()) >= 0.0:
            return found
        return _physical(found, battery, standing.stored_kwh, self._hours)

    def _cost(self, course: Course, day: _Day) -> float:
        """What a course costs in energy and wear, less what is left at its end."""
        discharge = course.discharge_watts * (self._hours / 1000.0)
        wear = self._battery.wear_per_kwh * float(np.maximum(discharge, 0.0).sum())
        return wear - float(day.price @ discharge) - self._left_value(day) * float(course.stored_kwh[-1])

    def _left_value(self, day: _Day) -> float:
        """What a stored kWh is worth that is left at the end: it will come out, and age the battery then."""
        battery = self._battery
        return max(0.0, day.middle_price - battery.wear_per_kwh) * battery.discharge_ratio

    def _risk(
        self, day: _Day, windows: Sequence[Window], level_of: LevelOf, trading: Course, full: Course
    ) -> float:
        """What the demand charges are expected to rise by if an excess comes while less is stored."""
        risk = 0.0
        for window in windows:
            counts = on_grid(window.counts, len(day.price))
            if not counts.any():
                continue
            masked = np.where(counts[:, None], day.paths_watts, np.nan)
            levels = [
                held_levels(
                    masked,
                    self._battery,
                    stored_kwh=float(course.stored_kwh.min()),
                    step_hours=self._hours,
                    least_watts=level_of(window),
                ).mean()
                for course in (trading, full)
            ]
            risk += window.price_per_kw * max(0.0, float(levels[0] - levels[1])) / 1000.0
        return risk


def pays(price: Values, battery: Battery) -> bool:
    """Whether any two of the prices are far enough apart for losses and wear."""
    if not len(price):
        return False
    round_trip = battery.charge_ratio * battery.discharge_ratio
    # In either order: what is stored can be sold first and bought back.
    return bool((price.max() - battery.wear_per_kwh) * round_trip > price.min())


def can_trade(loads: LoadPaths, windows: Sequence[object]) -> bool:
    """Whether enough is known: where peaks are paid for, what the level needs has to be foreseen first."""
    return not windows or loads.days >= LEAST_DAYS


def _physical(course: Course, battery: Battery, stored_kwh: float, hours: float) -> Course:
    """The course as a battery can follow it.

    Where energy is paid for being taken, the program charges and discharges at once to lose some of it; only
    the difference can be had, and it ends where the battery is full.
    """
    discharge, stored = course.discharge_watts.copy(), np.empty(len(course.stored_kwh))
    kwh = min(stored_kwh, battery.energy_kwh)
    for step, watts in enumerate(discharge.tolist()):
        least, most = -battery.charge_bound_watts(kwh, hours), battery.discharge_bound_watts(kwh, hours)
        discharge[step] = min(most, max(least, watts))
        kwh = battery.after(kwh, float(discharge[step]), hours)
        stored[step] = kwh
    return replace(course, discharge_watts=discharge, stored_kwh=stored)
