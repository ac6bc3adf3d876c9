"""Keeps what users and accounts have lost to our caps, pauses and holds, and tells the planner."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from slurm_power.controller.levers.levers import LeverState
from slurm_power.model.job import Job, JobState
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.fairness import Debt, jain_index
from slurm_power.plan.policy import Policy

_KEY = "fairness"
# Debts change over hours: looking at each job each second would tell nothing more.
_LOOK_SECONDS = 5.0
# After a pause (a suspended machine) nobody knows what was lost meanwhile.
_LONGEST_LOOK_SECONDS = 60.0
# Who has this little left is forgotten, so that the book does not grow with everybody who ever came.
_FORGOTTEN_GPU_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How evenly losses lie: Jain's index of what users kept, and who has lost the largest share."""

    jain_index: float
    worst_user: str | None
    worst_lost_ratio: float


class States(Protocol):
    """Where small JSON values are kept."""

    def state(self, key: str, default: object = None) -> object:
        """What was remembered under a key."""
        ...

    def put_state(self, key: str, value: object) -> None:
        """Remember a value."""
        ...


class FairnessDesk:
    """Debts by user and by account, half forgotten after the policy's half-life; kept in the store."""

    def __init__(self, policy: Policy, store: States) -> None:
        """Go on with what an earlier controller has left in ``store``; what is no book is as nothing."""
        self._policy = policy
        self._store = store
        self._due_seconds = 0.0
        stored = store.state(_KEY)
        book: dict[str, Any] = stored if isinstance(stored, dict) else {}
        self._users = _read(book.get("users"))
        self._accounts = _read(book.get("accounts"))

    def use_policy(self, policy: Policy) -> None:
        """Go by another policy from now on."""
        self._policy = policy

    def observe(self, snapshot: Snapshot, levers: LeverState, cycle_seconds: float) -> None:
        """Add up what was lost since the last look, if that is some seconds ago."""
        self._due_seconds += max(0.0, cycle_seconds)
        if self._due_seconds < _LOOK_SECONDS:
            return
        seconds, self._due_seconds = min(self._due_seconds, _LONGEST_LOOK_SECONDS), 0.0
        for book in (self._users, self._accounts):
            for name in list(book):
                book[name] = book[name].after(seconds, self._policy.fairness_half_life_seconds)
                if book[name].had_gpu_seconds < _FORGOTTEN_GPU_SECONDS:
                    del book[name]
        lost: dict[tuple[int, str], list[float]] = {}
        for job in snapshot.jobs:
            share = self._lost_share(job, snapshot, levers)
            if share is not None:
                gpu_seconds = job.gpu_count * seconds
                for number, name in enumerate((job.user, job.account)):
                    sums = lost.setdefault((number, name), [0.0, 0.0])
                    sums[0] += share * gpu_seconds
                    sums[1] += gpu_seconds
        for (number, name), (gone, had) in lost.items():
            book = self._accounts if number else self._users
            book[name] = book.get(name, Debt()).plus(lost_gpu_seconds=gone, had_gpu_seconds=had)
        self._accounts.pop("", None)
        self._store.put_state(_KEY, self._to_json())

    def _lost_share(self, job: Job, snapshot: Snapshot, levers: LeverState) -> float | None:
        """What part of a job's GPU time is being lost now; None for one that neither runs nor is held."""
        if job.gpu_count <= 0:
            return None
        if job.job_id in levers.paused.pauses:
            return 1.0
        if job.state in (JobState.STARTING, JobState.RUNNING):
            cap = levers.caps.get(job.job_id)
            return 0.0 if cap is None else cap.slowdown_ratio
        if job.state is JobState.PENDING and job.job_id in snapshot.holds:
            worth = self._policy.value_per_gpu_hour
            return min(1.0, self._policy.delay_price_per_gpu_hour / worth) if worth > 0.0 else 1.0
        return None

    def onto(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with the debts."""
        if not self._users:
            return snapshot
        return replace(snapshot, debts=_ratios(self._users), account_debts=_ratios(self._accounts))

    def standing(self) -> Standing:
        """How fair it has been lately."""
        ratios = _ratios(self._users)
        worst = max(ratios, key=lambda user: (ratios[user], user), default=None)
        worst_ratio = 0.0 if worst is None else ratios[worst]
        return Standing(
            jain_index=jain_index(1.0 - ratio for ratio in ratios.values()),
            worst_user=worst if worst_ratio > 0.0 else None,
            worst_lost_ratio=worst_ratio,
        )

    def _to_json(self) -> dict[str, dict[str, list[float]]]:
        """What must survive a restart: GPU-seconds lost and had, by user and by account."""
        return {
            key: {name: [debt.lost_gpu_seconds, debt.had_gpu_seconds] for name, debt in book.items()}
            for key, book in (("users", self._users), ("accounts", self._accounts))
        }


def _ratios(book: Mapping[str, Debt]) -> dict[str, float]:
    return {name: debt.ratio for name, debt in book.items()}


def _read(stored: Any) -> dict[str, Debt]:
    if not isinstance(stored, dict):
        return {}
    return {
        str(name): Debt(lost_gpu_seconds=float(pair[0]), had_gpu_seconds=float(pair[1]))
        for name, pair in stored.items()
        if isinstance(pair, list) and len(pair) == 2
    }
