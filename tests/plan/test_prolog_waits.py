"""Waits in the prolog: only where no cap helps, inside the ramp, and never past a bound."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.job import Flex, Job, JobState
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.policy import Policy
from slurm_power.plan.prolog_waits import (
    Queue,
    Release,
    Waiting,
    advanced,
    joined,
    minute_room_watts,
    most_wait_seconds,
    step_beyond_caps,
    without,
)
from tests.plan.situations import running, site, situation

RAMP_WATTS = 500.0
POLICY = Policy(start_ramp_watts_per_second=RAMP_WATTS, prolog_wait_seconds=60.0)
ROOMY = site(with_ess=False, grid_limit_watts=90_000.0)
# Eight GPUs from idle to what training draws, with their shares of the host.
STEP_WATTS = 8 * (650.0 - 75.0 + 225.0)


def starting(flex: Flex = Flex.FLEX2) -> Job:
    job = running("1", ("c1",), flex=flex, state=JobState.STARTING, started_seconds_ago=0.0)
    return replace(job, time_limit_seconds=86_400.0)


def at_start(job: Job, **gpu: object) -> Snapshot:
    """The job's prolog runs; ``gpu`` are fields of the node's GPUs."""
    found = situation(of=ROOMY, jobs=(job,), gpu_watts={"1": 75.0})
    nodes = {
        name: replace(
            node,
            sums={},
            gpus={uuid: replace(one, **gpu) for uuid, one in node.gpus.items()},  # type: ignore[arg-type]  # fields by name
        )
        for name, node in found.nodes.items()
    }
    return replace(found, nodes=nodes)


def step(snapshot: Snapshot, policy: Policy = POLICY) -> float | None:
    found = step_beyond_caps(snapshot, snapshot.jobs[0], ("c1",), policy)
    return None if found is None else found.watts


def test_what_a_gate_can_spread_does_not_wait() -> None:
    assert step(at_start(starting())) is None


@pytest.mark.parametrize("gpu", [{"mig_enabled": True}, {"min_cap_watts": 700.0}])
def test_gpus_without_caps_are_waited_for(gpu: dict[str, object]) -> None:
    snapshot = at_start(starting(), **gpu)
    assert step(snapshot) == pytest.approx(STEP_WATTS)
    found = step_beyond_caps(snapshot, snapshot.jobs[0], ("c1",), POLICY)
    assert found is not None
    assert "take no cap" in found.reason


def test_a_yielded_node_is_waited_for() -> None:
    snapshot = replace(at_start(starting()), yielded_nodes=frozenset({"c1"}))
    assert step(snapshot) == pytest.approx(STEP_WATTS)


def test_a_floor_above_the_ramp_is_waited_for() -> None:
    # 8 * (315 - 75 + 225) = 3720 W come at once; half of a minute without two settling times keeps 1375.
    slow = replace(POLICY, start_ramp_watts_per_second=50.0)
    assert step(at_start(starting()), slow) == pytest.approx(3720.0)


@pytest.mark.parametrize(
    "policy",
    [
        Policy(prolog_wait_seconds=60.0),
        replace(POLICY, start_ramp_watts_per_second=10_000.0),
    ],
)
def test_without_a_ramp_and_within_it_nobody_waits(policy: Policy) -> None:
    assert step(at_start(starting(), mig_enabled=True), policy) is None


def test_flex0_and_the_unknown_do_not_wait() -> None:
    assert step(at_start(starting(Flex.FLEX0), mig_enabled=True)) is None
    assert step(replace(at_start(starting(), mig_enabled=True), nodes={})) is None


@pytest.mark.parametrize(
    ("flex", "limit_seconds", "held_seconds", "policy_seconds", "most_seconds"),
    [
        (Flex.FLEX2, 86_400.0, 0.0, 60.0, 60.0),
        (Flex.FLEX2, 86_400.0, 0.0, 25.0, 25.0),
        (Flex.FLEX2, 86_400.0, 0.0, 0.0, 0.0),
        (Flex.FLEX0, 86_400.0, 0.0, 60.0, 0.0),
        (Flex.FLEX2, 86_400.0, 86_400.0, 60.0, 0.0),
        (Flex.FLEX2, 10.0, 0.0, 60.0, 0.0),
    ],
)
def test_the_longest_wait(
    flex: Flex, limit_seconds: float, held_seconds: float, policy_seconds: float, most_seconds: float
) -> None:
    job = replace(starting(flex), time_limit_seconds=limit_seconds)
    snapshot = replace(at_start(job), held_before_seconds={"1": held_seconds})
    policy = replace(POLICY, prolog_wait_seconds=policy_seconds)
    assert most_wait_seconds(snapshot, job, policy) == pytest.approx(most_seconds)


def waiting(job_id: str, step_watts: float, since_seconds: float = 0.0) -> Waiting:
    return Waiting(job_id=job_id, step_watts=step_watts, since_seconds=since_seconds, most_seconds=60.0)


def test_who_comes_first_goes_at_once_and_the_next_when_the_ramp_has_caught_up() -> None:
    queue = Queue()
    for job_id in "abc":
        queue = joined(queue, waiting(job_id, 5000.0))
    queue, gone = advanced(queue, 0.0, watts_per_second=RAMP_WATTS)
    assert [one.job_id for one in gone] == ["a"]
    queue, gone = advanced(queue, 9.9, watts_per_second=RAMP_WATTS)
    assert gone == ()
    queue, gone = advanced(queue, 10.0, watts_per_second=RAMP_WATTS)
    assert gone == (Release(job_id="b", waited_seconds=10.0, in_turn=True),)
    queue = without(queue, "c")
    assert queue.waiting == ()


def test_the_meter_must_show_room() -> None:
    queue = joined(Queue(), waiting("a", 5000.0))
    queue, gone = advanced(queue, 1.0, watts_per_second=RAMP_WATTS, room_watts=4999.0)
    assert gone == ()
    # A step that no minute has room for asks for half of one.
    queue = joined(without(queue, "a"), waiting("b", 1e6))
    queue, gone = advanced(queue, 2.0, watts_per_second=RAMP_WATTS, room_watts=15_000.0)
    assert [one.job_id for one in gone] == ["b"]


def test_room_counts_from_the_last_minute_s_least() -> None:
    snapshot = at_start(starting())
    assert minute_room_watts(snapshot, POLICY) == float("inf")
    now_watts = snapshot.circuits["grid"].watts
    assert now_watts is not None
    risen = replace(snapshot, least_minute_watts=now_watts - 10_000.0)
    assert minute_room_watts(risen, POLICY) == pytest.approx(20_000.0)


def test_asking_again_changes_neither_place_nor_time() -> None:
    queue = joined(joined(Queue(), waiting("a", 1.0)), waiting("a", 9.0, since_seconds=50.0))
    assert queue.waiting == (waiting("a", 1.0),)


_arrivals = st.lists(
    st.tuples(
        st.floats(0.0, 120.0),  # when it comes
        st.floats(1.0, 50_000.0),  # its step
        st.floats(1.0, 60.0),  # its bound
    ),
    min_size=1,
    max_size=12,
)


@given(_arrivals, st.floats(50.0, 20_000.0), st.floats(0.2, 1.0))
def test_no_wait_passes_its_bound_and_releases_in_turn_stay_inside_the_ramp(
    arrivals: list[tuple[float, float, float]], ramp_watts: float, cycle_seconds: float
) -> None:
    coming = sorted(
        (
            Waiting(job_id=str(number), step_watts=step_watts, since_seconds=since, most_seconds=most)
            for number, (since, step_watts, most) in enumerate(arrivals)
        ),
        key=lambda one: one.since_seconds,
    )
    by_id = {one.job_id: one for one in coming}
    queue, now_seconds = Queue(), 0.0
    gone: list[tuple[float, Release]] = []
    while now_seconds <= 182.0:
        while coming and coming[0].since_seconds <= now_seconds:
            queue = joined(queue, coming.pop(0))
        queue, released = advanced(queue, now_seconds, watts_per_second=ramp_watts)
        gone += [(now_seconds, one) for one in released]
        now_seconds += cycle_seconds
    assert {release.job_id for _, release in gone} == set(by_id), "everybody goes, and once"
    assert len(gone) == len(by_id)
    for _, release in gone:
        assert release.waited_seconds <= by_id[release.job_id].most_seconds + cycle_seconds + 1e-6
    # Between two releases the ramp makes room for all that went with the first and after it.
    for first, (start_seconds, _) in enumerate(gone):
        before_watts = 0.0
        for (_, one), (at_seconds, other) in pairwise(gone[first:]):
            before_watts += by_id[one.job_id].step_watts
            if other.in_turn:
                assert before_watts <= ramp_watts * (at_seconds - start_seconds) + 1e-3
