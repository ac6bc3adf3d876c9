"""Which model tier each start of a job runs: its submission's, or another that the controller has ordered.

A job that may be moved asks for its environment at each start; if the controller's word on that start is not
here yet, the answer waits for it, a moment at most. What a start has been told is not changed any more: an
order that comes later counts from the next start on.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from slurm_power import clock
from slurm_power.model.tier_words import tier_of
from slurm_power.node.jobs import NodeJob, NodeJobs, TierOrder
from slurm_power.node.pauses import JOB_ID
from slurm_power.node.requests import job_id_of
from slurm_power.node.server import Client
from slurm_power.wire import Message, WireError

# The SPANK plugin waits for 200 ms in all.
WAIT_SECONDS = 0.15
LONGEST_PATH = 256
_MOST_STARTS = 1 << 31

log = logging.getLogger(__name__)


def order_of(message: Message) -> TierOrder:
    """The order in a message of the controller's; raises WireError with what is wrong."""
    job_id, tier = job_id_of(message), tier_of(message.get("tier"))
    if not JOB_ID.fullmatch(job_id):
        raise WireError("job_id: not a number")
    if not tier:
        raise WireError("tier: not FAMILY/TIER")
    model, restart_count = message.get("model") or "", message.get("restart_count")
    if not isinstance(model, str):
        raise WireError("model: not a path")
    if len(model) > LONGEST_PATH or not model.isascii() or not (model or " ").isprintable():
        # Which tier it is must not be lost with it: a job that was moved has that tier's GPUs.
        log.warning("job %s: the path of the model of %s is too long or strange for a variable", job_id, tier)
        model = ""
    if type(restart_count) is not int or not 0 <= restart_count < _MOST_STARTS:
        raise WireError("restart_count: not a whole number")
    return TierOrder(job_id=job_id, tier=tier, model=model, restart_count=restart_count)


@dataclass(slots=True, kw_only=True)
class _Waiting:
    """One who has asked for a job's environment, and waits for the controller's word."""

    client: Client
    job: NodeJob
    deadline_seconds: float


class JobTiers:
    """The tiers of the jobs of one node. ``answer`` gives a client a job's environment."""

    def __init__(self, jobs: NodeJobs, tell: Callable[[Message], None]) -> None:
        self._jobs = jobs
        self._tell = tell
        self._waiting: list[_Waiting] = []
        self.answer: Callable[[Client, NodeJob], None] = lambda _client, _job: None

    def ask(self, client: Client, job: NodeJob, *, connected: bool) -> None:
        """Answer now, or when the controller has said which tier this start is to run."""
        order = self._jobs.tier_order(job.job_id)
        has_word = order is not None and order.restart_count == job.restart_count
        if connected and job.may_be_moved and job.told_tier is None and not has_word:
            deadline_seconds = clock.monotonic() + WAIT_SECONDS
            self._waiting.append(_Waiting(client=client, job=job, deadline_seconds=deadline_seconds))
        else:
            self._finish(client, job)

    def heard(self, message: Message) -> None:
        """Take the controller's word on a job's tier; raises WireError."""
        order = order_of(message)
        self._jobs.order_tier(order)
        job = self._jobs.get(order.job_id)
        if job is None or order.restart_count > job.restart_count:
            return
        if job.told_tier not in (None, order.tier):
            log.warning(
                "job %s: the order of tier %s comes too late for its start %d, which runs %s",
                *(order.job_id, order.tier, job.restart_count, job.told_tier),
            )
        elif job.told_tier is not None:
            job.told_model = order.model or job.told_model
        for one in [one for one in self._waiting if one.job.job_id == order.job_id]:
            self._waiting.remove(one)
            self._finish(one.client, one.job)

    def lost(self) -> None:
        """The controller is gone: nobody waits for it."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            self._finish(one.client, one.job)

    def expire(self, now_seconds: float) -> None:
        """Answer those who have waited long enough with what is known."""
        for one in [one for one in self._waiting if now_seconds >= one.deadline_seconds]:
            self._waiting.remove(one)
            log.info("job %s: no word on its tier in time; it runs that of its submission", one.job.job_id)
            self._finish(one.client, one.job)

    def next_deadline(self) -> float | None:
        """When `expire` has something to do next."""
        return min((one.deadline_seconds for one in self._waiting), default=None)

    def _finish(self, client: Client, job: NodeJob) -> None:
        # One that has ended or started anew meanwhile is answered, but nobody is told that it starts.
        if self._jobs.get(job.job_id) is job and self._jobs.tell_tier(job):
            self._tell(job.start_message())
        self.answer(client, job)
