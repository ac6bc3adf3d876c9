"""What the gateway needs of whatever runs its tiers: Slurm's jobs, or plain processes in load tests."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from slurm_power.gateway.members import JobSeen


class BackendsError(Exception):
    """Whoever runs the jobs did not answer: nothing may be concluded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSight:
    """A job as it was found. ``address`` is empty until it has told one."""

    job_id: str
    seen: JobSeen
    address: str = ""
    left_seconds: float | None = None
    account: str = ""


class Backends(Protocol):
    """Jobs by the key that the gateway gave them before they were submitted."""

    async def look(self, tiers_by_key: Mapping[str, str]) -> dict[str, JobSight]:
        """The jobs there are, by key; one that is missing does not exist. Raises BackendsError."""

    async def submit(self, key: str, tier: str) -> str:
        """Submit a job; returns why it was not taken, empty where it was. It may be taken all the same."""

    async def end(self, job_id: str, *, hard: bool) -> None:
        """Ask a job to end, or end it; raises BackendsError."""
