"""The lock that makes powerd the only one on its node, and the watchdog process it keeps running."""

import logging
import os
import selectors
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from slurm_power.node import watchdog

# A watchdog that still restores offers the lock four times a second.
LOCK_PATIENCE_SECONDS = 10.0
LEAST_RESTART_SECONDS = 1.0

log = logging.getLogger(__name__)


class LockedError(Exception):
    """Another powerd runs on this node, or its watchdog does not let go."""


def lock_node(state_directory: Path) -> int:
    """Take the node's lock and return its descriptor; raises LockedError when it does not come free."""
    lock = watchdog.open_lock(str(state_directory))
    if not watchdog.take_lock(lock, 0.0):
        log.warning("waiting for the lock: a watchdog still restores, or another powerd runs")
        if not watchdog.take_lock(lock, LOCK_PATIENCE_SECONDS):
            os.close(lock)
            raise LockedError(
                f"{state_directory}/{watchdog.LOCK_NAME}: held by another powerd or its watchdog"
            )
    return lock


class Guardian:
    """Starts the watchdog in a session of its own, and again when it dies. ``check`` it once a second."""

    def __init__(
        self,
        state_directory: Path,
        safe_cap_watts: float | None,
        selector: selectors.BaseSelector | None = None,
        slurm_conf: Path | None = None,
    ) -> None:
        """``selector`` is told of the watchdog's end, so that its loop comes by here at once."""
        self._selector = selector
        self._pidfd: int | None = None
        safe_text = "" if safe_cap_watts is None else repr(safe_cap_watts)
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        program = str(Path(watchdog.__file__).resolve())
        self._command = [
            *(sys.executable, "-IS", program, str(state_directory), safe_text, path),
            "" if slurm_conf is None else str(slurm_conf),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._restart_at_seconds = 0.0

    @property
    def pid(self) -> int | None:
        """The watchdog's process id while it runs."""
        return None if self._process is None else self._process.pid

    def check(self, now_seconds: float) -> None:
        """Start the watchdog if there is none, not more often than once a second."""
        if self._process is not None:
            status = self._process.poll()
            if status is None:
                self._say_alive(self._process)
                return
            log.warning("the watchdog ended with status %d; starting another", status)
            self._close_pipe(self._process)
            self._unwatch()
            self._process = None
        if now_seconds < self._restart_at_seconds:
            return
        self._restart_at_seconds = now_seconds + LEAST_RESTART_SECONDS
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
            if self._process.stdin is not None:
                os.set_blocking(self._process.stdin.fileno(), False)
            self._watch(self._process.pid)
        except OSError as error:
            log.error("the watchdog cannot be started: %s", error)

    def _watch(self, pid: int) -> None:
        if self._selector is not None:
            self._pidfd = os.pidfd_open(pid)
            self._selector.register(self._pidfd, selectors.EVENT_READ, lambda _mask: self._unwatch())

    def _unwatch(self) -> None:
        """A pidfd stays readable for ever once its process has ended: one wake-up is enough."""
        if self._selector is not None and self._pidfd is not None:
            self._selector.unregister(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    @staticmethod
    def _say_alive(process: subprocess.Popen[bytes]) -> None:
        """A byte at each look; a watchdog that is stopped leaves the pipe full, which is no matter."""
        if process.stdin is not None:
            with suppress(OSError):
                os.write(process.stdin.fileno(), b".")

    def dismiss(self, patience_seconds: float) -> None:
        """Tell the watchdog that powerd is gone, and wait for it a while; the lock must be free by now."""
        if self._process is None:
            return
        self._close_pipe(self._process)
        try:
            self._process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            log.warning("the watchdog goes on restoring")

    @staticmethod
    def _close_pipe(process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            process.stdin.close()
