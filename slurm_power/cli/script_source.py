"""Where the job script is, and its beginning: a file, or sbatch's standard input, which must lose nothing.

sbatch is to read what we have read, so a pipe is copied into memory that takes its place. A file is read
without moving its offset, a terminal is left alone.
"""

from __future__ import annotations

import os

from slurm_power.cli.plain_conf import MAX_FILE_BYTES, read_head
from slurm_power.cli.sbatch_process import search_path

STANDARD_INPUT = "standard input"
_FILE, _FIFO, _SOCKET, _KIND = 0o100000, 0o010000, 0o140000, 0o170000
# Twice what Slurm takes for a script unless told otherwise. What is longer goes on through a pipe.
MOST_COPIED_BYTES = 8 << 20
_PIECE_BYTES = 65_536


class HandOverError(Exception):
    """The script was read and could not be handed on: sbatch would get a part of it, which must not be."""


class Script:
    """``path`` is empty for a script from standard input or --wrap; ``where`` is for messages."""

    __slots__ = ("head", "path", "where")

    def __init__(self, path: str, where: str, head: bytes) -> None:
        self.path = path
        self.where = where
        self.head = head


def script_of(name: str | None, *, reads_input: bool) -> Script:
    """Find the script that sbatch will read; raises HandOverError."""
    if name is not None:
        path = script_path(name)
        return Script(path, path, read_head(path))
    return Script("", STANDARD_INPUT, _head_of_input()) if reads_input else Script("", "", b"")


def script_path(script: str) -> str:
    """Find the script as sbatch does: a bare name is first looked for on PATH."""
    if "/" not in script:
        for directory in search_path():
            path = f"{directory}/{script}"
            if os.access(path, os.R_OK):
                return path
    return script


def _head_of_input() -> bytes:
    try:
        kind = os.fstat(0).st_mode & _KIND
        if kind == _FILE:
            return os.pread(0, MAX_FILE_BYTES, os.lseek(0, 0, os.SEEK_CUR))
        if kind not in (_FIFO, _SOCKET) or not os.get_blocking(0):
            return b""
        copy = os.memfd_create("psbatch-script")
    except (OSError, AttributeError):
        return b""  # nothing was taken: sbatch reads it as it is
    try:
        return _copied(copy)
    except Exception as error:  # noqa: BLE001 - whatever it is, half a script must not be submitted
        raise HandOverError(f"the script on standard input could not be handed on: {error}") from None


def _copied(copy: int) -> bytes:
    """Put a copy in the place of standard input; returns its beginning."""
    head = piece = os.read(0, _PIECE_BYTES)
    size = 0
    while piece and size < MOST_COPIED_BYTES:
        _write_all(copy, piece)
        size += len(piece)
        piece = os.read(0, _PIECE_BYTES)
        if len(head) < MAX_FILE_BYTES:
            head += piece
    os.lseek(copy, 0, os.SEEK_SET)
    if piece:
        _relay(copy, piece)
    else:
        os.dup2(copy, 0)
        os.close(copy)
    return head[:MAX_FILE_BYTES]


def _relay(copy: int, piece: bytes) -> None:
    """Let a child feed sbatch what was read and then what is still to come."""
    source, target = os.pipe()
    if os.fork() == 0:
        try:
            os.close(source)
            # Whoever waits for the end of our output must not wait for the child.
            null = os.open("/dev/null", os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            while old := os.read(copy, _PIECE_BYTES):
                _write_all(target, old)
            while piece:
                _write_all(target, piece)
                piece = os.read(0, _PIECE_BYTES)
        finally:
            os._exit(0)  # also where sbatch has stopped reading
    os.close(target)
    os.dup2(source, 0)
    os.close(source)
    os.close(copy)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
