"""A site second by second, as its meter shows it: hosts and losses follow, readings lag, caps undershoot."""

from dataclasses import dataclass, field, replace
from datetime import timedelta

from slurm_power.controller.levers.levers import LeverState
from slurm_power.model.action import SetCap, SetDischarge
from slurm_power.model.grid_event import LimitEvent
from slurm_power.model.job import Flex, Job
from slurm_power.model.site import Ess
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.event_baseline import RecentLoad
from slurm_power.plan.event_target import RAMP_EVENT_ID, ramp_floor_watts, ramp_limit_watts
from slurm_power.plan.loads import job_loads
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import AT, ess_reading, running, site, situation

OVERHEAD = 1.15
EMPTY_SOC_RATIO = 0.2
# The battery is charged for nothing but a ramp.
_BATTERY = Ess(
    name="battery", circuit="grid", reserve_soc_ratio=EMPTY_SOC_RATIO, target_soc_ratio=EMPTY_SOC_RATIO + 1e-4
)
SITE = replace(site(grid_limit_watts=90_000.0, overhead_ratio=OVERHEAD), ess={"battery": _BATTERY})
NODES = ("c1", "c2", "c3", "c4")
# Seconds before the first moment of a run, for readings to be known.
BEFORE = 90


@dataclass(slots=True)
class Loop:
    """Jobs on four nodes of eight GPUs; each draws all it may from ``begins`` to ``ends``, second by second.

    The controller sees GPUs a second late, the meter two. A GPU draws 97 % of its cap, hosts come up with
    their GPUs, and power supplies lose 6 %, of which the controller knows nothing.
    """

    jobs: tuple[Job, ...]
    begins: dict[str, int]
    policy: Policy
    ends: dict[str, int] = field(default_factory=dict)
    soc_ratio: float = 0.9
    max_ess_watts: float = 12_000.0
    levers: LeverState = field(default_factory=LeverState)
    imports: list[float] = field(default_factory=list)
    discharges: list[float] = field(default_factory=list)
    draws: list[dict[str, float]] = field(default_factory=list)
    discharge_watts: float = 0.0
    minute: RecentLoad = field(default_factory=lambda: RecentLoad(60.0, bucket_seconds=5.0))

    def run(self, seconds: int, *, since: int = -BEFORE) -> None:
        """Step plant and planner from one moment to another; what the plant does is in the lists."""
        for second in range(since, seconds):
            self._step_plant(second)
            seen = self._seen(second, self.minute)
            draws = {load.job.job_id: load.uncapped_watts for load in job_loads(seen, self.policy)}
            for action in plan_cycle(seen, self.policy, hold_seconds=60.0).actions:
                if isinstance(action, SetCap):
                    self.levers.capped(action, draws[action.job_id], seen.at)
                elif isinstance(action, SetDischarge):
                    self.levers.discharged(action)

    def _step_plant(self, second: int) -> None:
        draws, site_watts = {}, 0.0
        busy_nodes = set()
        for job in self.jobs:
            busy = self.begins[job.job_id] <= second < self.ends.get(job.job_id, 10**6)
            cap = self.levers.caps.get(job.job_id)
            draws[job.job_id] = min(659.0, 0.97 * cap.cap_watts if cap else 700.0) if busy else 79.0
            busy_nodes |= set(job.nodes) if busy else set()
            site_watts += 8.0 * len(job.nodes) * draws[job.job_id]
        taken = {node for job in self.jobs for node in job.nodes}
        site_watts += 8.0 * 79.0 * (len(NODES) - len(taken))
        site_watts += 1000.0 * len(NODES) + 1800.0 * len(busy_nodes)
        wanted = self.levers.setpoints.get("battery", 0.0)
        step = self.max_ess_watts / 2.0
        self.discharge_watts += min(step, max(-step, wanted - self.discharge_watts))
        self.draws.append(draws)
        self.discharges.append(self.discharge_watts)
        self.imports.append(OVERHEAD * site_watts / 0.94 - self.discharge_watts)

    def _seen(self, second: int, minute: RecentLoad) -> Snapshot:
        at = AT + timedelta(seconds=second)
        behind = max(0, len(self.imports) - 3)
        metered, then_watts = self.imports[behind], self.discharges[behind]
        minute.add(at.timestamp(), metered, 1.0)
        recent = [
            self.imports[max(0, behind - ago)] + self.discharges[max(0, behind - ago)] for ago in (2, 1, 0)
        ]
        there = tuple(
            job
            for job in self.jobs
            if second < self.ends.get(job.job_id, 10**6) and self._placed(job, second)
        )
        view = self.levers.view(at)
        seen = situation(
            of=SITE,
            import_watts=metered,
            rack_watts=(18_000.0, 18_000.0),
            jobs=there,
            gpu_watts=self.draws[max(0, len(self.draws) - 2)],
            caps=dict(view.caps),
            ess=ess_reading(
                discharge_watts=then_watts, soc_ratio=self.soc_ratio, max_watts=self.max_ess_watts
            ),
            setpoint_watts=self.levers.setpoints.get("battery", 0.0),
            recent_load_watts=tuple(recent),
            events=view.events,
        )
        mean = minute.mean_of_last(60.0, at.timestamp())
        edges = minute.range_of_last(60.0, at.timestamp())
        assert mean is not None
        assert edges is not None
        least, most = edges
        seen = replace(seen, at=at, least_minute_watts=least)
        per_minute = self.policy.ramp_up_watts_per_minute
        if per_minute is not None:
            up = LimitEvent(
                event_id=RAMP_EVENT_ID,
                circuit="grid",
                limit_watts=ramp_limit_watts(mean, per_minute, least_minute_watts=least),
                starts_in_seconds=0.0,
                ends_in_seconds=60.0,
                reason="the ramp",
            )
            floor = ramp_floor_watts(mean, per_minute, most_minute_watts=most)
            seen = replace(seen, events=(*seen.events, up), ramp_floor_watts=floor)
        return seen

    def _placed(self, job: Job, second: int) -> bool:
        """Its prolog runs two seconds before its first watts at the earliest."""
        assert job.started is not None
        return second >= (job.started - AT).total_seconds()


def job_on(job_id: str, nodes: tuple[str, ...], *, starts: int = -2, flex: Flex = Flex.FLEX2) -> Job:
    job = running(job_id, nodes, flex=flex, started_seconds_ago=-starts)
    return replace(job, time_limit_seconds=86_400.0)


def worst_rise(watts: list[float], seconds: int = 60) -> float:
    return max(now - min(watts[max(0, at - seconds) : at + 1]) for at, now in enumerate(watts))
