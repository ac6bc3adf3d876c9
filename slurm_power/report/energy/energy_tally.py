"""What jobs used, summed up by user and account as they come; what is held grows with users."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from slurm_power.model.receipt import SURE_RATIO


class Amount(NamedTuple):
    """Energy with what it cost and emitted by the rates of the time it was used in (0.0 where none stood)."""

    joules: float = 0.0
    cost: float = 0.0
    carbon_grams: float = 0.0

    def plus(self, other: "Amount") -> "Amount":
        """The sum."""
        return Amount(*(a + b for a, b in zip(self, other, strict=True)))

    def less(self, other: "Amount") -> "Amount":
        """The difference."""
        return Amount(*(a - b for a, b in zip(self, other, strict=True)))

    def times(self, factor: float) -> "Amount":
        """A part of it, or a multiple."""
        return Amount(*(factor * a for a in self))


NOTHING = Amount()


def total(amounts: Iterable[Amount]) -> Amount:
    """The sum of all."""
    found = NOTHING
    for amount in amounts:
        found = found.plus(amount)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUse:
    """One job's GPUs within the span, ``method`` in words: how that is known, and how it was cut.

    ``used`` is all of it, ``unmetered`` the part in time that the meter was not read in. ``hosts_joules`` is
    its part of the hosts, None where they are not measured. ``coverage_ratio`` as in its receipt.
    """

    job_id: str
    user: str
    account: str
    name: str
    used: Amount
    gpu_seconds: float
    method: str
    unmetered: Amount = NOTHING
    hosts_joules: float | None = None
    coverage_ratio: float | None = None

    @property
    def is_estimate(self) -> bool:
        """Whether too little was read for it to be more than an estimate."""
        return (self.coverage_ratio or 0.0) < SURE_RATIO


@dataclass(slots=True)
class JobSums:
    """Running sums over jobs of one name. ``hosts_joules`` is None once one of them has none."""

    jobs: int = 0
    used: Amount = NOTHING
    gpu_seconds: float = 0.0
    hosts_joules: float | None = 0.0
    read_joules: float = 0.0
    least_coverage: float = 1.0

    def add(self, job: JobUse) -> None:
        """Add one job."""
        self.jobs += 1
        self.used = self.used.plus(job.used)
        self.gpu_seconds += job.gpu_seconds
        self.hosts_joules = (
            None
            if self.hosts_joules is None or job.hosts_joules is None
            else self.hosts_joules + job.hosts_joules
        )
        coverage = job.coverage_ratio or 0.0
        self.read_joules += coverage * job.used.joules
        self.least_coverage = min(self.least_coverage, coverage)

    @property
    def coverage_ratio(self) -> float:
        """Weighted with energy; a job of which nothing is known counts as not read."""
        joules = self.used.joules
        return self.read_joules / joules if joules > 0.0 else self.least_coverage


@dataclass(slots=True)
class JobTally:
    """All jobs of a span, summed up as they come: what is held grows with users, not with jobs.

    ``listed`` are the ``most_listed`` that used most (None: all), the most first; ``others`` the rest.
    """

    most_listed: int | None = None
    used: Amount = NOTHING
    unmetered: Amount = NOTHING
    count: int = 0
    unsure: int = 0
    users: dict[str, JobSums] = field(default_factory=dict)
    accounts: dict[str, JobSums] = field(default_factory=dict)
    _kept: list[JobUse] = field(default_factory=list)

    def add(self, job: JobUse) -> None:
        """Add one job."""
        self.count += 1
        self.unsure += job.is_estimate
        self.used, self.unmetered = self.used.plus(job.used), self.unmetered.plus(job.unmetered)
        self.users.setdefault(job.user, JobSums()).add(job)
        self.accounts.setdefault(job.account, JobSums()).add(job)
        self._kept.append(job)
        if self.most_listed is not None and len(self._kept) > 2 * self.most_listed + 1000:
            self._kept = self._most()

    def _most(self) -> list[JobUse]:
        return sorted(self._kept, key=lambda job: (-job.used.joules, job.job_id))[: self.most_listed]

    @property
    def listed(self) -> tuple[JobUse, ...]:
        """Those that are listed one by one."""
        return tuple(self._most())
