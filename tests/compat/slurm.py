"""What the suite needs of a cluster, and the local cluster that offers it.

The package's docstring says how to put another one in its place.
"""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from containers.cluster.lab import Lab
from containers.cluster.layout import CHECKOUT, Options
from containers.cluster.lifecycle import up
from tests.versions.chosen import chosen_root

LOCAL = "tests.compat.slurm:local_slurm"
VARIABLE = "SLURM_POWER_TEST_SLURM"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended; ``status`` is negative when a signal ended it."""

    status: int
    stdout: bytes
    stderr: bytes


class Slurm(Protocol):
    """A cluster under test."""

    home: Path
    state: Path

    def start(
        self,
        argv: Sequence[bytes],
        *,
        user: str,
        directory: bytes,
        environment: Mapping[bytes, bytes | None],
    ) -> "subprocess.Popen[bytes]":
        """Start a command as ``user`` in ``directory`` with pipes for its input and outputs.

        ``environment`` adds to the plain one of a user; None takes a variable away.
        """
        ...


def run(
    slurm: Slurm,
    argv: Sequence[bytes],
    *,
    user: str = "root",
    directory: bytes = b"/",
    environment: Mapping[bytes, bytes | None] | None = None,
    stdin: bytes = b"",
    timeout_seconds: float = 60.0,
) -> Outcome:
    """Run a command to its end; raises TimeoutError naming it when it hangs."""
    process = slurm.start(argv, user=user, directory=directory, environment=environment or {})
    return finish(process, stdin=stdin, timeout_seconds=timeout_seconds)


def finish(
    process: "subprocess.Popen[bytes]", *, stdin: bytes = b"", timeout_seconds: float = 60.0
) -> Outcome:
    """Wait for the end of a command that was started; raises TimeoutError when it hangs, and ends it."""
    with process:
        try:
            stdout, stderr = process.communicate(stdin, timeout_seconds)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise TimeoutError(f"{process.args!r}: not done after {timeout_seconds:g} s") from error
        return Outcome(process.returncode, stdout, stderr)


def chosen() -> Callable[[], AbstractContextManager[Slurm]]:
    """Return the factory that the environment names, the local one by default."""
    module, _, function = os.environ.get(VARIABLE, LOCAL).partition(":")
    factory: Callable[[], AbstractContextManager[Slurm]] = getattr(import_module(module), function)
    return factory


class LabSlurm:
    """A lab, seen as this suite sees a cluster."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.home = lab.run_directory / "home" / "alice"
        self.state = lab.run_directory / "state" / "slurmctld"

    def start(
        self,
        argv: Sequence[bytes],
        *,
        user: str,
        directory: bytes,
        environment: Mapping[bytes, bytes | None],
    ) -> "subprocess.Popen[bytes]":
        line, plain = self.lab.command(["true"], user=user)
        # `true` and the folder give way to what may be any bytes.
        words = [os.fsencode(word) for word in line[:-3]]
        words += [b"--chdir=" + directory, b"--", *argv]
        said = {name.encode(): value.encode() for name, value in plain.items()}
        # The checkout under test, also where another one is installed.
        said[b"PYTHONPATH"] = os.fsencode(CHECKOUT)
        said |= {name: value for name, value in environment.items() if value is not None}
        for name in [name for name, value in environment.items() if value is None]:
            said.pop(name, None)
        return subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=said
        )


@contextlib.contextmanager
def local_slurm() -> Iterator[Slurm]:
    """Two nodes, accounting, and everything of ours as a site has it: plugin, job_submit, hooks, daemons."""
    started = up(Options(nodes=2, accounting=True, power=True, slurm_root=chosen_root()))
    try:
        yield LabSlurm(started.lab)
    finally:
        # Not in good order: slurmctld and slurmdbd would first put thousands of jobs into their books.
        started.discard()
