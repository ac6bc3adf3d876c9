"""What is asked of the job now: the advice file, looked at and checked. A wrong one says nothing."""

import json
import math
import os
import stat
import time
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Action: TypeAlias = Literal["run", "pause", "checkpoint"]

MAX_FILE_BYTES = 64 * 1024
MAX_MICRO_BATCH = 1 << 30
# powerd leases its words for an hour at most; a file that claims more is nobody's we know.
MAX_LEASE_SECONDS = 2 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What is asked: ``micro_batch`` samples at a time at most (None: as many as it likes), and what to do.

    They hold until ``until_boottime``, in seconds of CLOCK_BOOTTIME of this node.
    """

    micro_batch: int | None = None
    action: Action = "run"
    reason: str = ""
    until_boottime: float = math.inf


NOTHING_SAID = Words()


def boottime() -> float:
    """Seconds since this machine has started, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class AdviceFile:
    """The advice file of this job on this node; ``path`` None for a job that has none."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._words = NOTHING_SAID

    def look(self) -> Words:
        """What holds now. Reads the file only if it is another than at the last look; never raises."""
        if not self._path:
            return NOTHING_SAID
        try:
            found = os.stat(self._path)  # noqa: PTH116 - a Path costs more than the look itself
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                self._seen = seen
                self._words = NOTHING_SAID
                self._words = words_of(json.loads(_read(self._path)))
        except (OSError, ValueError, RecursionError):
            self._words = NOTHING_SAID
        if self._words is not NOTHING_SAID:
            left_seconds = self._words.until_boottime - boottime()
            if not 0.0 < left_seconds <= MAX_LEASE_SECONDS:
                return NOTHING_SAID
        return self._words


def _read(path: str) -> bytes:
    # Whatever has come in the file's place, a pipe too, must not hold the training.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE_BYTES:
            raise ValueError("no advice file")
        return os.read(descriptor, MAX_FILE_BYTES)
    finally:
        os.close(descriptor)


def words_of(document: Any) -> Words:
    """The words of an advice file; raises ValueError for anything that is not exactly as agreed."""
    if not isinstance(document, dict):
        raise ValueError("not an object")
    micro_batch, action = document.get("micro_batch"), document.get("action")
    until, reason = document.get("until_boottime"), document.get("reason")
    if micro_batch is not None and (type(micro_batch) is not int or not 1 <= micro_batch <= MAX_MICRO_BATCH):
        raise ValueError("micro_batch: not a whole number above 0")
    if action not in (None, "run", "pause", "checkpoint"):
        raise ValueError("action: not run, pause or checkpoint")
    if not isinstance(until, int | float) or isinstance(until, bool) or not math.isfinite(until):
        raise ValueError("until_boottime: not a number")
    text = reason if isinstance(reason, str) else ""
    return Words(
        micro_batch=micro_batch,
        action=action or "run",
        reason="".join(letter for letter in text[:300] if letter.isprintable()),
        until_boottime=float(until),
    )
