"""The linear program of a battery: what it keeps to whatever it is asked, and answers known by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.plan import highs
from slurm_power.plan.lp_ess import Course, PaidPeak, best_course
from slurm_power.plan.peak_level import Battery, Values

LOSSES = math.sqrt(0.88)
STEPS = 24
ALWAYS = np.ones(STEPS, dtype=bool)
OF = Battery(
    charge_watts=20_000.0,
    discharge_watts=20_000.0,
    energy_kwh=40.0,
    charge_ratio=LOSSES,
    discharge_ratio=LOSSES,
    wear_per_kwh=0.02,
)


def load(seed: int = 1) -> Values:
    return 1000.0 * np.random.default_rng(seed).uniform(50.0, 120.0, STEPS)


def prices(seed: int = 1, low: float = 0.02) -> Values:
    return np.random.default_rng(seed + 100).uniform(low, 0.3, STEPS)


def course(watts: Values, price: Values, peaks: list[PaidPeak], of: Battery = OF, **more: object) -> Course:
    words: dict[str, object] = {"stored_kwh": 0.5 * of.energy_kwh, "step_hours": 1.0} | more
    found = best_course(watts, price, peaks, of, **words)  # type: ignore[arg-type]  # fields by name
    assert found is not None
    return found


def cost(watts: Values, price: Values, peaks: list[PaidPeak], found: Course) -> float:
    """Energy, demand and wear of what a course imports."""
    imported = (watts - found.discharge_watts) / 1000.0
    demand = sum(
        peak.price_per_kw * max(float(imported[peak.steps].max(initial=0.0)), peak.least_watts / 1000.0)
        for peak in peaks
    )
    return (
        float(imported @ price) + demand + 0.02 * float(np.maximum(found.discharge_watts, 0.0).sum()) / 1000
    )


def check_physics(found: Course, of: Battery, start_kwh: float) -> None:
    before = np.concatenate([[start_kwh], found.stored_kwh[:-1]])
    out_kwh = found.discharge_watts / 1000.0
    moved = np.where(out_kwh > 0.0, out_kwh / of.discharge_ratio, out_kwh * of.charge_ratio)
    assert before - found.stored_kwh == pytest.approx(moved, abs=1e-6)
    assert found.stored_kwh.min() >= -1e-9 and found.stored_kwh.max() <= of.energy_kwh + 1e-9
    assert np.abs(found.discharge_watts).max() <= of.discharge_watts + 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_energy_is_conserved_and_the_charge_stays_in_its_bounds(seed: int) -> None:
    peaks = [PaidPeak(price_per_kw=12.0, steps=ALWAYS)]
    found = course(load(seed), prices(seed), peaks, end_stored_kwh=20.0)
    check_physics(found, OF, 20.0)
    assert found.stored_kwh[-1] >= 20.0 - 1e-9


def test_a_block_above_a_base_is_cut_by_what_is_stored() -> None:
    watts = np.full(STEPS, 50_000.0)
    watts[10:14] = 100_000.0
    found = course(watts, np.zeros(STEPS), [PaidPeak(price_per_kw=10.0, steps=ALWAYS)])
    # 40 kWh give 40 * LOSSES over four hours.
    assert (watts - found.discharge_watts).max() == pytest.approx(100_000.0 - 10_000.0 * LOSSES)


def test_it_buys_cheap_and_sells_dear_and_not_where_the_spread_does_not_pay() -> None:
    watts = np.full(STEPS, 50_000.0)
    price = np.full(STEPS, 0.10)
    price[:4], price[18:22] = 0.05, 0.40
    found = course(watts, price, [], stored_kwh=0.0)
    assert found.discharge_watts[:4].sum() == pytest.approx(-40_000.0 / LOSSES)
    assert found.discharge_watts[18:22].sum() == pytest.approx(40_000.0 * LOSSES)
    price[:4], price[18:22] = 0.10, 0.12
    assert not course(watts, price, [], stored_kwh=0.0).discharge_watts.any()


def test_several_charges_each_look_at_their_own_hours() -> None:
    watts = np.full(STEPS, 50_000.0)
    watts[[3, 12]] = 90_000.0
    noon = np.zeros(STEPS, dtype=bool)
    noon[10:16] = True
    found = course(
        watts,
        np.zeros(STEPS),
        [PaidPeak(price_per_kw=20.0, steps=noon), PaidPeak(price_per_kw=0.0001, steps=~noon)],
    )
    assert found.discharge_watts[12] == pytest.approx(20_000.0)
    assert found.discharge_watts[3] < 1.0  # wear of 2 cents is more than that peak costs
    nowhere = PaidPeak(price_per_kw=5.0, steps=np.zeros(STEPS, dtype=bool))
    assert not course(watts, np.zeros(STEPS), [nowhere]).discharge_watts.any()


def test_what_is_paid_anyway_is_not_cut() -> None:
    watts = np.full(STEPS, 50_000.0)
    watts[12] = 90_000.0
    paid = PaidPeak(price_per_kw=20.0, steps=ALWAYS, least_watts=85_000.0)
    found = course(watts, np.zeros(STEPS), [paid])
    assert found.discharge_watts[12] == pytest.approx(5_000.0)


@pytest.mark.parametrize(
    "of", [replace(OF, charge_watts=0.0, discharge_watts=0.0), replace(OF, energy_kwh=0.0)]
)
def test_a_battery_of_no_size_does_nothing(of: Battery) -> None:
    peaks = [PaidPeak(price_per_kw=12.0, steps=ALWAYS)]
    found = course(load(), prices(), peaks, of, end_stored_kwh=0.5 * of.energy_kwh)
    assert found.discharge_watts == pytest.approx(np.zeros(STEPS), abs=1e-6)


def test_negative_prices_are_taken_and_the_peak_still_counts() -> None:
    watts, price = load(2), prices(2, low=-0.2)
    free = course(watts, price, [], stored_kwh=0.0)
    assert cost(watts, price, [], free) < float(watts @ price) / 1000.0
    peaks = [PaidPeak(price_per_kw=50.0, steps=ALWAYS)]
    found = course(watts, price, peaks)
    assert (watts - found.discharge_watts).max() <= watts.max() + 1e-6
    assert found.stored_kwh.min() >= -1e-9 and found.stored_kwh.max() <= 40.0 + 1e-9


def test_it_never_feeds_the_grid() -> None:
    watts = np.full(STEPS, 3_000.0)
    watts[5] = -4_000.0
    found = course(watts, np.full(STEPS, 0.5), [], stored_kwh=40.0)
    assert (found.discharge_watts <= np.maximum(watts, 0.0) + 1e-6).all()


def test_the_reserve_is_kept_from_the_market() -> None:
    watts, price = np.full(STEPS, 50_000.0), np.full(STEPS, 0.30)
    more: dict[str, object] = {"reserve_kwh": np.full(STEPS, 15.0), "reserve_price_per_kwh": 5.0}
    found = course(watts, price, [], OF, **more)
    assert found.stored_kwh[:-1].min() == pytest.approx(15.0)
    # Below it at the start: what is missing is charged at once.
    found = course(watts, price, [], OF, stored_kwh=5.0, **more)
    assert found.stored_kwh[0] == pytest.approx(15.0)


def test_charging_stays_within_its_room() -> None:
    watts, price = np.full(STEPS, 50_000.0), np.full(STEPS, 0.30)
    price[:6] = 0.01
    room = np.full(STEPS, 2_000.0)
    room[3] = -7_000.0
    found = course(watts, price, [], stored_kwh=0.0, charge_room_watts=room)
    assert found.discharge_watts[:6] == pytest.approx([-2_000.0] * 3 + [0.0] + [-2_000.0] * 2)


def test_what_is_left_is_worth_its_price() -> None:
    watts, price = np.full(STEPS, 50_000.0), np.full(STEPS, 0.10)
    kept = course(watts, price, [], end_value_per_kwh=0.2)
    assert kept.stored_kwh[-1] == pytest.approx(40.0)
    assert course(watts, price, [], end_value_per_kwh=0.0).stored_kwh[-1] == pytest.approx(0.0)


def test_what_cannot_be_met_is_none() -> None:
    tiny = replace(OF, charge_watts=100.0)
    assert (
        best_course(load(), prices(), [], tiny, stored_kwh=0.0, step_hours=1.0, end_stored_kwh=40.0) is None
    )


def test_no_time_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(highs.Program, "solved", lambda *_: None)
    assert best_course(load(), prices(), [], OF, stored_kwh=0.0, step_hours=1.0) is None


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    scale=st.floats(0.0, 1.0),
    more=st.floats(1.0, 3.0),
    low=st.sampled_from([-0.2, 0.02]),
    demand=st.sampled_from([0.0, 3.0, 20.0]),
)
def test_more_battery_never_makes_the_bill_worse(
    seed: int, scale: float, more: float, low: float, demand: float
) -> None:
    watts, price = load(seed), prices(seed, low)
    peaks = [PaidPeak(price_per_kw=demand, steps=ALWAYS)]

    def best(of_scale: float) -> float:
        of = replace(
            OF,
            charge_watts=of_scale * 20_000.0,
            discharge_watts=of_scale * 20_000.0,
            energy_kwh=of_scale * 40.0,
        )
        return cost(watts, price, peaks, course(watts, price, peaks, of, stored_kwh=0.0))

    none = float(watts @ price) / 1000.0 + demand * float(watts.max()) / 1000.0
    small, large = best(scale), best(scale * more)
    assert small <= none + 1e-6 and large <= small + 1e-6
