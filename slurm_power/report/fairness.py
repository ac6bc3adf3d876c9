"""How what was taken lies on users and accounts over a span, by the measure that the planner itself uses."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from slurm_power.plan.fairness import Debt, jain_index

_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLoss:
    """What a job had and lost within the span.

    ``ran_seconds`` and ``held_seconds`` are of the job, ``slowed_seconds`` of its full speed lost to caps;
    ``breached_seconds`` is how long its class' promise was exceeded, ``breaches`` the ledger entries of it.
    ``method`` says how it was cut at the span's ends, empty for a job within it.
    """

    job_id: str
    user: str
    account: str
    flex: str
    gpu_count: int
    ran_seconds: float = 0.0
    slowed_seconds: float = 0.0
    capped_seconds: float = 0.0
    paused_seconds: float = 0.0
    held_seconds: float = 0.0
    waited_seconds: float | None = None
    given_joules: float = 0.0
    breached_seconds: float = 0.0
    breaches: tuple[int, ...] = ()
    method: str = ""

    @property
    def touched(self) -> bool:
        """Whether anything was taken from it."""
        return self.slowed_seconds > 0.0 or self.paused_seconds > 0.0 or self.held_seconds > 0.0

    @property
    def lost_gpu_seconds(self) -> float:
        """GPU time that caps and pauses took, without holds."""
        return (self.slowed_seconds + self.paused_seconds) * self.gpu_count

    def debt(self, wait_lost_ratio: float) -> Debt:
        """As the planner counts it: a second of being held counts ``wait_lost_ratio`` of a lost one."""
        held = self.held_seconds * self.gpu_count
        return Debt(
            lost_gpu_seconds=self.lost_gpu_seconds + wait_lost_ratio * held,
            had_gpu_seconds=self.ran_seconds * self.gpu_count + held,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One user, account or flex class. ``lost_ratio`` is the planner's: an hour of one GPU counts as had.

    ``own_ratio`` is the plain share: lost GPU time (holds not counted) of the time its jobs had GPUs.
    """

    name: str
    jobs: int
    touched_jobs: int
    gpu_hours: float
    slowed_gpu_hours: float
    paused_gpu_hours: float
    held_seconds: float
    held_gpu_hours: float
    lost_ratio: float
    own_ratio: float | None
    median_wait_seconds: float | None
    given_joules: float
    breached_jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fairness:
    """The whole span. ``jain_index``: of what users kept (1 less ``lost_ratio``), as the planner has it."""

    users: tuple[Share, ...]
    accounts: tuple[Share, ...]
    classes: tuple[Share, ...]
    jobs: tuple[JobLoss, ...]
    jain_index: float
    worst: Share | None

    @property
    def breached(self) -> tuple[JobLoss, ...]:
        """Jobs whose promise was exceeded."""
        return tuple(job for job in self.jobs if job.breached_seconds > 0.0 or job.breaches)


def fairness(jobs: Iterable[JobLoss], wait_lost_ratio: float) -> Fairness:
    """Sum the jobs up; names that had nothing are left out."""
    found = tuple(job for job in jobs if job.ran_seconds > 0.0 or job.touched or job.breaches)
    users = _shares(found, "user", wait_lost_ratio)
    worst = users[0] if users and users[0].lost_ratio > 0.0 else None
    return Fairness(
        users=users,
        accounts=_shares(found, "account", wait_lost_ratio),
        classes=tuple(sorted(_shares(found, "flex", wait_lost_ratio), key=lambda share: share.name)),
        jobs=tuple(sorted(found, key=lambda job: (-job.debt(wait_lost_ratio).lost_gpu_seconds, job.job_id))),
        jain_index=jain_index(1.0 - share.lost_ratio for share in users),
        worst=worst,
    )


def _shares(jobs: Sequence[JobLoss], key: str, wait_lost_ratio: float) -> tuple[Share, ...]:
    """The one who lost the largest share first."""
    groups: dict[str, list[JobLoss]] = {}
    for job in jobs:
        groups.setdefault(str(getattr(job, key)), []).append(job)
    shares = [_share(name, group, wait_lost_ratio) for name, group in groups.items()]
    return tuple(sorted(shares, key=lambda share: (-share.lost_ratio, share.name)))


def _share(name: str, jobs: Sequence[JobLoss], wait_lost_ratio: float) -> Share:
    debt = Debt()
    for job in jobs:
        more = job.debt(wait_lost_ratio)
        debt = debt.plus(lost_gpu_seconds=more.lost_gpu_seconds, had_gpu_seconds=more.had_gpu_seconds)
    ran = sum(job.ran_seconds * job.gpu_count for job in jobs)
    lost = sum(job.lost_gpu_seconds for job in jobs)
    waits = sorted(job.waited_seconds for job in jobs if job.waited_seconds is not None)
    return Share(
        name=name,
        jobs=len(jobs),
        touched_jobs=sum(job.touched for job in jobs),
        gpu_hours=ran / _HOUR,
        slowed_gpu_hours=sum(job.slowed_seconds * job.gpu_count for job in jobs) / _HOUR,
        paused_gpu_hours=sum(job.paused_seconds * job.gpu_count for job in jobs) / _HOUR,
        held_seconds=sum(job.held_seconds for job in jobs),
        held_gpu_hours=sum(job.held_seconds * job.gpu_count for job in jobs) / _HOUR,
        lost_ratio=debt.ratio,
        own_ratio=lost / ran if ran > 0.0 else None,
        median_wait_seconds=_median(waits),
        given_joules=sum(job.given_joules for job in jobs),
        breached_jobs=sum(job.breached_seconds > 0.0 or bool(job.breaches) for job in jobs),
    )


def _median(values: Sequence[float]) -> float | None:
    if not values:
        return None
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else 0.5 * (values[middle - 1] + values[middle])


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLoss:
    """What one user's jobs lost in one grid event, and which share of all that was lost in it."""

    event_id: str
    user: str
    lost_gpu_hours: float
    held_gpu_hours: float
    share_ratio: float | None


def event_losses(event_id: str, rows: Iterable[Mapping[str, object]]) -> list[EventLoss]:
    """Sum an event report's jobs up by user, the most first; a row that is none is left out."""
    sums: dict[str, tuple[float, float]] = {}
    for row in rows:
        lost, held = row.get("lost_gpu_hours"), row.get("held_seconds")
        gpus = row.get("gpu_count")
        if not all(isinstance(value, int | float) for value in (lost, held, gpus)):
            continue
        before = sums.get(str(row.get("user", "")), (0.0, 0.0))
        more = (float(str(lost)), float(str(held)) * float(str(gpus)) / _HOUR)
        sums[str(row.get("user", ""))] = (before[0] + more[0], before[1] + more[1])
    whole = sum(lost + held for lost, held in sums.values())
    found = [
        EventLoss(
            event_id=event_id,
            user=user,
            lost_gpu_hours=lost,
            held_gpu_hours=held,
            share_ratio=(lost + held) / whole if whole > 0.0 else None,
        )
        for user, (lost, held) in sums.items()
    ]
    return sorted(found, key=lambda one: (-(one.lost_gpu_hours + one.held_gpu_hours), one.user))
