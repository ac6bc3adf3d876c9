"""Starts and ends as the grid meter sees them: hosts and losses follow GPUs, readings and batteries lag."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.reading import EssReading
from slurm_power.model.site import LimitKind
from slurm_power.plan.caps import Demand
from slurm_power.plan.ess import Dispatch
from slurm_power.plan.ess_ramp import no_steeper
from slurm_power.plan.gates import with_gates
from slurm_power.plan.loads import load_table
from slurm_power.plan.policy import Policy
from tests.plan.at_meter import NODES, OVERHEAD, SITE, Loop, job_on, worst_rise
from tests.plan.situations import cap_lease, ess_reading, situation

RAMP_WATTS = 400.0
PER_MINUTE_WATTS = 60.0 * RAMP_WATTS
GATED = Policy(start_ramp_watts_per_second=RAMP_WATTS)
RAMPED = replace(
    GATED, ramp_up_watts_per_minute=PER_MINUTE_WATTS, ramp_down_watts_per_minute=PER_MINUTE_WATTS
)


def test_a_job_over_all_gpus_rises_no_faster_than_the_ramp_in_any_minute() -> None:
    loose = Loop((job_on("1", NODES),), {"1": 0}, Policy())
    loose.run(60)
    assert worst_rise(loose.imports) > 1.25 * PER_MINUTE_WATTS
    gated = Loop((job_on("1", NODES),), {"1": 0}, GATED)
    gated.run(200)
    assert worst_rise(gated.imports) <= PER_MINUTE_WATTS
    assert gated.imports[-1] == pytest.approx(loose.imports[-1], rel=0.01)
    assert gated.levers.caps == {}


@pytest.mark.parametrize("begins", [(0, 0), (0, 10), (0, 45), (30, 90)])
def test_starts_that_come_together_share_the_ramp(begins: tuple[int, int]) -> None:
    """The one that loads its data first is waited for: its first watts are kept free."""
    jobs = (job_on("1", ("c1", "c2")), job_on("2", ("c3", "c4")))
    loop = Loop(jobs, {"1": begins[0], "2": begins[1]}, GATED)
    loop.run(begins[1] + 200)
    # What the second adds at once is estimated without the losses of power supplies.
    assert worst_rise(loop.imports) <= 1.02 * PER_MINUTE_WATTS
    assert loop.levers.caps == {}
    assert loop.draws[-1] == {"1": 659.0, "2": 659.0}


def test_what_comes_at_once_is_all_that_passes_a_ramp_that_is_too_small_for_it() -> None:
    small = replace(GATED, start_ramp_watts_per_second=150.0)
    loop = Loop((job_on("1", NODES),), {"1": 0}, small)
    loop.run(300)
    rise_at_once = 32 * (0.97 * 315.0 - 79.0) + 4 * 1800.0
    assert worst_rise(loop.imports) <= OVERHEAD / 0.94 * rise_at_once + 3.0 * 150.0
    assert loop.draws[-1] == {"1": 659.0}


@pytest.mark.parametrize("begins", [0, 100])
def test_a_battery_halves_what_comes_at_once_and_feeds_nothing_out(begins: int) -> None:
    loop = Loop((job_on("1", NODES, starts=begins - 2),), {"1": begins}, RAMPED)
    loop.run(begins + 240)
    assert worst_rise(loop.imports) <= PER_MINUTE_WATTS
    assert min(loop.imports) > 0.0
    assert max(loop.discharges) > 5_000.0
    assert loop.discharges[-1] == 0.0
    assert loop.levers.caps == {}


STEP_WATTS = OVERHEAD / 0.94 * (24 * (659.0 - 79.0) + 3 * 1800.0)


def ended(policy: Policy, *, soc_ratio: float = 0.9, max_ess_watts: float = 20_000.0) -> Loop:
    """Three of four nodes end their job at 60 s."""
    job = job_on("1", NODES[:3], starts=-600)
    loop = Loop((job,), {"1": -600}, policy, ends={"1": 60}, soc_ratio=soc_ratio, max_ess_watts=max_ess_watts)
    loop.run(300)
    return loop


def steepest_fall(watts: list[float]) -> float:
    """The most that a 10-second mean falls within a minute."""
    means = [sum(watts[at : at + 10]) / 10.0 for at in range(len(watts) - 9)]
    return worst_rise([-one for one in means])


@pytest.mark.parametrize(
    ("per_minute_watts", "max_ess_watts"), [(24_000.0, 12_000.0), (14_000.0, 12_000.0), (9_000.0, 20_000.0)]
)
def test_the_end_of_a_big_job_is_softened_by_a_battery_that_has_room(
    per_minute_watts: float, max_ess_watts: float
) -> None:
    policy = replace(
        GATED, ramp_up_watts_per_minute=per_minute_watts, ramp_down_watts_per_minute=per_minute_watts
    )
    loop = ended(policy, max_ess_watts=max_ess_watts)
    # The step shows for the seconds that readings and battery take: a notch of four seconds.
    without_notch = loop.imports[:150] + 4 * [loop.imports[154]] + loop.imports[154:]
    assert steepest_fall(without_notch) <= 1.02 * max(per_minute_watts, STEP_WATTS - max_ess_watts)
    assert min(loop.discharges) < -5_000.0
    assert loop.discharges[-1] == 0.0
    assert max(loop.imports[150:]) <= loop.imports[140] + 1.0, "no rebound above the load before"


def test_without_a_ramp_or_room_a_load_falls_as_it_does() -> None:
    for loop in (ended(GATED), ended(RAMPED, soc_ratio=1.0)):
        assert min(loop.discharges) == 0.0
        assert steepest_fall(loop.imports) == pytest.approx(STEP_WATTS, rel=0.01)


READING = ess_reading(max_watts=8_000.0)
IDLE = Dispatch(discharge_watts=0.0, reason="the limit holds without the battery")


def steered(
    asked_watts: float,
    load_watts: float | None,
    floor_watts: float | None,
    *,
    least_watts: float = -50_000.0,
    reading: EssReading = READING,
) -> float:
    asked = replace(IDLE, discharge_watts=asked_watts)
    found = no_steeper(
        reading, asked, load_watts=load_watts, floor_watts=floor_watts, least_watts=least_watts
    )
    return found.discharge_watts


def test_a_battery_takes_up_what_falls_below_the_ramp() -> None:
    assert steered(0.0, 10_000.0, 14_000.0) == -4_000.0
    assert steered(0.0, 10_000.0, 19_000.0) == -8_000.0, "no more than it can"
    assert steered(0.0, 10_000.0, 14_000.0, least_watts=-1_500.0) == -1_500.0, "no more than limits leave"
    assert steered(0.0, 10_000.0, 9_000.0) == 0.0
    assert steered(0.0, 10_000.0, 10_050.0) == 0.0, "not worth moving it for"
    assert steered(-6_000.0, 10_000.0, 14_000.0) == -6_000.0, "it takes up more already"


def test_a_battery_that_gives_gives_less_when_the_load_falls() -> None:
    assert steered(5_000.0, 12_000.0, 10_000.0) == 2_000.0
    assert steered(5_000.0, 12_000.0, 14_000.0) == -2_000.0
    assert steered(5_000.0, 20_000.0, 14_000.0) == 5_000.0
    assert steered(5_000.0, 12_000.0, 14_000.0, least_watts=4_000.0) == 4_000.0, "limits come first"


def test_nothing_is_fed_into_the_grid_and_nothing_charged_without_a_ramp() -> None:
    assert steered(8_000.0, 6_000.0, None) == 6_000.0
    assert steered(8_000.0, -500.0, None) == 0.0
    assert steered(-2_000.0, 6_000.0, None) == -2_000.0
    assert steered(0.0, 6_000.0, None) == 0.0


@settings(max_examples=200, deadline=None)
@given(
    st.floats(-8_000.0, 8_000.0),
    st.floats(0.0, 40_000.0),
    st.floats(0.0, 40_000.0) | st.none(),
    st.floats(-40_000.0, 8_000.0),
    st.floats(0.05, 1.0),
)
def test_a_ramp_takes_from_a_discharge_and_never_from_a_limit_or_a_charge(
    asked_watts: float, load_watts: float, floor_watts: float | None, least_watts: float, soc_ratio: float
) -> None:
    reading = replace(READING, soc_ratio=soc_ratio)
    found = steered(asked_watts, load_watts, floor_watts, least_watts=least_watts, reading=reading)
    assert found <= asked_watts
    assert found >= min(asked_watts, least_watts), "limits keep what they asked for"
    assert found >= min(asked_watts, -READING.max_charge_watts)
    if floor_watts is None:
        assert found >= min(0.0, asked_watts)
    elif asked_watts > 0.0 and load_watts - found < floor_watts - 1e-6:
        most_charge_watts = READING.max_charge_watts if soc_ratio < 0.999 else 0.0
        least = max(least_watts, -most_charge_watts)
        assert found == min(asked_watts, least), "as far as limits, power and room allow"


def test_a_full_or_blind_battery_is_left_alone() -> None:
    assert steered(0.0, 10_000.0, 14_000.0, reading=replace(READING, soc_ratio=1.0)) == 0.0
    assert steered(5_000.0, 10_000.0, 14_000.0, reading=replace(READING, soc_ratio=1.0)) == 0.0
    assert steered(3_000.0, None, 14_000.0) == 3_000.0


def test_a_gate_rises_into_what_the_minute_leaves() -> None:
    lease = {"1": cap_lease("1", 315.0, changed_seconds_ago=5.0)}
    job = job_on("1", ("c1",), starts=-60)
    seen = situation(of=SITE, import_watts=20_000.0, jobs=(job,), gpu_watts={"1": 310.0}, caps=lease)

    def cap(least_minute_watts: float | None) -> float | None:
        at = replace(seen, least_minute_watts=least_minute_watts)
        room = [Demand(circuit=name, watts=-50_000.0, kind=LimitKind.ECONOMIC) for name in SITE.circuits]
        (action,) = with_gates(at, load_table(at, GATED), (), room, GATED)
        return action.cap_watts

    # 400 W a second over 8 GPUs and 15 % of losses are 43 W a second, in whole steps.
    assert cap(None) == cap(20_000.0) == 315.0 + 40.0
    assert cap(20_000.0 - 55.0 * RAMP_WATTS + 100.0) == 315.0 + 10.0
    assert cap(20_000.0 - 55.0 * RAMP_WATTS) == cap(0.0 - 5_000.0) == 315.0
