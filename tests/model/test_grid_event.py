"""How the limit of an event comes and goes."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.grid_event import Commitment, LimitEvent, Phase
from tests.plan.situations import situation

CEILING = 30_000.0
EVENT = LimitEvent(
    event_id="ev-1",
    circuit="grid",
    limit_watts=10_000.0,
    starts_in_seconds=600.0,
    ends_in_seconds=4200.0,
    reason="the utility asks",
    commitment=Commitment.MUST,
    baseline_watts=20_000.0,
    ramp_seconds=600.0,
    recover_seconds=900.0,
)


@pytest.mark.parametrize(
    ("in_seconds", "watts"),
    [
        (-1.0, math.inf),
        (0.0, math.inf),
        (1.0, 20_000.0 - 10_000.0 / 600.0),
        (300.0, 15_000.0),
        (600.0, 10_000.0),
        (4199.9, 10_000.0),
        (4200.0, 10_000.0),
        (4650.0, 15_000.0),
        (5100.0, 20_000.0),
        (5999.0, 20_000.0),  # for as long again no rebound above the load before
        (6000.0, math.inf),
    ],
)
def test_the_limit_slides_down_before_the_start_and_up_after_the_end(in_seconds: float, watts: float) -> None:
    assert EVENT.limit_at(in_seconds, CEILING) == pytest.approx(watts)


def test_without_ramps_it_is_there_from_start_to_end_and_then_gone() -> None:
    event = replace(EVENT, ramp_seconds=0.0, recover_seconds=0.0)
    found = [event.limit_at(at, CEILING) for at in (599.9, 600.0, 4199.9, 4200.0)]
    assert found == [math.inf, 10_000.0, 10_000.0, math.inf]


@pytest.mark.parametrize("baseline_watts", [None, 9_000.0, 40_000.0])
def test_where_no_load_before_fits_it_rises_to_the_circuits_own_limit_and_is_gone(
    baseline_watts: float | None,
) -> None:
    event = replace(EVENT, baseline_watts=baseline_watts)
    assert event.limit_at(300.0, CEILING) == pytest.approx(20_000.0)
    assert event.limit_at(4650.0, CEILING) == pytest.approx(20_000.0)
    assert event.limit_at(5100.0, CEILING) == math.inf
    assert event.over_in_seconds(CEILING) == 5100.0


def test_its_phases_follow_one_another() -> None:
    def phase(in_seconds: float) -> Phase:
        moved = replace(
            EVENT,
            starts_in_seconds=EVENT.starts_in_seconds - in_seconds,
            ends_in_seconds=EVENT.ends_in_seconds - in_seconds,
        )
        return moved.phase(CEILING)

    assert [phase(at) for at in (-1.0, 0.0, 1.0, 600.0, 4199.0, 4200.0, 5999.0, 6000.0)] == [
        Phase.COMING,
        Phase.COMING,
        Phase.RAMP,
        Phase.RUNNING,
        Phase.RUNNING,
        Phase.RECOVERING,
        Phase.RECOVERING,
        Phase.OVER,
    ]


def test_the_tightest_of_all_events_counts_with_its_lead() -> None:
    other = replace(EVENT, event_id="ev-2", limit_watts=12_000.0, starts_in_seconds=-60.0, ramp_seconds=0.0)
    elsewhere = replace(EVENT, circuit="rack1", limit_watts=1.0, starts_in_seconds=-60.0)
    seen = situation(events=(EVENT, other, elsewhere))
    assert seen.limit_watts("grid") == 12_000.0
    assert seen.limit_watts("grid", lead_seconds=540.0) == pytest.approx(11_000.0)
    assert seen.limit_watts("rack2") == 40_000.0


slides = st.just(0.0) | st.floats(1.0, 3000.0)
events = st.builds(
    LimitEvent,
    event_id=st.just("ev-1"),
    circuit=st.just("grid"),
    limit_watts=st.floats(0.0, CEILING),
    starts_in_seconds=st.floats(-5000.0, 5000.0),
    ends_in_seconds=st.floats(5001.0, 10_000.0),
    reason=st.just("x"),
    baseline_watts=st.none() | st.floats(0.0, 40_000.0),
    ramp_seconds=slides,
    recover_seconds=slides,
)


@settings(max_examples=100, deadline=None)
@given(events, st.lists(st.floats(-9000.0, 20_000.0), min_size=2, max_size=20))
def test_it_falls_to_the_start_rises_from_the_end_and_has_an_end(event: LimitEvent, at: list[float]) -> None:
    limits = [(moment, event.limit_at(moment, CEILING)) for moment in sorted(at)]
    for (before, high), (after, low) in pairwise(limits):
        if after <= event.starts_in_seconds:
            assert low <= high + 1e-6
        if before >= event.ends_in_seconds:
            assert low >= high - 1e-6
    for moment, watts in limits:
        assert watts >= event.limit_watts - 1e-6
        if event.starts_in_seconds <= moment < event.ends_in_seconds:
            assert watts == event.limit_watts
        if watts != math.inf:
            assert watts <= CEILING + 1e-6
        if moment >= event.over_in_seconds(CEILING):
            assert watts == math.inf


@settings(max_examples=100, deadline=None)
@given(events, st.floats(-9000.0, 20_000.0), st.floats(0.1, 60.0))
def test_no_step_is_larger_than_the_ramps(event: LimitEvent, at: float, passed: float) -> None:
    """Between ramp and end of the recovery the limit moves no faster than its slope."""
    now, then = event.limit_at(at, CEILING), event.limit_at(at + passed, CEILING)
    if math.inf in (now, then) or event.ramp_seconds < 1.0 or event.recover_seconds < 1.0:
        return
    span_watts = CEILING - event.limit_watts
    slope = span_watts / min(event.ramp_seconds, event.recover_seconds)
    assert abs(then - now) <= slope * passed + 1e-6
