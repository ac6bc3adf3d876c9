"""Whose process is it: from a PID to the Slurm job it belongs to, through /proc.

The cgroup of the step tells, version 1 or 2; without Slurm's cgroup plugin the slurmstepd above it does.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# .../slurm/uid_1000/job_17/step_0 and .../system.slice/slurmstepd.scope/job_17/step_batch/user/task_0
_CGROUP = re.compile(r"/job_(\d+)(?:/step_(\w+))?(?:/|$)", re.MULTILINE)
# What slurmstepd calls itself: "slurmstepd: [17.batch]", an array's or heterogeneous job's step included.
_STEPD = re.compile(rb"^slurmstepd: \[(\d+)(?:\.([\w+]+))?\]")
# Steps are never nested deeper than this; it only bounds the walk.
_MOST_ANCESTORS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStep:
    """A step of a job, as Slurm writes them; the step is empty where it is not told."""

    job_id: str
    step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process on a GPU, and the job it belongs to if any. ``uid`` is None when it could not be told."""

    pid: int
    name: str = ""
    uid: int | None = None
    job: JobStep | None = None


def step_of_cgroup(text: str) -> JobStep | None:
    """The step in the text of /proc/PID/cgroup, None if no line names one."""
    for line in text.splitlines():
        path = line.split(":", 2)[-1]
        if "slurm" not in path:
            continue
        match = _CGROUP.search(path)
        if match is not None:
            return JobStep(job_id=match[1], step=match[2] or "")
    return None


def step_of_stepd(command_line: bytes) -> JobStep | None:
    """The step in the command line of a slurmstepd, None if it is none."""
    match = _STEPD.match(command_line)
    return None if match is None else JobStep(job_id=match[1].decode(), step=(match[2] or b"").decode())


class Processes:
    """Reads /proc, or a tree that looks like it."""

    def __init__(self, root: Path = Path("/proc")) -> None:
        self._root = root

    def found(self, pids: Iterable[int]) -> tuple[GpuProcess, ...]:
        """The processes that are still there, and the jobs they belong to."""
        looked_at = (self._process(pid) for pid in pids)
        return tuple(process for process in looked_at if process is not None)

    def _process(self, pid: int) -> GpuProcess | None:
        status = self._status(pid)
        if status is None:
            return None
        name, _, uid = status
        return GpuProcess(pid=pid, name=name, uid=uid, job=self._by_cgroup(pid) or self._by_ancestors(pid))

    def _by_cgroup(self, pid: int) -> JobStep | None:
        try:
            return step_of_cgroup((self._root / str(pid) / "cgroup").read_text(errors="replace"))
        except OSError:
            return None

    def _by_ancestors(self, pid: int) -> JobStep | None:
        """Climb to a slurmstepd of root: a user may call a process of his own anything."""
        for _ in range(_MOST_ANCESTORS):
            status = self._status(pid)
            if status is None or status[1] <= 1:
                return None
            pid = status[1]
            above = self._status(pid)
            if above is not None and above[2] == 0:
                try:
                    step = step_of_stepd((self._root / str(pid) / "cmdline").read_bytes())
                except OSError:
                    return None
                if step is not None:
                    return step
        return None

    def _status(self, pid: int) -> tuple[str, int, int] | None:
        """Name, parent and real uid of a process; None when it has ended."""
        try:
            text = (self._root / str(pid) / "status").read_text(errors="replace")
            fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
            return fields.get("Name", ""), int(fields["PPid"]), int(fields["Uid"].split()[0])
        except (OSError, KeyError, ValueError, IndexError):
            return None
