"""How long jobs run, from how long earlier ones ran: the same user's first, those like it more than others.

A job's limit says little: on a public log (KTH-SP2) half of the jobs use less than 0.41 of theirs. What the
same user's last jobs of that kind did says much.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from slurm_power.forecast.experts import Values

USER_RUNS, ALL_RUNS = 100, 1_500
# Whose runs are kept over a restart.
KEPT_USERS = 1_000
# After so many newer ones a run of the same user counts half.
HALF_LIFE_RUNS = 10.0
# What all users' runs together weigh, in runs of the user's own.
OTHERS_WEIGHT = 5.0
# How fast likeness fades with the ratio of the limits, and of the numbers of GPUs.
LIMIT_LIKENESS, GPU_LIKENESS = 2.0, 1.0
# That it ends in no way seen before.
_UNSEEN_WEIGHT = 0.3
_AT_LIMIT_RATIO = 0.98
_OVERTIME_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class JobKind:
    """What is known of a job before it runs; ``limit_seconds`` and ``gpus`` are more than 0."""

    user: str
    gpus: float
    limit_seconds: float


class RunTimes:
    """Learns from jobs that have ended; says how much longer a job may run."""

    def __init__(self) -> None:
        self._users: dict[str, deque[tuple[float, float, float]]] = {}
        self._all: deque[tuple[float, float, float]] = deque(maxlen=ALL_RUNS)
        self._table: Values | None = None

    def ended(self, kind: JobKind, seconds: float) -> None:
        """A job has ended after so many seconds."""
        row = seconds, kind.limit_seconds, kind.gpus
        runs = self._users.pop(kind.user, None)
        # Put back at the end: who ran last is kept longest.
        self._users[kind.user] = deque(maxlen=USER_RUNS) if runs is None else runs
        self._users[kind.user].append(row)
        self._all.append(row)
        self._table = None

    def known(self, user: str) -> tuple[int, int]:
        """How many runs are known, of everybody and of one user."""
        return len(self._all), len(self._users.get(user, ()))

    def state(self) -> dict[str, Any]:
        """What was learned, as JSON values; the users who have run jobs last."""
        users = list(self._users.items())[-KEPT_USERS:]
        return {"users": {user: list(runs) for user, runs in users}, "all": list(self._all)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Learn from a ``state``; raises ValueError, and learns nothing, if it is none."""
        try:
            users = {
                str(user): deque((_run(row) for row in runs), maxlen=USER_RUNS)
                for user, runs in state["users"].items()
            }
            everybody = deque((_run(row) for row in state["all"]), maxlen=ALL_RUNS)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no record of run times: {type(error).__name__}: {error}") from None
        self._users, self._all, self._table = users, everybody, None

    def remaining(self, kind: JobKind, elapsed_seconds: float, chance: Generator, count: int) -> Values:
        """``count`` draws of how many seconds more a job runs that has run so long; all are above 0."""
        own = np.array(self._users.get(kind.user, ()), dtype=np.float64).reshape(-1, 3)
        if self._table is None:
            self._table = np.array(self._all, dtype=np.float64).reshape(-1, 3)
        others = self._table
        own_weights = _likeness(own, kind) * 0.5 ** (np.arange(len(own) - 1, -1, -1) / HALF_LIFE_RUNS)
        other_weights = _likeness(others, kind)
        other_weights *= OTHERS_WEIGHT / max(float(other_weights.sum()), 1e-12)
        rows = np.concatenate([own, others])
        # One that was ended by its limit says that this one would be ended by its own.
        seconds = np.where(rows[:, 0] >= _AT_LIMIT_RATIO * rows[:, 1], kind.limit_seconds, rows[:, 0])
        alive = seconds > elapsed_seconds
        latest = max(kind.limit_seconds, elapsed_seconds + _OVERTIME_SECONDS)
        seconds = np.append(seconds[alive], latest)
        weights = np.append(np.concatenate([own_weights, other_weights])[alive], _UNSEEN_WEIGHT)
        bounds = np.cumsum(weights)
        picked = np.searchsorted(bounds, chance.random(count) * bounds[-1], side="right")
        drawn: Values = seconds[np.minimum(picked, len(seconds) - 1)] - elapsed_seconds
        return drawn


def _run(row: Any) -> tuple[float, float, float]:
    seconds, limit, gpus = (float(value) for value in row)
    if not (math.isfinite(seconds + limit + gpus) and seconds >= 0.0 and limit > 0.0 and gpus > 0.0):
        raise ValueError(f"{row} is no run of a job")
    return seconds, limit, gpus


def _likeness(rows: Values, kind: JobKind) -> Values:
    far = LIMIT_LIKENESS * np.abs(np.log(rows[:, 1] / kind.limit_seconds))
    far += GPU_LIKENESS * np.abs(np.log(rows[:, 2] / kind.gpus))
    like: Values = np.exp(-far)
    return like
