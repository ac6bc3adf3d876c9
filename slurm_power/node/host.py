"""What the node uses beside its GPUs: power from RAPL or the board's sensor; how busy it is, from psutil."""

from dataclasses import dataclass
from pathlib import Path

import psutil

from slurm_power.devices.hwmon import Hwmon
from slurm_power.devices.rapl import Rapl
from slurm_power.model.reading import HostReading
from slurm_power.ports import DeviceError

# How busy a host is takes five times as long to read as what it draws, and nobody needs it each second.
_USAGE_SECONDS = 4.5


@dataclass(frozen=True, slots=True)
class _Usage:
    """How busy the host is."""

    at_seconds: float
    cpu_ratio: float
    memory_ratio: float
    load_average: float


class HostMeter:
    """Reads the host; a sensor that is not there or may not be read costs a line in the reading, no more."""

    def __init__(self, sysfs: Path = Path("/sys")) -> None:
        self._rapl = Rapl(sysfs / "class/powercap")
        self._hwmon = Hwmon(sysfs / "class/hwmon")
        self._source: str | None = None
        self._error = ""
        self._at_seconds: float | None = None
        self._joules = 0.0
        self._watts: float | None = None
        self._usage: _Usage | None = None

    def read(self, now_seconds: float) -> HostReading:
        """Read everything once."""
        if self._source is None:
            self._source = self._opened()
        try:
            self._measure(now_seconds)
            error = self._error
        except DeviceError as failed:
            self._watts, error = None, str(failed)
        measured, usage = bool(self._source), self._used(now_seconds)
        return HostReading(
            watts=self._watts,
            energy_joules=self._joules if measured else None,
            source=self._source,
            cpu_utilization_ratio=usage.cpu_ratio,
            memory_used_ratio=usage.memory_ratio,
            load_average=usage.load_average,
            error=error,
        )

    def _used(self, now_seconds: float) -> _Usage:
        """How busy the host is, as it was some seconds ago at most."""
        if self._usage is None or now_seconds - self._usage.at_seconds >= _USAGE_SECONDS:
            self._usage = _Usage(
                at_seconds=now_seconds,
                cpu_ratio=psutil.cpu_percent(None) / 100.0,
                memory_ratio=psutil.virtual_memory().percent / 100.0,
                load_average=psutil.getloadavg()[0],
            )
        return self._usage

    def _opened(self) -> str:
        """The first source that answers; a host does not grow another one while it runs."""
        problems = []
        for name, device in (("hwmon", self._hwmon), ("rapl", self._rapl)):
            try:
                device.open()
            except DeviceError as error:
                problems.append(str(error))
            else:
                return name
        self._error = "; ".join(problems)
        return ""

    def _measure(self, now_seconds: float) -> None:
        """Bring power and energy up to date; of a counter power is the mean since the last time."""
        last_seconds, last_joules, last_watts = self._at_seconds, self._joules, self._watts
        seconds = 0.0 if last_seconds is None else now_seconds - last_seconds
        if self._source == "rapl":
            self._joules = self._rapl.read_joules()
            self._watts = (self._joules - last_joules) / seconds if seconds > 0.0 else None
        elif self._source == "hwmon":
            self._watts = self._hwmon.read_watts()
            mean_watts = self._watts if last_watts is None else 0.5 * (last_watts + self._watts)
            self._joules += mean_watts * seconds
        self._at_seconds = now_seconds
