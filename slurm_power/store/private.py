"""Files that only their owner reads: what is stored tells of everybody's jobs."""

import fcntl
import os
from pathlib import Path


def private_file(file: Path) -> None:
    """Make a file, empty, and its folder, if they are not there; whoever opened them wider meant it.

    SQLite gives the files that it puts beside a database the rights of the database. Raises OSError.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def lock_directory(directory: Path) -> int:
    """Have a state directory for ourselves while the descriptor returned is open; raises OSError.

    Two writers of one ledger would each chain their entries to their own.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(directory / "powerctld.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise BlockingIOError("another powerctld has it") from None
    return lock
