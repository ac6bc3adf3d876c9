"""The smallest interfaces that are true of hardware and services: edges implement them, core sees none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # the root part of the node daemon comes by here, and stays small
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from slurm_power.model.admission import LaidWindow, LicenceCount
    from slurm_power.model.job import Job
    from slurm_power.model.ledger import LedgerEntry
    from slurm_power.model.pool import Pool
    from slurm_power.model.reading import CapReading, EssReading, GpuReading
    from slurm_power.model.series import Point, Resolution


class DeviceError(Exception):
    """A device did not answer, answered nonsense or refused. The text names the device and the reason."""


class SchedulerError(Exception):
    """The workload manager did not answer or refused. The text is what it said."""


class NotRunningError(SchedulerError):
    """A job is not running, so nothing was done to it."""


class StoreError(Exception):
    """A store could not be read or written. The text names it and the reason."""


class PowerMeter(Protocol):
    """Something that measures a circuit."""

    async def open(self) -> None:
        """Connect and check that it is what it should be; raises DeviceError."""
        ...

    async def read_watts(self) -> float:
        """Active power in watts, positive towards the loads; raises DeviceError."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


class Storage(Protocol):
    """A battery behind its power conversion system."""

    async def open(self) -> None:
        """Connect and check that it is what it should be; raises DeviceError."""
        ...

    async def read(self) -> EssReading:
        """Read state; raises DeviceError."""
        ...

    async def set_discharge(self, discharge_watts: float, lease_seconds: float) -> None:
        """Ask for ``discharge_watts`` (negative charges); the device gives it up after ``lease_seconds``.

        Written so that the fallback is armed before the setpoint counts, and read back; raises DeviceError.
        """
        ...

    def reversion_seconds(self, lease_seconds: float) -> float:
        """After how long in our silence the device itself gives a setpoint of that lease up."""
        ...

    async def release(self) -> None:
        """End our setpoint now; raises DeviceError."""
        ...

    async def close(self) -> None:
        """Let go of the connection without touching the setpoint."""
        ...


class Gpus(Protocol):
    """The GPUs of this node, addressed by UUID. All calls raise DeviceError."""

    def open(self) -> None:
        """Load the driver library and list the GPUs."""
        ...

    def close(self) -> None:
        """Let go of the driver, so that a GPU can be reset."""
        ...

    def uuids(self) -> Sequence[str]:
        """UUIDs of the GPUs that answer now, in slot order."""
        ...

    def read(self, uuid: str) -> GpuReading:
        """Read one GPU, without its energy counter."""
        ...

    def read_energy_joules(self, uuid: str) -> float | None:
        """The driver's energy counter, None without one. A dear read: milliseconds on real hardware."""
        ...

    def process_ids(self, uuid: str) -> Sequence[int]:
        """Processes that compute on the GPU now, empty where the driver does not tell."""
        ...

    def read_cap(self, uuid: str) -> CapReading:
        """The power limit as last written by anybody, and as enforced."""
        ...

    def set_cap_watts(self, uuid: str, cap_watts: float) -> None:
        """Write the power limit. Success of the call proves nothing: read it back."""
        ...

    def read_sm_clock_hertz(self, uuid: str) -> float:
        """The clock the GPU's processors run at now."""
        ...

    def lock_clock(self, uuid: str, most_hertz: float | None) -> None:
        """Let the clock go no higher than ``most_hertz``; None takes the lock away. Cannot be read back."""
        ...


class Scheduler(Protocol):
    """The workload manager. All calls raise SchedulerError."""

    async def jobs(self) -> tuple[Job, ...]:
        """All jobs that pend, run or have just ended."""
        ...

    async def pools(self) -> tuple[Pool, ...]:
        """The named sets of nodes that jobs are sent to, with the nodes that take jobs now."""
        ...

    async def relocate(self, job_id: str, avoid: Sequence[str], reason: str) -> None:
        """Let a pending job start on none of the nodes ``avoid``; none at all gives every node back.

        What its user asked for stays: it only has fewer nodes to start on. A refusal leaves it as it was.
        """
        ...

    async def hold(self, job_id: str, seconds: float, reason: str) -> None:
        """Keep a pending job from starting for ``seconds``; ends by itself."""
        ...

    async def release(self, job_id: str) -> None:
        """End our hold on a job now."""
        ...

    async def pause(self, job_id: str, seconds: float, reason: str) -> None:
        """Stop a running job. ``seconds`` is the lease that the caller has given to the job's nodes.

        Raises NotRunningError where the job does not run: a job that somebody else has stopped is not ours.
        """
        ...

    async def resume(self, job_id: str) -> None:
        """Let a job go on; does nothing to one that runs, waits or has ended."""
        ...

    async def queue_saved(self, job_id: str) -> bool:
        """Queue a job again that has ended with the word that it has saved itself; it starts by itself.

        False where it has ended otherwise, and is left alone. True for one that has not ended any more.
        """
        ...

    async def requeue(self, job_id: str) -> None:
        """End a running job's run and queue it again, under its own number; raises NotRunningError.

        It starts again by itself.
        """
        ...

    async def check_tier(self, job_id: str, gpu_count: int) -> None:
        """Raise SchedulerError where a running job could not be changed to so many GPUs once it waits."""
        ...

    async def change_tier(
        self, job_id: str, tier: str, gpu_count: int, start_in_seconds: float | None, reason: str
    ) -> None:
        """Give a pending job another model tier, and as many GPUs as that needs.

        ``start_in_seconds``: it may start then, whatever it waited for before since it was queued again; None
        leaves its start as it is. A refusal leaves it as it was.
        """
        ...


class Licences(Protocol):
    """The workload manager's licences. All calls raise SchedulerError."""

    async def counts(self) -> Mapping[str, LicenceCount]:
        """Every licence, with its total and what running jobs have of it."""
        ...

    async def for_het_parts(self) -> bool:
        """Whether each part of a het job may have licences, or the first alone."""
        ...

    async def of_jobs(self) -> Mapping[str, str]:
        """The licences of all jobs on nodes, by job, as ``watts:700,matlab:2``."""
        ...

    async def of_job(self, job_id: str) -> str:
        """The licences of one job, pending or not."""
        ...

    async def set_of_job(self, job_id: str, licences: str) -> None:
        """Write a running job's licences anew."""
        ...


class Reservations(Protocol):
    """Licences kept from new jobs for a time, which ends by itself. All calls raise SchedulerError."""

    async def laid(self) -> Sequence[LaidWindow]:
        """All reservations that hold licences, others' included."""
        ...

    async def lay(self, name: str, *, start: int, end: int, licence: str, watts: int) -> None:
        """Reserve so many of a licence from ``start`` to ``end``, in seconds of the epoch."""
        ...

    async def change(self, name: str, *, end: int, licence: str, watts: int, start: int | None) -> None:
        """Change one of ours; ``start`` None leaves its start, as it must where it has begun."""
        ...

    async def end(self, name: str) -> None:
        """End one of ours now; one that has ended by itself is none any more."""
        ...


class Ledger(Protocol):
    """The append-only, hash-chained record of decisions."""

    def append(self, entry: LedgerEntry) -> None:
        """Write one entry durably."""
        ...

    def entries(self, since: datetime | None = None, job_id: str | None = None) -> Iterable[LedgerEntry]:
        """Entries in order, oldest first."""
        ...

    def rows(
        self,
        after_sequence: int = 0,
        *,
        since: datetime | None = None,
        job_id: str | None = None,
        visible_to: str | None = None,
        most: int | None = None,
    ) -> Iterator[tuple[int, LedgerEntry, str]]:
        """Rows as (sequence, entry, stored hash), oldest first, those after ``after_sequence``.

        ``visible_to`` leaves entries about that user and about nobody: no job, no service.
        """
        ...

    @property
    def checked_sequence(self) -> int:
        """The last entry that ``broken_at_sequence`` has found in order; 0 before the first."""
        ...

    def broken_at_sequence(self, most: int | None = None) -> int | None:
        """Sequence of the first entry that was altered, removed or inserted; looks at ``most`` of them."""
        ...


class Records(Protocol):
    """What is known of each job, and small values that survive a restart."""

    def put_jobs(self, records: Mapping[str, Mapping[str, object]]) -> None:
        """Store what is known of several jobs, all or nothing, replacing what was."""
        ...

    def job(self, job_id: str) -> dict[str, object]:
        """What is known of one job; {} for an unknown one."""
        ...

    def jobs(self) -> dict[str, dict[str, object]]:
        """All job records by job id."""
        ...

    def put_state(self, key: str, value: object) -> None:
        """Remember a small JSON value."""
        ...

    def state(self, key: str, default: object = None) -> object:
        """Read back a remembered value."""
        ...


class Store(Ledger, Records, Protocol):
    """Ledger and metadata of one controller."""

    @property
    def copy_problem(self) -> str:
        """Why a copy of it elsewhere is not up to date; "" if it is, or there is none."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class LocalStore(Store, Protocol):
    """A controller's own store, which knows what it has written last."""

    def latest_jobs(self, before: int | None, most: int) -> Sequence[tuple[int, dict[str, object]]]:
        """Up to ``most`` records, the last written first, each with a number; those with lower ones only."""
        ...


class SeriesWriter(Protocol):
    """Takes one tick of named values after the other."""

    def add(self, at: datetime, values: Mapping[str, float | None]) -> None:
        """Add one tick; None says that a value is not known. Raises StoreError."""
        ...

    def close(self) -> None:
        """Let go of it, what is still on its way included."""
        ...


class SeriesReader(Protocol):
    """Gives series back."""

    def close(self) -> None:
        """Let go of it."""
        ...

    def names(self) -> Sequence[str]:
        """Names of all series, in order; raises StoreError."""
        ...

    def read(
        self,
        names: Sequence[str],
        since: datetime | None = None,
        until: datetime | None = None,
        resolution: Resolution = ...,
    ) -> Mapping[str, Sequence[Point]]:
        """Points that touch [since, until), by series, oldest first, RAW by default; raises StoreError."""
        ...
