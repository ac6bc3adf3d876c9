"""What a job will draw per GPU, told at submission from what jobs like it drew.

Likeness has levels, each inside the one before: jobs of the same class on the same GPUs, of the same user,
with the same kind of name, with as many GPUs. A level with few jobs is drawn towards the one around it
(shrinkage: Gelman and Hill, Data Analysis Using Regression and Multilevel/Hierarchical Models, 2007, ch. 12).
"""

import math
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

# So many jobs of a level weigh as much as all that is known around it.
PRIOR_JOBS = 1.0
# After so many newer ones a job of the same level counts half: code changes.
HALF_LIFE_JOBS = 20.0
# How far the 95th percentile of what nobody has seen yet lies above its mean, in means.
_FIRST_SPREAD_RATIO = 0.25
_P95_SIGMAS = 1.645
# Runs of the same thing differ in numbers, dates and hashes; a model's size ("7b") stays.
_CHANGING = re.compile(r"[0-9a-f]{7,}|\d+(?![0-9.]*[bmk]\b|[0-9.]*[bmk]_)")
_LEVELS = ("jobs of this class", "your jobs", "your jobs of this name", "your jobs of this name and size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What is known of a job when it is submitted; what is not known is empty."""

    user: str
    name: str = ""
    workload: str = ""
    tier: str = ""
    gpu_type: str = ""
    gpus: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedPower:
    """Watts per GPU while it runs; ``known_from`` says whose jobs that rests on, ``jobs`` how many."""

    mean_watts: float
    p95_watts: float
    known_from: str
    jobs: int


@dataclass(slots=True)
class _Level:
    """Discounted sums over the jobs of one level."""

    weight: float = 0.0
    mean: float = 0.0
    squares: float = 0.0
    jobs: int = 0

    def take(self, watts: float) -> None:
        fade = 0.5 ** (1.0 / HALF_LIFE_JOBS)
        self.weight = fade * self.weight + 1.0
        self.squares *= fade
        # West, CACM 22 (1979): mean and squares in one pass, without cancellation.
        before = self.mean
        self.mean += (watts - before) / self.weight
        self.squares += (watts - before) * (watts - self.mean)
        self.jobs += 1


class JobPowers:
    """Learns from jobs that have ended; tells what the next will draw."""

    def __init__(self, class_watts: dict[str, float], default_watts: float) -> None:
        """``class_watts``: what a job of a workload class draws per GPU before any has been seen."""
        self._class_watts = dict(class_watts)
        self._default_watts = default_watts
        self._levels: dict[Hashable, _Level] = {}

    def ended(self, job: Submission, watts_per_gpu: float) -> None:
        """A job has ended that drew so much per GPU; raises ValueError for what is no power."""
        if not math.isfinite(watts_per_gpu) or watts_per_gpu < 0.0:
            raise ValueError(f"{watts_per_gpu} is no power")
        for key in _keys(job):
            self._levels.setdefault(key, _Level()).take(watts_per_gpu)

    def expect(self, job: Submission) -> ExpectedPower:
        """What this job will draw per GPU; never fails, and says what it rests on."""
        mean = self._class_watts.get(job.workload, self._default_watts)
        variance = (_FIRST_SPREAD_RATIO * mean / _P95_SIGMAS) ** 2
        known_from, jobs = "class default", 0
        for words, key in zip(_LEVELS, _keys(job), strict=True):
            level = self._levels.get(key)
            if level is None:
                break
            share = level.weight / (level.weight + PRIOR_JOBS)
            away = level.mean - mean
            # What lies around pulls, and that it lies elsewhere makes unsure.
            variance = share * level.squares / level.weight + (1.0 - share) * (variance + share * away**2)
            mean += share * away
            known_from, jobs = words, level.jobs
        p95 = mean + _P95_SIGMAS * math.sqrt(max(0.0, variance))
        return ExpectedPower(mean_watts=mean, p95_watts=p95, known_from=known_from, jobs=jobs)


def name_stem(name: str) -> str:
    """A job's name without what differs from run to run: "bert-7b_run12" and "bert-7b_run13" are one kind."""
    return _CHANGING.sub("#", name.lower())


def _keys(job: Submission) -> Iterator[Hashable]:
    kind = (job.workload, job.tier, job.gpu_type)
    stem = name_stem(job.name)
    yield kind
    yield (*kind, job.user)
    yield (*kind, job.user, stem)
    yield (*kind, job.user, stem, job.gpus)
