"""Families of model tiers, and a site in front of a grid event with a job that consents."""

from dataclasses import replace

from slurm_power.model.action import ChangeTier, Plan
from slurm_power.model.grid_event import LimitEvent
from slurm_power.model.job import Flex, Job, Workload
from slurm_power.model.progress import JobProgress
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.tier import Catalog, Family, PowerSource, Quality, Tier, TierMethod
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import running, site, situation

POLICY = Policy()


def tier(
    name: str,
    gpu_count: int,
    watts_per_gpu: float | None = 600.0,
    *,
    value: float | None = 0.98,
    items_per_second: float | None = 100.0,
    source: PowerSource = PowerSource.NVML,
    approved_by: str = "mlops",
    method: TierMethod = TierMethod.INT8,
) -> Tier:
    return Tier(
        name=name,
        method=method,
        gpu_count=gpu_count,
        watts_per_gpu=watts_per_gpu,
        power_source=source,
        items_per_second=items_per_second,
        approved_by=approved_by,
        quality=None if value is None else Quality(value=value),
    )


def family(
    *tiers: Tier, name: str = "digits", workload: Workload = Workload.INFERENCE, floor: float | None = 0.9
) -> Family:
    return Family(name=name, task="t", workload=workload, metric="accuracy", floor=floor, tiers=tiers)


FULL, HALF, SMALL = tier("full", 8), tier("half", 4), tier("small", 1, value=0.93)
DIGITS = family(FULL, HALF, SMALL)


def catalog(*families: Family) -> Catalog:
    return Catalog(families={one.name: one for one in families or (DIGITS,)})


def event(
    limit_watts: float = 8_000.0, *, starts_in: float = 120.0, lasts: float = 3_600.0, circuit: str = "grid"
) -> LimitEvent:
    return LimitEvent(
        event_id="dr",
        circuit=circuit,
        limit_watts=limit_watts,
        starts_in_seconds=starts_in,
        ends_in_seconds=starts_in + lasts,
        reason="the utility asks",
    )


def consenting(
    job_id: str = "1",
    node: str = "c1",
    *,
    flex: Flex = Flex.FLEX1,
    workload: Workload = Workload.INFERENCE,
    tier: str = "digits/full",
    tiers_ok: tuple[str, ...] = ("half",),
    min_quality: float | None = None,
    requeues: bool = True,
    time_limit_seconds: float | None = 36_000.0,
) -> Job:
    job = running(job_id, (node,), flex=flex, workload=workload, started_seconds_ago=600.0)
    return replace(
        job,
        tier=tier,
        tiers_ok=tiers_ok,
        min_quality=min_quality,
        requeues=requeues,
        time_limit_seconds=time_limit_seconds,
    )


def saves(*job_ids: str) -> dict[str, JobProgress]:
    """Jobs that say they can save themselves."""
    return {
        job_id: JobProgress(step=100, samples_per_second=50.0, age_seconds=2.0, checkpoints=True)
        for job_id in job_ids
    }


def facing(
    jobs: tuple[Job, ...] = (consenting(),),
    *,
    events: tuple[LimitEvent, ...] = (event(),),
    import_watts: float = 10_000.0,
    **more: object,
) -> Snapshot:
    """8 GPUs at 600 W on rack1 of a site that draws 10 kW, no battery, in front of an event at 8 kW."""
    seen = situation(
        of=site(grid_limit_watts=30_000.0, with_ess=False),
        import_watts=import_watts,
        rack_watts=(import_watts - 2_000.0, 500.0),
        jobs=jobs,
        gpu_watts={job.job_id: 600.0 for job in jobs},
        events=events,
        lasting_watts={"grid": import_watts, "rack1": import_watts - 2_000.0},
    )
    words: dict[str, object] = {"catalog": catalog(), "progress": saves(*(job.job_id for job in jobs))}
    return replace(seen, **{**words, **more})  # type: ignore[arg-type]  # fields of the snapshot


def planned(snapshot: Snapshot, policy: Policy = POLICY) -> Plan:
    return plan_cycle(snapshot, policy, hold_seconds=60.0)


def moves(plan: Plan) -> list[tuple[str, str]]:
    return [(one.job_id, one.tier) for one in plan.actions if isinstance(one, ChangeTier)]
