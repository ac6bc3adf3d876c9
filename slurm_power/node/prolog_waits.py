"""Prologs that wait for the site's ramp: only by the controller's word, and never past any bound.

A job that comes is asked about; without an answer in little more than a second, without a connection, or
on a node whose controller has not said that it wants to be asked, its prolog ends at once.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from slurm_power import clock
from slurm_power.node.jobs import NodeJob
from slurm_power.node.requests import MAX_PROLOG_WAIT_SECONDS, job_id_of, seconds_of_prolog_wait
from slurm_power.node.server import Client
from slurm_power.wire import Message

# The hook itself hangs up after 1.5 s.
ANSWER_SECONDS = 1.3
# What a hook needs to end before Slurm's own PrologEpilogTimeout, which would drain the node.
TIMEOUT_MARGIN_SECONDS = 10.0
_WITHOUT_FLEXIBILITY = "flex0"

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class _Asked:
    """A question to the controller, and the hooks that wait for its answer."""

    deadline_seconds: float
    clients: list[Client] = field(default_factory=list)


class PrologWaits:
    """The waits of one node. ``tell`` informs the controller, ``answer`` a hook."""

    def __init__(self, tell: Callable[[Message], None], prolog_timeout_seconds: float | None) -> None:
        self._tell = tell
        self._most_seconds = MAX_PROLOG_WAIT_SECONDS
        if prolog_timeout_seconds is not None:
            self._most_seconds = min(MAX_PROLOG_WAIT_SECONDS, prolog_timeout_seconds - TIMEOUT_MARGIN_SECONDS)
        self.answer: Callable[[Client, Message], None] = lambda _client, _message: None
        self._wanted = False
        self._asked: dict[str, _Asked] = {}
        self._until_seconds: dict[str, float] = {}

    def ask(self, client: Client, job: NodeJob) -> bool:
        """Ask the controller about a job that starts; False where its prolog has nothing to wait for."""
        if not self._wanted or self._most_seconds <= 0.0:
            return False
        if not job.gpus or job.flex == _WITHOUT_FLEXIBILITY:
            return False
        asked = self._asked.setdefault(
            job.job_id, _Asked(deadline_seconds=clock.monotonic() + ANSWER_SECONDS)
        )
        asked.clients.append(client)
        self._tell({"type": "prolog", "job_id": job.job_id})
        return True

    def remaining_seconds(self, job_id: str) -> float:
        """How long a job's prolog still waits; 0.0 when it goes on."""
        return max(0.0, self._until_seconds.get(job_id, 0.0) - clock.monotonic())

    def want(self, message: Message) -> None:
        """Take whether the controller wants to be asked at all; raises WireError."""
        self._wanted = seconds_of_prolog_wait(message) > 0.0
        if not self._wanted:
            self._end_all()

    def heard(self, message: Message) -> None:
        """Take the controller's word about a job: for how long from now it waits, 0 for go; raises WireError.

        A wait that has begun is never made longer; a job whose hooks have been answered does not begin one.
        """
        job_id, seconds = job_id_of(message), seconds_of_prolog_wait(message)
        until_seconds = clock.monotonic() + min(seconds, self._most_seconds)
        asked = self._asked.pop(job_id, None)
        known_seconds = self._until_seconds.get(job_id)
        if seconds <= 0.0 or (asked is None and known_seconds is None):
            self._until_seconds.pop(job_id, None)
        else:
            self._until_seconds[job_id] = min(until_seconds, known_seconds or until_seconds)
        if asked is not None:
            self._answer(job_id, asked)

    def lost(self) -> None:
        """The controller is gone, and every wait with it."""
        self._wanted = False
        self._end_all()

    def ended(self, job_id: str) -> None:
        """A job's epilog has come."""
        self._until_seconds.pop(job_id, None)

    def expire(self, now_seconds: float) -> None:
        """Let hooks go whose question was not answered in time, and forget waits that are over."""
        for job_id, asked in list(self._asked.items()):
            if now_seconds >= asked.deadline_seconds:
                log.warning("job %s: the controller did not say in time whether it waits; it starts", job_id)
                del self._asked[job_id]
                self._answer(job_id, asked)
        for job_id in [one for one, until in self._until_seconds.items() if now_seconds >= until]:
            del self._until_seconds[job_id]

    def next_deadline(self) -> float | None:
        """When `expire` has something to do next."""
        return min((asked.deadline_seconds for asked in self._asked.values()), default=None)

    def _end_all(self) -> None:
        self._until_seconds.clear()
        asked, self._asked = self._asked, {}
        for job_id, one in asked.items():
            self._answer(job_id, one)

    def _answer(self, job_id: str, asked: _Asked) -> None:
        seconds = self.remaining_seconds(job_id)
        if seconds > 0.0:
            log.info("job %s waits in its prolog for %.1f s at most", job_id, seconds)
        for client in asked.clients:
            self.answer(client, wait_answer(seconds))


def wait_answer(seconds: float) -> Message:
    """What a hook is told: without ``wait_seconds`` it ends."""
    return {"ok": True, "wait_seconds": round(seconds, 3)} if seconds > 0.0 else {"ok": True}
