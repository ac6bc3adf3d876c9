"""A second process that outlives powerd: when powerd is gone it restores every GPU of the save file.

Started as a bare interpreter, ``python -IS watchdog.py STATE_DIRECTORY SAFE_WATTS SYS_PATH SLURM_CONF``, it
loads the rest only when needed. Paused jobs go on when their leases run out, as with powerd.
 Powerd holds a lock file and the other end of our standard input: both end with it,
however it ends. A powerd that says nothing into that pipe for too long hangs, leases and all: it is killed.
"""

import fcntl
import os
import select
import signal
import sys
import time

LOCK_NAME = "powerd.lock"
# If the lock of a powerd that has ended does not come free, a new one has it and restores by itself. We stay
# this long all the same, until the new one surely has a watchdog of its own.
SUCCESSOR_SECONDS = 30.0
RETRY_SECONDS = 0.25
# Powerd says that it lives once a second. No lease is watched while it hangs.
SILENCE_SECONDS = 10.0
POLL_SECONDS = 0.01


def open_lock(state_directory: str) -> int:
    """Open the lock file, which stays locked as long as the file descriptor lives; raises OSError."""
    return os.open(f"{state_directory}/{LOCK_NAME}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def take_lock(lock: int, patience_seconds: float) -> bool:
    """Try for the lock until it is ours or patience ends."""
    for _ in range(1 + round(patience_seconds / POLL_SECONDS)):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(POLL_SECONDS)
        else:
            return True
    return False


def offer_lock(lock: int) -> bool:
    """Let a new powerd have the lock if there is one; False when it took it."""
    fcntl.flock(lock, fcntl.LOCK_UN)
    time.sleep(RETRY_SECONDS)
    return take_lock(lock, 0.0)


def outlive(parent: int) -> None:
    """Return when powerd is gone; one that is silent for too long is killed, by the id of our parent."""
    while True:
        spoke, _, _ = select.select([0], [], [], SILENCE_SECONDS)
        if spoke:
            if not os.read(0, 64):
                return
        elif os.getppid() == parent:
            os.kill(parent, signal.SIGKILL)


def main(arguments: list[str]) -> int:
    """Wait for the end of powerd, then restore until everything is proved or a new powerd has taken over."""
    state_directory, safe_text, path, slurm_conf = arguments
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    outlive(os.getppid())
    lock = open_lock(state_directory)
    if not take_lock(lock, SUCCESSOR_SECONDS):
        return 0
    sys.path[:0] = path.split(os.pathsep)
    from slurm_power.node.leftovers import restore  # noqa: PLC0415 - until here a bare interpreter is enough

    safe_cap_watts = float(safe_text) if safe_text else None
    restore(state_directory, safe_cap_watts, go_on=lambda: offer_lock(lock), slurm_conf=slurm_conf)
    return 0


if __name__ == "__main__":
    # A driver call that hangs must not keep the process: its thread ends with it.
    os._exit(main(sys.argv[1:]))
