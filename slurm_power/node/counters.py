"""The dear looks at a GPU, in threads of their own: its energy counter, and who computes on it.

On real hardware a counter takes 6 ms to read where everything else takes 0.1 ms: read together, all GPUs
would wait for it. So power is read each second, while jobs run the host's too, and this every five; all of it
when a job starts or ends.
"""

from dataclasses import dataclass
from pathlib import Path

from slurm_power import clock
from slurm_power.model.reading import HostReading
from slurm_power.node.host import HostMeter
from slurm_power.node.processes import GpuProcess, Processes
from slurm_power.node.visits import Visitor
from slurm_power.ports import DeviceError, Gpus

COUNT_SECONDS = 5.0
# The name under which the host itself is looked at.
HOST = ""
# Each load of the module makes a new folder here, so its inode number names the load.
DRIVER_FOLDERS = (Path("/sys/module/nvidia"), Path("/sys/module/amdgpu"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What was found; ``joules`` is None without a counter, ``error`` says why there is nothing at all."""

    joules: float | None = None
    at_seconds: float = 0.0
    driver_load: str = ""
    processes: tuple[GpuProcess, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCount:
    """What was found on the host itself."""

    reading: HostReading
    at_seconds: float


class CounterVisitor:
    """Looks at one GPU, or at the host, for the slow workers."""

    def __init__(self, gpus: Gpus, visitor: Visitor, processes: Processes, host: HostMeter) -> None:
        self._host = host
        self._gpus = gpus
        self._visitor = visitor
        self._processes = processes

    def visit(self, uuid: str) -> Count | HostCount:
        """Read counter and processes; errors are part of what it returns."""
        if uuid == HOST:
            at_seconds = clock.monotonic()
            return HostCount(reading=self._host.read(at_seconds), at_seconds=at_seconds)
        try:
            with self._visitor.driver():
                joules = self._gpus.read_energy_joules(uuid)
                at_seconds = clock.monotonic()
                pids = self._gpus.process_ids(uuid)
            found = self._processes.found(pids)
        except DeviceError as error:
            return Count(error=str(error), at_seconds=clock.monotonic())
        return Count(joules=joules, at_seconds=at_seconds, driver_load=driver_load(), processes=found)


def driver_load() -> str:
    """A word for this load of the GPU driver; empty where the kernel does not show one."""
    for folder in DRIVER_FOLDERS:
        try:
            return f"{folder.name}:{folder.stat().st_ino}"
        except OSError:
            continue
    return ""
