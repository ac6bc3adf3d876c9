"""The jobs on this node as the hooks announced them, their GPUs, and the energy these have used for them."""

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slurm_power.model.tier_words import tiers_of_option
from slurm_power.node.counters import Count
from slurm_power.node.energy import EnergyAccount, EnergyBooks, UsedEnergy, account_of, used_together
from slurm_power.node.processes import GpuProcess
from slurm_power.node.saved_settings import write_durably
from slurm_power.wire import Message

FILE_NAME = "jobs.json"
SAVE_SECONDS = 60.0
# Energy by the PDU is told if its readings cover so much of a job's time.
LEAST_PDU_COVERAGE = 0.95
MOST_TIER_ORDERS = 1000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TierOrder:
    """The controller's word: from its start number ``restart_count`` on a job runs this tier and model."""

    job_id: str
    tier: str
    model: str
    restart_count: int


@dataclass(slots=True, kw_only=True)
class NodeJob:
    """One job on this node. ``gpu_slots`` are what Slurm calls the GPUs, ``energy`` is kept by UUID.

    ``mig_uuids`` are the instances that Slurm gave it, where it names any. ``finish_by`` is in seconds since
    the epoch, ``own_cap_watts`` the user's own cap on each GPU. ``tier`` is its submission's, ``tiers_ok``
    the normal form of the option; ``told_tier`` what this start has been told, None before it has asked.
    """

    job_id: str
    user: str
    uid: int
    gpu_slots: tuple[int, ...]
    workload: str | None
    flex: str | None
    max_hold_seconds: int | None = None
    finish_by: int | None = None
    own_cap_watts: int | None = None
    tier: str = ""
    tiers_ok: str | None = None
    min_quality: float | None = None
    told_tier: str | None = None
    told_model: str | None = None
    restart_count: int = 0
    mig_uuids: tuple[str, ...] = ()
    energy: dict[str, EnergyAccount] = field(default_factory=dict)
    since_seconds: float | None = None
    host_joules: float | None = None
    pdu_joules: float | None = None
    pdu_read_seconds: float = 0.0
    pdu_due_seconds: float = 0.0

    @property
    def may_be_moved(self) -> bool:
        """Whether its user consents to any other tier."""
        return bool(self.tier and tiers_of_option(self.tiers_ok or "none"))

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
            "max_hold_seconds": self.max_hold_seconds,
            "finish_by": self.finish_by,
            "own_cap_watts": self.own_cap_watts,
            "tier": self.tier or None,
            "tiers_ok": None if self.tiers_ok is None else list(tiers_of_option(self.tiers_ok) or ()),
            "min_quality": self.min_quality,
            "told_tier": self.told_tier,
            "restart_count": self.restart_count,
            **self.energy_message(),
        }

    def energy_message(self) -> Message:
        """What it has used so far: its GPUs, its share of host and rack, and what these leave unexplained."""
        used = self.used()
        # What was read for a part of the time is no energy of the whole: often less than the GPUs alone.
        read_enough = self.pdu_read_seconds >= LEAST_PDU_COVERAGE * self.pdu_due_seconds
        pdu_joules = self.pdu_joules if read_enough else None
        residual_joules = (
            None if pdu_joules is None else pdu_joules - used.energy_joules - (self.host_joules or 0.0)
        )
        return {
            **used.message(),
            "host_joules": self.host_joules,
            "pdu_joules": pdu_joules,
            "residual_joules": residual_joules,
        }

    def used(self) -> UsedEnergy:
        """What all its GPUs have used for it so far."""
        return used_together(account.used for account in self.energy.values())

    def start_message(self) -> Message:
        """What the controller is told when the job starts, and on each new connection."""
        return {"type": "job_start", **self.message()}

    def end_message(self) -> Message:
        """What the controller is told when the job has ended."""
        energy_joules = {uuid: account.used.energy_joules for uuid, account in self.energy.items()}
        return {
            "type": "job_end",
            "job_id": self.job_id,
            "told_tier": self.told_tier,
            **self.energy_message(),
            "energy_joules": energy_joules,
        }


class NodeJobs:
    """All jobs of this node, kept in a file so that a daemon that restarts still knows them."""

    def __init__(self, directory: Path, boot_id: str) -> None:
        self._file = directory / FILE_NAME
        self._boot_id = boot_id
        self._jobs: dict[str, NodeJob] = {}
        self._tier_orders: dict[str, TierOrder] = {}
        self._strangers: dict[str, frozenset[int]] = {}
        self._changed = False
        self._saved_at_seconds = 0.0
        self._host: tuple[float, float] | None = None
        self._rack_at_seconds: float | None = None
        self.books = EnergyBooks()

    def load(self) -> None:
        """Take over the jobs of a daemon before us; those of another boot have ended with it."""
        try:
            document = json.loads(self._file.read_text())
            if document["boot_id"] == self._boot_id:
                self.books.load(document["gpus"])
                self._jobs = {row["job_id"]: _job(row) for row in document["jobs"]}
                orders = [TierOrder(**row) for row in document.get("tier_orders", [])]
                self._tier_orders = {order.job_id: order for order in orders}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning(
                "%s: not readable (%s); jobs that run now are unknown until they end", self._file, error
            )

    def save_if_changed(self, now_seconds: float) -> None:
        """Write the file if a job came, went or got its first reading, and now and then while jobs run.

        A good counter bridges the time since; an estimate would be lost. A full disk only costs the memory.
        """
        due = bool(self._jobs) and now_seconds - self._saved_at_seconds >= SAVE_SECONDS
        if not self._changed and not due:
            return
        self._saved_at_seconds = now_seconds
        rows = [asdict(job) for job in self._jobs.values()]
        orders = [asdict(order) for order in self._tier_orders.values()]
        document = {
            "boot_id": self._boot_id,
            "jobs": rows,
            "tier_orders": orders,
            "gpus": self.books.document(),
        }
        try:
            write_durably(self._file, json.dumps(document) + "\n")
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

    def tier_order(self, job_id: str) -> TierOrder | None:
        """The last order of a tier for a job, also for one that is not here yet."""
        return self._tier_orders.get(job_id)

    def order_tier(self, order: TierOrder) -> None:
        """Keep an order; one for an earlier start than the order before says nothing any more."""
        known = self._tier_orders.pop(order.job_id, order)
        self._tier_orders[order.job_id] = max(order, known, key=lambda one: one.restart_count)
        while len(self._tier_orders) > MOST_TIER_ORDERS:
            del self._tier_orders[next(iter(self._tier_orders))]
        self._changed = True

    def tell_tier(self, job: NodeJob) -> bool:
        """Settle which tier this start of a job runs; False where that is settled, or there is none."""
        order = self._tier_orders.get(job.job_id)
        if order is not None and order.restart_count > job.restart_count:
            order = None
        tier = job.tier if order is None else order.tier
        if job.told_tier is not None or not tier:
            return False
        job.told_tier = tier
        # An empty path stands for none: the model of the submission's tier is not that of another.
        if order is not None and (order.model or order.tier != job.tier):
            job.told_model = order.model
        self._changed = True
        return True

    def get(self, job_id: str) -> NodeJob | None:
        """Return a job, or None if it is not known."""
        return self._jobs.get(job_id)

    def all(self) -> Iterable[NodeJob]:
        """All jobs on this node."""
        return self._jobs.values()

    @property
    def count(self) -> int:
        """How many jobs there are."""
        return len(self._jobs)

    def resolve(self, gpus_of: Callable[[Iterable[int], Iterable[str]], Iterable[str]]) -> list[NodeJob]:
        """Give jobs the UUIDs of their GPUs, by slots or instances; returns those with a new one."""
        return [job for job in self._jobs.values() if self._give(job, gpus_of(job.gpu_slots, job.mig_uuids))]

    def adopt(self, uuid: str, processes: Iterable[GpuProcess]) -> list[NodeJob]:
        """Give a GPU to the jobs that compute on it; returns those that did not have it.

        Only for GPUs in MIG mode: elsewhere a job that computes on a GPU of another is a stranger there.
        """
        ids = dict.fromkeys(process.job.job_id for process in processes if process.job is not None)
        jobs = [self._jobs[job_id] for job_id in ids if job_id in self._jobs]
        return [job for job in jobs if self._give(job, [uuid])]

    def _give(self, job: NodeJob, uuids: Iterable[str]) -> bool:
        fresh = {uuid: EnergyAccount() for uuid in uuids if uuid not in job.energy}
        job.energy.update(fresh)
        self._changed = self._changed or bool(fresh)
        return bool(fresh)

    def holders(self, uuid: str) -> list[NodeJob]:
        """The jobs that have a GPU: one, as Slurm gives GPUs out, but any number in MIG mode."""
        return [job for job in self._jobs.values() if uuid in job.energy]

    def _shared(self, uuid: str) -> bool:
        """Whether somebody else's work is in what a GPU draws."""
        return bool(self._strangers.get(uuid)) or len(self.holders(uuid)) > 1

    def _gpus_held(self, job: NodeJob) -> float:
        """How many GPUs a job has, one that others have as well counted in part."""
        return sum(1.0 / len(self.holders(uuid)) for uuid in job.energy)

    def take_power(self, uuid: str, watts: float, at_seconds: float) -> None:
        """Book a power reading of a GPU for the job that has it."""
        energy = self.books.take_power(uuid, watts, at_seconds)
        for job in self.holders(uuid):
            self._changed = self._changed or job.energy[uuid].start is None
            job.energy[uuid].follow(energy, shared=self._shared(uuid))

    def take_count(self, uuid: str, count: Count, max_cap_watts: float) -> list[GpuProcess]:
        """Book a reading of a GPU's counter; returns processes that are newly there and nobody's job has."""
        energy = self.books.take_counter(
            uuid,
            count.joules,
            count.at_seconds,
            driver_load=count.driver_load,
            max_cap_watts=max_cap_watts,
        )
        holders = self.holders(uuid)
        shared = self._shared(uuid)
        for job in holders:
            self._changed = self._changed or not job.energy[uuid].start_is_counted
            job.energy[uuid].follow(energy, counted_now=True, shared=shared)
        ids = {job.job_id for job in holders}
        strangers = [p for p in count.processes if p.job is None or p.job.job_id not in ids]
        fresh = [p for p in strangers if p.pid not in self._strangers.get(uuid, frozenset())]
        self._strangers[uuid] = frozenset(process.pid for process in strangers)
        return fresh

    def take_host(self, joules: float | None, at_seconds: float, gpu_count: int) -> None:
        """Split what the host has used since the last time among its jobs, by the GPUs they have.

        The share of GPUs without a job stays with the node, as does all of a host without GPUs.
        """
        last, self._host = self._host, None if joules is None else (joules, at_seconds)
        if joules is None or last is None or at_seconds <= last[1] or gpu_count == 0:
            return
        watts = (joules - last[0]) / (at_seconds - last[1])
        for job in self._jobs.values():
            since_seconds = at_seconds if job.since_seconds is None else job.since_seconds
            seconds = max(0.0, at_seconds - max(last[1], since_seconds))
            share_joules = watts * seconds * self._gpus_held(job) / gpu_count
            job.host_joules = (job.host_joules or 0.0) + share_joules

    def take_rack(self, node_watts: float | None, now_seconds: float) -> None:
        """Split the node's part of its rack's power among its jobs, by what their GPUs draw."""
        last_seconds, self._rack_at_seconds = self._rack_at_seconds, now_seconds
        draws = {uuid: energy.watts or 0.0 for uuid, energy in self.books.all()}
        whole = sum(draws.values())
        if last_seconds is None:
            return
        for job in self._jobs.values():
            since_seconds = now_seconds if job.since_seconds is None else job.since_seconds
            seconds = max(0.0, now_seconds - max(last_seconds, since_seconds))
            job.pdu_due_seconds += seconds
            if node_watts is None or whole <= 0.0:
                continue
            job.pdu_read_seconds += seconds
            own = sum(draws.get(uuid, 0.0) / len(self.holders(uuid)) for uuid in job.energy)
            job.pdu_joules = (job.pdu_joules or 0.0) + node_watts * own / whole * seconds

    def lead_on(self, job: NodeJob, now_seconds: float) -> None:
        """Bring a job's energy to this moment, its start or another, at the last known power."""
        if job.since_seconds is None:
            job.since_seconds = now_seconds
        for uuid, account in job.energy.items():
            energy = self.books.now(uuid, now_seconds)
            account.follow(energy, shared=self._shared(uuid))


def stranger_message(uuid: str, process: GpuProcess, holders: Iterable[NodeJob]) -> Message:
    """What the controller is told of a process on a GPU that does not belong to the GPU's job."""
    job_id = next((job.job_id for job in holders), None)
    whose = "no job" if process.job is None else f"job {process.job.job_id}"
    where = "a GPU without a job" if job_id is None else f"a GPU of job {job_id}"
    return {
        "type": "stranger",
        "uuid": uuid,
        "pid": process.pid,
        "uid": process.uid,
        "of_job_id": None if process.job is None else process.job.job_id,
        "job_id": job_id,
        "detail": f"process {process.pid} ({process.name}) of {whose} computes on {where}",
    }


def _job(row: dict[str, Any]) -> NodeJob:
    energy = {uuid: account_of(account) for uuid, account in row.pop("energy").items()}
    parts = {name: tuple(row.get(name, ())) for name in ("gpu_slots", "mig_uuids")}
    return NodeJob(**{**row, **parts}, energy=energy)
