"""A battery against a recorded load: what is known when, which months count, and the planning grid."""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from slurm_power.forecast.experts import Values
from slurm_power.model.billing_rules import (
    BillingRules,
    DemandRate,
    DemandTier,
    EnergyRate,
    EnergyTier,
    Window,
)
from slurm_power.plan.load_paths import LoadPaths
from slurm_power.plan.peak_level import Battery
from slurm_power.simulate.ess import Course, Load, Tariffed, results, run_causal

LOSSES = math.sqrt(0.88)
OF = Battery(
    charge_watts=20_000.0,
    discharge_watts=20_000.0,
    energy_kwh=40.0,
    charge_ratio=LOSSES,
    discharge_ratio=LOSSES,
    wear_per_kwh=0.02,
)
DAY_SECONDS = 86_400.0
AFTERNOON = Window(from_minute=720, to_minute=1080)


def load(days: float, *, minutes: int = 60, start: datetime = datetime(2026, 1, 15, tzinfo=UTC)) -> Load:
    steps = round(days * 1440 / minutes)
    at = np.arange(steps) * minutes / 60.0
    jobs = np.repeat(np.random.default_rng(1).uniform(0.0, 60.0, steps), max(1, 180 // minutes))[:steps]
    return Load(
        times_seconds=start.timestamp() + 60.0 * minutes * np.arange(steps, dtype=np.float64),
        watts=1000.0 * (100.0 + 30.0 * np.sin((at - 8.0) * 2 * np.pi / 24) + jobs),
        step_seconds=60.0 * minutes,
    )


def demand(name: str, price: float, *windows: Window, **more: object) -> DemandRate:
    tiers = (DemandTier(price_per_kw=price),)
    return DemandRate(name=name, windows=windows or (Window(),), tiers=tiers, **more)  # type: ignore[arg-type]


def rules(*charges: DemandRate) -> BillingRules:
    dear = EnergyRate(name="dear", windows=(AFTERNOON,), tiers=(EnergyTier(price_per_kwh=0.3),))
    cheap = EnergyRate(name="cheap", windows=(Window(),), tiers=(EnergyTier(price_per_kwh=0.08),))
    return BillingRules(name="test", energy=(dear, cheap), demand=charges)


def dispatched(of: Load, by: BillingRules | None = None, battery: Battery = OF) -> Course:
    return run_causal(of, battery, Tariffed(of, by, None), start_kwh=0.5 * battery.energy_kwh)


@pytest.mark.parametrize("by", [None, rules(demand("any time", 9.0), demand("afternoon", 12.0, AFTERNOON))])
def test_nothing_later_is_known(by: BillingRules | None) -> None:
    whole = load(19)
    steps = 17 * 24
    other = whole.watts.copy()
    other[steps:] = np.random.default_rng(9).uniform(10_000.0, 300_000.0, len(other) - steps)
    one, changed = dispatched(whole, by), dispatched(replace(whole, watts=other), by)
    assert (one.discharge_watts[:steps] == changed.discharge_watts[:steps]).all()
    assert (one.discharge_watts[steps:] != changed.discharge_watts[steps:]).any()


@pytest.mark.parametrize("by", [None, rules(demand("afternoon", 12.0, AFTERNOON))])
def test_where_the_load_ends_tells_nothing(by: BillingRules | None) -> None:
    # From 15 January to 10 February at noon.
    whole, cut = load(60), load(26.5)
    seen = []
    for of in (whole, cut):
        tariffed = Tariffed(of, by, None)
        label, steps = tariffed.months[1]
        charge = tariffed.charges(label, steps)[0]
        seen.append(charge.window(24 * 9, 24, 1, 24.0))
    assert seen[0].days_left == seen[1].days_left == 19.0
    assert len(seen[1].counts) == 24 and (seen[0].counts == seen[1].counts).all()


@pytest.mark.parametrize(
    ("minutes", "grid_seconds"),
    [(1, 900.0), (5, 900.0), (6, 720.0), (10, 600.0), (15, 900.0), (20, 1200.0), (60, 3600.0)],
)
def test_the_planning_grid_parts_a_day_and_gets_its_means(minutes: int, grid_seconds: float) -> None:
    came: list[float] = []

    class Listening(LoadPaths):
        def extend(self, watts: float) -> None:
            came.append(watts)

    made: list[float] = []

    def paths_of(battery: Battery, step_seconds: float) -> LoadPaths:
        made.append(step_seconds)
        return Listening(battery, step_seconds)

    of = load(1, minutes=minutes)
    run_causal(of, OF, Tariffed(of, None, None), start_kwh=20.0, paths_of=paths_of)
    assert made == [grid_seconds]
    per_slot = round(grid_seconds / of.step_seconds)
    means = of.watts.reshape(-1, per_slot).mean(axis=1)
    # Of a finer load the last mean is not there before its steps have passed.
    assert came == pytest.approx(means[: len(means) - (per_slot > 1)])


def months_of(of: Load, history_days: float) -> list[str]:
    return [label for label, _ in Tariffed(of, None, None).judged(history_days * DAY_SECONDS)]


def test_months_count_that_begin_late_enough_and_whole() -> None:
    of = load(80)
    assert months_of(of, 28) == ["2026-03", "2026-04"]
    assert months_of(of, 17) == ["2026-02", "2026-03", "2026-04"]
    assert months_of(of, 17.1) == ["2026-03", "2026-04"]
    # January is there from the 15th on: not a month.
    assert months_of(of, 0) == ["2026-02", "2026-03", "2026-04"]
    assert months_of(load(20, start=datetime(2026, 2, 1, tzinfo=UTC)), 0) == ["2026-02"]
    # A first step that is not at midnight sharp, but within the first of the month.
    assert months_of(load(20, start=datetime(2026, 2, 1, 0, 20, tzinfo=UTC)), 0) == ["2026-02"]


def test_perfect_foresight_is_at_least_as_good_and_does_not_count_what_is_paid_anyway() -> None:
    of = load(45)
    paid = demand("ratchet", 9.0, ratchet_ratio=(1.0,) * 12, ratchet_months=11)
    for by in (rules(demand("any time", 9.0)), rules(paid)):
        tariffed = Tariffed(of, by, None)
        idle = Course(discharge_watts=0.0 * of.watts, import_watts=of.watts, stored_kwh=0.0 * of.watts)
        found = results(of, OF, tariffed, idle, start_kwh=20.0, history_seconds=10 * DAY_SECONDS)
        assert [month.month for month in found] == ["2026-02"]
        for month in found:
            assert month.peak_share == 0.0 and month.saving_share == 0.0
            assert month.peak_perfect_watts < month.peak_without_watts
            assert month.bill_with == month.bill_without
            assert month.bill_perfect is not None and month.bill_without is not None
            assert month.bill_perfect.total < month.bill_without.total


def test_the_level_of_hours_that_are_paid_for_is_held_in_them_alone() -> None:
    of = load(12)
    course = dispatched(of, rules(demand("afternoon", 12.0, AFTERNOON)))
    hour = np.arange(len(of.watts)) % 24
    inside = (hour >= 12) & (hour < 18)
    # Before two weeks nothing is traded: outside those hours it only charges.
    assert (course.discharge_watts[~inside] <= 0.0).all() and (course.discharge_watts[inside] > 0.0).any()


@pytest.mark.parametrize(
    "of", [replace(OF, energy_kwh=0.0), replace(OF, discharge_watts=0.0, charge_watts=0.0)]
)
def test_no_battery_is_no_change(of: Battery) -> None:
    found = load(16)
    course = dispatched(found, rules(demand("any time", 9.0)), of)
    assert not course.discharge_watts.any() and (course.import_watts == found.watts).all()


def test_progress_is_told_step_by_step() -> None:
    of = load(2)
    seen: list[int] = []
    tell: Callable[[int], None] = seen.append
    course = run_causal(of, OF, Tariffed(of, None, None), start_kwh=20.0, seen=tell)
    assert seen == list(range(48))
    check: Values = of.watts - course.discharge_watts
    assert course.import_watts == pytest.approx(check)
