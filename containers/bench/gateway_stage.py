"""A service of two tiers as plain processes behind a real HAProxy, with a gateway to be killed at will."""

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slurm_power import wire

SERVICE = """
name = "chat"
family = "digits"
full_tier = "full"
tiers_ok = ["small"]
listen = "127.0.0.1:{port}"
directory = "jobs"
script = "service.toml"
{more}
[warm_up]
path = "/warm"
method = "POST"
body = "{{}}"
[limits]
probation_seconds = {probation_seconds}
drain_seconds = {drain_seconds}
stop_seconds = 5
ready_seconds = {ready_seconds}
first_retry_seconds = 2
[tier.full]
environment = {{ TIER_MILLISECONDS = "{full_milliseconds}" }}
[tier.small]
environment = {{ TIER_MILLISECONDS = "{small_milliseconds}"{small_more} }}
"""


class Stage:
    """All of it in one folder of its own; ``close`` ends every process and removes it."""

    def __init__(
        self,
        *,
        full_milliseconds: int = 20,
        small_milliseconds: int = 5,
        probation_seconds: float = 2.0,
        drain_seconds: float = 60.0,
        ready_seconds: float = 30.0,
        controller: Path | None = None,
        small_more: str = "",
        more: str = "",
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sp-", dir="/tmp"))  # short, for the sockets
        self.jobs = self.folder / "jobs"
        self.jobs.mkdir()
        self.state = self.folder / "own"
        self.port = _free_port()
        self.service = self.folder / "service.toml"
        self._controller = controller
        self._gateway: subprocess.Popen[bytes] | None = None
        self.service.write_text(
            SERVICE.format(
                port=self.port,
                full_milliseconds=full_milliseconds,
                small_milliseconds=small_milliseconds,
                probation_seconds=probation_seconds,
                drain_seconds=drain_seconds,
                ready_seconds=ready_seconds,
                small_more=small_more,
                more=more,
            )
        )

    def start_gateway(self) -> None:
        """Start the gateway; what still runs from before is its to find."""
        words = [sys.executable, "-m", "containers.bench.tier_processes", str(self.service), str(self.state)]
        if self._controller is not None:
            words.append(str(self._controller))
        with (self.folder / "log").open("ab") as log:
            self._gateway = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def signal_gateway(self, number: signal.Signals) -> None:
        """Send the gateway a signal; after one that ends it, wait for its end."""
        if self._gateway is not None:
            self._gateway.send_signal(number)
            if number is not signal.SIGHUP:
                self._gateway.wait(20)

    def kill_haproxy(self) -> int:
        """SIGKILL for HAProxy; returns the number it had."""
        number = int((self.state / "haproxy.pid").read_text())
        os.kill(number, signal.SIGKILL)
        return number

    def kill_server(self, tier: str) -> None:
        """SIGKILL for the newest server of a tier."""
        member = max(self.members(tier), key=lambda member: float(member["since_seconds"]))
        os.kill(int(member["job_id"]), signal.SIGKILL)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Ask the gateway; raises OSError where none answers."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(10.0)
            connection.connect(str(self.state / "gateway.sock"))
            connection.sendall(wire.encode(request))
            answer: dict[str, Any] = json.loads(connection.makefile("rb").readline())
        return answer

    def members(self, tier: str = "") -> list[dict[str, Any]]:
        """The members as the gateway last wrote them down, of one tier or of all."""
        try:
            members: list[dict[str, Any]] = json.loads((self.state / "state.json").read_text())["members"]
        except OSError:
            return []
        return [member for member in members if tier in {"", member["tier"]}]

    def phases(self) -> dict[str, str]:
        """Each tier's phase; a tier that has two members shows one."""
        return {member["tier"]: member["phase"] for member in self.members()}

    def alone(self, tier: str) -> bool:
        """Whether one member of that tier serves and there is no other."""
        return [(member["tier"], member["phase"]) for member in self.members()] == [(tier, "serving")]

    async def begun(self) -> None:
        """Wait until the full tier is alone and answers: what is written down comes true a moment later."""
        await self.until(lambda: self.alone("full") and self.answers(), "the full tier")

    def answers(self) -> bool:
        """Whether a request is answered well."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2.0)
            try:
                connection.request("GET", "/v1/x")
                return connection.getresponse().status == 200
            finally:
                connection.close()
        return False

    async def until(self, happened: Callable[[], bool], what: str, seconds: float = 40.0) -> None:
        """Poll until something is so; raises TimeoutError with what the gateway said."""
        deadline = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > deadline:
                raise TimeoutError(f"gave up waiting for {what}; {self.members()}\n{self.log()}")
            await asyncio.sleep(0.02)

    def log(self) -> str:
        """What the gateway said."""
        return (self.folder / "log").read_text()

    def said_at(self, words: str) -> list[float]:
        """Wall times of the lines of the log with these words."""
        return [float(line.split()[0]) for line in self.log().splitlines() if words in line]

    def close(self) -> None:
        """End all."""
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            self.signal_gateway(signal.SIGTERM)
        for number in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        deadline = time.monotonic() + 10.0
        while self._processes() and time.monotonic() < deadline:
            time.sleep(0.02)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _processes(self) -> list[int]:
        """HAProxies and servers of this folder, and no others."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdecimal() and int(entry.name) != os.getpid():
                    words = (entry / "cmdline").read_bytes()
                    if str(self.folder).encode() in words:
                        found.append(int(entry.name))
        return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
