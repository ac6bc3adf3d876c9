"""The planner itself (`slurm_power.plan.planner`) against the virtual machine: for limits, and for a level.

At each moment a snapshot is built from the machine and the plan is carried out at once. A step is minutes
where the live loop takes a second: so a plan is made several times over until it changes nothing more, times
that are about seconds (settling, dwell, starting up) are left out, and the battery hands over two steps
before it is empty.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from slurm_power.model.action import SetCap, SetDischarge
from slurm_power.model.expected_power import ExpectedPower
from slurm_power.model.job import Flex, Job, JobState
from slurm_power.model.jobs_level import JobsLevel
from slurm_power.model.outlook import EssOutlook
from slurm_power.model.reading import EssReading, GpuReading, GpuSums, PowerReading, Quality
from slurm_power.model.site import Ess, Site
from slurm_power.model.snapshot import CapLease, LimitEvent, NodeState, Snapshot
from slurm_power.plan.holds import longest_hold_seconds
from slurm_power.plan.planner import hold_of, plan_cycle
from slurm_power.plan.policy import Policy
from slurm_power.simulate.cluster import Cluster, Layout, PlantJob
from slurm_power.simulate.jobs_level import DEFAULT_CAP_WATTS, LevelKeeper
from slurm_power.simulate.jobs_run import Battery

_ESS = "ess"
_MOST_ROUNDS = 4
_HOLD_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A grid event: from ``start_seconds`` (epoch) for ``duration_seconds`` so much less than just before.

    ``cut_watts`` or ``cut_ratio`` of the load at its start.
    """

    start_seconds: float
    duration_seconds: float
    cut_ratio: float = 0.0
    cut_watts: float = 0.0

    @property
    def end_seconds(self) -> float:
        """When it is over."""
        return self.start_seconds + self.duration_seconds


class PlannerControl:
    """Runs the planner. ``event_limits`` fills up as events begin: (cut, limit in watts).

    With a ``keeper`` it also serves the level of the billing period, as the controller does.
    """

    def __init__(
        self,
        layout: Layout,
        policy: Policy,
        *,
        limit_watts: float | None,
        cuts: Sequence[Cut],
        levers: frozenset[str],
        most_hold_seconds: float,
        step_seconds: float,
        ess: Ess | None,
        keeper: LevelKeeper | None = None,
    ) -> None:
        self.policy = replace(
            policy,
            host_watts_per_gpu=0.0,
            start_expected_seconds=0.0,
            cap_dwell_seconds=0.0,
            cap_settle_seconds=0.0,
            event_lead_seconds=0.0,
        )
        self.event_limits: list[tuple[Cut, float]] = []
        self.shortfall_seconds = 0.0
        self._keeper = keeper
        self._layout, self._levers, self._most_hold_seconds = layout, levers, most_hold_seconds
        self._coming = sorted(cuts, key=lambda cut: cut.start_seconds)
        self._caps: dict[str, CapLease] = {}
        self._discharge_watts = 0.0
        self._before_watts: float | None = None
        self._wake_seconds: list[float] = []
        self._jobs: dict[str, Job] = {}
        # Of each user the watts of the jobs' boards, summed, and how many jobs these were.
        self._drawn: dict[str, tuple[float, int]] = {}
        self._readings: dict[str, tuple[float, GpuReading]] = {}
        root = layout.site.root
        circuits = dict(layout.site.circuits)
        if limit_watts is not None:
            circuits[root.name] = replace(root, limit_watts=min(limit_watts, root.ceiling_watts))
        stored = {}
        if ess is not None and "ess" in levers:
            stored[_ESS] = replace(ess, name=_ESS, bridge_seconds=2.0 * step_seconds)
        self._site = Site(name=layout.site.name, circuits=circuits, ess=stored)

    def limits_watts(self, circuit: str) -> float:
        """The standing limit of a circuit."""
        return self._site.circuits[circuit].ceiling_watts

    def next_seconds(self, now_seconds: float) -> float:
        """Begin and end of the events, and when the first hold has to end."""
        edges = [cut.start_seconds for cut in self._coming]
        edges += [cut.end_seconds for cut, _ in self.event_limits]
        self._wake_seconds = [at for at in self._wake_seconds if at > now_seconds + 1e-3]
        edges += self._wake_seconds
        return min((edge for edge in edges if edge > now_seconds + 1e-6), default=math.inf)

    def may_start(self, cluster: Cluster, job: PlantJob) -> bool:
        """Ask the planner whether it would hold the job if it were submitted now."""
        if "hold" not in self._levers or job.flex is Flex.FLEX0:
            return True
        held_seconds = cluster.held_seconds(job)
        waiting = self._job(job, JobState.PENDING)
        left_seconds = min(self._most_hold_seconds, longest_hold_seconds(waiting)) - held_seconds
        if left_seconds <= 1e-3 or self._calm(cluster, None, job):
            return True
        snapshot = replace(
            self._snapshot(cluster, None),
            held_before_seconds={job.job_id: held_seconds},
            expected=self._expected(job),
        )
        if hold_of(snapshot, waiting, self.policy, hold_seconds=_HOLD_SECONDS) is None:
            return True
        self._wake_seconds.append(cluster.now_seconds + left_seconds)
        return False

    def _expected(self, job: PlantJob) -> dict[str, ExpectedPower]:
        """What a job will draw by what its user's jobs drew; nobody knows more of it before it has run."""
        watts, jobs = self._drawn.get(job.user, (0.0, 0))
        if not jobs:
            return {}
        return {
            job.job_id: ExpectedPower(
                mean_watts=watts / jobs, p95_watts=watts / jobs, known_from="user", jobs=jobs
            )
        }

    def act(self, cluster: Cluster, battery: Battery | None, seconds: float) -> float:
        """Plan until nothing changes, and carry it out."""
        self._begin_events(cluster)
        if self._keeper is not None:
            self._keeper.look(cluster.now_seconds)
        self._caps = {job_id: lease for job_id, lease in self._caps.items() if job_id in cluster.running}
        self._discharge_watts = 0.0
        if self._calm(cluster, battery, None):
            self._imported(cluster)
            return 0.0
        unmet = False
        for _ in range(_MOST_ROUNDS):
            plan = plan_cycle(self._snapshot(cluster, battery), self.policy, hold_seconds=_HOLD_SECONDS)
            unmet = bool(plan.shortfalls)
            changed = False
            for action in plan.actions:
                if isinstance(action, SetCap):
                    changed |= self._cap(cluster, action)
                elif isinstance(action, SetDischarge) and battery is not None:
                    watts = battery.possible_watts(action.discharge_watts, seconds)
                    changed |= abs(watts - self._discharge_watts) > 1.0
                    self._discharge_watts = watts
            if not changed:
                break
        self.shortfall_seconds += seconds * unmet
        self._imported(cluster)
        return self._discharge_watts

    def _imported(self, cluster: Cluster) -> None:
        """What is drawn now is paid for: the level is no lower."""
        if self._keeper is not None:
            watts = float(cluster.watts[0]) - self._discharge_watts
            self._keeper.imported(watts, watts)

    def end_step(self, cluster: Cluster, load_watts: float) -> None:
        """Remember the load: an event is a cut of what was drawn just before."""
        self._before_watts = load_watts
        if self._keeper is not None:
            self._keeper.end_step(cluster)

    def _begin_events(self, cluster: Cluster) -> None:
        while self._coming and self._coming[0].start_seconds <= cluster.now_seconds + 1e-6:
            cut = self._coming.pop(0)
            before = float(cluster.watts[0]) if self._before_watts is None else self._before_watts
            limit = max(0.0, before * (1.0 - cut.cut_ratio) - cut.cut_watts)
            self.event_limits.append((cut, limit))

    def _calm(self, cluster: Cluster, battery: Battery | None, starting: PlantJob | None) -> bool:
        """Whether it is plain without planning that there is nothing to do: far from every limit."""
        full = battery is None or battery.soc_kwh >= battery.energy_kwh * 0.999
        if self._caps or not full:
            return False
        added = 0.0
        if starting is not None:
            worst = float(self._layout.weights_worst)
            added = starting.dynamic_watts * starting.gpus * worst
        if self._keeper is not None and float(cluster.watts[0]) + added > self._keeper.level_watts:
            return False
        slack = 1.0 - self.policy.margin_ratio - self.policy.release_margin_ratio
        events = self._events(cluster.now_seconds)
        for number, name in enumerate(self._layout.names):
            limit = self._site.circuits[name].ceiling_watts
            if number == 0:
                limit = min([limit, *(event.limit_watts for event in events)])
            if float(cluster.watts[number]) + added > slack * limit:
                return False
        return True

    def _cap(self, cluster: Cluster, action: SetCap) -> bool:
        job = cluster.running[action.job_id]
        old = job.power_ratio
        if action.cap_watts is None or action.cap_watts >= job.board_watts:
            self._caps.pop(action.job_id, None)
            cluster.set_power_ratio(job, 1.0)
        else:
            self._caps[action.job_id] = CapLease(
                job_id=action.job_id,
                cap_watts=action.cap_watts,
                kind=action.kind,
                uncapped_watts=job.board_watts,
                changed_seconds_ago=1e6,
                lock_hertz=action.lock_hertz,
                full_hertz=action.full_hertz,
            )
            ratio, locked = action.cap_watts / job.board_watts, action.lock_hertz is not None
            cluster.set_power_ratio(job, ratio, locked=locked)
        return job.power_ratio != old

    def _events(self, now_seconds: float) -> tuple[LimitEvent, ...]:
        return tuple(
            LimitEvent(
                event_id=str(number),
                circuit=self._site.root.name,
                limit_watts=limit,
                starts_in_seconds=cut.start_seconds - now_seconds,
                ends_in_seconds=cut.end_seconds - now_seconds,
                reason="a cut that was asked for",
            )
            for number, (cut, limit) in enumerate(self.event_limits)
            if cut.end_seconds > now_seconds + 1e-6
        )

    def _snapshot(self, cluster: Cluster, battery: Battery | None) -> Snapshot:
        now = cluster.now_seconds
        nodes: dict[str, dict[str, GpuReading]] = {}
        sums: dict[str, dict[tuple[str, ...], GpuSums]] = {}
        jobs = []
        for one in cluster.running.values():
            job = self._job(one, JobState.RUNNING)
            jobs.append(job)
            reading = self._reading(one)
            for node, uuids in job.gpus_by_node:
                nodes.setdefault(node, {}).update(dict.fromkeys(uuids, reading))
                sums.setdefault(node, {})[uuids] = _together(reading, len(uuids))
        feeds = dict.fromkeys(self._layout.names, 0.0)
        ess = {}
        if battery is not None and self._site.ess:
            for name in self._site.path(battery.circuit):
                feeds[name] = self._discharge_watts
            ess[_ESS] = EssReading(
                name=_ESS,
                discharge_watts=self._discharge_watts,
                soc_ratio=battery.soc_kwh / battery.energy_kwh if battery.energy_kwh else 0.0,
                soh_ratio=1.0,
                energy_rating_kwh=battery.energy_kwh,
                max_charge_watts=battery.power_watts,
                max_discharge_watts=battery.power_watts,
                remote=True,
                alarms=(),
                age_seconds=0.0,
                quality=Quality.GOOD,
            )
        seen = {
            name: float(cluster.watts[number]) - feeds[name] for number, name in enumerate(self._layout.names)
        }
        at = datetime.fromtimestamp(now, tz=UTC)
        return Snapshot(
            at=at,
            site=self._site,
            circuits={
                name: PowerReading(source="plant", watts=watts, age_seconds=0.0, quality=Quality.GOOD)
                for name, watts in seen.items()
            },
            ess=ess,
            nodes={
                name: NodeState(name=name, age_seconds=0.0, gpus=gpus, sums=sums[name])
                for name, gpus in nodes.items()
            },
            jobs=tuple(jobs),
            caps=self._caps,
            setpoints={_ESS: self._discharge_watts} if ess else {},
            lasting_watts=seen,
            events=self._events(now),
            outlook=self._outlook(at),
            jobs_level=self._jobs_level(at),
        )

    def _outlook(self, at: datetime) -> EssOutlook | None:
        """What the batteries do for the level."""
        if self._keeper is None:
            return None
        return EssOutlook(
            made_at=at,
            valid_seconds=60.0,
            period="the period",
            level_watts=self._keeper.level_watts,
            natural_most_watts=self._keeper.charge_ceiling_watts,
            reserve_ratio=1.0,
            sustain_seconds=3600.0 * self._keeper.settings.bridge_hours,
        )

    def _jobs_level(self, at: datetime) -> JobsLevel | None:
        """What jobs do for it."""
        if self._keeper is None or not self._keeper.with_jobs:
            return None
        return self._keeper.jobs_level(at, "the period")

    def _job(self, job: PlantJob, state: JobState) -> Job:
        """The same object for as long as nothing about the job changes."""
        known = self._jobs.get(job.job_id)
        if known is not None and known.state is state:
            return known
        nodes = self._layout.nodes
        placed: tuple[tuple[str, tuple[str, ...]], ...] = ()
        if state is JobState.RUNNING:
            watts, jobs = self._drawn.get(job.user, (0.0, 0))
            self._drawn[job.user] = watts + job.board_watts, jobs + 1
            placed = tuple(
                (nodes[node], tuple(f"{job.job_id}.{node}.{gpu}" for gpu in range(int(count))))
                for node, count in zip(job.nodes.tolist(), job.node_gpus.tolist(), strict=True)
            )
        known = self._jobs[job.job_id] = Job(
            job_id=job.job_id,
            user=job.user,
            account=job.account,
            name="",
            state=state,
            gpu_count=job.gpus,
            workload=job.workload,
            # Without the lever nobody has promised anything.
            flex=job.flex if "cap" in self._levers or state is JobState.PENDING else Flex.FLEX0,
            nodes=tuple(node for node, _ in placed),
            submitted=datetime.fromtimestamp(job.submit_seconds, tz=UTC),
            started=None
            if job.started_seconds is None
            else datetime.fromtimestamp(job.started_seconds, tz=UTC),
            time_limit_seconds=job.limit_seconds,
            gpus_by_node=placed,
        )
        return known

    def _reading(self, job: PlantJob) -> GpuReading:
        """One for all GPUs of a job: they draw the same."""
        ratio, known = self._readings.get(job.job_id, (math.nan, None))
        if known is None or ratio != job.power_ratio:
            lease = self._caps.get(job.job_id)
            most = max(DEFAULT_CAP_WATTS, job.board_watts)
            cap = most if lease is None else lease.cap_watts
            known = GpuReading(
                uuid=job.job_id,
                slot=0,
                name="plant",
                power_watts=job.board_idle_watts + job.watts,
                energy_joules=None,
                utilization_ratio=1.0,
                sm_clock_hertz=1.0e9,
                temperature_celsius=50.0,
                requested_cap_watts=cap,
                enforced_cap_watts=cap,
                default_cap_watts=most,
                min_cap_watts=0.0,
                max_cap_watts=most,
            )
            self._readings[job.job_id] = (job.power_ratio, known)
        return known


def _together(reading: GpuReading, count: int) -> GpuSums:
    """What so many GPUs that read the same draw."""
    watts = reading.power_watts
    return GpuSums(
        float(count), count * watts, watts, reading.default_cap_watts, reading.min_cap_watts or 0.0, 0.0, 0.0
    )
