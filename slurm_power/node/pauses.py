"""Paused jobs of this node that somebody must let go on: leases on disk, ``scontrol resume`` when one ends.

The controller suspends a job only after the nodes of the job have its lease on disk. One that it does not
renew runs out here, and the job goes on, whatever became of the controller and its machine. Any one node is
enough; to resume a job that runs already is refused by Slurm and changes nothing.
"""

import json
import logging
import math
import os
import re
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from slurm_power import clock
from slurm_power.node.saved_settings import this_boot, write_durably

FILE_NAME = "paused_jobs.json"
JOB_ID = re.compile(r"[0-9]{1,10}")
MAX_JOBS = 256
ROUND_SECONDS = 0.25
RESUME_TIMEOUT_SECONDS = 10.0
LEAST_RETRY_SECONDS = 1.0
MOST_RETRY_SECONDS = 15.0
# What Slurm says of a job that needs no resuming any more.
_NEEDLESS = ("Job is not suspended", "not suspended", "Invalid job id", "already completing or completed")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

log = logging.getLogger(__name__)

Resume = Callable[[str], str]
"""Lets a job go on; returns "" when it runs, else what kept it from that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseEvent:
    """The fate of a pause's lease: ``held`` (on disk), ``refused``, ``resumed`` (ran out) or ``failed``."""

    job_id: str
    event: str
    detail: str = ""


class PausedJobs:
    """The pause leases of a node. ``resume`` runs in a thread of its own; ``wake`` is called when it is done.

    Times are monotonic seconds, which go on over a restart of powerd but not over a boot: a lease of an
    earlier boot is over. An entry leaves the file only when its job needs no resuming any more.
    """

    def __init__(self, directory: Path, resume: Resume, wake: Callable[[], None]) -> None:
        self._file = directory / FILE_NAME
        self._resume = resume
        self._wake = wake
        self._ends: dict[str, float] = {}
        self._retry: dict[str, tuple[float, float]] = {}
        self._running: set[str] = set()
        self._done: deque[tuple[str, str]] = deque()

    def load(self, *, over: bool = False) -> int:
        """Take over what an earlier powerd had, all of it ``over`` where asked for; returns how many."""
        found = _loaded(self._file)
        self._ends = dict.fromkeys(found, -math.inf) if over else found
        return len(self._ends)

    @property
    def count(self) -> int:
        """How many jobs there are to be resumed, at their end at the latest."""
        return len(self._ends)

    def take(self, job_id: str, seconds: float, now_seconds: float) -> PauseEvent | None:
        """Set or renew a lease for ``seconds``, or end it with 0 without resuming; None for an ended one."""
        if seconds <= 0.0:
            self._drop(job_id)
            return None
        if job_id not in self._ends and len(self._ends) >= MAX_JOBS:
            return PauseEvent(job_id=job_id, event="refused", detail=f"{MAX_JOBS} jobs are paused here")
        ends = {**self._ends, job_id: now_seconds + seconds}
        try:
            self._store(ends)
        except OSError as error:
            return PauseEvent(job_id=job_id, event="refused", detail=f"the lease cannot be written: {error}")
        self._ends = ends
        return PauseEvent(job_id=job_id, event="held")

    def next_seconds(self) -> float:
        """When the next look is due, infinite for never."""
        idle = self._ends.keys() - self._running
        return min((max(self._ends[job_id], self._retry_at(job_id)) for job_id in idle), default=math.inf)

    def step(self, now_seconds: float) -> list[PauseEvent]:
        """Start resuming what has run out; returns what has happened since the last look."""
        events = []
        while self._done:
            job_id, error = self._done.popleft()
            self._running.discard(job_id)
            if not error:
                self._drop(job_id)
                events.append(PauseEvent(job_id=job_id, event="resumed", detail="its pause was not renewed"))
                continue
            _, pause_seconds = self._retry.get(job_id, (0.0, LEAST_RETRY_SECONDS / 2))
            pause_seconds = min(2 * pause_seconds, MOST_RETRY_SECONDS)
            self._retry[job_id] = (now_seconds + pause_seconds, pause_seconds)
            events.append(PauseEvent(job_id=job_id, event="failed", detail=error))
        for job_id, ends_at in self._ends.items():
            if job_id not in self._running and now_seconds >= max(ends_at, self._retry_at(job_id)):
                self._running.add(job_id)
                threading.Thread(target=self._work, args=(job_id,), daemon=True).start()
        return events

    def _retry_at(self, job_id: str) -> float:
        return self._retry.get(job_id, (-math.inf, 0.0))[0]

    def _work(self, job_id: str) -> None:
        try:
            error = self._resume(job_id)
        except Exception as unforeseen:  # noqa: BLE001  # a thread that ended here would leave the job stopped
            error = f"{type(unforeseen).__name__}: {unforeseen}"
        self._done.append((job_id, error))
        self._wake()

    def _drop(self, job_id: str) -> None:
        self._retry.pop(job_id, None)
        if self._ends.pop(job_id, None) is not None:
            try:
                self._store(self._ends)
            except OSError as error:
                # A job resumed once more later is refused by Slurm: nothing is lost.
                log.warning("%s: cannot be written: %s", self._file, error)

    def _store(self, ends: dict[str, float]) -> None:
        rows = [{"job_id": job_id, "ends_at_seconds": ends_at} for job_id, ends_at in ends.items()]
        write_durably(self._file, json.dumps({"boot_id": this_boot(), "paused": rows}) + "\n")


def _loaded(file: Path) -> dict[str, float]:
    """What stands in the file; a damaged one or one of another boot ends every lease that can be read."""
    try:
        document = json.loads(file.read_text())
        rows: Iterable[object] = document["paused"]
        same_boot = document["boot_id"] == this_boot()
        found = {
            str(row["job_id"]): float(row["ends_at_seconds"]) if same_boot else -math.inf
            for row in rows
            if isinstance(row, dict)
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.error("%s: cannot be read, its jobs are left to the other nodes: %s", file, error)
        return {}
    return {job_id: ends_at for job_id, ends_at in found.items() if JOB_ID.fullmatch(job_id)}


def resume_by_scontrol(slurm_conf: Path | None) -> Resume:
    """``scontrol resume`` against the cluster of ``slurm_conf`` (None: the one of this machine)."""
    environment = {"PATH": f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}", "LC_ALL": "C.UTF-8"}
    conf = os.environ.get("SLURM_CONF") if slurm_conf is None else str(slurm_conf)
    if conf:
        environment["SLURM_CONF"] = conf

    def resume(job_id: str) -> str:
        try:
            done = subprocess.run(
                ["scontrol", "resume", job_id],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=RESUME_TIMEOUT_SECONDS,
                check=False,
                env=environment,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"scontrol: {error}"
        said = " ".join(done.stderr.decode(errors="replace").split())
        if done.returncode == 0 or any(words in said for words in _NEEDLESS):
            return ""
        return f"scontrol: {said or f'exit status {done.returncode}'}"

    return resume


def let_go_on(paused: PausedJobs, go_on: Callable[[], bool], woken: threading.Event) -> bool:
    """Look after the leases until none is left; False when told not to ``go_on``. For who outlives powerd."""
    while True:
        for event in paused.step(clock.monotonic()):
            log.warning("job %s: %s %s", event.job_id, event.event, event.detail)
        if not paused.count:
            return True
        if not go_on():
            return False
        woken.wait(ROUND_SECONDS)
        woken.clear()
