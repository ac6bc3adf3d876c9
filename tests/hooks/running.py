"""Running hooks as Slurm does, and servers in the daemons' place that answer as a test wants."""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from containers.faults.node import PROJECT

FOLDER = PROJECT / "prolog_epilog"
ON_NODE = ("prolog", "epilog")
ON_CONTROLLER = ("prolog_slurmctld", "epilog_slurmctld")
NOTHING: Mapping[str, str] = {}
HOOKS = (*ON_NODE, *ON_CONTROLLER, "task_prolog")

Answer = Callable[[socket.socket, bytes], None]


@dataclass(frozen=True, slots=True)
class Done:
    """How a hook has ended."""

    status: int
    output: str
    error: str
    seconds: float


def slurms_words(folder: Path, name: str) -> dict[str, str]:
    """What Slurm puts into the environment of a hook. On the controller SLURM_CONF is not among it."""
    words = {"SLURM_JOB_ID": "17", "SLURM_JOB_USER": "alice", "SLURM_JOB_UID": "20001"}
    if name in ON_CONTROLLER:
        return words
    return {**words, "SLURM_CONF": f"{folder}/slurm.conf", "SLURMD_NODENAME": "c1"}


def installed(folder: Path, name: str) -> Path:
    """A hook as it is installed beside slurm-power.conf; its own name is all that makes it this hook."""
    target = folder / name
    if not target.exists():
        target.write_bytes((FOLDER / name).read_bytes())
        target.chmod(0o755)
    return target


def start(
    folder: Path,
    name: str,
    environment: Mapping[str, str] = NOTHING,
    *,
    error: int = subprocess.PIPE,
    user: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a hook with Slurm's words in its environment, these, and nothing else."""
    return subprocess.Popen(
        [str(installed(folder, name))],
        env={**slurms_words(folder, name), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=error,
        user=user,
    )


def run(folder: Path, name: str, **environment: str) -> Done:
    """Run a hook to its end."""
    return run_all(folder, [name], environment)[name]


def run_all(
    folder: Path,
    names: Sequence[str],
    environment: Mapping[str, str] = NOTHING,
    *,
    user: int | None = None,
) -> dict[str, Done]:
    """Run several hooks at the same time, each to its end."""
    began = {name: time.monotonic() for name in names}
    started = {name: start(folder, name, environment, user=user) for name in names}
    done: dict[str, Done] = {}

    def wait(name: str) -> None:
        output, error = started[name].communicate(timeout=15)
        seconds = time.monotonic() - began[name]
        done[name] = Done(started[name].returncode, output.decode(), error.decode(), seconds)

    threads = [threading.Thread(target=wait, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


@dataclass(frozen=True, slots=True)
class Served:
    """What a server was asked, request by request."""

    requests: list[bytes]


@contextmanager
def served(path: Path, answer: Answer) -> Iterator[Served]:
    """Serve a Unix socket, a thread for each caller, until the block ends."""
    served_here = Served([])
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o666)
    listener.listen()
    threads: list[threading.Thread] = []

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(5.0)
            request = connection.recv(65536)
            served_here.requests.append(request)
            answer(connection, request)

    def accept() -> None:
        with suppress(OSError):
            while True:
                thread = threading.Thread(target=talk, args=(listener.accept()[0],))
                threads.append(thread)
                thread.start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield served_here
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        for thread in threads:
            thread.join()
        listener.close()


def said(text: bytes) -> Answer:
    """Answer so."""
    return lambda connection, _request: connection.sendall(text)


def write_conf(folder: Path, node: Path, controller: Path) -> None:
    """Name the daemons' sockets as a site does."""
    text = f"# the site's\ncontroller_socket = {controller}\nnode_socket={node}\n"
    (folder / "slurm-power.conf").write_text(text)


def pipe_nobody_reads() -> tuple[int, int]:
    """Both ends of a pipe that is full: who writes to it waits for ever."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 65536)
    os.set_blocking(writing, True)
    return reading, writing
