"""The level's rule: who carries an excess, which caps are cheapest, where a period starts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.job import Workload
from slurm_power.plan.curves import performance_ratio
from slurm_power.plan.site_level import (
    Offer,
    Past,
    Split,
    Storage,
    cheapest_caps,
    held_level,
    relaxed_level,
    segments,
    split_excess,
    start_level,
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


def test_the_level_that_would_have_been_held() -> None:
    load = np.full(48, 100.0)
    load[20:22] = 160.0
    none = np.zeros(48)
    assert held_level(load, none, 1.0, None) == 160.0
    assert held_level(load, np.full(48, 15.0), 1.0, None) == 145.0
    # Half of 120 Wh is there, 20 hours of L - 100 W come on top, two hours of 160 W - L have to be met.
    battery = Storage(power_watts=1000.0, energy_kwh=0.12, round_trip_ratio=1.0)
    assert held_level(load, none, 1.0, battery) == pytest.approx(2260.0 / 22.0, abs=0.1)
    weak = Storage(power_watts=10.0, energy_kwh=100.0)
    assert held_level(load, none, 1.0, weak) == pytest.approx(150.0, abs=0.1)


def past(load: list[float], room: float = 50.0) -> Past:
    count = len(load)
    return Past(
        load_watts=np.array(load),
        cap_room_watts=np.full(count, room),
        lost_gpus=np.full(count, 10.0),
        used_gpus=np.full(count, 100.0),
        step_hours=1.0,
    )


def test_a_level_that_costs_no_more_than_is_allowed() -> None:
    # Two of twenty hours 40 above: full room costs 10 of 100 GPUs, so 0.5 % is half of the 2 x 10 of 2000.
    found = relaxed_level(past([100.0] * 18 + [140.0] * 2), 0.005)
    assert found == pytest.approx(115.0, abs=0.1)
    assert relaxed_level(past([100.0] * 18 + [140.0] * 2), 1.0) == pytest.approx(100.0, abs=0.1)


def test_a_period_starts_at_the_least_of_the_pasts() -> None:
    load = [200.0] * 24 + [120.0] * 24
    found = start_level(past(load, room=10.0), None, days=(2.0, 1.0), most_lost_ratio=1.0)
    # The last day would have been held at 110 W, but no level lies below all that was drawn.
    assert found == pytest.approx(120.0, abs=0.1)
    with pytest.raises(ValueError, match="no history"):
        start_level(past([]), None, days=(1.0,), most_lost_ratio=1.0)


def test_a_past_goes_on_and_stays_as_long() -> None:
    rows = np.array([[300.0, 1.0, 2.0, 3.0]])
    found = past([100.0, 200.0]).followed_by(rows)
    assert found.load_watts.tolist() == [200.0, 300.0]
    assert (found.cap_room_watts[-1], found.lost_gpus[-1], found.used_gpus[-1]) == (1.0, 2.0, 3.0)
