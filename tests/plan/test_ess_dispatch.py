"""A battery step by step: what it may never do, and what it does with what it is told."""

import math
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.plan import ess_trade
from slurm_power.plan.ess_dispatch import EssDispatch, Step
from slurm_power.plan.ess_trade import PriceAhead
from slurm_power.plan.ess_window import Window
from slurm_power.plan.load_paths import LEAST_DAYS, LoadPaths
from slurm_power.plan.peak_level import Battery, Values, least_level

LOSSES = math.sqrt(0.88)
OF = Battery(
    charge_watts=20_000.0,
    discharge_watts=20_000.0,
    energy_kwh=40.0,
    charge_ratio=LOSSES,
    discharge_ratio=LOSSES,
    wear_per_kwh=0.02,
)
DAY = 24


class Told:
    """Paths that a test says; the interface of LoadPaths."""

    def __init__(self, paths: Values | None = None, days: float = 30.0) -> None:
        self.days = days
        self.told = paths
        self.horizon_steps = DAY

    def paths(self, now_watts: float | None = None) -> Values | None:
        if self.told is None or self.days < LEAST_DAYS:
            return None
        found = self.told.copy()
        found[0] = now_watts
        return found

    def expected(self, now_watts: float | None = None) -> Values | None:
        found = self.paths(now_watts)
        return None if found is None else np.median(found, axis=1)


def dispatcher(
    told: Told | None = None, *, of: Battery = OF, stored_kwh: float = 20.0, hours: float = 1.0
) -> EssDispatch:
    loads = cast("LoadPaths", told or Told())
    return EssDispatch(of, loads, step_hours=hours, grid_hours=1.0, stored_kwh=stored_kwh)


def window(name: str = "any time", price: float = 10.0, floor: float = 0.0, counts: object = None) -> Window:
    at = np.ones(DAY, dtype=bool) if counts is None else np.asarray(counts, dtype=bool)
    return Window(name=name, price_per_kw=price, counts=at, floor_watts=floor)


def at_level(dispatch: EssDispatch, level_watts: float, *more: Window) -> list[Window]:
    """A period whose level starts there, as if paid already."""
    windows = [window(floor=level_watts), *more]
    dispatch.start_period(windows, {each.name: np.empty(0) for each in windows})
    return windows


def prices(values: Values) -> PriceAhead:
    return lambda: values


def drive(
    dispatch: EssDispatch, load: Values, windows: list[Window], price: Values | None = None
) -> list[Step]:
    steps = []
    for number, watts in enumerate(load.tolist()):
        steps.append(
            dispatch.step(
                watts,
                windows,
                slot=number,
                recent_most_watts=float(load[max(0, number - DAY) : number + 1].max()),
                prices=None if price is None else prices(np.roll(price, -number)),
            )
        )
    return steps


loads_drawn = st.lists(st.floats(10_000.0, 150_000.0), min_size=2, max_size=60)


@settings(max_examples=60, deadline=None)
@given(
    load=loads_drawn,
    start=st.floats(0.0, 1.0),
    size=st.sampled_from([0.0, 0.3, 1.0]),
    told=st.booleans(),
    level=st.floats(0.0, 150_000.0),
)
def test_it_never_imports_more_than_its_level_nor_more_than_the_load_ever_was(
    load: list[float], start: float, size: float, told: bool, level: float
) -> None:
    of = replace(OF, charge_watts=20_000.0 * size, discharge_watts=20_000.0 * size, energy_kwh=40.0 * size)
    paths = np.random.default_rng(1).uniform(10_000.0, 150_000.0, (DAY, 4)) if told else None
    dispatch = dispatcher(Told(paths), of=of, stored_kwh=start * of.energy_kwh)
    windows = at_level(dispatch, level)
    watts, stored, highest = np.array(load), dispatch.stored_kwh, level
    for number, now in enumerate(load):
        recent = float(watts[max(0, number - DAY) : number + 1].max())
        step = dispatch.step(now, windows, slot=number, recent_most_watts=recent)
        assert step.level_watts is not None and step.level_watts >= highest
        imported = now - step.discharge_watts
        assert imported <= max(step.level_watts, now - of.discharge_bound_watts(stored, 1.0)) + 1e-6
        # No recharge makes a peak that the site did not have by itself.
        assert imported <= float(watts[: number + 1].max()) + 1e-6
        assert 0.0 <= dispatch.stored_kwh <= of.energy_kwh + 1e-9
        out = step.discharge_watts / 1000.0
        taken = out / LOSSES if out > 0.0 else out * LOSSES
        assert stored - dispatch.stored_kwh == pytest.approx(taken, abs=1e-6)
        highest, stored = max(highest, step.level_watts), dispatch.stored_kwh


def test_a_battery_of_no_size_does_nothing() -> None:
    none = replace(OF, energy_kwh=0.0)
    dispatch = dispatcher(Told(np.full((DAY, 2), 90_000.0)), of=none, stored_kwh=0.0)
    load = np.random.default_rng(2).uniform(50_000.0, 120_000.0, 48)
    steps = drive(dispatch, load, at_level(dispatch, 70_000.0), np.linspace(-0.1, 0.3, DAY))
    assert not any(step.discharge_watts for step in steps)


def test_before_two_weeks_it_is_the_plain_ratchet() -> None:
    paths = np.full((DAY, 3), 200_000.0)
    dispatch = dispatcher(Told(paths, days=13.9), stored_kwh=10.0)
    windows = at_level(dispatch, 80_000.0)
    step = drive(dispatch, np.array([85_000.0]), windows, np.linspace(0.1, 0.9, DAY))[0]
    assert step.discharge_watts == pytest.approx(5_000.0) and step.level_watts == 80_000.0
    later = dispatch.step(100_000.0, windows, slot=1, recent_most_watts=100_000.0)
    # What was left of 10 kWh after 5 kWh were given.
    assert later.discharge_watts == pytest.approx(1000.0 * (10.0 - 5.0 / LOSSES) * LOSSES)


def test_the_level_rises_early_where_an_excess_lasts() -> None:
    for hours, given_watts in ((1, 10_000.0), (DAY, 1000.0 * 40.0 * LOSSES / DAY)):
        paths = np.full((DAY, 3), 60_000.0)
        paths[:hours] = 90_000.0
        dispatch = dispatcher(Told(paths), stored_kwh=40.0)
        step = drive(dispatch, np.array([90_000.0]), at_level(dispatch, 80_000.0))[0]
        assert step.discharge_watts == pytest.approx(given_watts, abs=250.0)
        assert step.level_watts == pytest.approx(90_000.0 - step.discharge_watts)


def test_steps_after_the_period_do_not_raise_its_level() -> None:
    dispatch = dispatcher(Told(np.full((DAY, 3), 90_000.0)), stored_kwh=40.0)
    windows = at_level(dispatch, 80_000.0)
    ending = [replace(windows[0], counts=np.ones(1, dtype=bool))]
    assert drive(dispatch, np.array([90_000.0]), ending)[0].level_watts == pytest.approx(80_000.0, abs=1.0)


def test_paths_are_asked_once_a_planning_step() -> None:
    told = Told(np.full((DAY, 3), 90_000.0))
    asked = []
    dispatch = dispatcher(told, stored_kwh=40.0, hours=1 / 60)
    windows = at_level(dispatch, 80_000.0)
    say = told.paths

    def counted(now_watts: float | None = None) -> Values | None:
        asked.append(now_watts)
        return say(now_watts)

    told.paths = counted  # type: ignore[method-assign]  # counts
    for slot in (0, 0, 0, 1, 1):
        dispatch.step(95_000.0, windows, slot=slot, recent_most_watts=95_000.0)
    assert len(asked) == 2


def test_the_lowest_level_that_counts_now_binds() -> None:
    dispatch = dispatcher()
    evening = np.zeros(DAY, dtype=bool)
    evening[4:8] = True
    windows = at_level(dispatch, 100_000.0, window("evening", 20.0, 70_000.0, evening))
    assert drive(dispatch, np.array([90_000.0]), windows)[0].level_watts == 100_000.0
    now = [windows[0], replace(windows[1], counts=np.roll(evening, -4))]
    step = dispatch.step(75_000.0, now, slot=5, recent_most_watts=90_000.0)
    assert step.level_watts == 70_000.0 and step.discharge_watts == pytest.approx(5_000.0)


def test_without_a_demand_charge_it_only_trades() -> None:
    load, price = np.full(2 * DAY, 60_000.0), np.full(DAY, 0.10)
    price[2:6], price[18:22] = 0.02, 0.40
    dispatch = dispatcher(Told(np.full((DAY, 3), 60_000.0)), stored_kwh=0.0)
    dispatch.start_period([], {})
    steps = drive(dispatch, load + np.where(np.arange(48) == 0, 30_000.0, 0.0), [], price)
    assert all(step.level_watts is None for step in steps)
    out = np.array([step.discharge_watts for step in steps])
    bought, sold = -np.minimum(out, 0.0), np.maximum(out, 0.0)
    assert sold[18:22].sum() == pytest.approx(40_000.0 * LOSSES, rel=0.01)
    assert not sold[:18].any() and (bought @ np.tile(price, 2)) < (sold @ np.tile(price, 2)) / 3.0
    # It never draws more than the site did by itself within a day.
    assert (load[1:] - out[1:]).max() <= 90_000.0 + 1e-6


def test_what_the_level_may_need_is_not_sold() -> None:
    paths = np.full((DAY, 3), 60_000.0)
    paths[10:12] = 90_000.0
    price = np.full(DAY, 0.30)
    price[0] = 0.90
    kept = {}
    for name, level in (("needed", 80_000.0), ("not needed", 200_000.0)):
        dispatch = dispatcher(Told(paths), stored_kwh=40.0)
        dispatch.step(
            60_000.0, at_level(dispatch, level), slot=0, recent_most_watts=60_000.0, prices=prices(price)
        )
        kept[name] = dispatch.stored_kwh
    assert kept["not needed"] < 20.0
    # Whatever is sold at noon has to be back before the excess, 20 kWh at its terminals.
    assert kept["needed"] >= kept["not needed"]
    paths[1:] = 90_000.0
    dispatch = dispatcher(Told(paths), stored_kwh=40.0)
    windows = at_level(dispatch, 80_000.0)
    dispatch.step(60_000.0, windows, slot=0, recent_most_watts=60_000.0, prices=prices(price))
    assert dispatch.stored_kwh == pytest.approx(40.0)


@pytest.mark.parametrize("course", [None, "no paths", "no price"])
def test_without_an_answer_from_the_solver_it_recharges(
    course: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ess_trade, "best_course", lambda *_, **__: None)
    told = Told(None if course == "no paths" else np.full((DAY, 3), 60_000.0))
    dispatch = dispatcher(told, stored_kwh=20.0)
    windows = at_level(dispatch, 70_000.0)
    ahead: PriceAhead = (lambda: None) if course == "no price" else prices(np.full(DAY, 0.1))
    step = dispatch.step(60_000.0, windows, slot=0, recent_most_watts=65_000.0, prices=ahead)
    assert step.discharge_watts == pytest.approx(-5_000.0)


def test_prices_that_end_early_are_used_as_far_as_they_go() -> None:
    dispatch = dispatcher(Told(np.full((DAY, 3), 60_000.0)), stored_kwh=20.0)
    windows = at_level(dispatch, 200_000.0)
    for slot in range(4):
        ahead = prices(np.array([0.5, 0.1])[: 2 - slot % 2])
        dispatch.step(60_000.0, windows, slot=slot, recent_most_watts=60_000.0, prices=ahead)
    assert 0.0 <= dispatch.stored_kwh <= OF.energy_kwh


def test_a_period_starts_at_the_lowest_of_what_the_past_weeks_needed() -> None:
    chance = np.random.default_rng(3)
    weeks = [chance.uniform(50_000.0, high, 7 * DAY) for high in (120_000.0, 90_000.0, 110_000.0, 100_000.0)]
    dispatch = dispatcher()
    windows = [window(), window("paid", floor=130_000.0)]
    past = np.concatenate(weeks)
    dispatch.start_period(windows, {each.name: past for each in windows})
    each_week = [
        least_level(week, OF, stored_kwh=20.0, end_stored_kwh=20.0, step_hours=1.0) for week in weeks
    ]
    step = dispatch.step(10_000.0, windows[:1], slot=0, recent_most_watts=10_000.0)
    assert min(each_week) - 1.0 <= (step.level_watts or 0.0) <= max(each_week)
    step = dispatch.step(10_000.0, windows[1:], slot=1, recent_most_watts=10_000.0)
    assert step.level_watts == 130_000.0


def test_a_new_period_forgets_the_level_of_the_old() -> None:
    dispatch = dispatcher(stored_kwh=0.0)
    windows = at_level(dispatch, 50_000.0)
    drive(dispatch, np.array([100_000.0]), windows)
    assert drive(dispatch, np.array([60_000.0]), windows)[0].level_watts == 100_000.0
    windows = at_level(dispatch, 50_000.0)
    assert dispatch.step(10_000.0, windows, slot=2, recent_most_watts=60_000.0).level_watts == 50_000.0
