"""Energy on this node: a running total per GPU, and what each job's GPUs used between its start and end."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from slurm_power.model.energy import GpuEnergy, held, with_counter, with_power
from slurm_power.wire import Message

# A counter read within this time of a job's start is the job's start.
START_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedEnergy:
    """Energy of GPUs for a job. ``estimated_joules`` rests on power alone, ``shared_joules`` was used while
    a process that is not the job's was on the GPU. ``seconds`` are GPU-seconds, ``covered_seconds`` those
    with readings close together.
    """

    energy_joules: float = 0.0
    estimated_joules: float = 0.0
    shared_joules: float = 0.0
    covered_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def coverage_ratio(self) -> float | None:
        """The share of the time with good readings; None before there was any time."""
        return min(1.0, self.covered_seconds / self.seconds) if self.seconds > 0.0 else None

    def message(self) -> Message:
        """The figures as controller and users get them."""
        ratio = self.coverage_ratio
        return {
            "energy_joules": self.energy_joules,
            "estimated_joules": self.estimated_joules,
            "shared_joules": self.shared_joules,
            "coverage_ratio": None if ratio is None else round(ratio, 4),
        }


def used_together(parts: Iterable[UsedEnergy]) -> UsedEnergy:
    """The sum over the GPUs of a job."""
    whole = UsedEnergy()
    for part in parts:
        whole = UsedEnergy(
            energy_joules=whole.energy_joules + part.energy_joules,
            estimated_joules=whole.estimated_joules + part.estimated_joules,
            shared_joules=whole.shared_joules + part.shared_joules,
            covered_seconds=whole.covered_seconds + part.covered_seconds,
            seconds=whole.seconds + part.seconds,
        )
    return whole


@dataclass(slots=True, kw_only=True)
class EnergyAccount:
    """One GPU's energy for one job: what the GPU's total has grown by since the job's start."""

    start: GpuEnergy | None = None
    start_is_counted: bool = False
    used: UsedEnergy = field(default_factory=UsedEnergy)

    def follow(self, energy: GpuEnergy, *, counted_now: bool = False, shared: bool = False) -> None:
        """Take the GPU's total as it is now; the first one, and a counter read right then, is the start."""
        if energy.at_seconds is None:
            return
        start = self.start
        if start is None or start.at_seconds is None:
            self.start, self.start_is_counted = energy, counted_now
            return
        seconds = energy.at_seconds - start.at_seconds
        if counted_now and not self.start_is_counted:
            self.start_is_counted = True
            if seconds <= START_SECONDS:
                self.start = energy
                return
        total_joules = energy.total_joules - start.total_joules
        more_joules = max(0.0, total_joules - self.used.energy_joules) if shared else 0.0
        self.used = UsedEnergy(
            energy_joules=total_joules,
            estimated_joules=min(total_joules, max(0.0, energy.unsure_joules - start.unsure_joules)),
            shared_joules=self.used.shared_joules + more_joules,
            covered_seconds=energy.covered_seconds - start.covered_seconds,
            seconds=seconds,
        )


class EnergyBooks:
    """The running totals of all GPUs of this node; times are monotonic seconds of this boot."""

    def __init__(self) -> None:
        self._gpus: dict[str, GpuEnergy] = {}

    def take_power(self, uuid: str, watts: float, at_seconds: float) -> GpuEnergy:
        """Take a power reading; returns the GPU's total."""
        return self._put(uuid, with_power(self.of(uuid), watts, at_seconds))

    def take_counter(
        self, uuid: str, joules: float | None, at_seconds: float, *, driver_load: str, max_cap_watts: float
    ) -> GpuEnergy:
        """Take a reading of the counter, None for a GPU without one; returns the GPU's total."""
        energy = with_counter(
            self.of(uuid), joules, at_seconds, driver_load=driver_load, max_cap_watts=max_cap_watts
        )
        return self._put(uuid, energy)

    def now(self, uuid: str, at_seconds: float) -> GpuEnergy:
        """A GPU's total, led on to a moment at its last power."""
        return held(self.of(uuid), at_seconds)

    def of(self, uuid: str) -> GpuEnergy:
        """A GPU's total as of its last reading."""
        return self._gpus.get(uuid) or GpuEnergy()

    def all(self) -> Iterable[tuple[str, GpuEnergy]]:
        """All GPUs with their totals."""
        return self._gpus.items()

    def _put(self, uuid: str, energy: GpuEnergy) -> GpuEnergy:
        self._gpus[uuid] = energy
        return energy

    def document(self) -> dict[str, Any]:
        """All totals as plain values, to be kept in a file."""
        return {uuid: asdict(energy) for uuid, energy in self._gpus.items()}

    def load(self, document: dict[str, Any]) -> None:
        """Go on from totals of the same boot; raises TypeError or AttributeError for anything else."""
        self._gpus = {uuid: GpuEnergy(**row) for uuid, row in document.items()}


def account_of(row: dict[str, Any]) -> EnergyAccount:
    """An account from plain values; raises TypeError or KeyError for what is none."""
    start = row["start"]
    return EnergyAccount(
        start=None if start is None else replace(GpuEnergy(), **start),
        start_is_counted=bool(row["start_is_counted"]),
        used=UsedEnergy(**row["used"]),
    )
