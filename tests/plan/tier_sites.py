"""Made-up moments of a small site with model tiers: mostly sound, odd in one way or another."""

from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from hypothesis import strategies as st

from slurm_power.model.grid_event import LimitEvent
from slurm_power.model.job import Flex, Job, JobState, Workload
from slurm_power.model.progress import JobProgress
from slurm_power.model.service import Backend, BackendState, Service, ServiceLease
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot, TierMove
from slurm_power.model.tier import ANY_TIER, Catalog, Family, PowerSource, Quality, Tier
from tests.plan.situations import AT, pending, running, site, situation

T = TypeVar("T")
NODES = ("c1", "c2", "c3", "c4")
NAMES = ("full", "half", "int8", "small")


def mostly(usual: T, *others: T) -> st.SearchStrategy[T]:
    """The usual one seven times in eight: what is odd in all ways is refused for the first."""
    return st.sampled_from((usual,) * (7 * len(others)) + others)


@st.composite
def tiers(draw: st.DrawFn, name: str) -> Tier:
    heavy = name == "full"
    return Tier(
        name=name,
        gpu_count=8 if heavy else draw(mostly(4, 1, 8, 16)),
        watts_per_gpu=draw(mostly(600.0, None, 150.0)),
        power_source=draw(mostly(PowerSource.NVML, PowerSource.UNKNOWN, PowerSource.PROXY)),
        items_per_second=100.0 if heavy else draw(mostly(100.0, None, 50.0, 80.0, 95.0)),
        approved_by=draw(mostly("mlops", "")),
        quality=draw(st.sampled_from((*(Quality(value=0.97),) * 5, Quality(value=0.93), None))),
    )


@st.composite
def families(draw: st.DrawFn, name: str) -> Family:
    return Family(
        name=name,
        task="t",
        workload=draw(mostly(Workload.INFERENCE, Workload.TRAINING, Workload.GENERATION)),
        metric="accuracy",
        floor=draw(mostly(0.9, None)),
        owner=draw(mostly("", "alice")),
        tiers=tuple(draw(tiers(tier)) for tier in NAMES[: draw(st.integers(2, 4))]),
    )


Consent = tuple[str, ...]
consents: st.SearchStrategy[Consent] = mostly(("half", "int8", "small"), (), (ANY_TIER,), ("small",))
names = mostly("one/full", "", "one/half", "two/full", "gone/full")


@st.composite
def jobs(draw: st.DrawFn) -> tuple[Job, ...]:
    found = []
    for number, node in enumerate(NODES[: draw(st.sampled_from((4, 4, 2, 1)))]):
        job = running(
            str(number),
            (node,),
            flex=draw(st.sampled_from(Flex)),
            workload=draw(st.sampled_from(Workload)),
            gpus_per_node=draw(mostly(8, 2, 4)),
            started_seconds_ago=draw(mostly(600.0, 5.0, 60.0, 20_000.0)),
            state=draw(mostly(JobState.RUNNING, JobState.SUSPENDED)),
        )
        found.append(_with_tier(draw, job))
    for number in range(draw(st.integers(0, 2))):
        flex = draw(mostly(Flex.FLEX3, Flex.FLEX0, Flex.FLEX2))
        job = pending(str(50 + number), draw(mostly(8, 2)), flex=flex, workload=Workload.INFERENCE)
        start = draw(st.sampled_from((None, 20.0, 5_000.0)))
        at = None if start is None else AT + timedelta(seconds=start)
        found.append(replace(_with_tier(draw, job), expected_start=at))
    return tuple(found)


def _with_tier(draw: st.DrawFn, job: Job) -> Job:
    finish = draw(mostly(None, 3_000.0, 90_000.0))
    return replace(
        job,
        tier=draw(names),
        tiers_ok=draw(consents),
        min_quality=draw(st.sampled_from((None, 0.95))),
        requeues=draw(mostly(True, False)),
        time_limit_seconds=draw(mostly(36_000.0, None, 1_200.0)),
        finish_by=None if finish is None else AT + timedelta(seconds=finish),
    )


@st.composite
def words(draw: st.DrawFn, of: tuple[Job, ...]) -> dict[str, JobProgress]:
    return {
        job.job_id: JobProgress(
            step=100,
            samples_per_second=draw(mostly(10.0, 0.0)),
            age_seconds=draw(mostly(2.0, 5_000.0)),
            global_batch=draw(st.sampled_from((None, 64))),
            checkpoints=draw(mostly(True, False)),
            checkpoint_step=draw(st.sampled_from((None, 90))),
        )
        for job in of
        if draw(mostly(True, False))
    }


@st.composite
def services(draw: st.DrawFn, of: tuple[Job, ...]) -> dict[str, Service]:
    found = {}
    for number in range(draw(st.integers(0, 2))):
        serving = draw(mostly("full", *NAMES))
        job_id = draw(mostly(str(number), ""))
        found[f"s{number}"] = Service(
            name=f"s{number}",
            user="alice",
            account="physics",
            family=draw(mostly("one", "two", "gone")),
            full_tier="full",
            tiers_ok=draw(consents),
            min_quality=draw(st.sampled_from((None, 0.95))),
            serving=serving,
            backends=(Backend(tier=serving, state=BackendState.SERVING, job_id=job_id),),
            requests_per_second=draw(mostly(1.0, None, 90.0)),
            age_seconds=draw(mostly(1.0, 60.0)),
        )
    return found


@st.composite
def situations(draw: st.DrawFn) -> Snapshot:
    """Any moment of a small site with tiers, in front of an event or in the middle of one."""
    of = draw(jobs())
    kind = draw(st.sampled_from(LimitKind))
    asked = draw(services(of))
    leases = {
        name: ServiceLease(
            service=name,
            tier=draw(mostly("half", *NAMES)),
            kind=kind,
            asked_seconds_ago=draw(mostly(700.0, 5.0)),
        )
        for name in asked
        if draw(st.integers(0, 2)) == 0
    }
    load = draw(st.floats(8_000.0, 32_000.0))
    limits = LimitEvent(
        event_id="dr",
        circuit=draw(mostly("grid", "rack1")),
        limit_watts=draw(st.floats(0.2, 1.1)) * load,
        starts_in_seconds=draw(mostly(100.0, -500.0, -5.0, 280.0, 900.0)),
        ends_in_seconds=draw(mostly(5_000.0, 1_000.0)),
        reason="the utility asks",
    )
    seen = situation(
        of=site(
            grid_limit_watts=draw(mostly(45_000.0, 12_000.0, 30_000.0)),
            grid_kind=kind,
            with_ess=draw(mostly(False, True)),
        ),
        import_watts=load,
        rack_watts=(0.6 * load, 0.3 * load),
        jobs=of,
        gpu_watts={job.job_id: draw(st.floats(300.0, 690.0)) for job in of},
        events=(limits,) if draw(mostly(True, False)) else (),
        lasting_watts={"grid": load, "rack1": 0.6 * load, "rack2": 0.3 * load},
    )
    moved = {
        job.job_id: TierMove(
            job_id=job.job_id,
            tier=draw(names),
            asked_seconds_ago=draw(st.sampled_from((5.0, 100.0, 10_000.0))),
            done=draw(st.booleans()),
            running=draw(st.booleans()),
        )
        for job in of
        if draw(st.integers(0, 5)) == 0
    }
    return replace(
        seen,
        catalog=Catalog(families={name: draw(families(name)) for name in ("one", "two")}),
        progress=draw(words(of)),
        services=asked,
        service_leases=leases,
        tier_moves=moved,
        short_seconds=draw(mostly({}, {"grid": 100.0}, {"grid": 5_000.0})),
    )
