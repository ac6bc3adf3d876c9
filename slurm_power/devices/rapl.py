"""Host power from RAPL through sysfs (powercap): energy counters of packages and memory, as growing joules.

The counters wrap at ``max_energy_range_uj``, within a minute or so at full load: look more often than that.
Only root may read them since Linux 5.10 (CVE-2020-8694), unless the site gives the reading away.
"""

from dataclasses import dataclass
from pathlib import Path

from slurm_power.ports import DeviceError

ROOT = Path("/sys/class/powercap")
MICROJOULES_PER_JOULE = 1e6


@dataclass(slots=True, kw_only=True)
class _Zone:
    """One counter: ``range_microjoules`` is where it starts again at 0."""

    file: Path
    range_microjoules: int
    last_microjoules: int | None = None
    total_microjoules: int = 0


class Rapl:
    """The packages of this host, and their memory where it has a counter of its own."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._zones: list[_Zone] = []

    def open(self) -> None:
        """Find the counters; raises DeviceError where there are none or they may not be read."""
        zones = []
        for folder in sorted(self._root.glob("*rapl*:*")):
            try:
                name = (folder / "name").read_text().strip()
                if not _counts(name, folder.name):
                    continue
                zone = _Zone(
                    file=folder / "energy_uj",
                    range_microjoules=int((folder / "max_energy_range_uj").read_text()),
                )
                _read(zone.file)
            except (OSError, ValueError) as error:
                raise DeviceError(f"RAPL: {folder}: {error}") from None
            zones.append(zone)
        if not zones:
            raise DeviceError(f"RAPL: no counter of a package in {self._root}")
        self._zones = zones

    def read_joules(self) -> float:
        """Energy of all packages and memory since the first read; raises DeviceError."""
        for zone in self._zones:
            try:
                now_microjoules = _read(zone.file)
            except (OSError, ValueError) as error:
                raise DeviceError(f"RAPL: {zone.file}: {error}") from None
            if zone.last_microjoules is not None:
                step_microjoules = now_microjoules - zone.last_microjoules
                wrapped = zone.range_microjoules if step_microjoules < 0 else 0
                zone.total_microjoules += step_microjoules + wrapped
            zone.last_microjoules = now_microjoules
        return sum(zone.total_microjoules for zone in self._zones) / MICROJOULES_PER_JOULE


def _counts(name: str, folder: str) -> bool:
    """Whether a zone adds to the host: packages do, memory beside them; cores are within, psys is around.

    The same packages are listed a second time where they can be read through memory ("intel-rapl-mmio").
    """
    return "mmio" not in folder and (name.startswith("package") or name == "dram")


def _read(file: Path) -> int:
    return int(file.read_text())
