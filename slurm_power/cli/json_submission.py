"""``psbatch --json``: submit, and print what came of it as one JSON object.

sbatch runs as a child here, since somebody has to read its answer. It has our stdin and stderr, gets the
signals that we get, and we end as it ends.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from slurm_power.cli import as_json
from slurm_power.cli.sbatch_process import (
    EXIT_NOT_FOUND,
    NOT_FOUND,
    complain,
    find_sbatch,
    forget_python,
    say,
)

if TYPE_CHECKING:
    from slurm_power.cli.submission import Request

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_MOST_ANSWER_BYTES = 65_536


class AfterStartError(Exception):
    """Something failed when sbatch had been started: it must not be started a second time."""

    sbatch_has_started = True


def submit(request: Request) -> int:
    """Submit; returns sbatch's exit status. Once sbatch has been started it raises AfterStartError alone."""
    path = find_sbatch()
    if not path:
        complain(NOT_FOUND)
        return EXIT_NOT_FOUND
    source, target = os.pipe()
    forget_python()
    # Until the child is there, a signal waits.
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else nobody could be waited for
    try:
        child = os.posix_spawn(
            path,
            ["sbatch", "--parsable", *request.sbatch_arguments],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, target, 1)],
            setsigmask=(),
        )
    except OSError:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        raise
    try:
        os.close(target)
        _forward_signals(child)
        return _follow(request, source, child)
    except Exception as error:
        raise AfterStartError(f"{type(error).__name__}: {error}; sbatch goes on") from error


def _forward_signals(child: int) -> None:
    def forward(number: int, _frame: object) -> None:
        try:
            os.kill(child, number)
        except ProcessLookupError:
            return

    for number in _FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)


def _follow(request: Request, source: int, child: int) -> int:
    """Print the object as soon as sbatch has said the job's number; with --wait it then goes on."""
    answer = b""
    while b"\n" not in answer and len(answer) < _MOST_ANSWER_BYTES:
        piece = os.read(source, _MOST_ANSWER_BYTES)
        if not piece:
            break
        answer += piece
    job_id, cluster = _parsed(answer)
    if job_id is not None:
        _print(request, job_id, cluster)
    while os.read(source, _MOST_ANSWER_BYTES):
        continue
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if job_id is None:
        # It may have been told to say nothing (--quiet) or to submit nothing (--test-only).
        _print(request, None, None, submitted=None if status == 0 else False)
    if status < 0:  # it died of a signal, so do we
        if -status in _FORWARDED:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _parsed(answer: bytes) -> tuple[int | None, str | None]:
    """``JOB`` or ``JOB;CLUSTER``."""
    number, _, cluster = answer.partition(b"\n")[0].strip().partition(b";")
    if not number.isdigit():
        return None, None
    return int(number), cluster.decode("utf-8", "backslashreplace") or None


def _print(
    request: Request, job_id: int | None, cluster: str | None, *, submitted: bool | None = True
) -> None:
    say(
        as_json.object_line(
            {
                "submitted": submitted,
                "job_id": job_id,
                "cluster": cluster,
                "values": as_json.values(request.chosen),
                "warnings": as_json.warnings(request.chosen),
            }
        )
    )
