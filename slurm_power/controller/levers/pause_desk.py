"""What nodes and queue say of paused jobs: who has let one go on, us or somebody else."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from slurm_power import clock
from slurm_power.act import Pauses
from slurm_power.controller.levers.levers import LeverState
from slurm_power.model.job import Job, JobState


class PauseDesk:
    """Keeps the book of pauses in step with the world."""

    def __init__(self, levers: LeverState, pauses: Pauses, note: Callable[..., Any]) -> None:
        """``note`` writes a ledger entry: actor, kind, subject, reason, and whose job it is about."""
        self._levers = levers
        self._pauses = pauses
        self._note = note
        self._jobs: Mapping[str, Job] = {}

    def follow(self, jobs: Mapping[str, Job], at: datetime) -> None:
        """Look whether the jobs that we keep stopped still are."""
        self._jobs = jobs
        states: dict[str, JobState] = {job_id: job.state for job_id, job in jobs.items()}
        for job_id in self._levers.paused.follow(states, at):
            self._resumed(job_id, "somebody else has let it go on")

    def heard(self, node: str, job_id: str, event: str, detail: str) -> None:
        """Take a node's word about a lease; one that has run out has let its job go on."""
        self._pauses.heard(node, job_id, event, detail)
        if event == "resumed" and self._levers.paused.resumed(job_id, clock.now()):
            self._resumed(job_id, f"{node}: {detail}")

    def _resumed(self, job_id: str, reason: str) -> None:
        job = self._jobs.get(job_id)
        self._pauses.forget(job_id, job)
        about = {} if job is None else {"job_id": job_id, "user": job.user}
        self._note("controller", "resume", f"job:{job_id}", reason, **about)
