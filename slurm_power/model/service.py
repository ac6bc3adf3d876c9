"""Inference services: one family of model tiers behind one address, of which one tier serves at a time."""

from dataclasses import dataclass, field
from enum import StrEnum

from slurm_power.model.site import LimitKind


class BackendState(StrEnum):
    """Where the job of one tier of a service stands."""

    STOPPED = "stopped"
    STARTING = "starting"
    """Its job is queued, or its model loads."""
    READY = "ready"
    """It answers, and gets no new requests."""
    SERVING = "serving"
    DRAINING = "draining"
    """It gets no new requests, and has some to finish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """The job that runs one tier of a service."""

    tier: str
    state: BackendState
    job_id: str = ""
    open_streams: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service as its gateway has last told.

    ``full_tier`` is what it is to run where nothing is short; ``tiers_ok`` are the tiers it may run (names,
    or ``any``); ``min_quality`` the least in its family's metric. ``switching`` is True while one tier comes
    and another goes.
    """

    name: str
    user: str
    account: str
    family: str
    full_tier: str
    tiers_ok: tuple[str, ...]
    serving: str
    min_quality: float | None = None
    backends: tuple[Backend, ...] = field(default=())
    requests_per_second: float | None = None
    age_seconds: float = 0.0

    @property
    def switching(self) -> bool:
        """Whether more than one tier has a job."""
        return sum(backend.state is not BackendState.STOPPED for backend in self.backends) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLease:
    """A tier that we have asked a service to run, and still renew."""

    service: str
    tier: str
    kind: LimitKind
    asked_seconds_ago: float
