"""What a job will draw per GPU, told at submission from what jobs like it drew, and refined while it runs.

Likeness has levels, each closer than the one before: jobs of the same class on the same GPUs, of the same
account, of the same user, with the same kind of name, with as many GPUs and the same batch. A level with few
jobs is drawn towards what lies around it (shrinkage: Gelman and Hill, Data Analysis Using Regression and
Multilevel/Hierarchical Models, 2007, ch. 12).
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from slurm_power.model.expected_power import ExpectedPower, PowerShape

# So many jobs of a level weigh as much as all that is known around it: runs of one thing differ far less
# than the things do. A quarter more or less moves no class's error by more than 2 % (docs/benchmarks.md).
PRIOR_JOBS = 0.3
# After so many newer ones a job of the same level counts half: code changes.
HALF_LIFE_JOBS = 20.0
# After so long a running job's own draw weighs as much as all that was known before.
OWN_SECONDS = 120.0
# How many levels are remembered; those that were used longest ago go first. Some 3 MB as JSON.
MOST_LEVELS = 20_000
# How far the 95th percentile of what nobody has seen yet lies above its mean, in means.
_FIRST_SPREAD_RATIO = 0.25
_P95_SIGMAS = 1.645
_FADE = 0.5 ** (1.0 / HALF_LIFE_JOBS)
# Runs of the same thing differ in numbers, dates and hashes; a model's size ("7b") stays.
_CHANGING = re.compile(r"[0-9a-f]{7,}|\d+(?![0-9.]*[bmk]\b|[0-9.]*[bmk]_)")
# The batch where the name says it: "bs32", "batch-64", "mbs8".
_BATCH = re.compile(r"(?:\b|_|\d)(?:[mg]?bs|batch(?:[-_]?size)?)[-_=]?(\d+)")
_LEVELS = (
    "jobs of this class",
    "jobs of this account",
    "your jobs",
    "your jobs of this name",
    "your jobs of this name and size",
)
_VERSION = 1
_SEPARATOR = "\x1f"
# Of the levels those that can be told by few words, with how many of their own they have.
_TOLD = {"class": 0, "user": 1, "name": 2}
_LONGEST_WORD = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What is known of a job when it is submitted; what is not known is empty."""

    user: str
    account: str = ""
    name: str = ""
    workload: str = ""
    tier: str = ""
    gpu_type: str = ""
    gpus: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedLevel:
    """What jobs of one kind draw per GPU.

    ``words`` by ``kind``: class (class, GPU type), user (user, class, GPU type), name (the same three, and
    the name without what differs from run to run).
    """

    kind: str
    words: tuple[str, ...]
    watts: float


@dataclass(slots=True)
class _Level:
    """Discounted sums over the jobs of one level; those of the shape over the jobs that had one."""

    weight: float = 0.0
    mean: float = 0.0
    squares: float = 0.0
    jobs: int = 0
    shaped: float = 0.0
    # The 95th percentile less the mean.
    excess: float = 0.0
    # The start step less the mean: it follows the level of the job.
    step: float = 0.0
    ramp: float = 0.0
    swing: float = 0.0

    def take(self, watts: float, shape: PowerShape | None, weight: float) -> None:
        self.weight = _FADE * self.weight + weight
        self.squares *= _FADE
        # West, CACM 22 (1979): mean and squares in one pass, without cancellation.
        before = self.mean
        self.mean += weight * (watts - before) / self.weight
        self.squares += weight * (watts - before) * (watts - self.mean)
        self.jobs += 1
        if shape is None:
            return
        self.shaped = _FADE * self.shaped + weight
        part = weight / self.shaped
        self.excess += part * (shape.p95_watts - shape.mean_watts - self.excess)
        self.step += part * (shape.start_step_watts - shape.mean_watts - self.step)
        self.ramp += part * (shape.ramp_seconds - self.ramp)
        self.swing += part * (shape.swing_watts - self.swing)


_FIELDS = tuple(field.name for field in fields(_Level))


class JobPowers:
    """Learns from jobs that have ended; tells what the next will draw."""

    def __init__(
        self, class_watts: dict[str, float], default_watts: float, *, idle_watts: float = 0.0
    ) -> None:
        """``class_watts``: what a job of a workload class draws per GPU before any has been seen."""
        self._class_watts = dict(class_watts)
        self._default_watts = default_watts
        self._idle_watts = idle_watts
        self._levels: dict[str, _Level] = {}
        self.taught = 0

    def __len__(self) -> int:
        return len(self._levels)

    def ended(
        self, job: Submission, watts_per_gpu: float, shape: PowerShape | None = None, *, weight: float = 1.0
    ) -> None:
        """A job has ended that drew so much per GPU; raises ValueError for what is no power.

        ``weight``: below 1 for a job that says less, such as one that broke off.
        """
        if not math.isfinite(watts_per_gpu) or watts_per_gpu < 0.0:
            raise ValueError(f"{watts_per_gpu} is no power")
        # The wider a level, the later it is noted, and the longer it is remembered.
        for key in reversed(list(_keys(job))):
            level = self._levels.pop(key, None) or _Level()
            level.take(watts_per_gpu, shape, weight)
            self._levels[key] = level
        while len(self._levels) > MOST_LEVELS:
            del self._levels[next(iter(self._levels))]
        self.taught += 1

    def expect(
        self, job: Submission, so_far: PowerShape | None = None, own_seconds: float = 0.0
    ) -> ExpectedPower:
        """What this job will draw per GPU; never fails, and says what it rests on.

        ``so_far``: what it has drawn itself, in the ``own_seconds`` that it has been seen running.
        """
        mean = self._class_watts.get(job.workload, self._default_watts)
        variance = (_FIRST_SPREAD_RATIO * mean / _P95_SIGMAS) ** 2
        excess, step, ramp, swing = 0.0, -self._idle_watts, 0.0, 0.0
        known_from, jobs = "class default", 0
        for words, key in zip(_LEVELS, _keys(job), strict=True):
            level = self._levels.get(key)
            if level is None:
                continue
            share = level.weight / (level.weight + PRIOR_JOBS)
            away = level.mean - mean
            # What lies around pulls, and that it lies elsewhere makes unsure.
            variance = share * level.squares / level.weight + (1.0 - share) * (variance + share * away**2)
            mean += share * away
            shaped = level.shaped / (level.shaped + PRIOR_JOBS)
            excess += shaped * (level.excess - excess)
            step += shaped * (level.step - step)
            ramp += shaped * (level.ramp - ramp)
            swing += shaped * (level.swing - swing)
            known_from, jobs = words, level.jobs
        if so_far is not None and own_seconds > 0.0:
            own = own_seconds / (own_seconds + OWN_SECONDS)
            variance *= (1.0 - own) ** 2
            mean += own * (so_far.mean_watts - mean)
            excess += own * (so_far.p95_watts - so_far.mean_watts - excess)
            step += own * (so_far.start_step_watts - so_far.mean_watts - step)
            ramp += own * (so_far.ramp_seconds - ramp)
            swing += own * (so_far.swing_watts - swing)
        else:
            own_seconds = 0.0
        return ExpectedPower(
            mean_watts=mean,
            p95_watts=mean + max(0.0, excess) + _P95_SIGMAS * math.sqrt(max(0.0, variance)),
            known_from=known_from,
            jobs=jobs,
            start_step_watts=max(0.0, mean + step),
            ramp_seconds=ramp,
            swing_watts=swing,
            own_seconds=own_seconds,
        )

    def learned(self) -> Iterator[LearnedLevel]:
        """What jobs of each class, user and kind of name draw; what was used last comes last.

        For who can look up no more than that; `expect` knows more. May be taken in parts.
        """
        for key in list(self._levels):
            workload, tier, gpu_type, kind, *rest = key.split(_SEPARATOR)
            if tier or len(rest) != _TOLD.get(kind):
                continue
            mean = self._class_watts.get(workload, self._default_watts)
            words = [workload, gpu_type]
            for told, count in _TOLD.items():
                around = _SEPARATOR.join([workload, tier, gpu_type, told, *rest[:count]])
                level = self._levels.get(around)
                if level is not None:
                    mean += level.weight / (level.weight + PRIOR_JOBS) * (level.mean - mean)
                if told == kind:
                    break
            yield LearnedLevel(kind=kind, words=(*rest[:1], *words, *rest[1:]), watts=mean)

    def to_json(self) -> dict[str, Any]:
        """For the store; the levels used longest ago come first."""
        return {
            "version": _VERSION,
            "fields": list(_FIELDS),
            "levels": {
                key: [_short(getattr(level, name)) for name in _FIELDS] for key, level in self._levels.items()
            },
        }

    def take_json(self, value: object) -> None:
        """Go on from what ``to_json`` gave; raises ValueError and stays as it is when anything is wrong."""
        if not isinstance(value, dict) or value.get("version") != _VERSION:
            raise ValueError("what is remembered of job power is of another version")
        if value.get("fields") != list(_FIELDS) or not isinstance(value.get("levels"), dict):
            raise ValueError("what is remembered of job power has other fields")
        levels = {str(key): _level(key, row) for key, row in value["levels"].items()}
        if len(levels) > MOST_LEVELS:
            raise ValueError(f"what is remembered of job power has more than {MOST_LEVELS} levels")
        self._levels = levels


def _level(key: object, row: object) -> _Level:
    if not isinstance(row, list) or len(row) != len(_FIELDS):
        raise ValueError(f"what is remembered of job power is damaged at {key!r:.80}")
    for number in row:
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise ValueError(f"what is remembered of job power is damaged at {key!r:.80}")
    level = _Level(**dict(zip(_FIELDS, row, strict=True)))
    if level.weight <= 0.0 or level.mean < 0.0 or level.squares < 0.0 or level.shaped < 0.0:
        raise ValueError(f"what is remembered of job power is damaged at {key!r:.80}")
    return level


def _short(number: float) -> float:
    return number if isinstance(number, int) else round(number, 3)


def name_stem(name: str) -> str:
    """A job's name without what differs from run to run: "bert-7b_run12" and "bert-7b_run13" are one kind."""
    return _CHANGING.sub("#", name[:_LONGEST_WORD].lower())


def batch_in(name: str) -> str:
    """The batch size, where the name says it; else an empty text."""
    found = _BATCH.search(name[:_LONGEST_WORD].lower())
    return found[1] if found else ""


def _keys(job: Submission) -> Iterator[str]:
    """A text for each level, so that it can be a key in JSON."""
    kind = [job.workload, job.tier, job.gpu_type]
    stem = name_stem(job.name)
    for rest in (
        ["class"],
        ["account", job.account],
        ["user", job.user],
        ["name", job.user, stem],
        ["size", job.user, stem, f"{job.gpus:g}", batch_in(job.name)],
    ):
        yield _SEPARATOR.join([word[:_LONGEST_WORD] for word in kind + rest])
