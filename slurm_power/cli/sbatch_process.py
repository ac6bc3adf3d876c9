"""Sbatch itself: found on PATH, started in our place or as a child, as if nobody had been in between."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # no stubs; the public module costs 6 ms at import
import os
import sys

EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
NOT_FOUND = "sbatch: command not found; is Slurm's client installed and on PATH?"
# A reader of our messages that has stopped reading must not stop a submission.
_PATIENCE_MILLISECONDS = 100
_SCRIPT_BYTES = 4096


def become_sbatch(arguments: list[str]) -> int:
    """Replace this process by sbatch; returns an exit status if there is none."""
    status, what = EXIT_NOT_FOUND, NOT_FOUND
    forget_python()
    for path in _candidates():
        try:
            os.execve(path, ["sbatch", *arguments], os.environ)  # noqa: S606 - the whole point: no shell between
        except OSError as error:
            status, what = EXIT_NOT_EXECUTABLE, f"{path}: {error.strerror}"
    complain(what)
    return status


def find_sbatch() -> str:
    """The path of sbatch, empty if there is none."""
    return next(iter(_candidates()), "")


def _candidates() -> list[str]:
    """Every sbatch on PATH that is not ourselves: a site may call us sbatch."""
    ourselves = os.path.realpath(sys.argv[0])
    found = []
    for directory in search_path():
        path = f"{directory}/sbatch"
        if os.access(path, os.X_OK) and not os.path.isdir(path):  # noqa: PTH112 - pathlib costs 10 ms
            found.append(path)
    return [path for path in found if os.path.realpath(path) != ourselves and not _starts_psbatch(path)]


def _starts_psbatch(path: str) -> bool:
    """Whether a program is a script that starts us: it would start us for ever."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False  # what may be run need not be readable
    try:
        head = os.read(descriptor, _SCRIPT_BYTES)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return head.startswith(b"#!") and b"psbatch" in head


def search_path() -> list[str]:
    """The directories of PATH."""
    return [directory or "." for directory in os.environ.get("PATH", os.defpath).split(":")]


def as_a_command_starts() -> None:
    """Let Ctrl-C end us as it ends sbatch, without a traceback, and give missing standard streams to nobody.

    Without the latter the first file or socket we open would take their place, and get our messages.
    """
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # It gets the lowest free number, and is closed again when sbatch takes over.
            os.open("/dev/null", os.O_RDONLY)


def forget_python() -> None:
    """Undo what Python did to this process at its start, so that sbatch inherits what our caller gave us."""
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)
    # In the C locale Python sets LC_CTYPE for its children (PEP 538); jobs would inherit it.
    given = b"\0" + _given_environment()
    if "LC_CTYPE" in os.environ and len(given) > 1:
        _, was_set, rest = given.partition(b"\0LC_CTYPE=")
        if was_set:
            os.environ["LC_CTYPE"] = os.fsdecode(rest.partition(b"\0")[0])
        else:
            del os.environ["LC_CTYPE"]


def _given_environment() -> bytes:
    """Return the environment as the kernel handed it over, empty if that cannot be seen."""
    try:
        with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - pathlib costs 10 ms
            return file.read()
    except OSError:
        return b""


def complain(text: str) -> None:
    """One line on stderr, if anybody takes it."""
    from select import POLLOUT, poll  # noqa: PLC0415 - a submission says nothing

    try:
        ready = poll()
        ready.register(2, POLLOUT)
        if ready.poll(_PATIENCE_MILLISECONDS):
            os.write(2, f"psbatch: {text}\n".encode("utf-8", "surrogateescape"))
    except OSError:
        return


def say(text: str) -> None:
    """Write to stdout; a closed or full output is no reason to fail."""
    rest = text.encode("utf-8", "surrogateescape")
    say_bytes(rest)


def say_bytes(rest: bytes) -> None:
    """The same for bytes."""
    try:
        while rest:
            rest = rest[os.write(1, rest) :]
    except OSError:
        return
