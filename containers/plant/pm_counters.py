"""A node's power counters as files: those of acct_gather_energy/pm_counters, and its board's sensor.

Such nodes have them in /sys/cray/pm_counters; the lab puts this folder there, for the node's daemons alone.
They count what the node draws from its PDU: GPUs, host and the losses of its power supplies. The sensor, as
hwmon has it, shows the host alone.
"""

import contextlib
import time
from pathlib import Path

FOLDER = "pm_counters"
# Slurm takes a counter that reads 0 for one that is not there.
_FIRST_JOULES = 1.0


def folder_of(run: Path, node: str) -> Path:
    """Where a lab keeps a node's counters; it is there where the lab has been told to have any."""
    return run / FOLDER / node


class PmCounters:
    """The counters of one node. A plant that starts anew goes on from what the one before it showed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before_joules = _FIRST_JOULES
        with contextlib.suppress(OSError, ValueError, IndexError):
            self._before_joules = max(_FIRST_JOULES, float((folder / "energy").read_text().split()[0]))
        (folder / "hwmon" / "hwmon0").mkdir(parents=True, exist_ok=True)
        self._samples = 0
        started_us = _now_us()
        for name, text in (
            ("version", "1"),
            ("generation", "1"),
            ("startup", f"{started_us} us"),
            ("power_cap", f"0 W {started_us} us"),
            ("hwmon/hwmon0/name", "power_meter"),
        ):
            self._write(name, text)

    def take(self, watts: float, joules: float, host_watts: float) -> None:
        """Show what node and host draw now, and what the node has drawn since the plant's start."""
        now_us = _now_us()
        self._samples += 1
        self._write("power", f"{watts:.0f} W {now_us} us")
        self._write("energy", f"{self._before_joules + joules:.0f} J {now_us} us")
        self._write("freshness", f"{self._samples}")
        self._write("hwmon/hwmon0/power1_average", f"{1e6 * host_watts:.0f}")

    def _write(self, name: str, text: str) -> None:
        """In one step: a reader sees the old line or the new one."""
        file = self._folder / name
        fresh = file.with_name(f".{file.name}")
        fresh.write_text(f"{text}\n")
        fresh.replace(file)


def _now_us() -> int:
    return time.time_ns() // 1000
