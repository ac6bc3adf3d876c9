"""Starts that no cap holds back: nodes ask when a prolog comes, and are told to wait or to go on."""

from collections.abc import Callable
from dataclasses import dataclass, field

from slurm_power import clock
from slurm_power.controller.governance.operators import Note
from slurm_power.model.job import Job
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.policy import Policy
from slurm_power.plan.prolog_waits import (
    Queue,
    Release,
    Waiting,
    advanced,
    joined,
    minute_room_watts,
    most_wait_seconds,
    step_beyond_caps,
    without,
)
from slurm_power.wire import Message

# A node lets the prolog go on after 1.3 s: a word that comes later would be about nobody.
_ANSWER_SECONDS = 1.1
# For so long the workload manager's list is waited for: it alone says how long a job may be kept waiting.
LISTED_SECONDS = 0.7
# Other nodes of a job ask later, and its prolog runs a second time on the way to its launch. A job that is
# requeued comes later still.
_KNOWN_SECONDS = 120.0


@dataclass(slots=True)
class _Question:
    at_seconds: float
    nodes: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Wait:
    asked_at_seconds: float
    ends_at_seconds: float
    job: Job
    nodes: set[str]


class PrologDesk:
    """Answers the nodes' questions. ``send`` pushes a message to a node."""

    def __init__(self, policy: Policy, *, note: Note, send: Callable[[str, Message], bool]) -> None:
        self._policy = policy
        self._note = note
        self._send = send
        self._queue = Queue()
        self._questions: dict[str, _Question] = {}
        self._waits: dict[str, _Wait] = {}
        self._answered: dict[str, float] = {}

    def use_policy(self, policy: Policy) -> None:
        """Go by another policy from now on."""
        self._policy = policy

    @property
    def wanted(self) -> bool:
        """Whether nodes are to ask at all."""
        return self._policy.prolog_wait_seconds > 0.0 and self._policy.start_ramp_watts_per_second > 0.0

    def node_changed(self, node: str, *, connected: bool) -> None:
        """Tell a node that has come to ask; one that is gone has let its prologs go on."""
        if connected:
            if self.wanted:
                seconds = self._policy.prolog_wait_seconds
                self._send(node, {"type": "prolog_waits", "seconds": seconds})
            return
        for job_id, wait in list(self._waits.items()):
            wait.nodes.discard(node)
            if not wait.nodes:
                self._end(job_id, "its node's daemon has hung up", None)
                self._queue = without(self._queue, job_id)

    def asked(self, node: str, job_id: str) -> None:
        """Take the question of a node whose prolog waits for our word.

        The next cycle that has the job in its list answers it, or the one ``LISTED_SECONDS`` from now.
        """
        now_seconds = clock.monotonic()
        wait = self._waits.get(job_id)
        if wait is not None:
            wait.nodes.add(node)
            self._tell({node}, job_id, wait.ends_at_seconds - now_seconds)
        elif not self.wanted or job_id in self._answered:
            self._tell({node}, job_id, 0.0)
        else:
            self._questions.setdefault(job_id, _Question(now_seconds)).nodes.add(node)

    def follow(self, snapshot: Snapshot, *, enabled: bool) -> None:
        """Answer what was asked, and let go whose turn it is; everybody where levers are not ``enabled``."""
        now_seconds = clock.monotonic()
        jobs = {job.job_id: job for job in snapshot.jobs} if self._questions or self._waits else {}
        if not enabled:
            self._let_go()
        for job_id in [job_id for job_id in self._waits if job_id not in jobs]:
            self._end(job_id, "it has gone", None)
            self._queue = without(self._queue, job_id)
        for job_id, wait in list(self._waits.items()):
            most_seconds = most_wait_seconds(snapshot, jobs[job_id], self._policy)
            if wait.asked_at_seconds + most_seconds <= now_seconds < wait.ends_at_seconds:
                self._end(job_id, "it was promised to wait no longer", None)
                self._queue = without(self._queue, job_id)
        reasons: dict[str, str] = {}
        for job_id, question in list(self._questions.items()):
            waited_seconds = now_seconds - question.at_seconds
            late = waited_seconds > _ANSWER_SECONDS
            job = jobs.get(job_id)
            # What only a node tells of has no name yet.
            if (job is None or not job.name) and waited_seconds < LISTED_SECONDS:
                continue
            del self._questions[job_id]
            reason = None if job is None or late else self._join(snapshot, job, question)
            if reason is None:
                self._answered[job_id] = now_seconds
                self._tell(question.nodes, job_id, 0.0)
            else:
                reasons[job_id] = reason
        self._queue, released = advanced(
            self._queue,
            now_seconds,
            watts_per_second=self._policy.start_ramp_watts_per_second,
            room_watts=minute_room_watts(snapshot, self._policy),
        )
        for release in released:
            self._end(release.job_id, "", release)
        for job_id, reason in reasons.items():
            if job_id in self._waits:
                self._begun(job_id, reason, now_seconds)
        for job_id in [one for one, at in self._answered.items() if now_seconds - at > _KNOWN_SECONDS]:
            del self._answered[job_id]

    def _join(self, snapshot: Snapshot, job: Job, question: _Question) -> str | None:
        """Queue a job whose start no cap spreads; returns why, None where it need not wait."""
        step = step_beyond_caps(snapshot, job, question.nodes, self._policy)
        most_seconds = most_wait_seconds(snapshot, job, self._policy)
        if step is None or most_seconds <= 0.0:
            return None
        waiting = Waiting(
            job_id=job.job_id,
            step_watts=step.watts,
            since_seconds=question.at_seconds,
            most_seconds=most_seconds,
        )
        self._queue = joined(self._queue, waiting)
        ends_at_seconds = question.at_seconds + most_seconds
        self._waits[job.job_id] = _Wait(question.at_seconds, ends_at_seconds, job, question.nodes)
        return step.reason

    def _begun(self, job_id: str, reason: str, now_seconds: float) -> None:
        wait = self._waits[job_id]
        seconds = wait.ends_at_seconds - now_seconds
        self._tell(wait.nodes, job_id, seconds)
        self._note(
            "controller",
            "prolog wait",
            f"job:{job_id}",
            f"its start waits in the prolog for the site's ramp, {seconds:.0f} s at most: {reason}",
            job_id=job_id,
            user=wait.job.user,
            details={"most_seconds": round(seconds, 1), "nodes": sorted(wait.nodes)},
        )

    def _end(self, job_id: str, why: str, release: Release | None) -> None:
        """Have a job's prologs go on; one that never waited is no news."""
        wait = self._waits.pop(job_id)
        now_seconds = clock.monotonic()
        self._answered[job_id] = now_seconds
        self._tell(wait.nodes, job_id, 0.0)
        if release is not None:
            if release.waited_seconds < _ANSWER_SECONDS:
                return
            why = "" if release.in_turn else "its time was over before its turn came"
            text = f"its start waited {release.waited_seconds:.0f} s in the prolog for the site's ramp"
        else:
            text = "its start waits in the prolog no more"
        self._note(
            "controller",
            "prolog go",
            f"job:{job_id}",
            f"{text}; {why}" if why else text,
            job_id=job_id,
            user=wait.job.user,
            details={} if release is None else {"waited_seconds": round(release.waited_seconds, 1)},
        )

    def _let_go(self) -> None:
        for job_id in list(self._waits):
            self._end(job_id, "levers are not moved any more", None)
        self._queue = Queue()
        for job_id, question in self._questions.items():
            self._tell(question.nodes, job_id, 0.0)
        self._questions.clear()

    def _tell(self, nodes: set[str], job_id: str, seconds: float) -> None:
        message: Message = {"type": "prolog_wait", "job_id": job_id, "seconds": max(0.0, round(seconds, 3))}
        for node in nodes:
            self._send(node, message)
