"""What a battery would have done for a recorded load, month by month, beside none and perfect foresight."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np

from slurm_power.forecast.experts import Values
from slurm_power.model.billing_rules import BillingRules
from slurm_power.plan.billing import Bill, PeriodTerms, monthly_bills, period_terms
from slurm_power.plan.cycle_budget import CycleBook, CycleRules
from slurm_power.plan.ess_dispatch import EssDispatch
from slurm_power.plan.ess_trade import PriceAhead
from slurm_power.plan.ess_window import Window
from slurm_power.plan.load_paths import GRID_SECONDS, LoadPaths
from slurm_power.plan.local_calendar import LocalCalendar
from slurm_power.plan.lp_ess import PaidPeak, best_course
from slurm_power.plan.peak_level import Battery, least_level

_PAST_DAYS = 28
_ALL = "all hours"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Load:
    """A recorded load: Unix times of its steps, watts without gaps; shape (n,)."""

    times_seconds: Values
    watts: Values
    step_seconds: float

    @property
    def step_hours(self) -> float:
        """Length of a step."""
        return self.step_seconds / 3600.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """What the battery did at each step, shape (n,): its power, the import, what was stored afterwards."""

    discharge_watts: Values
    import_watts: Values
    stored_kwh: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthResult:
    """A calendar month without a battery, with it, and with perfect foresight; no bills without rates."""

    month: str
    first: int
    end: int
    peak_without_watts: float
    peak_with_watts: float
    peak_perfect_watts: float
    bill_without: Bill | None = None
    bill_with: Bill | None = None
    bill_perfect: Bill | None = None

    @property
    def peak_share(self) -> float | None:
        """Which share of the perfect reduction of the peak was reached; None where there is none to reach."""
        return _share(self.peak_without_watts, self.peak_with_watts, self.peak_perfect_watts)

    @property
    def saving_share(self) -> float | None:
        """Which share of the perfect saving on the bill was reached."""
        if self.bill_without is None or self.bill_with is None or self.bill_perfect is None:
            return None
        return _share(self.bill_without.total, self.bill_with.total, self.bill_perfect.total)


def _share(without: float, reached: float, perfect: float) -> float | None:
    possible = without - perfect
    return None if possible <= 1e-9 * max(1.0, abs(without)) else (without - reached) / possible


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Charge:
    """A demand charge of one month; ``counts``, bool, says which of its steps it looks at.

    ``counts`` goes on to the end of the calendar month, where the load may end before it.
    """

    name: str
    price_per_kw: float
    counts: np.ndarray
    floor_watts: float

    def window(self, step: int, ahead: int, per_slot: int, steps_a_day: float) -> Window:
        """How it is seen from a step of its month on, in steps of the planning grid."""
        return Window(
            name=self.name,
            price_per_kw=self.price_per_kw,
            counts=self.counts[step : step + ahead : per_slot],
            floor_watts=self.floor_watts,
            days_left=(len(self.counts) - step) / steps_a_day,
        )


class Tariffed:
    """Charges and prices of a load's months; without rules one charge that counts always, no prices."""

    def __init__(self, load: Load, rules: BillingRules | None, prices_per_kwh: Values | None) -> None:
        """Raises ValueError where nobody says what energy costs."""
        self.calendar = LocalCalendar.from_epoch(load.times_seconds)
        self.months = self.calendar.months()
        self.price: Values | None = None
        self._rules, self._prices, self._load = rules, prices_per_kwh, load
        self._charges: dict[str, list[Charge]] = {}
        self._bills: dict[str, Bill] = {}
        if rules is None:
            return
        self.price = np.empty(len(load.watts))
        self._bills = self.bills(load.watts)
        earlier: dict[str, list[float]] = {}
        for label, steps in self.months:
            terms = self._terms(rules, steps, earlier)
            self.price[steps] = terms.energy_price_per_kwh[: steps.stop - steps.start]
            self._charges[label] = [
                Charge(
                    name=charge.name,
                    price_per_kw=charge.price_per_kw,
                    counts=charge.steps,
                    floor_watts=charge.floor_watts,
                )
                for charge in terms.demand
                if charge.price_per_kw > 0.0
            ]
            for name, peak in self._bills[label].peaks_watts.items():
                earlier.setdefault(name, []).append(peak)

    def _terms(self, rules: BillingRules, steps: slice, earlier: dict[str, list[float]]) -> PeriodTerms:
        """Of the whole rest of the calendar month; ``earlier``: the peaks of the load itself."""
        times = self._to_month_end(steps)
        prices = None
        if self._prices is not None:
            known = self._prices[steps]
            prices = np.pad(known, (0, len(times) - len(known)), mode="edge")
        return period_terms(
            rules,
            LocalCalendar.from_epoch(times),
            self._load.step_seconds,
            prices,
            earlier_peaks_watts=earlier,
            expected_import_kwh=float(self._load.watts[steps].sum()) * self._load.step_hours / 1000.0,
        )

    def _to_month_end(self, steps: slice) -> Values:
        """Times of the month's steps, and of those that it would have after the load's end."""
        begin = self._load.times_seconds[steps.start]
        month = self.calendar.local[steps.start].astype("datetime64[M]")
        end = float((month + 1).astype("datetime64[s]").astype(np.int64))
        count = max(steps.stop - steps.start, math.ceil((end - begin) / self._load.step_seconds - 1e-9))
        times: Values = begin + self._load.step_seconds * np.arange(count)
        return times

    def charges(self, label: str, steps: slice) -> Sequence[Charge]:
        """The demand charges of a month."""
        if self._rules is not None:
            return self._charges[label]
        always = np.ones(len(self._to_month_end(steps)), dtype=bool)
        return [Charge(name=_ALL, price_per_kw=1.0, counts=always, floor_watts=0.0)]

    def counted(self, name: str, first: int, end: int) -> np.ndarray:
        """Whether the charge of that name looked at each of these steps, of any months."""
        if self._rules is None:
            return np.ones(end - first, dtype=bool)
        found = np.zeros(end - first, dtype=bool)
        for label, steps in self.months:
            low, high = max(first, steps.start), min(end, steps.stop)
            for charge in self._charges[label]:
                if charge.name == name and low < high:
                    found[low - first : high - first] = charge.counts[low - steps.start : high - steps.start]
        return found

    def prices_ahead(self, step: int, ahead: int, per_slot: int) -> PriceAhead | None:
        """Prices from a step on, on the planning grid; None without prices."""
        if self.price is None:
            return None
        price = self.price
        return lambda: price[step : step + ahead : per_slot]

    def bills(self, import_watts: Values) -> dict[str, Bill]:
        """The bill of each month; empty without rules."""
        if self._rules is None:
            return {}
        return monthly_bills(self._rules, self.calendar, import_watts, self._load.step_seconds, self._prices)

    def bill(self, label: str, steps: slice, import_watts: Values) -> Bill | None:
        """The bill of one month, the others as the load itself would have made them."""
        whole = self._load.watts.copy()
        whole[steps] = import_watts
        return self.bills(whole).get(label)

    def judged(self, history_seconds: float) -> list[tuple[str, slice]]:
        """Months that begin so long after the load does; the first step has to be there, the last not."""
        times = self._load.times_seconds
        return [
            (label, steps)
            for label, steps in self.months
            if times[steps.start] - times[0] >= history_seconds and self._is_begun(steps)
        ]

    def _is_begun(self, steps: slice) -> bool:
        first = self.calendar.local[steps.start]
        since = first - first.astype("datetime64[M]").astype("datetime64[s]")
        return bool(since.astype(np.int64) < self._load.step_seconds)


def run_causal(
    load: Load,
    battery: Battery,
    tariffed: Tariffed,
    *,
    start_kwh: float,
    cycles: CycleRules | None = None,
    seen: Callable[[int], None] = lambda _: None,
    paths_of: Callable[[Battery, float], LoadPaths] = LoadPaths,
) -> Course:
    """Dispatch step by step; each step's load is known, nothing later. ``seen`` is told of progress.

    ``cycles`` bounds what trading uses up, a full cycle being all that the battery holds; days are UTC's.
    ``paths_of``: who says where the load may go, made of the battery and the planning grid's seconds.
    """
    per_slot = _steps_per_slot(load.step_seconds)
    grid_seconds = per_slot * load.step_seconds
    loads = paths_of(battery, grid_seconds)
    dispatch = EssDispatch(
        battery, loads, step_hours=load.step_hours, grid_hours=grid_seconds / 3600.0, stored_kwh=start_kwh
    )
    watts, day = load.watts, round(24 / load.step_hours)
    discharge, stored = np.zeros(len(watts)), np.zeros(len(watts))
    past = round(_PAST_DAYS * 24 / load.step_hours)
    ahead = loads.horizon_steps * per_slot
    spent = CycleBook()
    for label, steps in tariffed.months:
        charges = tariffed.charges(label, steps)
        first = max(0, steps.start - past)
        dispatch.start_period(
            [charge.window(0, ahead, per_slot, day) for charge in charges],
            {
                charge.name: np.where(
                    tariffed.counted(charge.name, first, steps.start), watts[first : steps.start], np.nan
                )
                for charge in charges
            },
        )
        windows: list[Window] = []
        for step in range(steps.start, steps.stop):
            inside = step % per_slot
            if inside == 0 or not windows:
                windows = [charge.window(step - steps.start, ahead, per_slot, day) for charge in charges]
            if per_slot == 1:
                loads.extend(float(watts[step]))
            elif inside == 0 and step:
                loads.extend(float(watts[step - per_slot : step].mean()))
            stored_kwh = dispatch.stored_kwh
            chosen = dispatch.step(
                float(watts[step]),
                windows,
                slot=step // per_slot,
                recent_most_watts=float(watts[max(0, step - day) : step + 1].max()),
                prices=tariffed.prices_ahead(step, ahead, per_slot),
                budget=None
                if cycles is None
                else spent.ahead(
                    _date(load, step), cycles, battery.energy_kwh, -(-(day - _of_day(load, step)) // per_slot)
                ),
            )
            if cycles is not None:
                spent.used(_date(load, step), max(0.0, stored_kwh - dispatch.stored_kwh))
            discharge[step], stored[step] = chosen.discharge_watts, dispatch.stored_kwh
            seen(step)
    return Course(discharge_watts=discharge, import_watts=watts - discharge, stored_kwh=stored)


def _date(load: Load, step: int) -> date:
    return datetime.fromtimestamp(float(load.times_seconds[step]), UTC).date()


def _of_day(load: Load, step: int) -> int:
    """Number of a step within its day."""
    return int(load.times_seconds[step] % 86_400.0 // load.step_seconds)


def _steps_per_slot(step_seconds: float) -> int:
    """Steps to one of the planning grid: as near below a quarter of an hour as parts a day evenly."""
    a_day = round(86_400.0 / step_seconds)
    most = max(1, int(GRID_SECONDS / step_seconds + 1e-9))
    return max(steps for steps in range(1, most + 1) if a_day % steps == 0)


def perfect_bill_course(
    load: Load, battery: Battery, tariffed: Tariffed, label: str, steps: slice, *, start_kwh: float
) -> Values | None:
    """The import with the lowest bill of a month, wear counted, that ends as full as it began."""
    if tariffed.price is None:
        return None
    charges = tariffed.charges(label, steps)
    course = best_course(
        load.watts[steps],
        tariffed.price[steps],
        [
            PaidPeak(
                price_per_kw=charge.price_per_kw,
                steps=charge.counts[: steps.stop - steps.start],
                least_watts=charge.floor_watts,
            )
            for charge in charges
        ],
        battery,
        stored_kwh=start_kwh,
        step_hours=load.step_hours,
        end_stored_kwh=start_kwh,
        most_seconds=300.0,
    )
    return None if course is None else load.watts[steps] - course.discharge_watts


def results(
    load: Load,
    battery: Battery,
    tariffed: Tariffed,
    course: Course,
    *,
    start_kwh: float,
    history_seconds: float,
) -> list[MonthResult]:
    """Calendar months that begin ``history_seconds`` or more into the load; the last may not be whole."""
    without, reached = tariffed.bills(load.watts), tariffed.bills(course.import_watts)
    found = []
    for label, steps in tariffed.judged(history_seconds):
        imported = perfect_bill_course(load, battery, tariffed, label, steps, start_kwh=start_kwh)
        found.append(
            MonthResult(
                month=label,
                first=steps.start,
                end=steps.stop,
                peak_without_watts=float(load.watts[steps].max()),
                peak_with_watts=float(course.import_watts[steps].max()),
                peak_perfect_watts=least_level(
                    load.watts[steps],
                    battery,
                    stored_kwh=start_kwh,
                    end_stored_kwh=start_kwh,
                    step_hours=load.step_hours,
                ),
                bill_without=without.get(label),
                bill_with=reached.get(label),
                bill_perfect=None if imported is None else tariffed.bill(label, steps, imported),
            )
        )
    return found
