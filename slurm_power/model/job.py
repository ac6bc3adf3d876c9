"""Jobs as the planner sees them, and the promises made to their users."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Workload(StrEnum):
    """Workload class: each has its own power shape, metrics and default levers."""

    TRAINING = "training"
    INFERENCE = "inference"
    GENERATION = "generation"


class Flex(StrEnum):
    """The user's promise: the largest slowdown, or hold of equal length, an economic limit may cause."""

    FLEX0 = "flex0"
    FLEX1 = "flex1"
    FLEX2 = "flex2"
    FLEX3 = "flex3"

    @property
    def max_slowdown_ratio(self) -> float:
        """Largest share of performance that may be taken (0 = none, 0.5 = half)."""
        return _MAX_SLOWDOWN_RATIO[self]


_MAX_SLOWDOWN_RATIO = {Flex.FLEX0: 0.0, Flex.FLEX1: 0.10, Flex.FLEX2: 0.25, Flex.FLEX3: 0.50}


class JobState(StrEnum):
    """Where a job stands, in words that fit any scheduler."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    SUSPENDED = "suspended"
    ENDING = "ending"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job. ``nodes`` is empty until it has been placed; ``gpu_count`` counts all its GPUs.

    ``gpu_type`` is the type of its GPUs in the scheduler's words, empty while nobody has asked for one or
    given one. ``begin`` is the earliest start the job record carries now, whoever wrote it;
    ``expected_start`` when the scheduler expects a pending job to start, None while it does not say;
    ``held_by_user`` is True for holds that are not ours: those are never touched. The tasks of a job array
    that have not started are one job: ``task_count`` of them wait, each with ``gpu_count`` GPUs.
    ``max_hold_seconds``: the longest its user lets us hold it before its start, None where its class says.
    ``finish_by`` is when its user wants it to have ended by its time limit, ``deadline`` when the workload
    manager ends it. ``own_cap_watts``: the power limit its user asks for on each of its GPUs.
    ``pools`` are the pools it may start in, empty where nobody says; ``node_count`` how many nodes it asks
    for at least. ``pinned``: its user chose among nodes, so nobody else does. ``avoids`` are nodes that it is
    kept off by us. ``tier`` is the model tier it runs, as ``family/tier``, empty where nobody says;
    ``tiers_ok`` are the tiers of that family that its user consents to (names, or ``any``), ``min_quality``
    the least in the family's metric. ``requeues``: a batch job that the workload manager may queue again.
    """

    job_id: str
    user: str
    account: str
    name: str
    state: JobState
    gpu_count: int
    workload: Workload = Workload.TRAINING
    flex: Flex = Flex.FLEX0
    nodes: tuple[str, ...] = ()
    submitted: datetime | None = None
    started: datetime | None = None
    begin: datetime | None = None
    expected_start: datetime | None = None
    time_limit_seconds: float | None = None
    held_by_user: bool = False
    pending_reason: str = ""
    task_count: int = 1
    gpu_type: str = ""
    gpus_by_node: tuple[tuple[str, tuple[str, ...]], ...] = field(default=())
    planned_nodes: tuple[str, ...] = ()
    priority: int | None = None
    pools: tuple[str, ...] = ()
    node_count: int = 1
    pinned: bool = False
    avoids: frozenset[str] = frozenset()
    max_hold_seconds: float | None = None
    finish_by: datetime | None = None
    deadline: datetime | None = None
    own_cap_watts: float | None = None
    tier: str = ""
    tiers_ok: tuple[str, ...] = ()
    min_quality: float | None = None
    requeues: bool = False

    @property
    def ends_by(self) -> datetime | None:
        """The moment that no lever of ours may make it end after; None where there is none."""
        if self.finish_by is None or self.deadline is None:
            return self.finish_by or self.deadline
        return min(self.finish_by, self.deadline)

    @property
    def gpu_uuids(self) -> tuple[str, ...]:
        """UUIDs of the job's GPUs on all its nodes, as far as the nodes have reported them."""
        return tuple(uuid for _, uuids in self.gpus_by_node for uuid in uuids)
