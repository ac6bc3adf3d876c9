"""What users ask for on their own jobs: the longest hold, an end in time, a cap of their own."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_power.model.action import HoldJob, PauseJob, ReleaseJob, ResumeJob, SetCap
from slurm_power.model.job import Flex, Job, JobState
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import HoldLease, Lost, PauseLease, Snapshot
from slurm_power.plan.cap_columns import CapColumns
from slurm_power.plan.curves import capped_performance_ratio, performance_ratio
from slurm_power.plan.explain import explain
from slurm_power.plan.gates import with_gates
from slurm_power.plan.job_table import START_SECONDS, longest_hold_seconds
from slurm_power.plan.loads import job_loads, load_table
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from slurm_power.plan.prolog_waits import most_wait_seconds
from slurm_power.plan.promises import spare_seconds
from tests.plan.situations import AT, cap_lease, pending, running, site, situation
from tests.plan.test_planner_properties import snapshots

POLICY = Policy()
EXACT = 1e-6
property_test = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def actions(snapshot: Snapshot, policy: Policy = POLICY) -> tuple[object, ...]:
    return plan_cycle(snapshot, policy, hold_seconds=60.0).actions


def caps(snapshot: Snapshot, policy: Policy = POLICY) -> dict[str, SetCap]:
    return {action.job_id: action for action in actions(snapshot, policy) if isinstance(action, SetCap)}


def holds(snapshot: Snapshot) -> dict[str, float]:
    return {action.job_id: action.seconds for action in actions(snapshot) if isinstance(action, HoldJob)}


def full(*jobs: Job, held: dict[str, HoldLease] | None = None) -> Snapshot:
    """A site without room for any start."""
    return situation(import_watts=29_000.0, jobs=jobs, holds=held)


def over(*jobs: Job, excess_watts: float = 9_000.0, kind: LimitKind = LimitKind.ECONOMIC) -> Snapshot:
    """A site that draws more than its limit, without a battery."""
    watts = 30_000.0 + excess_watts
    return situation(of=site(with_ess=False, grid_kind=kind), import_watts=watts, jobs=jobs)


def until(job: Job, seconds: float) -> Job:
    return replace(job, finish_by=AT + timedelta(seconds=seconds))


def own(job: Job, watts: float = 400.0) -> Job:
    return replace(job, own_cap_watts=watts)


def calm(*jobs: Job, gpu_watts: float = 380.0) -> Snapshot:
    draws = {job.job_id: gpu_watts for job in jobs}
    return situation(of=site(with_ess=False), import_watts=15_000.0, jobs=jobs, gpu_watts=draws)


# --- the longest hold -------------------------------------------------------------------------------------


def test_a_hold_is_no_longer_than_its_user_allows() -> None:
    job = replace(pending("7", 8), max_hold_seconds=25.0)
    assert holds(full(job)) == {"7": 25.0}
    assert holds(full(replace(job, max_hold_seconds=0.0))) == {}
    assert longest_hold_seconds(job) == 25.0


def test_a_user_cannot_ask_for_more_than_the_class_allows() -> None:
    job = replace(pending("7", 8, flex=Flex.FLEX1, time_limit_seconds=300.0), max_hold_seconds=600.0)
    assert longest_hold_seconds(job) == pytest.approx(30.0)
    assert holds(full(job)) == {"7": pytest.approx(30.0)}


def test_a_job_that_has_waited_as_long_as_its_user_allows_is_let_go() -> None:
    job = replace(pending("7", 8), max_hold_seconds=100.0)
    lease = {"7": HoldLease(job_id="7", held_seconds=100.0, ends_in_seconds=20.0)}
    [freed] = [action for action in actions(full(job, held=lease)) if isinstance(action, ReleaseJob)]
    assert freed.reason == "it has waited as long as was promised"


def test_the_reason_says_whose_promise_it_is() -> None:
    short = replace(pending("7", 8), max_hold_seconds=90.0)
    [one] = [action for action in actions(full(short)) if isinstance(action, HoldJob)]
    assert "its user allows to hold it for 90 s" in one.reason
    [other] = [
        action for action in actions(full(until(pending("8", 8), 9000.0))) if isinstance(action, HoldJob)
    ]
    assert "flex3 allows to wait 1800 s, and it is to end by 2026-01-02T05:34:05Z" in other.reason


# --- an end in time: waiting jobs -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left_seconds", "hold_seconds"),
    [
        (3600.0 + START_SECONDS + 45.0, 45.0),
        (3600.0 + START_SECONDS + 4000.0, 60.0),
        (3600.0 + START_SECONDS, None),
        (3600.0, None),
        (10.0, None),
        (-10.0, None),
    ],
)
def test_a_hold_ends_early_enough_to_end_in_time(left_seconds: float, hold_seconds: float | None) -> None:
    found = holds(full(until(pending("7", 8, time_limit_seconds=3600.0), left_seconds)))
    assert found == ({} if hold_seconds is None else {"7": pytest.approx(hold_seconds)})


def test_slurms_own_deadline_counts_the_same_and_the_earlier_of_both_counts() -> None:
    late = until(pending("7", 8, time_limit_seconds=3600.0), 90_000.0)
    assert holds(full(late)) == {"7": 60.0}
    dead = replace(late, deadline=AT + timedelta(seconds=3600.0 + START_SECONDS + 30.0))
    assert holds(full(dead)) == {"7": pytest.approx(30.0)}
    assert dead.ends_by == dead.deadline


def test_a_job_whose_length_nobody_knows_is_not_held_before_a_deadline() -> None:
    job = pending("7", 8, time_limit_seconds=None)
    assert holds(full(job)) != {}
    assert holds(full(until(job, 1e6))) == {}


def test_a_job_that_must_start_to_end_in_time_is_let_go_before_others() -> None:
    job = until(pending("7", 8, time_limit_seconds=3600.0), 3600.0)
    lease = {"7": HoldLease(job_id="7", held_seconds=10.0, ends_in_seconds=20.0)}
    [freed] = [action for action in actions(full(job, held=lease)) if isinstance(action, ReleaseJob)]
    assert freed.reason == "it must start now to end in time"


# --- an end in time: running jobs -------------------------------------------------------------------------


def test_a_job_that_needs_all_its_time_is_not_capped_for_money_but_for_safety() -> None:
    job = replace(running("1", ("c1",), flex=Flex.FLEX3), time_limit_seconds=3600.0)  # 3000 s are left
    assert caps(over(job)) != {}
    assert caps(over(until(job, 3000.0))) == {}
    assert caps(over(until(job, 100.0))) == {}
    seen = over(until(job, 3000.0), kind=LimitKind.SAFETY)
    for_safety = caps(replace(seen, lasting_watts={"grid": 39_000.0}))
    assert "beyond the promise" in for_safety["1"].reason
    assert caps(over(until(replace(job, time_limit_seconds=None), 1e6))) == {}, (
        "nobody knows how long it needs"
    )


def test_a_job_is_slowed_no_more_than_lets_it_end_in_time() -> None:
    job = replace(running("1", ("c1",), flex=Flex.FLEX3), time_limit_seconds=3600.0)
    tight = caps(over(until(job, 3000.0 / 0.9)))["1"]
    assert 0.05 < tight.slowdown_ratio <= 0.1 + EXACT
    loose = caps(over(until(job, 30_000.0)))["1"]
    assert loose.cap_watts == caps(over(job))["1"].cap_watts


def test_what_a_job_has_lost_already_is_still_to_be_done() -> None:
    job = until(replace(running("1", ("c1",), flex=Flex.FLEX3), time_limit_seconds=3600.0), 4000.0)
    seen = over(job)
    assert spare_seconds(seen, job) == pytest.approx(1000.0)
    assert spare_seconds(replace(seen, lost={"1": Lost(seconds=600.0)}), job) == pytest.approx(400.0)
    assert caps(replace(seen, lost={"1": Lost(seconds=1000.0)})) == {}


def test_a_cap_that_stands_goes_when_the_deadline_no_longer_allows_it() -> None:
    job = until(replace(running("1", ("c1",), flex=Flex.FLEX3), time_limit_seconds=3600.0), 2000.0)
    # The grid's economic limit is full; the racks' safety limits have room.
    seen = replace(over(job, excess_watts=-300.0), caps={"1": cap_lease("1", 400.0)})
    given = caps(seen)["1"]
    assert given.cap_watts is None or given.cap_watts >= 650.0


def test_a_pause_is_no_longer_than_the_deadline_allows() -> None:
    policy = Policy(pause_flex="flex3")
    job = replace(
        running("1", ("c1",), flex=Flex.FLEX3, started_seconds_ago=3000.0), time_limit_seconds=7200.0
    )
    lease = {"1": PauseLease(job_id="1", kind=LimitKind.ECONOMIC, drawn_watts=650.0, paused_seconds=130.0)}

    def ends(one: Job) -> bool:
        stopped = replace(over(one), nodes=calm(one, gpu_watts=120.0).nodes)
        seen = replace(stopped, pauses=lease, lost={"1": Lost(seconds=130.0)})
        found = [action for action in actions(seen, policy) if isinstance(action, PauseJob | ResumeJob)]
        return [type(action) for action in found] == [ResumeJob]

    assert not ends(job)
    assert not ends(until(job, 9000.0))
    assert ends(until(job, 4200.0))


def test_gates_and_prologs_wait_within_the_same_bounds() -> None:
    policy = Policy(start_ramp_watts_per_second=100.0, prolog_wait_seconds=60.0)
    job = replace(
        running("1", ("c1", "c2"), flex=Flex.FLEX3, state=JobState.STARTING, started_seconds_ago=0.0),
        time_limit_seconds=3600.0,
    )

    def gated(one: Job) -> bool:
        seen = situation(import_watts=5000.0, jobs=(one,), gpu_watts={"1": 75.0})
        return bool(with_gates(seen, load_table(seen, policy), (), (), policy))

    assert gated(job)
    assert gated(until(job, 9000.0))
    assert not gated(until(job, 3600.0))
    waits = [most_wait_seconds(situation(jobs=(one,)), one, policy) for one in (job, until(job, 3700.0))]
    assert waits == [60.0, pytest.approx(20.0)]
    assert most_wait_seconds(situation(), replace(job, max_hold_seconds=0.0), policy) == 0.0


def test_the_plan_can_be_explained() -> None:
    job = own(running("1", ("c1",), flex=Flex.FLEX3), 500.0)
    late = until(replace(running("2", ("c2",), flex=Flex.FLEX3), time_limit_seconds=3600.0), 3000.0)
    seen = over(job, late)
    (grid, *_) = explain(seen, plan_cycle(seen, POLICY, hold_seconds=60.0), POLICY)
    remarks = {row.subject: row.remark for row in grid.levers}
    assert remarks["2"] == "it must run at full speed to end in time: for safety only, and last"


# --- properties -------------------------------------------------------------------------------------------


@st.composite
def promised(draw: st.DrawFn) -> Snapshot:
    """Any snapshot, with wishes of their users on some of its jobs."""
    seen = draw(snapshots())
    moments = st.none() | st.floats(-100.0, 12_000.0).map(lambda seconds: AT + timedelta(seconds=seconds))
    jobs = tuple(
        replace(
            job,
            max_hold_seconds=draw(st.none() | st.sampled_from((0.0, 5.0)) | st.floats(0.0, 4000.0)),
            finish_by=draw(moments),
            deadline=draw(moments),
            own_cap_watts=draw(st.none() | st.floats(1.0, 900.0)),
            time_limit_seconds=draw(st.sampled_from((job.time_limit_seconds, 700.0, 3600.0))),
        )
        for job in seen.jobs
    )
    lost = {job.job_id: Lost(seconds=draw(st.floats(0.0, 300.0))) for job in jobs if draw(st.booleans())}
    return replace(seen, jobs=jobs, lost=lost)


@property_test
@given(promised())
def test_no_hold_breaks_a_promise(snapshot: Snapshot) -> None:
    jobs = {job.job_id: job for job in snapshot.jobs}
    for action in actions(snapshot):
        if not isinstance(action, HoldJob):
            continue
        job, lease = jobs[action.job_id], snapshot.holds.get(action.job_id)
        held_seconds = 0.0 if lease is None else lease.held_seconds
        if job.max_hold_seconds is not None:
            assert held_seconds + action.seconds <= job.max_hold_seconds + EXACT
        for moment in (job.finish_by, job.deadline):
            if moment is not None:
                assert job.time_limit_seconds is not None
                ends_in_seconds = action.seconds + job.time_limit_seconds
                assert ends_in_seconds <= (moment - snapshot.at).total_seconds() + EXACT


@property_test
@given(promised())
def test_no_new_cap_for_money_breaks_a_promise(snapshot: Snapshot) -> None:
    jobs = {job.job_id: job for job in snapshot.jobs}
    natural = CapColumns(snapshot, load_table(snapshot, POLICY), POLICY)
    for action in actions(snapshot):
        if not isinstance(action, SetCap) or action.cap_watts is None:
            continue
        job, lease = jobs[action.job_id], snapshot.caps.get(action.job_id)
        if job.own_cap_watts is not None and action.lock_hertz is None:
            assert action.cap_watts <= max(job.own_cap_watts, 200.0) + EXACT
        if action.own:
            assert action.slowdown_ratio == 0.0
            continue
        if lease is not None and action.cap_watts >= lease.cap_watts:
            continue  # it stands, or is being given back
        row = natural.placed.row[job.job_id]
        at_most = float(natural.natural_watts[row])
        curve = capped_performance_ratio if action.lock_hertz is None else performance_ratio
        before = curve(job.workload, min(1.0, float(natural.uncapped_watts[row]) / at_most))
        slowdown = 1.0 - curve(job.workload, min(1.0, action.cap_watts / at_most)) / before
        assert slowdown <= job.flex.max_slowdown_ratio + EXACT
        for moment in (job.finish_by, job.deadline):
            if moment is None:
                continue
            assert job.time_limit_seconds is not None and job.started is not None
            ran_seconds = (snapshot.at - job.started).total_seconds()
            needed_seconds = max(0.0, job.time_limit_seconds - ran_seconds)
            left_seconds = (moment - snapshot.at).total_seconds()
            assert left_seconds > 0.0
            assert needed_seconds <= left_seconds * (1.0 - slowdown) + EXACT * left_seconds


@property_test
@given(promised())
def test_every_job_with_a_cap_of_its_own_has_one(snapshot: Snapshot) -> None:
    found = caps(snapshot)
    for load in job_loads(snapshot, POLICY):
        if load.reachable and load.job.own_cap_watts is not None and load.job.own_cap_watts < 700.0:
            assert found[load.job.job_id].cap_watts is not None
