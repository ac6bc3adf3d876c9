"""A cap that a user asks for on a job: set from the start, the bound of ours, counted nowhere as loss."""

from dataclasses import replace

import pytest

from slurm_power.model.job import Flex, JobState, Workload
from slurm_power.model.site import LimitKind
from slurm_power.plan.curves import capped_performance_ratio
from slurm_power.plan.loads import job_loads, pending_watts
from slurm_power.plan.policy import Policy
from tests.plan.situations import cap_lease, pending, running, situation
from tests.plan.test_user_promises import EXACT, POLICY, calm, caps, holds, over, own


def test_a_users_own_cap_is_set_from_the_start_and_costs_its_job_nothing() -> None:
    for flex in Flex:
        for state in (JobState.STARTING, JobState.RUNNING):
            job = own(running("1", ("c1",), flex=flex, state=state, started_seconds_ago=1.0))
            cap = caps(calm(job, gpu_watts=75.0))["1"]
            assert (cap.cap_watts, cap.kind, cap.own) == (400.0, LimitKind.ECONOMIC, True)
            assert (cap.slowdown_ratio, cap.saved_watts) == (0.0, 0.0)
            assert cap.reason == "its user asked for 400 W a GPU at most"


def test_it_is_what_the_gpus_can_take() -> None:
    job = running("1", ("c1",))
    assert caps(calm(own(job, 50.0)))["1"].cap_watts == 200.0
    assert caps(calm(own(job, 700.0))) == {}
    assert caps(calm(own(job, 5000.0))) == {}


def test_no_cap_is_set_where_none_can_be() -> None:
    job = own(running("1", ("c1",)))
    assert caps(calm(replace(job, gpus_by_node=()))) == {}
    assert caps(replace(calm(job), yielded_nodes=frozenset({"c1"}))) == {}


def test_our_cap_is_below_it_and_it_comes_back_when_ours_is_lifted() -> None:
    job = own(running("1", ("c1",), flex=Flex.FLEX3), 500.0)
    seen = replace(over(job), nodes=calm(job, gpu_watts=495.0).nodes)
    ours = caps(seen)["1"]
    assert not ours.own
    assert ours.cap_watts is not None and ours.cap_watts < 495.0
    lease = {"1": cap_lease("1", 400.0, uncapped_watts=500.0)}
    lifted = caps(replace(calm(job, gpu_watts=395.0), caps=lease))["1"]
    assert (lifted.cap_watts, lifted.own) == (500.0, True)


@pytest.mark.parametrize("workload", list(Workload))
@pytest.mark.parametrize("flex", [Flex.FLEX1, Flex.FLEX2, Flex.FLEX3])
def test_the_promise_is_kept_from_where_the_user_has_put_it(workload: Workload, flex: Flex) -> None:
    """Further down the curve each watt costs more, so less may be taken than from the top."""
    policy = Policy(cap_floor_ratio=0.1)
    job = own(running("1", ("c1",), flex=flex, workload=workload), 420.0)
    seen = replace(over(job, excess_watts=50_000.0), nodes=calm(job, gpu_watts=420.0).nodes)
    ours = caps(seen, policy)["1"]
    assert ours.cap_watts is not None and not ours.own
    assert ours.lock_hertz is None
    natural_watts = max(420.0, getattr(policy, f"{workload.value}_gpu_watts"))
    before, after = (
        capped_performance_ratio(workload, watts / natural_watts) for watts in (420.0, ours.cap_watts)
    )
    assert ours.slowdown_ratio == pytest.approx(1.0 - after / before)
    assert ours.slowdown_ratio <= flex.max_slowdown_ratio + EXACT


def test_safety_may_go_below_it() -> None:
    job = own(running("1", ("c1",), flex=Flex.FLEX0), 600.0)
    seen = over(job, excess_watts=20_000.0, kind=LimitKind.SAFETY)
    seen = replace(seen, nodes=calm(job, gpu_watts=590.0).nodes, lasting_watts={"grid": 50_000.0})
    cap = caps(seen)["1"]
    assert cap.kind is LimitKind.SAFETY
    assert cap.cap_watts is not None and cap.cap_watts < 400.0


def test_a_job_with_a_cap_of_its_own_needs_less_room() -> None:
    job = pending("7", 8)
    seen = situation(import_watts=25_500.0, jobs=(job,))
    assert pending_watts(seen, job, POLICY) == 8 * 800.0
    assert pending_watts(seen, own(job), POLICY) == 8 * 550.0
    assert holds(seen) != {}
    assert holds(situation(import_watts=24_500.0, jobs=(own(job),))) == {}
    assert holds(situation(import_watts=24_500.0, jobs=(job,))) != {}


def test_a_start_under_it_is_expected_to_stay_under_it() -> None:
    job = running("1", ("c1",), state=JobState.STARTING, started_seconds_ago=0.0)
    (free,) = job_loads(calm(job, gpu_watts=75.0), POLICY)
    (bound,) = job_loads(calm(own(job), gpu_watts=75.0), POLICY)
    assert free.gpu_watts + free.coming_watts == pytest.approx(650.0 + 225.0)
    assert bound.gpu_watts + bound.coming_watts == pytest.approx(400.0 + 225.0)
    assert (free.uncapped_watts, bound.uncapped_watts) == (650.0, 400.0)


def test_a_gate_opens_onto_it() -> None:
    policy = Policy(start_ramp_watts_per_second=100.0)
    job = own(running("1", ("c1", "c2"), flex=Flex.FLEX3, state=JobState.STARTING, started_seconds_ago=0.0))
    seen = replace(calm(job, gpu_watts=75.0), least_minute_watts=15_000.0)
    assert 0.0 < (caps(seen, policy)["1"].cap_watts or 0.0) <= 400.0
    up = {"1": cap_lease("1", 400.0, uncapped_watts=400.0)}
    run = own(running("1", ("c1", "c2"), flex=Flex.FLEX3, started_seconds_ago=30.0))
    opened = caps(replace(calm(run, gpu_watts=395.0), caps=up), policy)["1"]
    assert (opened.cap_watts, opened.own) == (400.0, True)
