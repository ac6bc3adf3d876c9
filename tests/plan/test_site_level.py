"""The level's rule: who carries an excess, which caps are cheapest, where a period starts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.job import Workload
from slurm_power.plan.curves import performance_ratio
from slurm_power.plan.peak_level import Battery
from slurm_power.plan.site_level import (
    LevelRule,
    Offer,
    Past,
    PeakPrice,
    Split,
    cheapest_caps,
    held_level,
    most_price_per_kwh,
    relaxed_level,
    segments,
    split_excess,
    start_level,
    worth_level,
)


def offer(job_id: str, **changed: float) -> Offer:
    values = {"board_watts": 700.0, "weight": 8.0, "floor_ratio": 0.6} | changed
    return Offer(job_id=job_id, workload=Workload.TRAINING, gpus=8, **values)


def saved(caps: dict[str, float], offers: list[Offer]) -> float:
    return sum(
        (1.0 - caps[one.job_id]) * one.board_watts * one.weight for one in offers if one.job_id in caps
    )


def test_training_is_cheapest_at_75_percent_so_the_first_step_goes_there() -> None:
    (first, price), *rest = segments(Workload.TRAINING, 0.6)
    assert first == 0.75
    assert price == pytest.approx((1.0 - performance_ratio(Workload.TRAINING, 0.75)) / 0.25)
    assert [ratio for ratio, _ in rest] == [0.7, 0.6]
    assert segments(Workload.TRAINING, 1.0) == []


@given(st.sampled_from(Workload), st.floats(0.3, 1.0))
def test_prices_rise_down_the_curve_to_the_floor(workload: Workload, floor_ratio: float) -> None:
    found = segments(workload, floor_ratio)
    prices = [price for _, price in found]
    assert prices == sorted(prices)
    assert [ratio for ratio, _ in found] == sorted((ratio for ratio, _ in found), reverse=True)
    assert not found or found[-1][0] == floor_ratio


def test_decoding_loses_by_a_cap_what_a_cap_takes_and_not_a_clock_lock() -> None:
    for floor_ratio in (0.75, 0.6):
        taken, before = 0.0, 1.0
        for ratio, price in segments(Workload.GENERATION, floor_ratio):
            taken, before = taken + price * (before - ratio), ratio
        assert taken == pytest.approx(1.0 - performance_ratio(Workload.INFERENCE, floor_ratio))
    assert performance_ratio(Workload.GENERATION, 0.75) > performance_ratio(Workload.INFERENCE, 0.75) + 0.02


def test_one_job_is_capped_to_its_best_point_before_the_next_is_touched() -> None:
    offers = [offer("1"), offer("2")]
    whole = 0.25 * 700.0 * 8.0
    assert cheapest_caps(whole, offers) == {"1": 0.75}
    assert cheapest_caps(1.5 * whole, offers) == {"1": 0.75, "2": pytest.approx(0.875)}


def test_watts_that_cost_less_work_go_first() -> None:
    assert list(cheapest_caps(100.0, [offer("light", board_watts=300.0), offer("heavy")])) == ["heavy"]


@settings(max_examples=100)
@given(st.lists(st.tuples(st.floats(100, 900), st.floats(0.5, 1.0)), max_size=6), st.floats(0, 50_000))
def test_what_is_asked_is_shed_or_all_there_is(jobs: list[tuple[float, float]], shed_watts: float) -> None:
    offers = [offer(str(n), board_watts=board, floor_ratio=floor) for n, (board, floor) in enumerate(jobs)]
    caps = cheapest_caps(shed_watts, offers)
    room = sum(one.room_watts for one in offers)
    assert saved(caps, offers) == pytest.approx(min(shed_watts, room), abs=1e-6)
    assert all(caps[one.job_id] >= one.floor_ratio - 1e-12 for one in offers if one.job_id in caps)


def split(
    load: float, level: float = 100.0, room: float = 20.0, ess: float = 30.0, ceiling: float = 1e9
) -> Split:
    return split_excess(
        load_watts=load,
        level_watts=level,
        cap_room_watts=room,
        discharge_limit_watts=ess,
        charge_limit_watts=ess,
        charge_ceiling_watts=ceiling,
    )


@pytest.mark.parametrize(
    ("load", "shed", "discharge", "level"),
    [
        (90.0, 0.0, -10.0, 100.0),
        (40.0, 0.0, -30.0, 100.0),
        (100.0, 0.0, 0.0, 100.0),
        (115.0, 15.0, 0.0, 100.0),
        (140.0, 20.0, 20.0, 100.0),
        (160.0, 20.0, 30.0, 110.0),
    ],
)
def test_caps_then_battery_then_the_level(load: float, shed: float, discharge: float, level: float) -> None:
    found = split(load)
    assert (found.shed_watts, found.discharge_watts, found.level_watts) == (shed, discharge, level)


def test_a_recharge_makes_no_peak_of_its_own() -> None:
    assert split(70.0, ceiling=80.0).discharge_watts == -10.0
    assert split(90.0, ceiling=80.0).discharge_watts == 0.0


def ess(watts: float, kwh: float) -> Battery:
    return Battery(
        charge_watts=watts, discharge_watts=watts, energy_kwh=kwh, charge_ratio=1.0, discharge_ratio=1.0
    )


def test_the_level_that_would_have_been_held() -> None:
    load = np.full(48, 100.0)
    load[20:22] = 160.0
    none = np.zeros(48)
    assert held_level(load, none, 1.0, None) == 160.0
    assert held_level(load, np.full(48, 15.0), 1.0, None) == 145.0
    # Half of 120 Wh is there, 20 hours of L - 100 W come on top, two hours of 160 W - L have to be met.
    battery = ess(watts=1000.0, kwh=0.12)
    assert held_level(load, none, 1.0, battery) == pytest.approx(2260.0 / 22.0, abs=0.1)
    weak = ess(watts=10.0, kwh=100.0)
    assert held_level(load, none, 1.0, weak) == pytest.approx(150.0, abs=0.1)


def past(load: list[float], room: float = 50.0, money: float = 20.0) -> Past:
    count = len(load)
    return Past(
        load_watts=np.array(load),
        cap_room_watts=np.full(count, room),
        lost_gpus=np.full(count, 10.0),
        used_gpus=np.full(count, 100.0),
        lost_money=np.full(count, money),
        step_hours=1.0,
    )


def test_a_level_that_costs_no_more_than_is_allowed() -> None:
    # Two of twenty hours 40 above: full room costs 10 of 100 GPUs, so 0.5 % is half of the 2 x 10 of 2000.
    found = relaxed_level(past([100.0] * 18 + [140.0] * 2), 0.005)
    assert found == pytest.approx(115.0, abs=0.1)
    assert relaxed_level(past([100.0] * 18 + [140.0] * 2), 1.0) == pytest.approx(100.0, abs=0.1)


def test_a_period_starts_at_the_least_of_the_pasts() -> None:
    load = [200.0] * 24 + [120.0] * 24
    rule = LevelRule(days=(2.0, 1.0), most_lost_ratio=1.0)
    found = start_level(past(load, room=10.0), None, rule)
    # The last day would have been held at 110 W, but no level lies below all that was drawn.
    assert found == pytest.approx(120.0, abs=0.1)
    with pytest.raises(ValueError, match="no history"):
        start_level(past([]), None, rule)


def test_a_past_goes_on_and_stays_as_long() -> None:
    rows = np.array([[300.0, 1.0, 2.0, 3.0, 4.0]])
    found = past([100.0, 200.0]).followed_by(rows)
    assert found.load_watts.tolist() == [200.0, 300.0]
    assert (found.cap_room_watts[-1], found.lost_gpus[-1], found.used_gpus[-1]) == (1.0, 2.0, 3.0)
    assert found.lost_money[-1] == 4.0


def test_a_level_goes_as_low_as_the_work_is_worth_it() -> None:
    # Two of twenty hours lie 40 kW above. A kW of caps costs 400 an hour, so 800 in those two.
    load = past([100e3] * 18 + [140e3] * 2, room=50e3, money=20e3)
    assert worth_level(load, PeakPrice(per_kw=790.0, hours_left=20.0)) == 140e3
    assert worth_level(load, PeakPrice(per_kw=810.0, hours_left=20.0)) == 100e3
    # With half of the hours left only half of that work is still to come.
    assert worth_level(load, PeakPrice(per_kw=410.0, hours_left=10.0)) == 100e3
    nothing = worth_level(past([100e3, 140e3], money=0.0), PeakPrice(per_kw=1.0, hours_left=2.0))
    assert nothing == 100e3, "what costs nothing is always worth it"


def test_a_start_is_never_below_what_is_worth_it() -> None:
    load = past([100e3] * 18 + [140e3] * 2, room=50e3, money=20e3)
    rule = LevelRule(days=(28.0, 7.0), most_lost_ratio=1.0)
    assert start_level(load, None, rule) == pytest.approx(100e3, abs=10.0)
    dear = PeakPrice(per_kw=1.0, hours_left=20.0)
    assert start_level(load, None, rule, dear) == 140e3
    battery = ess(watts=10e3, kwh=100.0)
    assert start_level(load, battery, rule, dear) == pytest.approx(130e3, abs=10.0), "the battery by itself"


def test_the_price_of_a_level_is_shared_by_the_hours_above_it() -> None:
    load = past([100.0] * 18 + [140.0] * 2)
    assert most_price_per_kwh(load, 120.0, PeakPrice(per_kw=12.0, hours_left=100.0)) == pytest.approx(1.2)
    assert most_price_per_kwh(load, 150.0, PeakPrice(per_kw=12.0, hours_left=100.0)) == 12.0
    assert most_price_per_kwh(load, 120.0, PeakPrice(per_kw=12.0, hours_left=5.0)) == 12.0


def test_hours_that_are_not_paid_for_only_charge() -> None:
    load = np.full(48, 100.0)
    load[20:22] = 160.0
    dear = past(load.tolist(), room=0.0).counting(np.arange(48) != 21)
    assert held_level(dear.load_watts, dear.cap_room_watts, 1.0, None) == 160.0
    free = past(load.tolist(), room=0.0).counting((np.arange(48) < 20) | (np.arange(48) > 21))
    assert held_level(free.load_watts, free.cap_room_watts, 1.0, None) == 100.0
    assert relaxed_level(free, 0.0) == pytest.approx(100.0)
    # The hour that does not count refills half of what the other took: 30 W instead of 60 are missing.
    small = ess(watts=1000.0, kwh=0.04)
    assert held_level(dear.load_watts, dear.cap_room_watts, 1.0, small) < held_level(
        load, np.zeros(48), 1.0, small
    )


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 300), st.floats(0, 50)), min_size=2, max_size=60),
    st.floats(0, 400),
    st.floats(0, 2),
    st.one_of(st.none(), st.floats(0, 1e5)),
)
def test_a_start_level_can_be_held_and_is_no_higher_than_the_load(
    steps: list[tuple[float, float, float]], watts: float, kwh: float, per_kw: float | None
) -> None:
    load, room, money = (np.array(column) for column in zip(*steps, strict=True))
    seen = Past(
        load_watts=load,
        cap_room_watts=room,
        lost_gpus=money,
        used_gpus=np.full(len(load), 60.0),
        lost_money=money,
        step_hours=1.0,
    )
    price = None if per_kw is None else PeakPrice(per_kw=per_kw, hours_left=24.0)
    rule = LevelRule(days=(28.0,))
    battery = ess(watts=watts, kwh=kwh)
    found = start_level(seen, battery, rule, price)
    assert found <= load.max() + 1e-6
    assert found >= held_level(load, room, 1.0, battery) - 1e-9
    # Carried out step by step by the rule itself it never rises, but for the search's own rounding.
    stored, eps = 0.5 * kwh, 1e-3 * (load.max() - load.min()) + 1e-6
    for one, most in zip(load.tolist(), room.tolist(), strict=True):
        done = split_excess(
            load_watts=one,
            level_watts=found + eps,
            cap_room_watts=most,
            discharge_limit_watts=battery.discharge_bound_watts(stored, 1.0),
            charge_limit_watts=battery.charge_bound_watts(stored, 1.0),
            charge_ceiling_watts=np.inf,
        )
        stored = battery.after(stored, done.discharge_watts, 1.0)
        assert done.level_watts == pytest.approx(found + eps, abs=eps + 1e-6)
        assert done.shed_watts <= most + 1e-9
