"""Host power from a sensor of the board (hwmon): watts, averaged by the sensor where it does so."""

from pathlib import Path

from slurm_power.ports import DeviceError

ROOT = Path("/sys/class/hwmon")
MICROWATTS_PER_WATT = 1e6
# A board's own power meters; others (GPUs, network cards, drives) are parts and would be counted twice.
BOARD_SENSORS = ("power_meter", "acpi_power_meter")


class Hwmon:
    """The power meter of this board: ACPI's, or the sensor named ``sensor``."""

    def __init__(self, root: Path = ROOT, sensor: str | None = None) -> None:
        self._root = root
        self._names = BOARD_SENSORS if sensor is None else (sensor,)
        self._files: list[Path] = []

    def open(self) -> None:
        """Find the sensor; raises DeviceError where there is none or it does not answer."""
        files = []
        for folder in sorted(self._root.glob("hwmon*")):
            try:
                named = (folder / "name").read_text().strip() in self._names
            except OSError:
                continue
            if named:
                files += [file for file in (_file(folder),) if file is not None]
        if not files:
            raise DeviceError(f"hwmon: no power sensor called {' or '.join(self._names)} in {self._root}")
        self._files = files
        self.read_watts()

    def read_watts(self) -> float:
        """Power of the host now; raises DeviceError."""
        watts = 0.0
        for file in self._files:
            try:
                watts += int(file.read_text()) / MICROWATTS_PER_WATT
            except (OSError, ValueError) as error:
                raise DeviceError(f"hwmon: {file}: {error}") from None
        return watts


def _file(folder: Path) -> Path | None:
    """The sensor's average if it makes one, else its instant."""
    found = (folder / name for name in ("power1_average", "power1_input"))
    return next((file for file in found if file.exists()), None)
