"""Telling powerd how far the job is: one line on its socket, without ever waiting for it."""

import json
import logging
import os
import socket
from contextlib import suppress
from typing import Any

log = logging.getLogger("slurm_power.advice")


class ProgressLine:
    """The way to this node's powerd; without ``path`` or ``job_id`` there is none, and nothing is sent."""

    def __init__(self, path: str | None, job_id: str | None, rank: int) -> None:
        self._path = path if job_id else None
        self._base = {"op": "progress", "job_id": job_id, "rank": rank}
        self._connection: socket.socket | None = None
        self._said = False

    @property
    def is_open(self) -> bool:
        """Whether there is anybody to tell."""
        return self._path is not None

    def tell(self, progress: dict[str, Any]) -> bool:
        """Send one word; False if powerd does not take it now. Blocks nowhere and raises nothing.

        A Unix socket that does not block connects at once or not at all, whatever its daemon is doing.
        """
        if self._path is None:
            return False
        self.close()
        try:
            words = {**self._base, **progress}
            line = json.dumps(words, separators=(",", ":"), default=_plain).encode() + b"\n"
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            if not self._said:
                self._said = True
                log.warning("this job's progress cannot be told: %s", error)
            return False
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            connection.connect(self._path)
            sent = connection.send(line) == len(line)
        except (OSError, ValueError):
            connection.close()
            return False
        self._connection = connection
        return sent

    def close(self) -> None:
        """Hear the answer to the last word, if it has come, and hang up. Says once what powerd refuses."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with connection:
            answer: Any = None
            with suppress(OSError, ValueError, RecursionError):
                answer = json.loads(connection.recv(4096))
            if isinstance(answer, dict) and answer.get("ok") is False and not self._said:
                self._said = True
                log.warning("powerd does not take this job's progress: %.200s", answer.get("error"))


def _plain(value: Any) -> Any:
    """The number in a tensor or a scalar of numpy's: a loop may count its samples and steps in those."""
    return value.item()


def rank_of_environment() -> int:
    """This process's number among the ranks of its job."""
    for name in ("SLURM_PROCID", "RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK"):
        text = os.environ.get(name, "")
        if text.isascii() and text.isdigit():
            return int(text[:9])
    return 0
