"""The jobs on this node as the hooks announced them, their GPUs, and the energy these have used for them."""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slurm_power.node.saved_settings import write_durably
from slurm_power.wire import Message

FILE_NAME = "jobs.json"

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class EnergyAccount:
    """Energy of one GPU for one job: differences of the driver's counter, which restarts at 0 at times."""

    counter_joules: float | None = None
    total_joules: float = 0.0

    def add(self, counter_joules: float) -> None:
        """Book what was used since the last reading; after a restart of the counter, what it shows."""
        if self.counter_joules is not None:
            step_joules = counter_joules - self.counter_joules
            self.total_joules += step_joules if step_joules >= 0.0 else counter_joules
        self.counter_joules = counter_joules


@dataclass(slots=True, kw_only=True)
class NodeJob:
    """One job on this node. ``gpu_slots`` are what Slurm calls the GPUs, ``energy`` is kept by UUID."""

    job_id: str
    user: str
    uid: int
    gpu_slots: tuple[int, ...]
    workload: str | None
    flex: str | None
    restart_count: int = 0
    energy: dict[str, EnergyAccount] = field(default_factory=dict)

    @property
    def gpus(self) -> list[str]:
        """UUIDs of its GPUs, as far as they have been found."""
        return list(self.energy)

    def message(self) -> Message:
        """The job as the controller and its owner get it."""
        return {
            "job_id": self.job_id,
            "user": self.user,
            "uid": self.uid,
            "gpus": self.gpus,
            "workload": self.workload,
            "flex": self.flex,
            "energy_joules": sum(account.total_joules for account in self.energy.values()),
        }

    def start_message(self) -> Message:
        """What the controller is told when the job starts, and on each new connection."""
        return {"type": "job_start", **self.message()}

    def end_message(self) -> Message:
        """What the controller is told when the job has ended."""
        energy_joules = {uuid: account.total_joules for uuid, account in self.energy.items()}
        return {"type": "job_end", "job_id": self.job_id, "energy_joules": energy_joules}


class NodeJobs:
    """All jobs of this node, kept in a file so that a daemon that restarts still knows them."""

    def __init__(self, directory: Path, boot_id: str) -> None:
        self._file = directory / FILE_NAME
        self._boot_id = boot_id
        self._jobs: dict[str, NodeJob] = {}
        self._changed = False

    def load(self) -> None:
        """Take over the jobs of a daemon before us; those of another boot have ended with it."""
        try:
            document = json.loads(self._file.read_text())
            if document["boot_id"] == self._boot_id:
                self._jobs = {row["job_id"]: _job(row) for row in document["jobs"]}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning(
                "%s: not readable (%s); jobs that run now are unknown until they end", self._file, error
            )

    def save_if_changed(self) -> None:
        """Write the file if a job came, went or got its first reading. A full disk only costs the memory."""
        if not self._changed:
            return
        rows = [asdict(job) for job in self._jobs.values()]
        try:
            write_durably(self._file, json.dumps({"boot_id": self._boot_id, "jobs": rows}) + "\n")
            self._changed = False
        except OSError as error:
            log.warning("%s: cannot be written: %s", self._file, error)

    def start(self, job: NodeJob) -> list[NodeJob]:
        """Add a job; returns those that must have ended unseen, since Slurm gives their GPUs to this one."""
        known = self._jobs.get(job.job_id)
        if known is not None and known.restart_count == job.restart_count:
            return []
        slots = set(job.gpu_slots)
        gone = [other for other in self._jobs.values() if other is known or slots & set(other.gpu_slots)]
        for other in gone:
            del self._jobs[other.job_id]
        self._jobs[job.job_id] = job
        self._changed = True
        return [other for other in gone if other is not known]

    def end(self, job_id: str) -> NodeJob | None:
        """Remove a job and return it; None if it was not known."""
        job = self._jobs.pop(job_id, None)
        self._changed = self._changed or job is not None
        return job

    def get(self, job_id: str) -> NodeJob | None:
        """Return a job, or None if it is not known."""
        return self._jobs.get(job_id)

    def all(self) -> Iterable[NodeJob]:
        """All jobs on this node."""
        return self._jobs.values()

    def resolve(self, uuid_of_slot: Mapping[int, str]) -> list[NodeJob]:
        """Give jobs the UUIDs of their slots; returns those for which one was found only now."""
        found = []
        for job in self._jobs.values():
            new = [uuid_of_slot[slot] for slot in job.gpu_slots if slot in uuid_of_slot]
            fresh = [uuid for uuid in new if uuid not in job.energy]
            if fresh:
                job.energy.update({uuid: EnergyAccount() for uuid in fresh})
                self._changed = True
                found.append(job)
        return found

    def book(self, uuid: str, counter_joules: float | None) -> None:
        """Book a reading of a GPU's energy counter for the job that has it."""
        if counter_joules is None:
            return
        for job in self._jobs.values():
            account = job.energy.get(uuid)
            if account is not None:
                self._changed = self._changed or account.counter_joules is None
                account.add(counter_joules)


def _job(row: dict[str, Any]) -> NodeJob:
    energy = {uuid: EnergyAccount(**account) for uuid, account in row.pop("energy").items()}
    return NodeJob(**{**row, "gpu_slots": tuple(row["gpu_slots"])}, energy=energy)
