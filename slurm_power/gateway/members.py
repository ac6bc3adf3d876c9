"""The nouns of a service: its members (one job each), what is seen of them, and what is wanted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

FIRST_ORDER = 1_000_000_000
"""HAProxy asks the server with the least number first: each new member gets one less than the last."""


class Phase(StrEnum):
    """How far one member's life has come."""

    SUBMITTING = "submitting"
    """We mean to submit its job; whether we did is to be looked up."""
    STARTING = "starting"
    """Its job is queued, or its model loads."""
    WARMING = "warming"
    """It is healthy and answers its warm-up."""
    READY = "ready"
    """HAProxy knows it and sends it nothing yet."""
    SERVING = "serving"
    DRAINING = "draining"
    """Behind the serving one: it finishes what it has, and takes over at once where that one fails."""
    CLOSING = "closing"
    """It gets nothing new at all: the last look for open streams."""
    STOPPING = "stopping"
    """HAProxy forgets it, and its job is asked to end."""


COMING = (Phase.SUBMITTING, Phase.STARTING, Phase.WARMING, Phase.READY)
GOING = (Phase.DRAINING, Phase.CLOSING)


class JobSeen(StrEnum):
    """What Slurm says of a member's job."""

    UNKNOWN = "unknown"
    """Slurm did not answer: nothing may be concluded."""
    PENDING = "pending"
    RUNNING = "running"
    ENDING = "ending"
    """It answers no more, and its resources are not free yet."""
    ABSENT = "absent"
    """Slurm answered and has no such job any more, or not yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One job of one tier. Times are monotonic seconds of the host; ``key`` is our own random name for it.

    ``end_asked_seconds`` is when its job was last asked to end, ``down_seconds`` since when HAProxy says it
    does not answer, ``absent_seconds`` since when Slurm does not know its job any more.
    """

    key: str
    tier: str
    phase: Phase
    since_seconds: float
    order: int
    job_id: str = ""
    address: str = ""
    running_seconds: float | None = None
    down_seconds: float | None = None
    absent_seconds: float | None = None
    end_asked_seconds: float | None = None

    @property
    def server(self) -> str:
        """Its name in HAProxy: no tier's name holds a colon."""
        return f"{self.tier}:{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """How often a tier has failed in a row, and until when it is not tried again."""

    count: int
    until_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All of a service that must survive the gateway."""

    members: tuple[Member, ...] = ()
    failed: Mapping[str, Failed] = field(default_factory=dict)
    next_order: int = FIRST_ORDER
    last_served: str = ""

    def first(self, *phases: Phase) -> Member | None:
        """The newest member in one of these phases."""
        found = [member for member in self.members if member.phase in phases]
        return min(found, key=lambda member: member.order) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What one look has found out about a member; None is not known.

    ``warmed`` is True after its warm-up was answered well. ``up`` is HAProxy's own health check.
    ``left_seconds`` is what remains of the job's time limit. ``refusal`` says why Slurm took no job.
    """

    job: JobSeen = JobSeen.UNKNOWN
    job_id: str = ""
    address: str = ""
    healthy: bool = False
    warmed: bool = False
    up: bool | None = None
    open_streams: int | None = None
    left_seconds: float | None = None
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The tier that is to serve; None to stay with the present one. Nothing is started unless ``may_start``.

    ``fallbacks`` are tried in their order where nothing serves and the wished one cannot be had.
    """

    tier: str | None = None
    may_start: bool = False
    reason: str = ""
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long each part of a switch may take, in seconds.

    ``least_drain_seconds`` keeps the old tier for conversations that go on. ``probation_seconds`` is how
    long a new tier has to do well before the old one is let go. ``renew_seconds`` before a job's time limit
    its successor is started.
    """

    queue_seconds: float = 600.0
    ready_seconds: float = 600.0
    probation_seconds: float = 10.0
    least_drain_seconds: float = 0.0
    drain_seconds: float = 300.0
    stop_seconds: float = 60.0
    down_seconds: float = 30.0
    lost_seconds: float = 15.0
    renew_seconds: float = 1200.0
    first_retry_seconds: float = 10.0
    most_retry_seconds: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Submit a member's job, unless that is under way."""

    key: str
    tier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """Send a member its warm-up request, unless that is under way."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndJob:
    """Ask a member's job to end; ``hard`` does not ask."""

    key: str
    job_id: str
    hard: bool


Act = Submit | WarmUp | EndJob
