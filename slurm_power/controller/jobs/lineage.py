"""Which runs a job was made of: one for each start, with the tier that it was told and what it has used.

The record of a job keeps them, so they outlive the job and a restart of ours.
"""

from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any, Protocol

from slurm_power import clock
from slurm_power.model.job import Job, JobState
from slurm_power.model.tier_words import tier_of
from slurm_power.wire import Message

KEY = "runs"
_MOST_RUNS = 100
_LONGEST_REASON = 200


class Pen(Protocol):
    """Where the records of jobs are."""

    def job_record(self, job_id: str) -> Mapping[str, Any]:
        """What is known of a job so far, {} for one that is not listed."""
        ...

    def job_energy(self, job_id: str, figures: Mapping[str, object]) -> None:
        """Put figures into the record of a listed job."""
        ...


class Lineage:
    """Keeps the runs of jobs that name a tier."""

    def __init__(self, pen: Pen, energies: Callable[[], Mapping[str, float]]) -> None:
        """``energies`` tells what the GPUs of each job have used so far, in joules."""
        self._pen = pen
        self._energies = energies
        self._waiting: dict[str, dict[str, Any]] = {}
        self._why: dict[str, str] = {}

    def moved(self, job_id: str, reason: str) -> None:
        """Remember why the present run of a job has another tier than the one before."""
        self._why[job_id] = reason[:_LONGEST_REASON]

    def started(self, message: Message) -> None:
        """Take a node's word that a job has started, or which tier that start was told."""
        job_id, start = str(message.get("job_id")), message.get("restart_count")
        told = tier_of(message.get("told_tier"))
        if not isinstance(start, int) or not (told or tier_of(message.get("tier"))):
            return
        run = self._waiting.setdefault(job_id, {})
        if run.get("start") != start:
            run.clear()
            run |= {"start": start, "at": clock.now().astimezone(UTC).isoformat(), "tier": ""}
        run["tier"] = told or run["tier"]

    def follow(self, jobs: Mapping[str, Job]) -> None:
        """Put what nodes have told into the records, with how it stands now."""
        for job_id in [key for key in self._waiting if key not in jobs]:
            del self._waiting[job_id]
            self._why.pop(job_id, None)
        energies = self._energies() if self._waiting else {}
        for job_id, run in self._waiting.items():
            job = jobs[job_id]
            if job.state in (JobState.RUNNING, JobState.SUSPENDED, JobState.ENDING, JobState.ENDED):
                self._write(job, run, energies.get(job_id, 0.0))

    def _write(self, job: Job, run: Mapping[str, Any], joules: float) -> None:
        record = self._pen.job_record(job.job_id)
        kept = record.get(KEY)
        runs = [dict(row) for row in kept] if isinstance(kept, list) else []
        if not runs or runs[-1].get("start") != run["start"]:
            # What was used until now was used by the runs before.
            runs.append({"start": run["start"], "from": run["at"], "before_joules": joules})
        last = runs[-1]
        if why := self._why.pop(job.job_id, ""):
            last["why"] = why
        last["tier"] = run["tier"] or last.get("tier", "")
        if job.state in (JobState.RUNNING, JobState.SUSPENDED):
            last |= {"gpu_count": job.gpu_count, "nodes": list(job.nodes)}
        last["to"] = (
            clock.now().astimezone(UTC).isoformat() if job.state is not JobState.ENDED else last.get("to")
        )
        if joules < float(last["before_joules"]):
            last["before_joules"] = 0.0  # the nodes have begun a new account with this start
        last["joules"] = joules - float(last["before_joules"])
        self._pen.job_energy(job.job_id, {KEY: runs[-_MOST_RUNS:]})


def runs_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The runs in a job's record, the first one first; what is none is left out."""
    kept = record.get(KEY)
    return [dict(row) for row in kept if isinstance(row, dict)] if isinstance(kept, list) else []
