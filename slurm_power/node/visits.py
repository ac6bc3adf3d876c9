"""What the worker threads do with a GPU: read it; and what they find on the whole node."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from typing import TypeAlias

from slurm_power import clock
from slurm_power.model.reading import GpuReading, HostReading
from slurm_power.ports import DeviceError, Gpus
from slurm_power.wire import Message

# The name under which the whole node is visited, to see which GPUs there are.
SURVEY = ""
# And the name under which the driver is let go of.
RELEASE = "release"
HANGING_SECONDS = 2.0
GPU_FIELDS = tuple(one.name for one in fields(GpuReading))


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One GPU, read; ``at_seconds`` is when."""

    reading: GpuReading | None
    error: str
    at_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The GPUs that answer now; None with an error when the driver itself does not."""

    uuids: list[str] | None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The driver has been let go of."""


Found: TypeAlias = Visit | Survey | Released


class Visitor:
    """Visits GPUs for the workers; opens the driver when it is not open, and lets go of it when told to."""

    def __init__(self, gpus: Gpus) -> None:
        self._gpus = gpus
        self._lock = threading.Lock()
        self._is_open = False
        self._users = 0

    def visit(self, uuid: str) -> Found:
        """Do one visit; errors are part of what it returns."""
        if uuid == SURVEY:
            return self._survey()
        if uuid == RELEASE:
            return self._release()
        try:
            with self.driver():
                reading = self._gpus.read(uuid)
            return Visit(reading=reading, error="", at_seconds=clock.monotonic())
        except DeviceError as error:
            return Visit(reading=None, error=str(error))

    @contextmanager
    def driver(self) -> Iterator[None]:
        """Have the driver open for a while; raises DeviceError."""
        with self._lock:
            if not self._is_open:
                self._gpus.open()
                self._is_open = True
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1

    def _release(self) -> Released:
        """Let go of the driver, so that a GPU can be reset, unless somebody is in a call."""
        with self._lock:
            if self._is_open and self._users == 0:
                self._is_open = False
                with suppress(DeviceError):
                    self._gpus.close()
        return Released()

    @property
    def is_open(self) -> bool:
        """Whether this process is a client of the driver now."""
        return self._is_open

    def _survey(self) -> Survey:
        try:
            with self.driver():
                return Survey(uuids=list(self._gpus.uuids()))
        except DeviceError as error:
            return Survey(uuids=None, error=str(error))


@dataclass(slots=True, kw_only=True)
class Node:
    """What is known of the GPUs of this node: the last reading of each, and its error if it fails now."""

    readings: dict[str, GpuReading] = field(default_factory=dict)
    host: HostReading | None = None
    known: set[str] = field(default_factory=set)
    surveyed: bool = False
    error: str = "not looked at yet"

    def take_survey(self, survey: Survey) -> None:
        """Note which GPUs there are. One seen before stays known: it may be lost for a while only."""
        self.error = survey.error
        if survey.uuids is not None:
            self.surveyed = True
            self.known |= set(survey.uuids)

    def take_visit(self, uuid: str, visit: Visit) -> bool:
        """Note a reading or an error; True if the error is news."""
        last = self.readings.get(uuid)
        if visit.reading is not None:
            counter_joules = None if last is None else last.energy_joules
            self.readings[uuid] = replace(visit.reading, energy_joules=counter_joules)
            return False
        if last is None or last.error == visit.error:
            return False
        self.readings[uuid] = replace(last, error=visit.error)
        return True

    def take_counter(self, uuid: str, joules: float | None) -> None:
        """Show a GPU's energy counter with its reading."""
        if uuid in self.readings:
            self.readings[uuid] = replace(self.readings[uuid], energy_joules=joules)

    @property
    def parted(self) -> bool:
        """Whether a GPU here is in MIG mode: then Slurm counts instances, and its numbers name no GPU."""
        return any(reading.mig_enabled for reading in self.readings.values())

    def gpus_of(self, slots: Iterable[int], mig_uuids: Iterable[str]) -> list[str]:
        """UUIDs of a job's GPUs as far as its hook tells: by slot, or by MIG instance on a node with MIG."""
        # Of two in one slot the one that answers.
        ordered = sorted(self.readings.values(), key=lambda reading: not reading.error)
        if self.parted:
            wanted = set(mig_uuids)
            return [reading.uuid for reading in ordered if wanted & set(reading.mig_uuids)]
        uuid_of_slot = {reading.slot: reading.uuid for reading in ordered}
        return [uuid_of_slot[slot] for slot in slots if slot in uuid_of_slot]


def gpu_rows(readings: Mapping[str, GpuReading], hanging_seconds: Callable[[str], float]) -> list[Message]:
    """All GPUs as the controller gets them; a visit that hangs for too long is an error of its GPU's."""
    rows = []
    for uuid, reading in readings.items():
        # Eight of these a second: asdict copies every value, which is most of the cost of a report.
        row: Message = {name: getattr(reading, name) for name in GPU_FIELDS}
        if hanging_seconds(uuid) > HANGING_SECONDS:
            row["error"] = f"the driver has not answered for {hanging_seconds(uuid):.0f} s"
        rows.append(row)
    return rows
