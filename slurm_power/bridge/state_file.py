"""Small JSON files that survive a restart, each complete or not at all."""

import json
import logging
import os
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class StateFile:
    """One file of ours. A disk that takes nothing costs what a restart would need, never the work itself.

    ``problem``: why it could not be written, empty where it could.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._written: str | None = None
        self.problem = ""

    def read(self) -> dict[str, Any]:
        """What was put there; {} where there is nothing that can be read."""
        try:
            found = json.loads(self._file.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.error("%s: cannot be read, beginning anew: %s", self._file, error)
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, value: dict[str, Any]) -> None:
        """Put ``value`` there if it is another one than before."""
        text = json.dumps(value, sort_keys=True)
        if text == self._written:
            return
        try:
            write_whole(self._file, text)
        except OSError as error:
            problem = f"{self._file} cannot be written: {error.strerror or error}"
            if self.problem != problem:
                log.error("%s", problem)
            self.problem = problem
            return
        self._written, self.problem = text, ""


def write_whole(file: Path, text: str) -> None:
    """Write a private file so that a reader sees the old or the new one; raises OSError."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.new")
    number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(number, "w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        fresh.rename(file)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
