"""A node to try powerd on: simulated GPUs behind the real NVML binding, and powerd as a real process."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from containers.plant.nvml_control import NodeGpus, create_state
from containers.plant.plant import gpu_constants

PROJECT = Path(__file__).parents[2]


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 8.0) -> float:
    """Poll until the condition holds; returns the seconds it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.01)
    return time.monotonic() - start


def ask(path: Path, request: dict[str, Any] | bytes, seconds: float = 2.0) -> dict[str, Any]:
    """One request to a Unix socket; {} when the other end hangs up without a word."""
    data = request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(str(path))
        connection.sendall(data)
        answer = b""
        while not answer.endswith(b"\n"):
            piece = connection.recv(65536)
            if not piece:
                break
            answer += piece
    found: dict[str, Any] = json.loads(answer) if answer else {}
    return found


class NodeBench:
    """One simulated node in a folder of its own. `close` ends every process it started."""

    def __init__(self, folder: Path, library: Path, gpu_count: int = 4) -> None:
        """``wrapper`` may be set before a start: words that stand before powerd's own."""
        self.folder = folder
        self.socket = folder / "powerd.c1.sock"
        self.state = folder / "state"
        self.settings: dict[str, object] = {}
        self.wrapper: list[str] = []
        create_state(library, folder / "c1.state", "c1", gpu_count, gpu_constants())
        self.gpus = NodeGpus(library, folder / "c1.state")
        self.uuids = [self.gpus.uuid(slot) for slot in range(gpu_count)]
        self.environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(library.parent),
            "PLANT_NVML_STATE": str(folder / "c1.state"),
            "PYTHONPATH": str(PROJECT),
        }
        (folder / "slurm-power.conf").write_text(f"node_socket={folder}/powerd.%n.sock\n")
        self.log = folder / "powerd.log"
        self._started: list[subprocess.Popen[bytes]] = []
        self._helpers: set[int] = set()

    def start(self, *, wait: bool = True) -> subprocess.Popen[bytes]:
        """Start powerd, and wait until it has found the GPUs."""
        settings = {"socket": str(self.socket), "state_directory": str(self.state), **self.settings}
        toml = self.folder / "node.toml"
        toml.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))
        command = [
            *self.wrapper,
            sys.executable,
            "-m",
            "slurm_power.cli.powerd",
            "--config",
            str(toml),
            "--node",
            "c1",
        ]
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, env=self.environment, stderr=log, cwd=PROJECT)
        self._started.append(process)
        if wait:
            wait_until(lambda: len(self.status().get("gpus", [])) == len(self.uuids), "GPUs found")
            wait_until(lambda: self.watchdog(process) is not None, "a watchdog")
        return process

    def status(self) -> dict[str, Any]:
        """What powerd says of itself; {} while nobody answers."""
        try:
            return ask(self.socket, {"op": "status"})
        except OSError:
            return {}

    def watchdog(self, process: subprocess.Popen[bytes]) -> int | None:
        """The watchdog of a powerd, as the kernel lists it among its children."""
        pid = self._child(process, "watchdog.py")
        if pid is not None:
            self._helpers.add(pid)
        return pid

    def front(self, process: subprocess.Popen[bytes]) -> int | None:
        """The half of a powerd that has its sockets."""
        pid = self._child(process, "--front=")
        if pid is not None:
            self._helpers.add(pid)
        return pid

    @staticmethod
    def _child(process: subprocess.Popen[bytes], word: str) -> int | None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in map(int, children):
            try:
                if word in Path(f"/proc/{pid}/cmdline").read_text():
                    return pid
            except OSError:  # it has ended meanwhile
                continue
        return None

    def cap(self, slot: int) -> float:
        """The limit the device itself has, past NVML."""
        return self.gpus.truth(slot).limit_requested_watts

    def caps(self) -> list[float]:
        """The limits of all GPUs."""
        return [self.cap(slot) for slot in range(len(self.uuids))]

    def log_text(self) -> str:
        """What powerd has said."""
        return self.log.read_text()

    def close(self) -> None:
        """End everything, by its id."""
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        for pid in self._helpers:
            try:
                words = Path(f"/proc/{pid}/cmdline").read_text()
                if "watchdog.py" in words or "--front=" in words:
                    os.kill(pid, signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                continue
        self.gpus.close()
