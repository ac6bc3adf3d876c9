"""What daemons say to systemd, where there is one: how they are, and their log, one line for each event."""

import logging
import os
import socket
import sys
from contextlib import suppress

from slurm_power.model.secret_text import without_secrets

# The journal's priorities, as in syslog.
_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


class LogLine(logging.Formatter):
    """One event, one line: ``TIME PROGRAM LEVEL TEXT``, a traceback in it.

    What jobs and devices are called is other people's text: a line end or a control character of it is
    written as its escape, so that it can neither begin a line of its own nor reach a terminal. For the
    journal, which has its own time, the line begins with its priority instead: ``<4>WARNING TEXT``.
    Passwords in addresses are left out: libraries quote the address that did not answer.
    """

    def __init__(self, program: str = "", *, journal: bool = False) -> None:
        """``program`` stands before the level where several daemons write to one place."""
        level = f"{program} %(levelname)s" if program else "%(levelname)s"
        super().__init__(f"{level} %(message)s" if journal else f"%(asctime)s {level} %(message)s")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """The line without its end."""
        line = "".join(
            letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
            for letter in without_secrets(super().format(record))
        )
        return f"<{_PRIORITIES.get(record.levelname, 6)}>{line}" if self._journal else line


def start_logging(level: str, program: str = "") -> None:
    """Write the log to standard error, as the journal wants it where that is the journal."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogLine(program, journal=_is_journal()))
    logging.basicConfig(level=level, handlers=[handler])


def _is_journal() -> bool:
    """Whether standard error is connected with the journal: systemd says which file that is."""
    told = os.environ.get("JOURNAL_STREAM", "")
    try:
        there = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return told == f"{there.st_dev}:{there.st_ino}"


def notify(state: str) -> None:
    """Send a state such as ``READY=1``, ``WATCHDOG=1`` or ``STOPPING=1``; does nothing without systemd.

    The protocol is that of sd_notify(3).
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    name = "\0" + address[1:] if address.startswith("@") else address
    with (
        suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_manager,
    ):
        to_manager.sendto(state.encode(), name)
