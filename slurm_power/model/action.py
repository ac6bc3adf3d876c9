"""What the planner can say: a closed set of actions, each with a reason a user can read."""

from dataclasses import dataclass
from typing import TypeAlias

from slurm_power.model.site import LimitKind


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDischarge:
    """Ask an ESS for ``discharge_watts`` (negative charges); 0.0 gives the device back to itself."""

    ess: str
    discharge_watts: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCap:
    """Cap every GPU of a job at ``cap_watts``, leased; ``None`` ends the lease and restores the past.

    Where ``lock_hertz`` is given, the GPUs' clock is locked there instead, which is expected to bring the
    draw down to ``cap_watts``; ``full_hertz`` is the clock without a lock. A ``gate`` delays the start of a
    job: it is held against the promise as the time that it costs, like a hold, and not as a slowdown.
    ``own``: it is no more than what the job's user asks for, and takes nothing from it.
    """

    job_id: str
    cap_watts: float | None
    kind: LimitKind
    reason: str
    saved_watts: float = 0.0
    slowdown_ratio: float = 0.0
    lock_hertz: float | None = None
    full_hertz: float | None = None
    gate: bool = False
    own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldJob:
    """Keep a pending job from starting for ``seconds``; the hold ends by itself unless renewed."""

    job_id: str
    seconds: float
    reason: str
    saved_watts: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseJob:
    """Let a job that we hold start."""

    job_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseJob:
    """Stop a running job for a while, its GPUs and its place kept, or renew that; leased.

    ``drawn_watts`` is its mean draw per GPU before it was stopped, ``saved_watts`` what the circuit in need
    sees of that. ``renewed`` is True where it is stopped already, and only the lease is to be renewed.
    """

    job_id: str
    kind: LimitKind
    drawn_watts: float
    reason: str
    saved_watts: float = 0.0
    renewed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeJob:
    """Let a job go on that we have paused."""

    job_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RelocateJob:
    """Keep a pending job off the nodes ``avoid``, so that it starts elsewhere; none gives all nodes back."""

    job_id: str
    avoid: tuple[str, ...]
    reason: str
    saved_watts: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeTier:
    """Let a consenting job go on with another tier of its family, on as many GPUs as that needs.

    A pending job is changed in place; one that is ``running`` saves a checkpoint first, and is queued again.
    """

    job_id: str
    tier: str
    gpu_count: int
    running: bool
    kind: LimitKind
    reason: str
    saved_watts: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchService:
    """Ask a service to serve with a tier, leased; None: with the one it is to run where nothing is short.

    ``booked_watts`` is what the new tier draws while the old one still drains.
    """

    service: str
    tier: str | None
    kind: LimitKind
    reason: str
    saved_watts: float = 0.0
    booked_watts: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviseBatch:
    """Advise a job's ranks to take ``micro_batch`` samples at a time, leased; None: as many as it likes.

    The global batch stays: each step accumulates more of the smaller batches.
    """

    job_id: str
    micro_batch: int | None
    kind: LimitKind
    reason: str
    saved_watts: float = 0.0
    slowdown_ratio: float = 0.0


Action: TypeAlias = (
    SetDischarge
    | SetCap
    | HoldJob
    | ReleaseJob
    | RelocateJob
    | PauseJob
    | ResumeJob
    | ChangeTier
    | SwitchService
    | AdviseBatch
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """A limit that cannot be met with the levers left, by how much, and from when (0.0: now).

    ``event_id`` names the event whose limit it is, where it is one that is foreseen.
    """

    circuit: str
    watts: float
    reason: str
    from_seconds: float = 0.0
    event_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything the planner says in one cycle."""

    actions: tuple[Action, ...] = ()
    shortfalls: tuple[Shortfall, ...] = ()
    notes: tuple[str, ...] = ()
