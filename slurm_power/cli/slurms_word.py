"""What ``sbatch --test-only`` says of a job: whether Slurm would take it, and when it expects it to start."""

from __future__ import annotations

import os
import subprocess

from slurm_power.cli.sbatch_process import EXIT_NOT_FOUND, NOT_FOUND, find_sbatch

# Slurm's commands try for minutes where slurmctld is away.
TIMEOUT_SECONDS = 10.0


class SlurmsWord:
    """``status`` is sbatch's, None where it did not answer; ``text`` what it said, without "sbatch: "."""

    __slots__ = ("starts_at", "status", "text")

    def __init__(self, status: int | None, text: str) -> None:
        self.status = status
        self.text = text
        # "Job 7 to start at 2026-01-02T03:04:05 using 1 processors on nodes c1 in partition main", local time
        _, found, rest = text.partition(" to start at ")
        self.starts_at = rest.split()[0] if found and status == 0 and rest.split() else None


def slurms_word(arguments: list[str]) -> SlurmsWord:
    """Ask sbatch, with the environment and the standard input of this process; nothing is submitted."""
    path = find_sbatch()
    if not path:
        return SlurmsWord(EXIT_NOT_FOUND, NOT_FOUND)
    environment = {**os.environ, "SLURM_TIME_FORMAT": "standard"}
    try:
        done = subprocess.run(
            ["sbatch", "--test-only", *arguments],
            executable=path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return SlurmsWord(None, f"no answer within {TIMEOUT_SECONDS:.0f} s")
    except OSError as error:
        return SlurmsWord(None, f"{path}: {(error.strerror or str(error)).lower()}")
    lines = done.stderr.decode("utf-8", "backslashreplace").splitlines()
    return SlurmsWord(done.returncode, "; ".join(line.removeprefix("sbatch: ") for line in lines if line))
