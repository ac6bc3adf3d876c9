"""What a lab could leave behind on the host: processes, namespaces, mounts, the claim on its ports."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from containers.cluster.lab import Lab

GONE_SECONDS = 10.0


def namespaces_of(lab: Lab) -> set[str]:
    """Return the names of the lab's process and mount namespaces."""
    return {str(Path(f"/proc/{lab.supervisor_pid}/ns/{kind}").readlink()) for kind in ("pid", "mnt")}


def traces(run: Path, namespaces: set[str]) -> list[str]:
    """List everything on the host that belongs to the lab in ``run``."""
    found = [f"directory {run}"] if run.exists() else []
    found += [
        f"mount {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(run) in line
    ]
    for process in Path("/proc").glob("[0-9]*"):
        found += [f"process {process.name}: {why}" for why in _ties(process, run, namespaces)]
    return found


def _ties(process: Path, run: Path, namespaces: set[str]) -> Iterator[str]:
    try:
        if int(process.name) == os.getpid():
            return
        words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        if os.fsencode(run) in words:
            yield f"its command line or environment names {run}: {words[:200]!r}"
        for kind in ("pid", "mnt"):
            if str((process / "ns" / kind).readlink()) in namespaces:
                yield f"it is in the lab's {kind} namespace"
    except OSError:  # it ended meanwhile, or is a zombie that init has yet to reap
        return


def port_claims() -> set[str]:
    """List the port blocks claimed by labs on this host."""
    return {
        line.split()[-1]
        for line in Path("/proc/net/unix").read_text().splitlines()
        if line.split()[-1].startswith("@slurm-power-lab-ports-")
    }


def assert_gone(run: Path, namespaces: set[str]) -> None:
    """Poll until nothing of the lab is left; fails naming what stays."""
    deadline = time.monotonic() + GONE_SECONDS
    while left := traces(run, namespaces):
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.02)
