"""Files that only their owner reads: what is stored tells of everybody's jobs."""

import os
from pathlib import Path


def private_file(file: Path) -> None:
    """Make a file, empty, and its folder, if they are not there; whoever opened them wider meant it.

    SQLite gives the files that it puts beside a database the rights of the database. Raises OSError.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
