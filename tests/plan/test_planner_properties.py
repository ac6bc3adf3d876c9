"""Promises that every plan keeps, whatever the snapshot; and the loop closed over a small pure plant."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from slurm_power.model.action import HoldJob, Plan, SetCap, SetDischarge
from slurm_power.model.job import Flex, Job, JobState, Workload
from slurm_power.model.reading import Quality
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import CapLease, HoldLease, LimitEvent, Snapshot
from slurm_power.plan.clocks import LEAST_CLOCK_RATIO
from slurm_power.plan.curves import promised_floor_watts
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import cap_lease, ess_reading, pending, running, site, situation

POLICY = Policy()
NODES = ("c1", "c2", "c3", "c4")
DEFAULT_CAP_WATTS = 700.0
MIN_CAP_WATTS = 200.0

watts_per_gpu = st.floats(60.0, 740.0)
property_test = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def plan(snapshot: Snapshot) -> Plan:
    return plan_cycle(snapshot, POLICY, hold_seconds=60.0)


def floor_watts(job: Job, uncapped_watts: float) -> float:
    return promised_floor_watts(
        job,
        uncapped_watts=uncapped_watts,
        default_cap_watts=DEFAULT_CAP_WATTS,
        min_cap_watts=MIN_CAP_WATTS,
        policy=POLICY,
    )


@st.composite
def placed_jobs(draw: st.DrawFn) -> tuple[Job, ...]:
    """Up to one job a node, some over two nodes, some only just starting."""
    jobs = []
    free = list(NODES)
    for number in range(draw(st.integers(0, 4))):
        if not free:
            break
        nodes = tuple(free.pop() for _ in range(min(len(free), draw(st.integers(1, 2)))))
        jobs.append(
            running(
                str(number),
                nodes,
                flex=draw(st.sampled_from(Flex)),
                workload=draw(st.sampled_from(Workload)),
                gpus_per_node=draw(st.sampled_from((1, 4, 8))),
                started_seconds_ago=draw(st.sampled_from((1.0, 10.0, 600.0))),
                state=draw(st.sampled_from((JobState.STARTING, JobState.RUNNING, JobState.SUSPENDED))),
            )
        )
    return tuple(jobs)


@st.composite
def pending_jobs(draw: st.DrawFn) -> tuple[Job, ...]:
    return tuple(
        pending(
            str(100 + number),
            draw(st.integers(0, 16)),
            flex=draw(st.sampled_from(Flex)),
            time_limit_seconds=draw(st.sampled_from((None, 60.0, 3600.0))),
            submitted_seconds_ago=draw(st.floats(0.0, 900.0)),
            begin_in_seconds=draw(st.sampled_from((None, -5.0, 300.0))),
            held_by_user=draw(st.booleans()),
        )
        for number in range(draw(st.integers(0, 3)))
    )


@st.composite
def leases_of(draw: st.DrawFn, jobs: tuple[Job, ...], draws: dict[str, float]) -> dict[str, CapLease]:
    """Economic caps as earlier cycles may have left them: between the promise and what it took."""
    leases = {}
    for job in jobs:
        uncapped_watts = max(draws[job.job_id], draw(watts_per_gpu))
        # A start lifts what the planner expects of the job, and with it the floor.
        lowest_watts = floor_watts(job, max(uncapped_watts, POLICY.training_gpu_watts))
        if job.flex is not Flex.FLEX0 and lowest_watts < DEFAULT_CAP_WATTS and draw(st.booleans()):
            leases[job.job_id] = cap_lease(
                job.job_id,
                draw(st.floats(lowest_watts, DEFAULT_CAP_WATTS)),
                uncapped_watts=uncapped_watts,
                changed_seconds_ago=draw(st.floats(0.0, 60.0)),
                lowered_watts=draw(st.floats(0.0, 300.0)),
                lock_hertz=1.5e9 if job.workload is Workload.GENERATION else None,
            )
    return leases


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Any moment of the small site whose grid limit is economic."""
    jobs, waiting = draw(placed_jobs()), draw(pending_jobs())
    draws = {job.job_id: draw(watts_per_gpu) for job in jobs}
    # Only a site with room, no cap and no hold recharges; chance alone would hardly ever make one.
    calm = draw(st.booleans())
    held = [job for job in waiting if not calm and not job.held_by_user and draw(st.booleans())]
    events = (
        LimitEvent(
            event_id="ev-1",
            circuit="grid",
            limit_watts=draw(st.floats(0.0, 30_000.0)),
            starts_in_seconds=draw(st.floats(-60.0, 60.0)),
            ends_in_seconds=draw(st.floats(60.0, 600.0)),
            reason="the utility asks",
        ),
    )
    return situation(
        of=site(grid_limit_watts=draw(st.floats(1000.0, 40_000.0)), with_ess=draw(st.booleans())),
        import_watts=draw(st.floats(0.0, 15_000.0) if calm else st.none() | st.floats(0.0, 60_000.0)),
        import_age_seconds=draw(st.sampled_from((0.3, 4.0, 9.0))),
        # Never so much that a start could pass the rack's own limit, which is one for safety.
        rack_watts=(draw(st.floats(0.0, 24_000.0)), draw(st.floats(0.0, 24_000.0))),
        gpu_watts=draws,
        jobs=(*jobs, *waiting),
        ess=ess_reading(
            discharge_watts=draw(st.floats(-8000.0, 8000.0)),
            soc_ratio=draw(st.sampled_from((0.0, 0.2)) | st.floats(0.0, 1.0)),
            energy_rating_kwh=draw(st.floats(0.1, 50.0)),
            remote=draw(st.sampled_from((True, True, True, False))),
            alarms=draw(st.sampled_from(((), (), ("overheated",)))),
            quality=draw(st.sampled_from(Quality)),
            max_watts=draw(st.floats(0.0, 9000.0)),
        ),
        caps={} if calm else draw(leases_of(jobs, draws)),
        holds={
            job.job_id: HoldLease(
                job_id=job.job_id,
                held_seconds=draw(st.floats(0.0, 4000.0)),
                ends_in_seconds=draw(st.floats(0.0, 60.0)),
            )
            for job in held
        },
        setpoint_watts=draw(st.sampled_from((0.0, 3000.0, -3000.0))),
        recent_load_watts=() if calm else tuple(draw(st.lists(st.floats(0.0, 60_000.0), max_size=3))),
        events=draw(st.sampled_from(((), events))),
        lasting_watts=draw(st.sampled_from(({}, {"grid": 20_000.0, "rack1": 9000.0}))),
    )


@property_test
@given(snapshots())
def test_the_same_snapshot_gives_the_same_plan(snapshot: Snapshot) -> None:
    assert plan(snapshot) == plan(replace(snapshot))


@property_test
@given(snapshots())
def test_an_economic_limit_keeps_every_promise(snapshot: Snapshot) -> None:
    jobs = {job.job_id: job for job in snapshot.jobs}
    for action in plan(snapshot).actions:
        if isinstance(action, HoldJob):
            assert jobs[action.job_id].flex is not Flex.FLEX0
        if isinstance(action, SetCap) and action.cap_watts is not None:
            job = jobs[action.job_id]
            assert action.kind is LimitKind.ECONOMIC
            assert job.flex is not Flex.FLEX0
            gpus = [gpu for name, _ in job.gpus_by_node for gpu in snapshot.nodes[name].gpus.values()]
            seen_watts = gpus[0].power_watts
            lease = snapshot.caps.get(job.job_id)
            uncapped_watts = seen_watts if lease is None else max(seen_watts, lease.uncapped_watts)
            assert action.cap_watts >= floor_watts(job, uncapped_watts) - 1e-6


@property_test
@given(snapshots())
def test_a_cap_only_ever_takes(snapshot: Snapshot) -> None:
    for action in plan(snapshot).actions:
        if isinstance(action, SetCap) and action.cap_watts is not None:
            if action.lock_hertz is None:
                assert MIN_CAP_WATTS <= action.cap_watts <= DEFAULT_CAP_WATTS
            else:  # a clock brings the draw below what a power limit could be
                assert 0.0 < action.cap_watts <= DEFAULT_CAP_WATTS
                assert LEAST_CLOCK_RATIO * 1.98e9 - 15e6 <= action.lock_hertz <= 1.98e9
            assert 0.0 <= action.slowdown_ratio <= 1.0


@property_test
@given(snapshots())
def test_the_battery_stays_within_its_limits_and_its_reserve(snapshot: Snapshot) -> None:
    for action in plan(snapshot).actions:
        if isinstance(action, SetDischarge):
            reading = snapshot.ess[action.ess]
            assert reading.usable()
            assert -reading.max_charge_watts <= action.discharge_watts <= reading.max_discharge_watts
            if reading.soc_ratio <= snapshot.site.ess[action.ess].reserve_soc_ratio:
                assert action.discharge_watts <= 0.0


@property_test
@given(snapshots())
def test_a_battery_that_may_give_nothing_is_told_to_stop(snapshot: Snapshot) -> None:
    for name, ess in snapshot.site.ess.items():
        reading = snapshot.ess[name]
        if (
            reading.usable()
            and reading.soc_ratio <= ess.reserve_soc_ratio
            and snapshot.setpoints.get(name, 0.0) > 0.0
        ):
            asked = [a for a in plan(snapshot).actions if isinstance(a, SetDischarge) and a.ess == name]
            assert len(asked) == 1
            assert asked[0].discharge_watts <= 0.0


@property_test
@given(snapshots())
def test_charging_never_lifts_the_import_above_the_target(snapshot: Snapshot) -> None:
    charge_watts = sum(
        -action.discharge_watts
        for action in plan(snapshot).actions
        if isinstance(action, SetDischarge) and action.discharge_watts < 0.0
    )
    if charge_watts > 0.0:
        import_watts = snapshot.circuits["grid"].known_watts()
        assert import_watts is not None, "charging blind"
        if snapshot.recent_load_watts:
            load_watts = max(snapshot.recent_load_watts)
        else:
            fed_watts = sum(
                ess.discharge_watts for ess in snapshot.ess.values() if ess.quality is not Quality.INVALID
            )
            load_watts = import_watts + fed_watts
        target_watts = snapshot.limit_watts("grid", POLICY.event_lead_seconds) * (1.0 - POLICY.margin_ratio)
        assert load_watts + charge_watts <= target_watts + 1e-6


@property_test
@given(snapshots())
def test_every_action_says_why(snapshot: Snapshot) -> None:
    found = plan(snapshot)
    assert all(action.reason.strip() for action in found.actions)
    assert all(shortfall.reason.strip() and shortfall.watts > 0.0 for shortfall in found.shortfalls)


class _AllSeen(Exception):  # noqa: N818  # it is no error
    pass


def test_the_strategy_reaches_every_kind_of_action() -> None:
    """Without this, a strategy that never caps anything would let all of the above pass."""
    wanted = {"SetCap", "HoldJob", "ReleaseJob", "SetDischarge", "cap", "uncap", "charge", "discharge"}
    seen: set[str] = set()

    # Hypothesis draws from the constants of what is loaded, so how many it takes depends on who ran before.
    @settings(max_examples=5_000, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    @given(snapshots())
    def look(snapshot: Snapshot) -> None:
        for action in plan(snapshot).actions:
            seen.add(type(action).__name__)
            if isinstance(action, SetCap):
                seen.add("uncap" if action.cap_watts is None else "cap")
            if isinstance(action, SetDischarge):
                seen.add("charge" if action.discharge_watts < 0.0 else "discharge")
        if seen >= wanted:
            raise _AllSeen

    with pytest.raises(_AllSeen):
        look()
