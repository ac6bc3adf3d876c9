"""Everything known at one moment: what the planner decides on, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from slurm_power.model.expected_power import ExpectedPower
from slurm_power.model.grid_event import LimitEvent
from slurm_power.model.job import Job
from slurm_power.model.job_curve import JobCurve
from slurm_power.model.jobs_level import JobsLevel
from slurm_power.model.outlook import EssOutlook
from slurm_power.model.pool import Pool
from slurm_power.model.progress import JobProgress
from slurm_power.model.reading import EssReading, GpuReading, GpuSums, NodeDraw, PowerReading
from slurm_power.model.service import Service, ServiceLease
from slurm_power.model.site import LimitKind, Site
from slurm_power.model.tier import Catalog

__all__ = ["CapLease", "HoldLease", "LimitEvent", "Lost", "NodeState", "PauseLease", "Snapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """One node's latest report. A node that has gone silent keeps its last GPUs with a growing age.

    ``sums`` holds what the GPUs of each job draw together, by their UUIDs, where that was summed when the
    node reported. What is not there is summed when it is asked for. ``drawn`` are sums of the whole report.
    """

    name: str
    age_seconds: float
    gpus: Mapping[str, GpuReading]
    sums: Mapping[tuple[str, ...], GpuSums] = field(default_factory=dict)
    drawn: NodeDraw | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapLease:
    """A cap on all GPUs of one job that we have granted and still renew.

    ``uncapped_watts`` is the job's mean draw per GPU just before its first cap; ``changed_seconds_ago``
    counts from the last change of the cap's value, not from its renewal; ``lowered_watts`` is what that
    change was to take from each GPU's draw (below 0 when it gave back). ``lock_hertz`` and ``full_hertz`` are
    set where a clock lock brings the draw down to ``cap_watts``, not a power limit.
    """

    job_id: str
    cap_watts: float
    kind: LimitKind
    uncapped_watts: float
    changed_seconds_ago: float
    lowered_watts: float = 0.0
    lock_hertz: float | None = None
    full_hertz: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldLease:
    """A hold of ours on a pending job. ``held_seconds`` sums all our holds on it so far."""

    job_id: str
    held_seconds: float
    ends_in_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseLease:
    """A pause of ours on a running job, which we still renew; ``drawn_watts`` per GPU before it."""

    job_id: str
    kind: LimitKind
    drawn_watts: float
    paused_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What a job has lost to us since it started: ``seconds`` of its full speed, by caps and by pauses.

    ``resumed_seconds_ago`` is when its last pause ended, infinite where there was none; ``resumed_watts``
    what it drew per GPU before that pause.
    """

    seconds: float = 0.0
    resumed_seconds_ago: float = float("inf")
    resumed_watts: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Relocation:
    """A pending job that we keep off some nodes, or kept off until its time was over (``given_back``)."""

    job_id: str
    asked_seconds_ago: float
    given_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TierMove:
    """A job that we have asked to go on with another tier; ``done`` once it has started with it.

    ``running``: it ran when it was asked, so that it waits only to go on.
    """

    job_id: str
    tier: str
    asked_seconds_ago: float
    done: bool = False
    running: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The site at one moment.

    ``circuits`` holds one reading per metered circuit; ``recent_load_watts`` the last few loads of the grid
    connection (import plus what batteries fed in during the meter's interval, oldest first); ``setpoints``
    what each ESS has been asked for. ``lasting_watts`` is the lower of each circuit's last two readings.
    ``held_before_seconds`` is how long our holds that are over have kept a job waiting. ``pauses`` are the
    jobs that we keep stopped, ``lost`` what running jobs have lost to us so far. ``yielded_nodes`` are
    left to their administrator: no economic cap is taken there. ``expected`` is what jobs are expected to
    draw of which more is known than their class, by job id. ``debts`` and ``account_debts`` are the share of
    their GPU time that users and accounts have lost to us lately. ``jobs_age_seconds`` is None while the
    workload manager has never answered. ``outlook`` is how the batteries are to be used for money, None where
    nothing but limits counts, ``jobs_level`` what caps and holds are to do for it.
    ``least_minute_watts`` is the lowest net draw of the grid connection in the
    last minute, ``ramp_floor_watts`` the least it may come down to now by the site's ramp; None where nobody
    knows, or nothing is limited. ``pools`` are the workload manager's, empty while it has not told them;
    ``relocations`` the pending jobs that we have sent elsewhere. ``licensed``: the workload manager itself
    counts watts as a licence, so that a job that waits for licences needs no hold.
    ``catalog`` are the site's model tiers, ``services`` those whose gateways have been heard lately.
    ``tier_moves``: the latest of each job, kept until the job has ended. ``short_seconds``: for how long each
    circuit has been above its own limit without our levers, where it is. ``micro_batches`` is what jobs are
    advised to take at a time, ``advised_seconds`` since when; ``learned`` the curves of single jobs.
    """

    at: datetime
    site: Site
    circuits: Mapping[str, PowerReading]
    ess: Mapping[str, EssReading]
    nodes: Mapping[str, NodeState]
    jobs: tuple[Job, ...]
    caps: Mapping[str, CapLease] = field(default_factory=dict)
    holds: Mapping[str, HoldLease] = field(default_factory=dict)
    pauses: Mapping[str, PauseLease] = field(default_factory=dict)
    lost: Mapping[str, Lost] = field(default_factory=dict)
    held_before_seconds: Mapping[str, float] = field(default_factory=dict)
    setpoints: Mapping[str, float] = field(default_factory=dict)
    recent_load_watts: tuple[float, ...] = ()
    lasting_watts: Mapping[str, float] = field(default_factory=dict)
    events: tuple[LimitEvent, ...] = ()
    yielded_nodes: frozenset[str] = frozenset()
    expected: Mapping[str, ExpectedPower] = field(default_factory=dict)
    debts: Mapping[str, float] = field(default_factory=dict)
    account_debts: Mapping[str, float] = field(default_factory=dict)
    jobs_age_seconds: float | None = 0.0
    outlook: EssOutlook | None = None
    jobs_level: JobsLevel | None = None
    pools: Mapping[str, Pool] = field(default_factory=dict)
    relocations: Mapping[str, Relocation] = field(default_factory=dict)
    licensed: bool = False
    least_minute_watts: float | None = None
    ramp_floor_watts: float | None = None
    catalog: Catalog = field(default_factory=Catalog)
    services: Mapping[str, Service] = field(default_factory=dict)
    service_leases: Mapping[str, ServiceLease] = field(default_factory=dict)
    progress: Mapping[str, JobProgress] = field(default_factory=dict)
    micro_batches: Mapping[str, int] = field(default_factory=dict)
    tier_moves: Mapping[str, TierMove] = field(default_factory=dict)
    short_seconds: Mapping[str, float] = field(default_factory=dict)
    advised_seconds: Mapping[str, float] = field(default_factory=dict)
    learned: Mapping[str, JobCurve] = field(default_factory=dict)

    def limit_watts(self, circuit: str, lead_seconds: float = 0.0) -> float:
        """The most ``circuit`` may draw: rating, standing limit and events, the tightest.

        What events will ask within ``lead_seconds`` counts already, so that slow levers arrive in time.
        """
        ceiling = self.site.circuits[circuit].ceiling_watts
        if not self.events:
            return ceiling
        return min(
            [ceiling]
            + [
                event.lowest_within(lead_seconds, ceiling)
                for event in self.events
                if event.circuit == circuit
            ]
        )
