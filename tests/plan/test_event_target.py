"""What events ask: levels, margins, ramps, and what is foreseen to be missing."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.action import SetCap
from slurm_power.model.grid_event import Commitment, LimitEvent
from slurm_power.model.job import Flex
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.event_baseline import RecentLoad
from slurm_power.plan.event_target import (
    foreseen_shortfalls,
    least_ramp_seconds,
    level_watts,
    must_run_watts,
    ramp_limit_watts,
    room_watts,
    target_watts,
)
from slurm_power.plan.loads import load_table
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import cap_lease, ess_reading, running, site, situation

POLICY = Policy()


def event(
    limit_watts: float,
    *,
    starts: float = 1800.0,
    length: float = 3600.0,
    circuit: str = "grid",
    commitment: Commitment = Commitment.MUST,
) -> LimitEvent:
    return LimitEvent(
        event_id="ev-1",
        circuit=circuit,
        limit_watts=limit_watts,
        starts_in_seconds=starts,
        ends_in_seconds=starts + length,
        reason="the utility asks",
        commitment=commitment,
    )


def test_levels_lie_below_the_baseline() -> None:
    assert level_watts(20_000.0, cut_ratio=0.25) == 15_000.0
    assert level_watts(20_000.0, cut_watts=5_000.0) == 15_000.0
    assert level_watts(20_000.0, cut_watts=25_000.0) == 0.0


@pytest.mark.parametrize(
    ("commitment", "watts"),
    [(Commitment.LIMIT, 9_800.0), (Commitment.MUST, 9_900.0), (Commitment.BEST_EFFORT, 10_000.0)],
)
def test_each_kind_of_event_has_its_own_margin(commitment: Commitment, watts: float) -> None:
    seen = situation(events=(event(10_000.0, starts=-1.0, commitment=commitment),))
    assert target_watts(seen, "grid", POLICY) == pytest.approx(watts)
    assert target_watts(seen, "rack1", POLICY) == pytest.approx(39_200.0)


def test_in_an_event_little_room_is_enough_to_let_go() -> None:
    """What a meter shows below the target is given away: 4 % of a limit are 3 points of a 25 % cut."""
    assert room_watts(situation(), "grid", 2_000.0, POLICY) == pytest.approx(800.0)
    assert room_watts(situation(), "grid", 1_000.0, POLICY) == 0.0
    standing = event(10_000.0, starts=-1.0, commitment=Commitment.LIMIT)
    assert room_watts(situation(events=(standing,)), "grid", 500.0, POLICY) == pytest.approx(100.0)
    seen = situation(events=(event(10_000.0, starts=-1.0),))
    hosts_follow = 575.0 / 800.0
    assert room_watts(seen, "grid", 500.0, POLICY) == pytest.approx(475.0 * hosts_follow)
    assert room_watts(seen, "grid", 25.0, POLICY) == 0.0


def test_room_in_an_event_goes_back_to_the_jobs() -> None:
    seen = situation(
        of=site(with_ess=False),
        import_watts=14_500.0,
        gpu_watts={"1": 400.0},
        jobs=(running("1", ("c1", "c2"), flex=Flex.FLEX3),),
        caps={"1": cap_lease("1", 400.0)},
        events=(event(15_000.0, starts=-60.0),),
    )
    (raised,) = [
        action for action in plan_cycle(seen, POLICY, hold_seconds=60.0).actions if isinstance(action, SetCap)
    ]
    # 150 W below the limit for noise, 37 W to let go: 312 W for 16 GPUs and hosts, in whole steps.
    assert raised.cap_watts == 410.0


def mean_of_last_minute(loads: list[float], index: int) -> float:
    last = loads[max(0, index - 60) : index]
    return sum(last) / len(last)


@settings(max_examples=20, deadline=None)
@given(st.floats(1_000.0, 50_000.0), st.floats(100.0, 20_000.0), st.floats(0.0, 1.0))
def test_a_load_that_follows_the_ramp_limit_rises_no_faster(
    rest: float, per_minute: float, share: float
) -> None:
    """However much is asked for; 1 % for the step of a second that a cycle has."""
    loads = [rest] * 60
    for _ in range(300):
        limit = ramp_limit_watts(mean_of_last_minute(loads, len(loads)), per_minute)
        loads.append(loads[-1] + (limit - loads[-1]) * share)
    rises = [later - before for before, later in zip(loads, loads[60:], strict=False)]
    assert max(rises) <= 1.01 * per_minute
    if share > 0.9:
        assert rises[-1] == pytest.approx(2.0 / math.e * per_minute, rel=0.05)


def test_ramps_are_no_steeper_than_the_site_allows() -> None:
    assert least_ramp_seconds(20_000.0, 15_000.0, 1_000.0) == 300.0
    assert least_ramp_seconds(20_000.0, 15_000.0, None) == 0.0


# One job of 16 GPUs at 650 W on each rack, 20 kW at the grid: 10.4 kW GPUs each.
def two_jobs(flex: Flex, *, soc_ratio: float = 0.2, limit_watts: float = 12_000.0) -> Snapshot:
    return situation(
        jobs=(
            running("1", ("c1", "c2"), flex=flex, gpus_per_node=8),
            running("2", ("c3", "c4"), flex=Flex.FLEX0, gpus_per_node=4),
        ),
        ess=ess_reading(soc_ratio=soc_ratio, max_watts=8_000.0),
        events=(event(limit_watts),),
    )


def test_what_must_run_is_what_the_promises_leave() -> None:
    rigid, soft = two_jobs(Flex.FLEX0), two_jobs(Flex.FLEX3)
    assert must_run_watts(rigid, "grid", load_table(rigid, POLICY), POLICY) == pytest.approx(20_000.0)
    left = must_run_watts(soft, "grid", load_table(soft, POLICY), POLICY)
    floor = 0.45 * 700.0  # flex3 allows more than the cliff does
    assert left == pytest.approx(20_000.0 - 16 * (650.0 - floor), rel=0.02)
    assert must_run_watts(soft, "rack2", load_table(soft, POLICY), POLICY) == pytest.approx(10_000.0)


def test_a_job_that_will_have_ended_need_not_run() -> None:
    seen = two_jobs(Flex.FLEX0)
    first, second = seen.jobs
    ending = replace(seen, jobs=(replace(first, time_limit_seconds=1200.0), second))  # 600 s are over
    loads = load_table(ending, POLICY)
    assert must_run_watts(ending, "grid", loads, POLICY, in_seconds=500.0) == pytest.approx(20_000.0)
    later = must_run_watts(ending, "grid", loads, POLICY, in_seconds=1800.0)
    assert later == pytest.approx(20_000.0 - 16 * (650.0 - 75.0))


def test_a_coming_event_that_cannot_be_met_is_told_with_amount_and_moment() -> None:
    seen = two_jobs(Flex.FLEX0)
    (short,) = foreseen_shortfalls(seen, load_table(seen, POLICY), POLICY)
    # 8 kW too much; charged for half an hour before, the battery carries them for half an hour.
    assert (short.circuit, short.event_id) == ("grid", "ev-1")
    assert short.watts == pytest.approx(8_000.0)
    assert short.from_seconds == pytest.approx(1800.0 + 1800.0)
    assert "12.0 kW" in short.reason and "20.0 kW must run" in short.reason
    assert (
        foreseen_shortfalls(seen, load_table(seen, POLICY), POLICY)[0]
        in plan_cycle(seen, POLICY, hold_seconds=60.0).shortfalls
    )


def test_more_than_the_batteries_power_is_missing_from_the_start() -> None:
    seen = two_jobs(Flex.FLEX0, limit_watts=10_000.0)
    (short,) = foreseen_shortfalls(seen, load_table(seen, POLICY), POLICY)
    assert [short.watts, short.from_seconds] == pytest.approx([2_000.0, 1800.0])


@pytest.mark.parametrize(
    ("flex", "limit_watts", "changes"),
    [
        (Flex.FLEX3, 16_000.0, {}),
        (Flex.FLEX0, 16_500.0, {}),  # 3.5 kW for an hour are in the battery by then
        (Flex.FLEX0, 12_000.0, {"commitment": Commitment.BEST_EFFORT}),
        (Flex.FLEX0, 12_000.0, {"ends_in_seconds": 0.0}),
        (Flex.FLEX0, 19_900.0, {}),
    ],
)
def test_nothing_is_told_of_what_can_be_met_or_was_not_promised(
    flex: Flex, limit_watts: float, changes: dict[str, object]
) -> None:
    seen = two_jobs(flex, limit_watts=limit_watts)
    seen = replace(seen, events=(replace(seen.events[0], **changes),))  # type: ignore[arg-type]  # as named
    assert foreseen_shortfalls(seen, load_table(seen, POLICY), POLICY) == ()


def test_nothing_is_foreseen_without_a_reading() -> None:
    seen = replace(two_jobs(Flex.FLEX0), circuits={})
    assert foreseen_shortfalls(seen, load_table(seen, POLICY), POLICY) == ()


@settings(max_examples=40, deadline=None)
@given(st.floats(0.0, 30_000.0), st.floats(0.0, 1.0), st.sampled_from(list(Flex)), st.floats(-100.0, 9000.0))
def test_more_limit_never_makes_more_missing(
    limit_watts: float, soc_ratio: float, flex: Flex, starts: float
) -> None:
    found = []
    for watts in (limit_watts, limit_watts + 500.0):
        seen = two_jobs(flex, soc_ratio=soc_ratio)
        seen = replace(seen, events=(event(watts, starts=starts),))
        shorts = foreseen_shortfalls(seen, load_table(seen, POLICY), POLICY)
        found.append(shorts[0] if shorts else None)
    tight, loose = found
    if loose is not None and tight is not None and loose.from_seconds == tight.from_seconds:
        assert loose.watts <= tight.watts
    if loose is not None:
        assert loose.watts > 0.0 and loose.from_seconds > 0.0
        assert starts < 0.0 or tight is not None


def test_an_event_on_a_breakers_circuit_breaks_no_promise() -> None:
    """The level of an event is economic; what the breaker itself stands for stays a matter of safety."""
    where = site(grid_kind=LimitKind.SAFETY, with_ess=False)
    seen = situation(
        of=where,
        jobs=(running("1", ("c1", "c2"), flex=Flex.FLEX1), running("2", ("c3",), flex=Flex.FLEX0)),
        events=(event(12_000.0, starts=-60.0),),
        lasting_watts={"grid": 20_000.0},
    )
    (cap,) = [
        action for action in plan_cycle(seen, POLICY, hold_seconds=60.0).actions if isinstance(action, SetCap)
    ]
    assert (cap.job_id, cap.kind) == ("1", LimitKind.ECONOMIC)
    assert cap.slowdown_ratio <= 0.1 + 1e-6
    over = replace(
        seen,
        circuits={**seen.circuits, "grid": replace(seen.circuits["grid"], watts=34_000.0)},
        lasting_watts={"grid": 34_000.0},
    )
    kinds = {
        action.kind
        for action in plan_cycle(over, POLICY, hold_seconds=60.0).actions
        if isinstance(action, SetCap)
    }
    assert kinds == {LimitKind.SAFETY}


def test_a_baseline_is_the_mean_of_the_last_minutes_that_were_added() -> None:
    recent = RecentLoad(900.0)
    assert recent.mean(0.0) is None
    for second in range(2000):
        recent.add(float(second), 10_000.0 if second < 1000 else 20_000.0, 1.0)
    found = recent.mean(2000.0)
    assert found is not None
    assert found.watts == pytest.approx(20_000.0)
    assert found.seconds == pytest.approx(900.0, abs=20.0)
    assert recent.mean(2000.0 + 90_000.0) is None
    assert recent.mean_of_last(60.0, 2000.0) == pytest.approx(20_000.0)
    short = RecentLoad(60.0)
    for second in range(0, 300, 3):
        short.add(float(second), 1_000.0, 3.0)
        kept = short.mean(float(second))
        assert kept is not None and (second < 60 or 60.0 <= kept.seconds < 80.0)
    recent.add(10.0, 5_000.0, 1.0)  # the clock was set back
    found = recent.mean(10.0)
    assert found is not None and found.watts == 5_000.0
