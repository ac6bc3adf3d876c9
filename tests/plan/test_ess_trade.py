"""Buying and selling for prices alone: budgets, negative prices, sites without a demand charge."""

import math
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.power_table import PowerTable
from slurm_power.plan.cycle_budget import TradeBudget
from slurm_power.plan.ess_dispatch import EssDispatch, Step
from slurm_power.plan.ess_trade import EssTrade, Standing, pays
from slurm_power.plan.ess_window import Window
from slurm_power.plan.load_paths import LoadPaths
from slurm_power.plan.lp_ess import PaidPeak, best_course
from slurm_power.plan.peak_level import Battery, Values
from tests.plan.test_ess_dispatch import DAY, OF, Told, at_level

LOAD_WATTS = 50_000.0
NIGHT_CHEAP = np.where(np.arange(DAY) < 12, 0.05, 0.30)


def run(
    price: Values,
    *,
    of: Battery = OF,
    stored_kwh: float = 20.0,
    budget_kwh: float = math.inf,
    told: Told | None = None,
    load_watts: float = LOAD_WATTS,
    level_watts: float | None = None,
    most_watts: float = 1e9,
) -> list[Step]:
    """A day of hours; the budget is the day's. Without a level there is no demand charge."""
    loads = told or Told(days=1.0)
    dispatch = EssDispatch(
        of, cast("LoadPaths", loads), step_hours=1.0, grid_hours=1.0, stored_kwh=stored_kwh
    )
    windows: list[Window] = []
    if level_watts is not None:
        windows = at_level(dispatch, level_watts)
    steps, left = [], budget_kwh
    for hour in range(len(price)):
        before = dispatch.stored_kwh
        ahead = np.concatenate([price[hour:], price[:hour]])
        steps.append(
            dispatch.step(
                load_watts,
                windows,
                slot=hour,
                recent_most_watts=most_watts,
                prices=lambda ahead=ahead: ahead,  # type: ignore[misc]  # bound now
                budget=TradeBudget(
                    today_kwh=left,
                    tomorrow_kwh=budget_kwh,
                    both_kwh=left + budget_kwh,
                    steps_today=len(price) - hour,
                ),
            )
        )
        assert -1e-9 <= dispatch.stored_kwh <= of.energy_kwh + 1e-9
        left = max(0.0, left - max(0.0, before - dispatch.stored_kwh))
    return steps


def sold_kwh(steps: list[Step]) -> float:
    return sum(max(0.0, step.discharge_watts) for step in steps) / 1000.0


def cost(steps: list[Step], price: Values, of: Battery = OF) -> float:
    return sum(
        (LOAD_WATTS - step.discharge_watts) / 1000.0 * at
        + of.wear_per_kwh * max(0.0, step.discharge_watts) / 1000.0
        for step, at in zip(steps, map(float, price), strict=True)
    )


def test_without_a_demand_charge_it_trades_from_the_first_day() -> None:
    steps = run(NIGHT_CHEAP)
    assert sum(step.discharge_watts for step in steps[:12]) < -15_000.0
    # A whole battery, less the losses on the way out.
    assert sold_kwh(steps[12:]) == pytest.approx(40.0 * OF.discharge_ratio, rel=1e-6)
    assert all(step.level_watts is None for step in steps)
    nothing = [Step(discharge_watts=0.0, level_watts=None)] * DAY
    assert cost(steps, NIGHT_CHEAP) < cost(nothing, NIGHT_CHEAP) - 5.0


def test_a_spread_below_losses_and_wear_is_no_trade() -> None:
    assert sold_kwh(run(np.where(np.arange(DAY) < 12, 0.10, 0.13))) == 0.0
    assert not pays(np.array([0.10, 0.13]), OF) and pays(np.array([0.10, 0.14]), OF)
    assert not pays(np.empty(0), OF)


@pytest.mark.parametrize("spread_price", [0.139, 0.5])
def test_wear_is_counted_once_a_kilowatt_hour_that_comes_out(spread_price: float) -> None:
    dear_wear = replace(OF, wear_per_kwh=spread_price)
    assert sold_kwh(run(np.where(np.arange(DAY) < 12, 0.05, spread_price), of=dear_wear)) == 0.0


def test_negative_prices_fill_the_battery_and_are_never_sold_into() -> None:
    price = np.where(np.arange(DAY) < 6, -0.10, 0.05)
    steps = run(price, stored_kwh=0.0)
    assert all(step.discharge_watts <= 0.0 for step in steps[:6])
    assert -sum(step.discharge_watts for step in steps[:6]) * OF.charge_ratio == pytest.approx(40_000.0)
    assert cost(steps, price) < cost([Step(discharge_watts=0.0, level_watts=None)] * DAY, price)


def test_all_prices_negative_ask_for_nothing_a_battery_cannot_do() -> None:
    price = np.linspace(-0.2, -0.05, DAY)
    steps = run(price, stored_kwh=40.0)
    for step in steps:
        assert -OF.charge_watts <= step.discharge_watts <= OF.discharge_watts


def test_a_course_loses_no_energy_on_purpose() -> None:
    """Paid for taking energy, the program would charge and discharge a full battery at once."""
    trade = EssTrade(OF, cast("LoadPaths", Told(days=1.0)), grid_hours=1.0)
    standing = Standing(load_watts=LOAD_WATTS, stored_kwh=40.0, top_watts=1e9)
    price = np.full(DAY, -0.50)
    price[1:] = -0.30
    wanted = trade.planned(0, standing, [], lambda _: 0.0, lambda: price)
    assert wanted is not None and wanted >= 0.0


def test_a_budget_that_peaks_use_up_within_the_hour_ends_the_sale() -> None:
    dispatch = EssDispatch(
        OF, cast("LoadPaths", Told(days=1.0)), step_hours=0.25, grid_hours=0.25, stored_kwh=40.0
    )
    price = np.full(4 * DAY, 0.10)
    price[:4] = 0.60
    sold = []
    for quarter, left_kwh in enumerate((40.0, 2.0, 0.0)):
        step = dispatch.step(
            LOAD_WATTS,
            [],
            slot=quarter,
            recent_most_watts=LOAD_WATTS,
            prices=lambda: price,
            budget=TradeBudget(today_kwh=left_kwh, tomorrow_kwh=40.0, both_kwh=80.0, steps_today=96),
        )
        sold.append(step.discharge_watts)
    assert sold == pytest.approx([20_000.0, 2_000.0 * OF.discharge_ratio / 0.25, 0.0])


def test_it_never_feeds_the_grid_and_never_charges_above_what_the_site_drew() -> None:
    low = run(NIGHT_CHEAP, load_watts=3_000.0, stored_kwh=40.0)
    assert max(step.discharge_watts for step in low) <= 3_000.0
    narrow = run(NIGHT_CHEAP, most_watts=LOAD_WATTS + 2_000.0)
    assert min(step.discharge_watts for step in narrow) >= -2_000.0 - 1e-6


def test_a_budget_stops_selling_and_not_the_level() -> None:
    assert sold_kwh(run(NIGHT_CHEAP, budget_kwh=0.0)) == 0.0
    some = run(NIGHT_CHEAP, budget_kwh=8.0)
    assert sold_kwh(some) == pytest.approx(8.0 * OF.discharge_ratio, rel=1e-6)
    # The same site with a peak to hold: 5 kW for as long as it lasts, budget or not.
    held = run(NIGHT_CHEAP[:4], budget_kwh=0.0, level_watts=45_000.0, told=Told(days=1.0))
    assert [step.discharge_watts for step in held[:3]] == pytest.approx([5_000.0] * 3)


def test_a_budget_is_spent_in_the_dearest_hours() -> None:
    price = np.full(DAY, 0.10)
    price[2:5], price[20] = 0.25, 0.60
    steps = run(price, budget_kwh=10.0, stored_kwh=30.0)
    assert steps[20].discharge_watts / 1000.0 == pytest.approx(10.0 * OF.discharge_ratio, rel=1e-6)
    assert max(step.discharge_watts for step in steps[:20]) <= 1e-6


def test_less_power_near_the_ends_of_its_charge() -> None:
    tapered = replace(
        OF,
        charge_power_by_soc=PowerTable(((0.5, 1.0), (1.0, 0.1))),
        discharge_power_by_soc=PowerTable(((0.0, 0.1), (0.5, 1.0))),
    )
    assert tapered.charge_bound_watts(30.0, 0.01) == pytest.approx(0.55 * 20_000.0)
    assert tapered.discharge_bound_watts(0.0, 0.01) == 0.0
    assert tapered.discharge_bound_watts(10.0, 0.01) == pytest.approx(0.55 * 20_000.0)
    for step in run(NIGHT_CHEAP, of=tapered):
        assert abs(step.discharge_watts) <= 20_000.0


prices = st.lists(st.floats(-0.3, 0.6), min_size=DAY, max_size=DAY).map(np.array)


@settings(max_examples=25, deadline=None)
@given(prices, st.floats(0.0, 40.0), st.floats(0.0, 60.0), st.floats(0.0, 60_000.0))
def test_trading_keeps_to_its_budget_and_its_energy(
    price: Values, stored_kwh: float, budget_kwh: float, load_watts: float
) -> None:
    steps = run(price, stored_kwh=stored_kwh, budget_kwh=budget_kwh, load_watts=load_watts)
    out = sum(max(0.0, step.discharge_watts) for step in steps) / 1000.0
    into = sum(max(0.0, -step.discharge_watts) for step in steps) / 1000.0
    assert out / OF.discharge_ratio <= budget_kwh + 1e-6
    # What came out was there, or was put in.
    assert out / OF.discharge_ratio <= stored_kwh + into * OF.charge_ratio + 1e-6
    assert all(step.discharge_watts <= load_watts + 1e-6 for step in steps)


def least_cost(price: Values, load: Values, of: Battery, budget_kwh: float) -> float:
    course = best_course(
        load,
        price,
        [PaidPeak(price_per_kw=8.0, steps=np.ones(DAY, dtype=bool))],
        of,
        stored_kwh=0.0,
        step_hours=1.0,
        budgets=[(np.ones(DAY, dtype=bool), budget_kwh)],
    )
    assert course is not None
    imported = (load - course.discharge_watts) / 1000.0
    out = np.maximum(course.discharge_watts, 0.0).sum() / 1000.0
    over = max(0.0, float(out) / of.discharge_ratio - budget_kwh) * (1.0 + float(price.max() - price.min()))
    return (
        float(price @ imported) + of.wear_per_kwh * float(out) + 8.0 * max(0.0, float(imported.max())) + over
    )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0.0, 0.6), min_size=DAY, max_size=DAY).map(np.array),
    st.lists(st.floats(0.0, 60_000.0), min_size=DAY, max_size=DAY).map(np.array),
    st.floats(0.1, 1.0),
    st.floats(0.0, 40.0),
)
def test_more_battery_or_more_budget_never_makes_the_least_cost_worse(
    price: Values, load: Values, share: float, budget_kwh: float
) -> None:
    whole = least_cost(price, load, OF, budget_kwh)
    smaller = replace(OF, energy_kwh=share * OF.energy_kwh, discharge_watts=share * OF.discharge_watts)
    assert whole <= least_cost(price, load, smaller, budget_kwh) + 1e-3
    assert whole <= least_cost(price, load, OF, share * budget_kwh) + 1e-3
