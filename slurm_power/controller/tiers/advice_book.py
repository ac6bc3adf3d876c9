"""What running jobs are advised: by the planner, by their users, and to save themselves for a move.

A job has one file of advice on each node, so all that is said to it is put together here. Each word is
leased: it is said again in good time, and ends on the node by itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from slurm_power.model.action import AdviseBatch
from slurm_power.model.job import Job, JobState
from slurm_power.wire import Message

ORDER_SECONDS = 30.0
_RENEW_SECONDS = 10.0
_RUNS = (JobState.RUNNING, JobState.SUSPENDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word to a job, until a moment of the monotonic clock; None: nothing said of that knob."""

    reason: str
    until_seconds: float
    micro_batch: int | None = None
    action: str | None = None


@dataclass(frozen=True, slots=True)
class _Planned:
    micro_batch: int
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class _Said:
    nodes: tuple[str, ...]
    started: datetime | None
    words: tuple[int | None, str | None]
    at_seconds: float


class AdviceBook:
    """The advice to all jobs. ``send`` gives a message to a node, False where it is not connected."""

    def __init__(self, send: Callable[[str, Message], bool]) -> None:
        self._send = send
        self._planned: dict[str, _Planned] = {}
        self._of_users: dict[str, Word] = {}
        self._to_save: dict[str, Word] = {}
        self._said: dict[str, _Said] = {}

    def took(self, action: AdviseBatch, at: datetime) -> bool:
        """Note what the planner advises; True where that is news."""
        before = self._planned.get(action.job_id)
        if action.micro_batch is None:
            self._planned.pop(action.job_id, None)
            return before is not None
        if before is not None and before.micro_batch == action.micro_batch:
            return False
        self._planned[action.job_id] = _Planned(action.micro_batch, action.reason, at)
        return True

    def user_says(self, job_id: str, word: Word | None) -> None:
        """Take what a job's user or an operator says; None takes it back."""
        if word is None:
            self._of_users.pop(job_id, None)
        else:
            self._of_users[job_id] = word

    def to_save(self, job_id: str, word: Word | None) -> None:
        """Have a job save itself and end; None takes it back."""
        if word is None:
            self._to_save.pop(job_id, None)
        else:
            self._to_save[job_id] = word

    def micro_batches(self) -> dict[str, int]:
        """What the planner advises, by job."""
        return {job_id: planned.micro_batch for job_id, planned in self._planned.items()}

    def advised_seconds(self, at: datetime) -> dict[str, float]:
        """For how long it has advised that."""
        return {job_id: (at - planned.at).total_seconds() for job_id, planned in self._planned.items()}

    def of_user(self, job_id: str) -> Word | None:
        """What a job's user has said, if it still holds."""
        return self._of_users.get(job_id)

    def follow(self, jobs: Mapping[str, Job], now_seconds: float) -> None:
        """Say what is to be said, again where it is about to end; forget what jobs need no more."""
        for words in (self._of_users, self._to_save):
            for job_id in [key for key, word in words.items() if word.until_seconds <= now_seconds]:
                del words[job_id]
        for book in (self._planned, self._of_users, self._to_save):
            for job_id in [key for key in book if key not in jobs or jobs[key].state not in _RUNS]:
                del book[job_id]
        for job_id in {*self._planned, *self._of_users, *self._to_save, *self._said}:
            self._say(job_id, jobs.get(job_id), now_seconds)

    def let_go(self, jobs: Mapping[str, Job]) -> None:
        """Take everything back."""
        for book in (self._planned, self._of_users, self._to_save):
            book.clear()
        for job_id in list(self._said):
            self._say(job_id, jobs.get(job_id), float("inf"))

    def _say(self, job_id: str, job: Job | None, now_seconds: float) -> None:
        said = self._said.get(job_id)
        if job is None or job.state not in _RUNS:
            self._said.pop(job_id, None)
            return
        words, reason, until_seconds = self._together(job_id)
        if words == (None, None):
            if said is not None:
                self._tell(job, words, "", 0.0)
                del self._said[job_id]
            return
        same = said is not None and (said.nodes, said.started, said.words) == (job.nodes, job.started, words)
        if same and said is not None and now_seconds - said.at_seconds < _RENEW_SECONDS:
            return
        ttl_seconds = min(ORDER_SECONDS, until_seconds - now_seconds)
        if self._tell(job, words, reason, ttl_seconds):
            self._said[job_id] = _Said(job.nodes, job.started, words, now_seconds)

    def _together(self, job_id: str) -> tuple[tuple[int | None, str | None], str, float]:
        """Micro-batch and action that count, why, and until when."""
        planned, user, save = (
            self._planned.get(job_id),
            self._of_users.get(job_id),
            self._to_save.get(job_id),
        )
        reasons, until = [], float("inf")
        micro_batch, action = None, None
        if planned is not None:
            micro_batch, reasons = planned.micro_batch, [planned.reason]
        if user is not None:
            # Who asks for less memory or power gets it, whatever the site needs.
            given = [size for size in (micro_batch, user.micro_batch) if size is not None]
            micro_batch, action = min(given, default=None), user.action
            reasons.append(user.reason)
            until = user.until_seconds
        if save is not None:
            action, until = save.action, min(until, save.until_seconds)
            reasons.insert(0, save.reason)
        return (micro_batch, action), "; ".join(reasons), until

    def _tell(self, job: Job, words: tuple[int | None, str | None], reason: str, ttl_seconds: float) -> bool:
        """Tell all nodes of a job; True if all have heard it."""
        message: Message = {
            "type": "advice",
            "job_id": job.job_id,
            "micro_batch": words[0],
            "action": words[1],
            "reason": reason[:200],
            "ttl_seconds": ttl_seconds,
        }
        heard = [self._send(node, message) for node in job.nodes]
        return all(heard)
