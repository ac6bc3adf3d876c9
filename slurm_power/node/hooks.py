"""Answers to the node's hooks and to its users."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from slurm_power import clock
from slurm_power.model.lease import Lease
from slurm_power.node.advice import AdviceDesk
from slurm_power.node.counters import HOST
from slurm_power.node.job_environment import environment_lines, environment_of
from slurm_power.node.job_tiers import JobTiers
from slurm_power.node.jobs import NodeJob, NodeJobs
from slurm_power.node.lease_mirror import LeaseMirror
from slurm_power.node.orders import bound_named
from slurm_power.node.prolog_waits import PrologWaits, wait_answer
from slurm_power.node.rack import Rack
from slurm_power.node.requests import job_id_of, job_of_prolog
from slurm_power.node.server import Client
from slurm_power.node.visits import Node
from slurm_power.wire import Message, WireError

# An epilog waits for one last reading of its GPUs, but not for a GPU that hangs.
LAST_READING_SECONDS = 0.4

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class _Epilog:
    """A job that ends, and what its last reading is waited for: GPUs by UUID, and the host."""

    client: Client
    job: NodeJob
    waiting: set[str]
    deadline_seconds: float


class HookDesk:
    """Handles the requests of one node. ``visit`` has a GPU looked at, ``tell`` informs the controller.

    ``socket`` is where it is asked, for the environment of jobs.
    """

    def __init__(
        self,
        node_name: str,
        node: Node,
        jobs: NodeJobs,
        leases: LeaseMirror,
        rack: Rack,
        *,
        socket: Path,
        waits: PrologWaits,
        tiers: JobTiers,
        advice: AdviceDesk,
        visit: Callable[[str], None],
        tell: Callable[[Message], None],
    ) -> None:
        self._node_name = node_name
        self._node = node
        self._jobs = jobs
        self._leases = leases
        self._rack = rack
        self._socket = str(socket)
        self._waits = waits
        self._tiers = tiers
        self._advice = advice
        tiers.answer = self._answer_environment
        self._visit = visit
        self._tell = tell
        self._epilogs: list[_Epilog] = []
        self._privileged = {0}
        self.answer: Callable[[Client, Message | bytes], None] = lambda _client, _message: None
        self.controller_state: Callable[[], str] = lambda: "none configured"

    def handle(self, client: Client, request: Message) -> None:
        """Answer one request, now or when the readings it needs are there."""
        operation = request.get("op")
        try:
            if operation == "status":
                self.answer(client, self._status(client.uid))
            elif operation == "environment":
                job = self._job_of(client, job_id_of(request))
                self._tiers.ask(client, job, connected=self.controller_state() == "connected")
            elif operation == "progress":
                self._advice.progress(request, client.uid, clock.monotonic())
                self.answer(client, {"ok": True})
            elif operation not in ("prolog", "prolog_wait", "epilog"):
                self.answer(client, {"ok": False, "error": f"unknown op {str(operation)[:40]!r}"})
            elif client.uid not in self._privileged:
                log.warning("refused: %s from uid %d", operation, client.uid)
                self.answer(client, {"ok": False, "error": f"{operation} is for root alone"})
            elif operation == "prolog":
                job = self._prolog(job_of_prolog(request))
                if not self._waits.ask(client, job):
                    self.answer(client, {"ok": True})
            elif operation == "prolog_wait":
                self.answer(client, wait_answer(self._waits.remaining_seconds(job_id_of(request))))
            else:
                self._epilog(client, job_id_of(request))
        except WireError as error:
            self.answer(client, {"ok": False, "error": str(error)})

    def _prolog(self, job: NodeJob) -> NodeJob:
        """Note the job, and heal its GPUs: what an interrupted job left on them is released.

        Returns the job as it is known, with its GPUs.
        """
        for gone in self._jobs.start(job):
            log.warning("job %s must have ended unseen: job %s has its GPUs", gone.job_id, job.job_id)
            self._tell(gone.end_message())
        self._advice.tidy()
        self._jobs.resolve(self._node.gpus_of)
        registered = self._jobs.get(job.job_id) or job
        self._jobs.lead_on(registered, clock.monotonic())
        log.info("job %s of %s starts on GPUs %s", job.job_id, job.user, list(job.gpu_slots))
        for lease in self._leases.leases():
            # On a GPU in MIG mode the other job may well be alive.
            left_over = lease.job_id is not None and self._jobs.get(lease.job_id) is None
            if lease.uuid in registered.energy and left_over:
                self._leases.release_job(str(lease.job_id), f"left over when job {job.job_id} started")
        self._visit(HOST)
        for uuid in registered.gpus:
            self._visit(uuid)
        self._tell(registered.start_message())
        return registered

    def _job_of(self, client: Client, job_id: str) -> NodeJob:
        """A job, for root and its own user; raises WireError."""
        job = self._jobs.get(job_id)
        if job is None or (client.uid != job.uid and client.uid not in self._privileged):
            raise WireError(f"job_id: no job {job_id[:40]!r} of yours is here")
        return job

    def _answer_environment(self, client: Client, job: NodeJob) -> None:
        """Say what belongs into a job's environment."""
        self.answer(client, environment_lines(environment_of(job, self._leases.leases(), self._socket)))

    def _epilog(self, client: Client, job_id: str) -> None:
        self._waits.ended(job_id)
        self._leases.release_job(job_id, f"job {job_id} has ended")
        job = self._jobs.get(job_id)
        if job is None:
            self.answer(client, {"ok": True, "energy_joules": None})
            return
        deadline_seconds = clock.monotonic() + LAST_READING_SECONDS
        epilog = _Epilog(client=client, job=job, waiting={HOST, *job.gpus}, deadline_seconds=deadline_seconds)
        self._epilogs.append(epilog)
        for what in epilog.waiting:
            self._visit(what)

    def visited(self, uuid: str) -> None:
        """A GPU or the host has been read; whoever waited for that may go on."""
        for epilog in list(self._epilogs):
            epilog.waiting.discard(uuid)
            if not epilog.waiting:
                self._finish(epilog)

    def expire(self, now_seconds: float) -> None:
        """Answer those who have waited long enough with what is known."""
        for epilog in list(self._epilogs):
            if now_seconds >= epilog.deadline_seconds:
                self._finish(epilog)

    def next_deadline(self) -> float | None:
        """When `expire` has something to do next."""
        return min((epilog.deadline_seconds for epilog in self._epilogs), default=None)

    def _finish(self, epilog: _Epilog) -> None:
        self._epilogs.remove(epilog)
        now_seconds = clock.monotonic()
        self._jobs.take_rack(self._rack.node_watts(now_seconds), now_seconds)
        self._jobs.lead_on(epilog.job, now_seconds)
        job = self._jobs.end(epilog.job.job_id)
        self._advice.tidy()
        used = epilog.job.used()
        self.answer(epilog.client, {"ok": True, **epilog.job.energy_message()})
        if job is not None:
            log.info(
                "job %s has ended after %.0f J, %.0f J of it estimated%s",
                job.job_id,
                used.energy_joules,
                used.estimated_joules,
                "" if job.pdu_joules is None else f"; {job.pdu_joules:.0f} J by its rack's PDU",
            )
            self._tell(job.end_message())

    def _status(self, uid: int) -> Message:
        """Everything for root; others see the GPUs and their own jobs, with the leases on them."""
        all_of_them = uid in self._privileged
        jobs = [job for job in self._jobs.all() if all_of_them or job.uid == uid]
        own = {job.job_id for job in jobs}
        now_seconds = clock.monotonic()
        progress = self._advice.rows(now_seconds)
        leases = [
            lease_row(lease, now_seconds)
            for lease in self._leases.leases()
            if all_of_them or lease.job_id in own
        ]
        return {
            "ok": True,
            "node": self._node_name,
            "controller": self.controller_state(),
            "error": self._node.error,
            "gpus": [asdict(reading) for reading in self._node.readings.values()],
            "host": None if self._node.host is None else asdict(self._node.host),
            "rack": self._rack.message(now_seconds),
            "leases": leases,
            "jobs": [{**job.message(), "progress": progress.get(job.job_id)} for job in jobs],
            "drift_count": self._leases.drift_count,
        }


def lease_row(lease: Lease, now_seconds: float) -> Message:
    """A lease as controller and users get it; ``remaining_seconds`` is null for one without an end."""
    remaining_seconds = lease.expires_at_seconds - now_seconds
    return {
        "lease_id": lease.lease_id,
        "uuid": lease.uuid,
        "job_id": lease.job_id,
        "state": str(lease.state),
        "kind": str(lease.kind),
        "lever": str(lease.lever),
        **bound_named(lease.lever, lease.bound),
        "remaining_seconds": remaining_seconds if remaining_seconds < 1e9 else None,
    }
