"""Build snapshots for plan tests: a small site in plain numbers."""

from datetime import UTC, datetime, timedelta

from slurm_power.model.job import Flex, Job, JobState, Workload
from slurm_power.model.reading import EssReading, GpuReading, PowerReading, Quality, judged
from slurm_power.model.site import Circuit, Ess, LimitKind, Site
from slurm_power.model.snapshot import CapLease, HoldLease, LimitEvent, NodeState, Snapshot

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def site(
    *,
    grid_limit_watts: float = 30_000.0,
    grid_kind: LimitKind = LimitKind.ECONOMIC,
    rack_limit_watts: float | None = None,
    with_ess: bool = True,
    overhead_ratio: float = 1.0,
) -> Site:
    return Site(
        name="test",
        circuits={
            "grid": Circuit(
                name="grid",
                rating_watts=100_000.0,
                limit_watts=grid_limit_watts,
                limit_kind=grid_kind,
                meter="meter",
                overhead_ratio=overhead_ratio,
            ),
            "rack1": Circuit(
                name="rack1",
                parent="grid",
                rating_watts=40_000.0,
                limit_watts=rack_limit_watts,
                limit_kind=LimitKind.SAFETY,
                meter="pdu1",
                nodes=("c1", "c2"),
            ),
            "rack2": Circuit(
                name="rack2",
                parent="grid",
                rating_watts=40_000.0,
                limit_kind=LimitKind.SAFETY,
                meter="pdu2",
                nodes=("c3", "c4"),
            ),
        },
        ess={"battery": Ess(name="battery", circuit="grid")} if with_ess else {},
    )


def gpu(uuid: str, watts: float, cap_watts: float = 700.0) -> GpuReading:
    return GpuReading(
        uuid=uuid,
        slot=int(uuid[-1]),
        name="H100",
        power_watts=watts,
        energy_joules=0.0,
        utilization_ratio=1.0,
        sm_clock_hertz=1.98e9,
        temperature_celsius=50.0,
        requested_cap_watts=cap_watts,
        enforced_cap_watts=cap_watts,
        default_cap_watts=700.0,
        min_cap_watts=200.0,
        max_cap_watts=700.0,
    )


def ess_reading(
    *,
    discharge_watts: float = 0.0,
    soc_ratio: float = 0.6,
    energy_rating_kwh: float = 10.0,
    remote: bool = True,
    alarms: tuple[str, ...] = (),
    quality: Quality = Quality.GOOD,
    max_watts: float = 8000.0,
) -> EssReading:
    return EssReading(
        name="battery",
        discharge_watts=discharge_watts,
        soc_ratio=soc_ratio,
        soh_ratio=1.0,
        energy_rating_kwh=energy_rating_kwh,
        max_charge_watts=max_watts,
        max_discharge_watts=max_watts,
        remote=remote,
        alarms=alarms,
        age_seconds=0.2,
        quality=quality,
    )


def running(
    job_id: str,
    nodes: tuple[str, ...],
    *,
    flex: Flex = Flex.FLEX2,
    workload: Workload = Workload.TRAINING,
    gpus_per_node: int = 8,
    started_seconds_ago: float = 600.0,
    state: JobState = JobState.RUNNING,
) -> Job:
    return Job(
        job_id=job_id,
        user="alice",
        account="physics",
        name=f"job{job_id}",
        state=state,
        gpu_count=gpus_per_node * len(nodes),
        workload=workload,
        flex=flex,
        nodes=nodes,
        started=AT - timedelta(seconds=started_seconds_ago),
        gpus_by_node=tuple((node, tuple(f"{node}-{i}" for i in range(gpus_per_node))) for node in nodes),
    )


def pending(
    job_id: str,
    gpu_count: int,
    *,
    flex: Flex = Flex.FLEX3,
    workload: Workload = Workload.TRAINING,
    time_limit_seconds: float | None = 3600.0,
    submitted_seconds_ago: float = 60.0,
    begin_in_seconds: float | None = None,
    held_by_user: bool = False,
    task_count: int = 1,
) -> Job:
    return Job(
        job_id=job_id,
        user="bob",
        account="biology",
        name=f"job{job_id}",
        state=JobState.PENDING,
        gpu_count=gpu_count,
        workload=workload,
        flex=flex,
        submitted=AT - timedelta(seconds=submitted_seconds_ago),
        begin=None if begin_in_seconds is None else AT + timedelta(seconds=begin_in_seconds),
        time_limit_seconds=time_limit_seconds,
        held_by_user=held_by_user,
        task_count=task_count,
    )


def situation(
    *,
    of: Site | None = None,
    import_watts: float | None = 20_000.0,
    rack_watts: tuple[float, float] = (10_000.0, 10_000.0),
    import_age_seconds: float = 0.3,
    gpu_watts: dict[str, float] | None = None,
    jobs: tuple[Job, ...] = (),
    ess: EssReading | None = None,
    caps: dict[str, CapLease] | None = None,
    holds: dict[str, HoldLease] | None = None,
    setpoint_watts: float = 0.0,
    recent_load_watts: tuple[float, ...] = (),
    events: tuple[LimitEvent, ...] = (),
    lasting_watts: dict[str, float] | None = None,
) -> Snapshot:
    """``gpu_watts``: draw per GPU by job id (default 650 W); idle GPUs are left out."""
    where = site() if of is None else of
    nodes: dict[str, dict[str, GpuReading]] = {}
    for job in jobs:
        watts = (gpu_watts or {}).get(job.job_id, 650.0)
        for node, uuids in job.gpus_by_node:
            nodes.setdefault(node, {}).update({uuid: gpu(uuid, watts) for uuid in uuids})
    circuits: dict[str, PowerReading] = {
        "grid": judged("meter", import_watts, import_age_seconds, 3.0),
        "rack1": judged("pdu1", rack_watts[0], 1.0, 6.0),
        "rack2": judged("pdu2", rack_watts[1], 1.0, 6.0),
    }
    return Snapshot(
        at=AT,
        site=where,
        circuits=circuits,
        ess={"battery": ess_reading() if ess is None else ess} if where.ess else {},
        nodes={name: NodeState(name=name, age_seconds=0.5, gpus=gpus) for name, gpus in nodes.items()},
        jobs=jobs,
        caps=caps or {},
        holds=holds or {},
        setpoints={"battery": setpoint_watts} if where.ess else {},
        recent_load_watts=recent_load_watts,
        events=events,
        lasting_watts=lasting_watts or {},
    )


def cap_lease(
    job_id: str,
    cap_watts: float,
    *,
    uncapped_watts: float = 650.0,
    changed_seconds_ago: float = 60.0,
    lowered_watts: float = 0.0,
    kind: LimitKind = LimitKind.ECONOMIC,
    lock_hertz: float | None = None,
) -> CapLease:
    """With ``lock_hertz`` it is a clock lock on GPUs like those of ``gpu``."""
    return CapLease(
        job_id=job_id,
        cap_watts=cap_watts,
        kind=kind,
        uncapped_watts=uncapped_watts,
        changed_seconds_ago=changed_seconds_ago,
        lowered_watts=lowered_watts,
        lock_hertz=lock_hertz,
        full_hertz=None if lock_hertz is None else 1.98e9,
    )
