"""What each lever costs, in numbers one can check by hand."""

from dataclasses import replace

import pytest

from slurm_power.model.job import Flex, Job, Workload
from slurm_power.model.site import Ess
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.curves import CURVES, SEGMENTS, performance_ratio, slope_at
from slurm_power.plan.policy import Policy
from slurm_power.plan.prices import JobWeights, cap_price, discharge_price, hold_price
from tests.plan.situations import ess_reading, pending, running, situation

POLICY = Policy(value_per_gpu_hour=2.0, delay_price_per_gpu_hour=0.25)
BATTERY = Ess(name="battery", circuit="grid")


def weights(policy: Policy = POLICY, **changes: object) -> JobWeights:
    snapshot: Snapshot = replace(situation(), **changes)  # type: ignore[arg-type]
    return JobWeights(snapshot, policy)


def price_of(job: Job, slope: float, by: JobWeights | None = None, circuit_watts: float = 8.0) -> float:
    found = cap_price(
        POLICY, by or weights(), job, slope=slope, uncapped_watts=500.0, circuit_watts=circuit_watts
    )
    return found.money_per_kwh


def test_a_cap_costs_the_work_it_loses() -> None:
    job = running("1", ("c1",), flex=Flex.FLEX2)
    # 10 % of the power of 8 GPUs at 500 W is 400 W; a slope of 0.5 loses 5 % of 8 GPUs: 0.4 GPU-h each hour.
    assert price_of(job, 0.5) == pytest.approx(0.4 / 0.4 * 2.0)
    assert price_of(job, 0.5, circuit_watts=10.0) == pytest.approx(0.4 / 0.5 * 2.0)


def test_work_weighs_by_flex_account_and_debt() -> None:
    plain = price_of(running("1", ("c1",), flex=Flex.FLEX2), 0.5)
    assert price_of(running("1", ("c1",), flex=Flex.FLEX3), 0.5) == pytest.approx(0.5 * plain)
    heavy = weights(replace(POLICY, account_weights=("physics=3",)))
    assert price_of(running("1", ("c1",)), 0.5, heavy) == pytest.approx(3.0 * plain)
    owed = weights(debts={"alice": 1e6, "bob": 0.0})
    dearer = price_of(running("1", ("c1",)), 0.5, owed)
    assert 1.6 * plain < dearer < 2.0 * plain
    work = cap_price(
        POLICY, owed, running("1", ("c1",)), slope=0.5, uncapped_watts=500.0, circuit_watts=8.0
    ).work_gpu_hours_per_kwh
    assert work == pytest.approx(1.0)  # fairness is no work lost


def test_a_hold_costs_the_delay_of_its_gpus() -> None:
    price = hold_price(POLICY, weights(), pending("7", 8, flex=Flex.FLEX2), 4000.0)
    assert price.money_per_kwh == pytest.approx(8 * 0.25 / 4.0)
    assert price.work_gpu_hours_per_kwh == 0.0


def test_a_battery_costs_wear_and_losses_and_more_when_it_runs_short() -> None:
    policy = replace(POLICY, ess_wear_per_kwh=0.02, ess_round_trip_ratio=0.8, energy_price_per_kwh=0.2)
    full = discharge_price(BATTERY, ess_reading(soc_ratio=0.9), policy).money_per_kwh
    assert full == pytest.approx(0.02 + 0.2 * 0.25)
    dear = discharge_price(BATTERY, ess_reading(soc_ratio=0.9), policy, 0.6).money_per_kwh
    assert dear == pytest.approx(0.02 + 0.6 * 0.25)
    # 8 kW for 300 s are 0.667 kWh; 0.333 kWh are left above the reserve.
    short = discharge_price(BATTERY, ess_reading(soc_ratio=0.2 + 1 / 30), policy).money_per_kwh
    assert short == pytest.approx(2.0 * full)
    empty = discharge_price(BATTERY, ess_reading(soc_ratio=0.2), policy).money_per_kwh
    assert empty == pytest.approx(100.0 * full)
    paid = discharge_price(BATTERY, ess_reading(soc_ratio=0.9), policy, -0.5).money_per_kwh
    assert paid == pytest.approx(0.02)


@pytest.mark.parametrize("workload", Workload)
def test_each_segment_is_dearer_than_the_one_before_and_close_to_the_curve(workload: Workload) -> None:
    slopes = [segment.slope for segment in SEGMENTS[workload]]
    assert slopes == sorted(set(slopes))
    performance, at = 1.0, 1.0
    for segment in SEGMENTS[workload][:-1]:
        performance -= segment.slope * (at - segment.low)
        at = segment.low
        assert performance == pytest.approx(performance_ratio(workload, at))
    assert {x for x, _ in CURVES[workload]} >= {segment.low for segment in SEGMENTS[workload][:-1]}


def test_the_next_watt_is_dearer_than_the_last_where_two_segments_meet() -> None:
    for watts, last, following in ((0.75, 0.568, 0.72), (0.8, 0.568, 0.568), (1.0, 0.568, 0.568)):
        assert slope_at(Workload.TRAINING, watts, downwards=False) == pytest.approx(last)
        assert slope_at(Workload.TRAINING, watts, downwards=True) == pytest.approx(following)
    assert slope_at(Workload.TRAINING, 0.0, downwards=True) > 1.0


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("value_per_gpu_hour", -1.0, "value_per_gpu_hour: -1 is not between 0 and 10000"),
        ("flex0_weight", 0.0, "flex0_weight: 0 is not between 0.01 and 1000"),
        ("max_user_share_ratio", 1.5, "max_user_share_ratio: 1.5 is not between 0.01 and 1"),
        ("account_weights", ("physics",), "account_weights: 'physics' names no account"),
        ("account_weights", ("a=x",), "account_weights: 'a=x' gives no weight between 0.01 and 1000"),
        ("account_weights", ("a=nan",), "account_weights: 'a=nan' gives no weight"),
        ("account_weights", ("a=1", "a=2"), "account_weights: a stands there twice"),
    ],
)
def test_a_price_that_is_none_is_said(key: str, value: object, words: str) -> None:
    (problem,) = replace(Policy(), **{key: value}).problems()  # type: ignore[arg-type]
    assert words in problem


def test_account_weights_are_read() -> None:
    policy = Policy(account_weights=("physics=2", "a=b=0.5"))
    assert policy.problems() == []
    assert policy.weights_of_accounts() == {"physics": 2.0, "a=b": 0.5}
