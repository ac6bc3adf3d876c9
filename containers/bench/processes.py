"""CPU time and memory of a lab's daemons, from /proc, as the host numbers them."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """CPU seconds spent so far, and memory held now (proportional set size)."""

    cpu_seconds: float
    pss_bytes: int


def processes_with(*words: str) -> list[int]:
    """Processes whose command line holds all of ``words``."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if all(word in line for word in words):
            found.append(int(folder.name))
    return found


def usage(process_ids: list[int]) -> Usage:
    """Sum over processes; raises OSError when one has ended."""
    cpu_ticks = pss_kib = 0
    for process_id in process_ids:
        fields = Path(f"/proc/{process_id}/stat").read_text().rsplit(") ", 1)[1].split()
        cpu_ticks += int(fields[11]) + int(fields[12])
        rollup = Path(f"/proc/{process_id}/smaps_rollup").read_text()
        pss_kib += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return Usage(cpu_seconds=cpu_ticks / _TICKS_PER_SECOND, pss_bytes=pss_kib * 1024)
