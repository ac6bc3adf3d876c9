"""Pauses: only where caps cannot or cost more, only as long as was promised, and no back and forth."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.action import HoldJob, PauseJob, Plan, ResumeJob, SetCap
from slurm_power.model.job import Flex, Job, JobState, Workload
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Lost, PauseLease, Snapshot
from slurm_power.plan.loads import JobLoad, load_table, loads_of
from slurm_power.plan.pausable import Candidate, may_be_paused, pausable_seconds
from slurm_power.plan.pauses import picked
from slurm_power.plan.planner import guard_cycle, plan_cycle
from slurm_power.plan.policy import Policy
from slurm_power.plan.prices import Price
from tests.plan.situations import cap_lease, pending, running, site, situation

POLICY = Policy(pause_flex="flex3")
# Two trainings at 650 W a GPU draw 10.4 kW; caps at the floors of their promises take 4.7 kW of that.
JOBS = (running("1", ("c1",), flex=Flex.FLEX3), running("2", ("c2",), flex=Flex.FLEX2))


def short(jobs: tuple[Job, ...] = JOBS, *, limit_watts: float = 6_500.0, **more: object) -> Snapshot:
    """The grid draws 12 kW and may draw ``limit_watts``."""
    seen = situation(
        of=site(grid_limit_watts=limit_watts, with_ess=False),
        import_watts=12_000.0,
        rack_watts=(10_400.0, 0.0),
        jobs=jobs,
        lasting_watts={"grid": 12_000.0, "rack1": 10_400.0},
    )
    return replace(seen, **more)  # type: ignore[arg-type]  # fields of the snapshot


def planned(snapshot: Snapshot, policy: Policy) -> Plan:
    return plan_cycle(snapshot, policy, hold_seconds=60.0)


def pauses(plan: Plan) -> list[str]:
    return [action.job_id for action in plan.actions if isinstance(action, PauseJob) and not action.renewed]


def lease(job_id: str, paused_seconds: float, kind: LimitKind = LimitKind.ECONOMIC) -> PauseLease:
    return PauseLease(job_id=job_id, kind=kind, drawn_watts=650.0, paused_seconds=paused_seconds)


def test_nothing_is_paused_where_the_site_does_not_allow_it() -> None:
    assert pauses(planned(short(), Policy())) == []


def test_a_job_is_paused_when_caps_cannot_reach_the_limit() -> None:
    plan = planned(short(), POLICY)
    assert pauses(plan) == ["1"]
    (pause,) = [action for action in plan.actions if isinstance(action, PauseJob)]
    assert "caps are at their floors" in pause.reason
    assert pause.saved_watts == pytest.approx(8 * (315.0 - 120.0), rel=0.05)


def test_the_guard_begins_no_pause_and_renews_those_that_stand() -> None:
    assert pauses(guard_cycle(short(), POLICY)) == []
    assert only(guard_cycle(standing(30.0, import_watts=9_000.0), POLICY)).job_id == "1"


def test_caps_that_reach_the_limit_are_enough() -> None:
    plan = planned(short(limit_watts=11_500.0), POLICY)
    assert pauses(plan) == []
    assert any(isinstance(action, SetCap) for action in plan.actions)


@pytest.mark.parametrize(
    "job",
    [
        running("1", ("c1",), flex=Flex.FLEX2),
        running("1", ("c1",), flex=Flex.FLEX0),
        running("1", ("c1",), flex=Flex.FLEX3, workload=Workload.INFERENCE),
        running("1", ("c1",), flex=Flex.FLEX3, started_seconds_ago=60.0),
        running("1", ("c1",), flex=Flex.FLEX3, state=JobState.SUSPENDED),
        replace(running("1", ("c1",), flex=Flex.FLEX3), nodes=("c1", "c3")),
        replace(running("1", ("c1",), flex=Flex.FLEX3), started=None),
    ],
    ids=["class", "flex0", "inference", "too young", "stopped by others", "a node is silent", "no start"],
)
def test_who_is_never_paused(job: Job) -> None:
    assert pauses(planned(short((job, JOBS[1])), POLICY)) == []


def test_a_yielded_node_keeps_its_job() -> None:
    assert pauses(planned(short(yielded_nodes=frozenset({"c1"})), POLICY)) == []


def test_a_job_rests_between_pauses() -> None:
    rested = {"1": Lost(seconds=10.0, resumed_seconds_ago=601.0, resumed_watts=650.0)}
    tired = {"1": Lost(seconds=10.0, resumed_seconds_ago=599.0, resumed_watts=650.0)}
    assert pauses(planned(short(lost=rested), POLICY)) == ["1"]
    assert pauses(planned(short(lost=tired), POLICY)) == []


def test_a_spike_of_one_reading_pauses_nobody() -> None:
    spike = short(lasting_watts={"grid": 10_000.0, "rack1": 10_000.0})
    assert pauses(planned(spike, POLICY)) == []


def test_a_safety_limit_pauses_before_promises_stay_broken() -> None:
    """The breaker gets its caps at once; who may be paused is, so that the others get their promise back."""
    seen = short()
    grid = replace(seen.site.circuits["grid"], limit_kind=LimitKind.SAFETY)
    safe = replace(seen, site=replace(seen.site, circuits={**seen.site.circuits, "grid": grid}))
    plan = planned(safe, POLICY)
    beyond = [one for one in plan.actions if isinstance(one, SetCap) and "beyond the promise" in one.reason]
    assert beyond
    assert pauses(plan) == ["1"]


def test_a_job_that_only_relieves_the_cliff_is_paused_for_its_price() -> None:
    """Jobs in the cliff whose work counts much cost more than one of another account that stands."""
    dear = tuple(
        replace(running(str(number), ("c2",), flex=Flex.FLEX3), user=f"u{number}", account="dear")
        for number in (2, 3)
    )
    jobs = (running("1", ("c1",), flex=Flex.FLEX3), *dear)
    capped = {job.job_id: cap_lease(job.job_id, 330.0) for job in dear}
    seen = situation(
        of=site(grid_limit_watts=9_000.0, with_ess=False),
        import_watts=8_900.0,
        rack_watts=(8_900.0, 0.0),
        jobs=jobs,
        gpu_watts={"1": 650.0, "2": 330.0, "3": 330.0},
        caps=capped,
    )
    dearer = replace(POLICY, account_weights=("dear=8",), max_user_share_ratio=1.0)
    assert pauses(planned(seen, dearer)) == ["1"]
    assert pauses(planned(seen, replace(POLICY, account_weights=("dear=0.2",)))) == []


def standing(
    paused_seconds: float, *, import_watts: float, lost_seconds: float = 0.0, **more: object
) -> Snapshot:
    job = running("1", ("c1",), flex=Flex.FLEX3, started_seconds_ago=3600.0, state=JobState.SUSPENDED)
    seen = situation(
        of=site(grid_limit_watts=20_000.0, with_ess=False),
        import_watts=import_watts,
        rack_watts=(1_000.0, 0.0),
        jobs=(job,),
        gpu_watts={"1": 120.0},
    )
    lost = {"1": Lost(seconds=lost_seconds + paused_seconds)}
    return replace(seen, pauses={"1": lease("1", paused_seconds)}, lost=lost, **more)  # type: ignore[arg-type]  # fields by name


def only(plan: Plan) -> PauseJob | ResumeJob:
    (action,) = [one for one in plan.actions if isinstance(one, PauseJob | ResumeJob)]
    return action


@pytest.mark.parametrize(
    ("paused_seconds", "import_watts", "lost_seconds", "resumed"),
    [
        (60.0, 5_000.0, 0.0, ""),  # room, but not yet long enough
        (121.0, 5_000.0, 0.0, "room for its full draw"),
        (121.0, 15_000.0, 0.0, ""),  # 5 kW are free, 6 kW and the margins are wanted
        (540.0, 19_000.0, 0.0, "as long as was promised"),
        (300.0, 19_000.0, 1_500.0, "as long as was promised"),  # half of the hour since its start is lost
    ],
)
def test_how_long_a_pause_stands(
    paused_seconds: float, import_watts: float, lost_seconds: float, resumed: str
) -> None:
    seen = standing(paused_seconds, import_watts=import_watts, lost_seconds=lost_seconds)
    action = only(planned(seen, POLICY))
    if resumed:
        assert isinstance(action, ResumeJob)
        assert resumed in action.reason
    else:
        assert isinstance(action, PauseJob)
        assert action.renewed


def test_a_pause_ends_when_the_site_no_longer_wants_any() -> None:
    assert isinstance(only(planned(standing(10.0, import_watts=19_000.0), Policy())), ResumeJob)


def test_one_resumed_job_takes_the_room_until_it_draws_again() -> None:
    seen = standing(200.0, import_watts=11_000.0)
    back = replace(
        situation(
            of=seen.site,
            import_watts=11_000.0,
            rack_watts=(1_000.0, 0.0),
            jobs=(seen.jobs[0], running("2", ("c2",), flex=Flex.FLEX3)),
            gpu_watts={"1": 120.0, "2": 120.0},
        ),
        pauses=seen.pauses,
        lost={**seen.lost, "2": Lost(seconds=200.0, resumed_seconds_ago=2.0, resumed_watts=650.0)},
    )
    assert isinstance(only(planned(seen, POLICY)), ResumeJob)
    assert isinstance(only(planned(back, POLICY)), PauseJob)


def test_what_a_pause_saves_is_no_room_for_new_starts() -> None:
    """A waiting job would start into the room of the paused one, which then could not go on."""
    seen = standing(30.0, import_watts=9_000.0)
    waiting = pending("9", 8)
    free = replace(seen, jobs=(*seen.jobs, waiting), pauses={}, lost={})
    taken = replace(seen, jobs=(*seen.jobs, waiting))

    def held(snapshot: Snapshot) -> bool:
        plan = plan_cycle(snapshot, POLICY, hold_seconds=60.0)
        return any(isinstance(action, HoldJob) and action.job_id == "9" for action in plan.actions)

    assert not held(free)
    assert held(taken)


def test_the_cap_of_a_paused_job_stays_as_it_was() -> None:
    """It would take the room that others can use, and come back with more than it left with."""
    seen = standing(30.0, import_watts=9_000.0)
    seen = replace(seen, caps={"1": cap_lease("1", 400.0)})
    awake = replace(seen, pauses={}, jobs=(running("1", ("c1",), flex=Flex.FLEX3),))

    def cap_watts(snapshot: Snapshot) -> float | None:
        return next(one.cap_watts for one in planned(snapshot, POLICY).actions if isinstance(one, SetCap))

    assert cap_watts(seen) == 400.0
    assert cap_watts(awake) != 400.0


def test_a_successor_is_paused_before_the_pause_of_another_ends() -> None:
    jobs = (
        running("1", ("c1",), flex=Flex.FLEX3, started_seconds_ago=3600.0, state=JobState.SUSPENDED),
        running("2", ("c2",), flex=Flex.FLEX3, started_seconds_ago=3600.0),
    )
    seen = replace(
        situation(
            of=site(grid_limit_watts=8_000.0, with_ess=False),
            import_watts=7_700.0,
            rack_watts=(6_160.0, 0.0),
            jobs=jobs,
            gpu_watts={"1": 120.0, "2": 330.0},
            caps={"2": cap_lease("2", 330.0)},
        ),
        pauses={"1": lease("1", 530.0)},
        lost={"1": Lost(seconds=530.0)},
    )
    plan = planned(seen, POLICY)
    assert pauses(plan) == ["2"]
    assert any(isinstance(one, PauseJob) and one.renewed and one.job_id == "1" for one in plan.actions)


@given(
    since=st.floats(0.0, 1e6),
    lost=st.floats(0.0, 1e6),
    flex=st.sampled_from(Flex),
)
def test_the_promise_holds_at_every_moment_of_the_longest_pause(
    since: float, lost: float, flex: Flex
) -> None:
    job = running("1", ("c1",), flex=flex, started_seconds_ago=since)
    seen = replace(situation(jobs=(job,)), lost={"1": Lost(seconds=lost)})
    seconds = pausable_seconds(seen, job, POLICY)
    assert 0.0 <= seconds <= POLICY.pause_most_seconds
    if seconds > 0.0:
        assert lost + seconds <= flex.max_slowdown_ratio * (since + seconds) * (1.0 + 1e-9) + 1e-3


@given(
    saved=st.lists(st.floats(100.0, 10_000.0), min_size=0, max_size=8),
    prices=st.lists(st.floats(0.1, 20.0), min_size=8, max_size=8),
    need=st.floats(1.0, 30_000.0),
)
def test_what_is_picked_meets_the_need_or_is_everybody(
    saved: list[float], prices: list[float], need: float
) -> None:
    seen = situation(jobs=JOBS)
    load = _load(seen)
    found = [
        Candidate(
            load=replace(load, job=replace(load.job, job_id=str(number))),
            gpu_watts=watts,
            saved_watts=watts,
            lasts_seconds=300.0,
            price=Price(price, 0.0),
        )
        for number, (watts, price) in enumerate(zip(saved, prices, strict=False))
    ]
    chosen = picked(found, need, 0.0, 0.0)
    assert len({one.load.job.job_id for one in chosen}) == len(chosen)
    total = sum(one.saved_watts for one in chosen)
    assert total >= need or len(chosen) == len(found)
    if chosen and total >= need:
        assert total - chosen[-1].saved_watts < need


def _load(seen: Snapshot) -> JobLoad:
    return loads_of(seen, load_table(seen, POLICY), [0])[0]


@given(draw=st.data())
def test_a_guard_with_pauses_is_as_repeatable_as_without(draw: st.DataObject) -> None:
    seen = short(limit_watts=draw.draw(st.floats(2_000.0, 14_000.0)))
    assert planned(seen, POLICY) == planned(seen, POLICY)
    assert all(may_be_paused(job, POLICY) for job in seen.jobs if job.job_id in pauses(planned(seen, POLICY)))
