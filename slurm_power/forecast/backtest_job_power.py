"""Job power at submission over a log of jobs that is already known, against the mean of each user.

At a submission only jobs that had ended by then are known.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from slurm_power.forecast.job_power import JobPowers, Submission

# The user's jobs that had ended: 0, 1 to 4, 5 to 19, and from 20 on.
CURVE_JOBS = (0, 1, 5, 20)
# For the very first job of a class; a log does not say what kind of GPUs it is about.
DEFAULT_WATTS = 500.0


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A job that has run, and what it drew per GPU; times are epoch seconds."""

    submission: Submission
    watts_per_gpu: float
    submit_seconds: float
    end_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerScore:
    """Mean absolute errors in watts per GPU of jobs whose users had ``from_jobs`` ended jobs or more, up to
    the next of ``CURVE_JOBS``.

    ``ratio``: ours over that of the users' means; None where those are exact.
    """

    workload: str
    from_jobs: int
    jobs: int
    mae_watts: float
    user_mean_mae_watts: float

    @property
    def ratio(self) -> float | None:
        """Ours over the users' means'."""
        exact = self.user_mean_mae_watts <= 1e-9
        return None if exact else self.mae_watts / self.user_mean_mae_watts


def judge_power(jobs: Sequence[SubmittedJob]) -> list[PowerScore]:
    """The learning curve: a score for each workload class and number of ended jobs that occurs."""
    events = sorted(
        [(job.end_seconds, 0, row) for row, job in enumerate(jobs)]
        + [(job.submit_seconds, 1, row) for row, job in enumerate(jobs)]
    )
    known = JobPowers({}, DEFAULT_WATTS)
    means = _Means()
    misses: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for _, is_submission, row in events:
        job = jobs[row]
        user = job.submission.user
        if is_submission:
            step = max(least for least in CURVE_JOBS if means.jobs[user] >= least)
            ours = abs(known.expect(job.submission).mean_watts - job.watts_per_gpu)
            misses[job.submission.workload, step].append((ours, abs(means.of(user) - job.watts_per_gpu)))
        else:
            known.ended(job.submission, job.watts_per_gpu)
            means.take(user, job.watts_per_gpu)
    return [
        PowerScore(
            workload=workload,
            from_jobs=step,
            jobs=len(pairs),
            mae_watts=sum(ours for ours, _ in pairs) / len(pairs),
            user_mean_mae_watts=sum(mean for _, mean in pairs) / len(pairs),
        )
        for (workload, step), pairs in sorted(misses.items())
    ]


class _Means:
    """The plain mean of each user's jobs, of all jobs for one without any."""

    def __init__(self) -> None:
        self.jobs: defaultdict[str, int] = defaultdict(int)
        self._totals: defaultdict[str, float] = defaultdict(float)
        self._count, self._total = 0, 0.0

    def take(self, user: str, watts: float) -> None:
        self.jobs[user] += 1
        self._totals[user] += watts
        self._count += 1
        self._total += watts

    def of(self, user: str) -> float:
        if self.jobs[user]:
            return self._totals[user] / self.jobs[user]
        return self._total / self._count if self._count else DEFAULT_WATTS
