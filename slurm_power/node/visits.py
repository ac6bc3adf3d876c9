"""What the worker threads do with a GPU: read it; and what they find on the whole node."""

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from slurm_power.model.reading import GpuReading
from slurm_power.ports import DeviceError, Gpus

# The name under which the whole node is visited, to see which GPUs there are.
SURVEY = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One GPU, read."""

    reading: GpuReading | None
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The GPUs that answer now; None with an error when the driver itself does not."""

    uuids: list[str] | None
    error: str = ""


Found: TypeAlias = Visit | Survey


class Visitor:
    """Visits GPUs for the workers, and opens the driver when it is not open yet."""

    def __init__(self, gpus: Gpus) -> None:
        self._gpus = gpus
        self._open = False

    def visit(self, uuid: str) -> Found:
        """Do one visit; errors are part of what it returns."""
        if uuid == SURVEY:
            return self._survey()
        try:
            return Visit(reading=self._gpus.read(uuid), error="")
        except DeviceError as error:
            return Visit(reading=None, error=str(error))

    def _survey(self) -> Survey:
        try:
            if not self._open:
                self._gpus.open()
                self._open = True
            return Survey(uuids=list(self._gpus.uuids()))
        except DeviceError as error:
            return Survey(uuids=None, error=str(error))


@dataclass(slots=True, kw_only=True)
class Node:
    """What is known of the GPUs of this node: the last reading of each, and its error if it fails now."""

    readings: dict[str, GpuReading] = field(default_factory=dict)
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
        if visit.reading is not None:
            self.readings[uuid] = visit.reading
            return False
        last = self.readings.get(uuid)
        if last is None or last.error == visit.error:
            return False
        self.readings[uuid] = replace(last, error=visit.error)
        return True

    def uuid_of_slot(self) -> dict[int, str]:
        """The GPU in each slot; of two, the one that answers."""
        ordered = sorted(self.readings.values(), key=lambda reading: not reading.error)
        return {reading.slot: reading.uuid for reading in ordered}
