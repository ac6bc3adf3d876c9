"""How what was taken lies on users and accounts over a span, by the measure that the planner itself uses."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from slurm_power.plan.fairness import Debt, jain_index

_HOUR = 3600.0
_NO_DEBT = Debt()


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
    def breached(self) -> bool:
        """Whether its class' promise was exceeded."""
        return self.breached_seconds > 0.0 or bool(self.breaches)

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
    """The whole span; ``jobs`` are those that were touched.

    ``jain_index``: of what users kept (1 less ``lost_ratio``), as the planner has it.
    """

    users: tuple[Share, ...]
    accounts: tuple[Share, ...]
    classes: tuple[Share, ...]
    jobs: tuple[JobLoss, ...]
    jain_index: float
    worst: Share | None

    @property
    def breached(self) -> tuple[JobLoss, ...]:
        """Jobs whose promise was exceeded."""
        return tuple(job for job in self.jobs if job.breached)


@dataclass(slots=True)
class _Sums:
    """Running sums over the jobs of one name; waits are kept as plain numbers for their median."""

    jobs: int = 0
    touched_jobs: int = 0
    breached_jobs: int = 0
    ran_gpu_seconds: float = 0.0
    slowed_gpu_seconds: float = 0.0
    paused_gpu_seconds: float = 0.0
    held_seconds: float = 0.0
    held_gpu_seconds: float = 0.0
    given_joules: float = 0.0
    debt: Debt = _NO_DEBT
    waits: "array[float]" = field(default_factory=lambda: array("d"))

    def add(self, job: JobLoss, wait_lost_ratio: float) -> None:
        more = job.debt(wait_lost_ratio)
        self.jobs += 1
        self.touched_jobs += job.touched
        self.breached_jobs += job.breached
        self.ran_gpu_seconds += job.ran_seconds * job.gpu_count
        self.slowed_gpu_seconds += job.slowed_seconds * job.gpu_count
        self.paused_gpu_seconds += job.paused_seconds * job.gpu_count
        self.held_seconds += job.held_seconds
        self.held_gpu_seconds += job.held_seconds * job.gpu_count
        self.given_joules += job.given_joules
        self.debt = self.debt.plus(
            lost_gpu_seconds=more.lost_gpu_seconds, had_gpu_seconds=more.had_gpu_seconds
        )
        if job.waited_seconds is not None:
            self.waits.append(job.waited_seconds)

    def share(self, name: str) -> Share:
        ran, lost = self.ran_gpu_seconds, self.slowed_gpu_seconds + self.paused_gpu_seconds
        return Share(
            name=name,
            jobs=self.jobs,
            touched_jobs=self.touched_jobs,
            gpu_hours=ran / _HOUR,
            slowed_gpu_hours=self.slowed_gpu_seconds / _HOUR,
            paused_gpu_hours=self.paused_gpu_seconds / _HOUR,
            held_seconds=self.held_seconds,
            held_gpu_hours=self.held_gpu_seconds / _HOUR,
            lost_ratio=self.debt.ratio,
            own_ratio=lost / ran if ran > 0.0 else None,
            median_wait_seconds=_median(sorted(self.waits)),
            given_joules=self.given_joules,
            breached_jobs=self.breached_jobs,
        )


def fairness(jobs: Iterable[JobLoss], wait_lost_ratio: float) -> Fairness:
    """Sum the jobs up as they come; names that had nothing are left out. Untouched jobs are not kept."""
    sums: dict[str, dict[str, _Sums]] = {"user": {}, "account": {}, "flex": {}}
    kept = []
    for job in jobs:
        if not (job.ran_seconds > 0.0 or job.touched or job.breached):
            continue
        for key, groups in sums.items():
            groups.setdefault(str(getattr(job, key)), _Sums()).add(job, wait_lost_ratio)
        if job.touched or job.breached:
            kept.append(job)
    users, accounts, classes = (
        [group.share(name) for name, group in groups.items()] for groups in sums.values()
    )
    users.sort(key=lambda share: (-share.lost_ratio, share.name))
    return Fairness(
        users=tuple(users),
        accounts=tuple(sorted(accounts, key=lambda share: (-share.lost_ratio, share.name))),
        classes=tuple(sorted(classes, key=lambda share: share.name)),
        jobs=tuple(sorted(kept, key=lambda job: (-job.debt(wait_lost_ratio).lost_gpu_seconds, job.job_id))),
        jain_index=jain_index(1.0 - share.lost_ratio for share in users),
        worst=users[0] if users and users[0].lost_ratio > 0.0 else None,
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
