"""A made-up site of any size with real-looking jobs: 20 nodes a circuit, eight GPUs a node, a second a step.

Every node reports once in five seconds, the workload manager's list changes as often, and what the plan says
is done: caps bite, holds keep jobs waiting.
"""

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from slurm_power.controller.levers.lever_moves import took
from slurm_power.controller.levers.levers import LeverState
from slurm_power.model.action import (
    AdviseBatch,
    ChangeTier,
    HoldJob,
    PauseJob,
    Plan,
    ReleaseJob,
    RelocateJob,
    ResumeJob,
    SetCap,
    SetDischarge,
    SwitchService,
)
from slurm_power.model.job import Flex, Job, JobState, Workload
from slurm_power.model.reading import EssReading, GpuReading, PowerReading, Quality
from slurm_power.model.site import Circuit, Ess, LimitKind, Site
from slurm_power.model.snapshot import NodeState, Snapshot
from slurm_power.telemetry.node_report import NodeReport, node_report

GPUS = 8
AT = datetime(2026, 1, 5, 8, tzinfo=UTC)
NODES_PER_CIRCUIT = 20
RACKS_PER_FEEDER = 24
REPORT_SECONDS = 5
POLL_SECONDS = 5
HOST_WATTS = 800.0
IDLE_WATTS = 75.0
# GPUs of a job, with weights: many small ones, most GPU-hours in the large ones.
_SIZES = ((1, 33), (2, 12), (4, 14), (8, 24), (16, 8), (32, 4), (64, 3), (256, 2))
_FLEXES = ((Flex.FLEX0, 30), (Flex.FLEX1, 30), (Flex.FLEX2, 25), (Flex.FLEX3, 15))


def big_site(nodes: int, *, limit_watts: float) -> Site:
    """A tree of grid, feeders and racks over that many nodes, with a battery at the grid connection."""
    racks = max(1, nodes // NODES_PER_CIRCUIT - nodes // NODES_PER_CIRCUIT // RACKS_PER_FEEDER - 1)
    feeders = max(1, racks // RACKS_PER_FEEDER)
    grid_watts = nodes * (GPUS * 700.0 + 2000.0)
    circuits = {
        "grid": Circuit(
            name="grid",
            rating_watts=grid_watts,
            limit_watts=limit_watts,
            limit_kind=LimitKind.ECONOMIC,
            meter="grid",
            overhead_ratio=1.08,
        )
    }
    for number in range(feeders):
        name = f"feeder{number:03d}"
        circuits[name] = Circuit(
            name=name,
            parent="grid",
            rating_watts=1.1 * grid_watts / feeders,
            limit_kind=LimitKind.SAFETY,
            meter=name,
            overhead_ratio=1.02,
        )
    for number in range(racks):
        name = f"rack{number:04d}"
        begin, end = number * nodes // racks, (number + 1) * nodes // racks
        circuits[name] = Circuit(
            name=name,
            parent=f"feeder{number * feeders // racks:03d}",
            rating_watts=(end - begin) * (GPUS * 700.0 + 1500.0),
            limit_kind=LimitKind.SAFETY,
            meter=name,
            nodes=tuple(f"n{node:05d}" for node in range(begin, end)),
        )
    return Site(name="big", circuits=circuits, ess={"battery": Ess(name="battery", circuit="grid")})


@dataclass(slots=True)
class BigSite:
    """The site in motion. ``limit_watts`` None leaves it as much as it is rated for."""

    nodes: int
    seed: int = 1
    limit_watts: float | None = None
    queued_per_node: float = 5.0
    site: Site = field(init=False)
    levers: LeverState = field(default_factory=LeverState)
    _random: random.Random = field(init=False)
    _step: int = 0
    _next_id: int = 1
    _jobs: tuple[Job, ...] = ()
    _reports: dict[str, NodeReport] = field(default_factory=dict)
    _parts: dict[str, set[tuple[str, ...]]] = field(default_factory=dict)
    _free: dict[str, list[str]] = field(default_factory=dict)
    _job_of: dict[str, str] = field(default_factory=dict)
    _watts: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fill the site: nine of ten GPUs at work, and the queue."""
        self._random = random.Random(self.seed)  # noqa: S311  # the same site every time
        names = [f"n{node:05d}" for node in range(self.nodes)]
        self._free = {name: [f"GPU-{name}-{slot}" for slot in range(GPUS)] for name in names}
        running: list[Job] = []
        left = 0.9 * GPUS * self.nodes
        while left > 0.0 and len(running) < self.nodes // 2:
            began = AT - timedelta(seconds=self._random.uniform(60, 80_000))
            job = self._placed(self._new_job(began))
            if job is None:
                break
            running.append(replace(job, started=began))
            left -= job.gpu_count
        queue = [
            self._new_job(AT - timedelta(seconds=self._random.uniform(0, 80_000)))
            for _ in range(round(self.queued_per_node * self.nodes))
        ]
        self._jobs = (*queue, *running)
        for name in names:
            self._report(name)
        if self.limit_watts is None:
            self.limit_watts = self.nodes * (GPUS * 700.0 + 2000.0)
        self.site = big_site(self.nodes, limit_watts=self.limit_watts)

    def _new_job(self, submitted: datetime) -> Job:
        draw = self._random
        number, self._next_id = self._next_id, self._next_id + 1
        return Job(
            job_id=str(number),
            user=f"user{draw.randrange(400):03d}",
            account=f"group{draw.randrange(40):02d}",
            name=f"job{number}",
            state=JobState.PENDING,
            gpu_count=draw.choices([size for size, _ in _SIZES], [weight for _, weight in _SIZES])[0],
            workload=draw.choice(list(Workload)),
            flex=draw.choices([flex for flex, _ in _FLEXES], [weight for _, weight in _FLEXES])[0],
            submitted=submitted,
            time_limit_seconds=draw.choice((3600.0, 14_400.0, 43_200.0, 86_400.0)),
        )

    def _placed(self, job: Job) -> Job | None:
        """The job on free GPUs, None where there are not enough; small jobs share nodes."""
        wanted, places = job.gpu_count, []
        for name, uuids in self._free.items():
            if len(uuids) >= min(wanted, GPUS):
                taken = tuple(uuids[: min(wanted, GPUS)])
                places.append((name, taken))
                wanted -= len(taken)
            if wanted == 0:
                break
        if wanted:
            return None
        for name, taken in places:
            self._free[name] = self._free[name][len(taken) :]
            self._job_of |= dict.fromkeys(taken, job.job_id)
            self._parts.setdefault(name, set()).add(taken)
        for name in [name for name, _ in places if not self._free[name]]:
            del self._free[name]
        return replace(
            job,
            state=JobState.RUNNING,
            started=AT + timedelta(seconds=self._step),
            nodes=tuple(name for name, _ in places),
            gpus_by_node=tuple(places),
        )

    def _report(self, name: str) -> None:
        """Let a node report: each GPU draws what its job wants, under the job's cap."""
        caps, gpus = self.levers.caps, {}
        for slot in range(GPUS):
            uuid = f"GPU-{name}-{slot}"
            job_id = self._job_of.get(uuid)
            watts = IDLE_WATTS if job_id is None else self._random.uniform(350.0, 690.0)
            if job_id in caps:
                watts = min(watts, caps[job_id].cap_watts)
            gpus[uuid] = GpuReading(
                uuid=uuid,
                slot=slot,
                name="H100",
                power_watts=watts,
                energy_joules=1e6,
                utilization_ratio=1.0,
                sm_clock_hertz=1.7e9,
                temperature_celsius=60.0,
                requested_cap_watts=700.0,
                enforced_cap_watts=700.0,
                default_cap_watts=700.0,
                min_cap_watts=200.0,
                max_cap_watts=700.0,
            )
        self._reports[name] = node_report(gpus, self._parts.get(name, ()), float(self._step))
        self._watts[name] = HOST_WATTS + self._reports[name].draw.watts

    def step(self) -> Snapshot:
        """One second later: some nodes have reported, every few seconds jobs have ended, started and come."""
        self._step += 1
        names = list(self._reports)
        for name in names[self._step % REPORT_SECONDS :: REPORT_SECONDS]:
            self._report(name)
        if self._step % POLL_SECONDS == 0:
            self._turn_over(max(1, self.nodes // 1000))
        at = AT + timedelta(seconds=self._step)
        self.levers.follow({job.job_id: job.state for job in self._jobs}, at)
        self.levers.expire(at)
        view = self.levers.view(at)
        circuits = self._circuits()
        discharge_watts = view.setpoints.get("battery", 0.0)
        rated_watts = 0.05 * self.site.root.rating_watts
        return Snapshot(
            at=at,
            site=self.site,
            circuits=circuits,
            ess={
                "battery": EssReading(
                    name="battery",
                    discharge_watts=discharge_watts,
                    soc_ratio=0.5,
                    soh_ratio=1.0,
                    energy_rating_kwh=2.0 * rated_watts / 1000.0,
                    max_charge_watts=rated_watts,
                    max_discharge_watts=rated_watts,
                    remote=True,
                    alarms=(),
                    age_seconds=0.2,
                    quality=Quality.GOOD,
                )
            },
            nodes={
                name: NodeState(
                    name=name,
                    age_seconds=self._step - report.at_seconds,
                    gpus=report.gpus,
                    sums=report.sums,
                    drawn=report.drawn,
                )
                for name, report in self._reports.items()
            },
            jobs=self._jobs,
            caps=view.caps,
            holds=view.holds,
            held_before_seconds=view.held_before_seconds,
            setpoints=view.setpoints,
            lasting_watts={name: reading.watts or 0.0 for name, reading in circuits.items()},
        )

    def take(self, plan: Plan, uncapped_watts: float = 520.0) -> None:
        """Do what the plan says, as the controller does."""
        at = AT + timedelta(seconds=self._step)
        for action in plan.actions:
            match action:
                case SetCap():
                    self.levers.capped(action, uncapped_watts, at)
                case HoldJob():
                    self.levers.held(action, at)
                case ReleaseJob():
                    self.levers.released(action, at)
                case RelocateJob():
                    self.levers.moves.took(action, at)
                case SetDischarge():
                    self.levers.discharged(action)
                case PauseJob() | ResumeJob():
                    took(self.levers, action, {}, at)
                case ChangeTier() | SwitchService() | AdviseBatch():
                    raise AssertionError("the site has no model tiers")

    def _circuits(self) -> dict[str, PowerReading]:
        """What every meter shows now, from the leaves up."""
        watts = dict.fromkeys(self.site.circuits, 0.0)
        discharge_watts = self.levers.setpoints.get("battery", 0.0)
        for circuit in self.site.leaves_first():
            watts[circuit.name] += sum(self._watts[node] for node in circuit.nodes)
            watts[circuit.name] *= circuit.overhead_ratio
            if circuit.parent is not None:
                watts[circuit.parent] += watts[circuit.name]
        watts["grid"] -= discharge_watts
        return {
            name: PowerReading(source=name, watts=value, age_seconds=0.3, quality=Quality.GOOD)
            for name, value in watts.items()
        }

    def _turn_over(self, ends: int) -> None:
        """Some jobs end, those that are neither held nor too large start, and as many come."""
        running = [job for job in self._jobs if job.state is JobState.RUNNING]
        ended = {job.job_id for job in self._random.sample(running, min(ends, len(running)))}
        for job in running:
            if job.job_id in ended:
                for name, uuids in job.gpus_by_node:
                    self._free.setdefault(name, []).extend(uuids)
                    self._parts[name].discard(uuids)
                    for uuid in uuids:
                        del self._job_of[uuid]
        at = AT + timedelta(seconds=self._step)
        jobs, started = [], 0
        for job in self._jobs:
            if job.job_id in ended:
                continue
            place = job.state is JobState.PENDING and started < ends and job.job_id not in self.levers.holds
            placed = self._placed(job) if place else None
            started += placed is not None
            jobs.append(job if placed is None else placed)
        self._jobs = (*jobs, *(self._new_job(at) for _ in range(ends)))
