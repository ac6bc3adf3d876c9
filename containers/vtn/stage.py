"""Both VTNs beside a running lab, and powerbridge between them and its powerctld."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from containers.cluster.lab import Lab
from containers.cluster.layout import LabError
from containers.vtn.background import Background
from containers.vtn.openadr2 import Vtn2
from containers.vtn.openadr3 import Vtn3

SIGNALS = """
[signals.newer]
kind = "openadr3"
url = "{newer}"
ven_name = "site-1"
poll_seconds = 1
ramp_seconds = 0

[signals.older]
kind = "openadr2"
url = "http://localhost:{older}/OpenADR2/Simple/2.0b"
ven_name = "site-1"
poll_seconds = 1
ramp_seconds = 0
"""


class Utilities:
    """Both VTNs, and powerbridge as a process beside the lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.site_file = lab.layout.etc / "site.toml"
        self.loop = Background()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.newer, self.older = Vtn3(), Vtn2(port)
        url = self.loop.run(self.newer.start())
        self.loop.run(self.older.start())
        self.site_file.write_text(self.site_file.read_text() + SIGNALS.format(newer=url, older=port))
        lab.restart("powerctld")
        self.log = lab.run_directory / "log" / "powerbridge.log"
        self.bridge = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        """Begin powerbridge."""
        words = [sys.executable, "-m", "slurm_power.cli.powerbridge", "--config", str(self.site_file)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with self.log.open("ab") as log:
            return subprocess.Popen(words, stdout=log, stderr=log, env=environment)

    def stop(self) -> None:
        """End powerbridge, cleanly."""
        self.bridge.send_signal(signal.SIGTERM)
        status = self.bridge.wait(15)
        if status != 0:
            raise LabError(f"powerbridge ended with status {status}:\n{self.log.read_text()}")

    def close(self) -> None:
        """End everything of it, whatever its state."""
        if self.bridge.poll() is None:
            self.bridge.kill()
            self.bridge.wait()
        with contextlib.suppress(Exception):
            self.loop.run(self.newer.stop())
            self.loop.run(self.older.stop())
        self.loop.close()

    @staticmethod
    def states(answer: dict[str, Any]) -> dict[str, Any]:
        """The signals in powerctld's answer about its sources."""
        rows = answer["sources"]
        return {row["source"]: row for row in rows if row["source"].startswith("signal:")}

    def announce_newer(self, watts: float, seconds: float) -> str:
        """An event of OpenADR 3 that asks for its demand, from now on."""
        unit = {
            "objectType": "EVENT_PAYLOAD_DESCRIPTOR",
            "payloadType": "IMPORT_CAPACITY_LIMIT",
            "units": "KW",
        }

        async def put() -> str:
            words = {"programName": "curtail", "payloadDescriptors": [unit]}
            program = next(iter(self.newer.objects["programs"]), "")
            program = self.newer.put("programs", words, program)
            payload = {"type": "IMPORT_CAPACITY_LIMIT", "values": [watts / 1000.0]}
            event = {
                "programID": program,
                "eventName": "too hot",
                "intervalPeriod": {"start": datetime.now(UTC).isoformat(), "duration": f"PT{seconds:g}S"},
                "intervals": [{"id": 0, "payloads": [payload]}],
                "reportDescriptors": [{"payloadType": "DEMAND", "units": "KW"}],
            }
            return self.newer.put("events", event)

        return self.loop.run(put())

    def announce_older(self, watts: float, seconds: float, event_id: str = "e1") -> str:
        """An event of OpenADR 2.0b, from now on."""

        async def put() -> None:
            self.older.event(watts, 0, seconds, event_id=event_id, comment="too cold")

        self.loop.run(put())
        return event_id
