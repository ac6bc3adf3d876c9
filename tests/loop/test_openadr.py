"""OpenADR end to end: an event at a VTN, the import at the meter below its target, a report back."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from containers.vtn.background import Background
from containers.vtn.openadr2 import Vtn2
from containers.vtn.openadr3 import Vtn3
from tests.loop.bed import TIGHT_WATTS, Bed

EVENT_SECONDS = 8
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


class Utility:
    """Both VTNs, and powerbridge as a process beside the lab."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.loop = Background()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.newer, self.older = Vtn3(), Vtn2(port)
        url = self.loop.run(self.newer.start())
        self.loop.run(self.older.start())
        bed.site_file.write_text(bed.site_toml + SIGNALS.format(newer=url, older=port))
        bed.lab.restart("powerctld")
        self.log = Path(bed.run / "log" / "powerbridge.log")
        self.bridge = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        """Begin powerbridge."""
        words = [sys.executable, "-m", "slurm_power.cli.powerbridge", "--config", str(self.bed.site_file)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with self.log.open("ab") as log:
            return subprocess.Popen(words, stdout=log, stderr=log, env=environment)

    def stop(self) -> None:
        """End powerbridge, cleanly."""
        self.bridge.send_signal(signal.SIGTERM)
        assert self.bridge.wait(15) == 0, self.log.read_text()

    def close(self) -> None:
        if self.bridge.poll() is None:
            self.bridge.kill()
            self.bridge.wait()
        with contextlib.suppress(Exception):
            self.loop.run(self.newer.stop())
            self.loop.run(self.older.stop())
        self.loop.close()

    def states(self) -> dict[str, Any]:
        """The signals among the sources."""
        rows = self.bed.ask("sources")["sources"]
        return {row["source"]: row for row in rows if row["source"].startswith("signal:")}

    def announce_newer(self, watts: float, seconds: float) -> str:
        """An event of OpenADR 3 that asks for its demand, from now on."""
        unit = {
            "objectType": "EVENT_PAYLOAD_DESCRIPTOR",
            "payloadType": "IMPORT_CAPACITY_LIMIT",
            "units": "KW",
        }

        async def put() -> str:
            program = self.newer.put("programs", {"programName": "curtail", "payloadDescriptors": [unit]})
            payload = {"type": "IMPORT_CAPACITY_LIMIT", "values": [watts / 1000.0]}
            words = {
                "programID": program,
                "eventName": "too hot",
                "intervalPeriod": {"start": datetime.now(UTC).isoformat(), "duration": f"PT{seconds:g}S"},
                "intervals": [{"id": 0, "payloads": [payload]}],
                "reportDescriptors": [{"payloadType": "DEMAND", "units": "KW"}],
            }
            return self.newer.put("events", words)

        return self.loop.run(put())

    def announce_older(self, watts: float, seconds: float) -> None:
        """An event of OpenADR 2.0b, from now on."""

        async def put() -> None:
            self.older.event(watts, 0, seconds, comment="too cold")

        self.loop.run(put())


@pytest.fixture
def utility(bed: Bed) -> Iterator[Utility]:
    made = Utility(bed)
    yield made
    made.close()


def test_events_of_both_protocols_reach_the_meter_and_reports_go_back(bed: Bed, utility: Utility) -> None:
    bed.plant("set_soc", soc_ratio=0.10)
    job = bed.submit()
    bed.run_full(job)
    bed.until(
        lambda: [row["quality"] for row in utility.states().values()] == ["good", "good"], "both signals", 15
    )
    event = utility.announce_newer(TIGHT_WATTS, EVENT_SECONDS)
    bed.until(lambda: bed.truth()["grid_import_watts"] <= TIGHT_WATTS, "the level of OpenADR 3", 10)
    bed.until(lambda: utility.newer.reports(event), "a report of OpenADR 3", EVENT_SECONDS + 15)
    (report,) = utility.newer.reports(event)
    (value, quality) = report["resources"][0]["intervals"][0]["payloads"]
    assert quality["values"] == ["OK"]
    assert 5.0 < value["values"][0] < 1.1 * TIGHT_WATTS / 1000.0
    assert not utility.newer.invalid
    bed.until(lambda: not bed.glance()["events"], "the end of its recovery", 20)
    utility.older.values.clear()
    utility.announce_older(TIGHT_WATTS, EVENT_SECONDS)
    bed.until(lambda: bed.truth()["grid_import_watts"] <= TIGHT_WATTS, "the level of OpenADR 2.0b", 10)
    assert utility.older.answers == [("e1", "optIn")]
    bed.until(
        lambda: any(1_000.0 < watts <= TIGHT_WATTS for _, watts in utility.older.values), "telemetry", 15
    )
    told = [entry for entry in bed.ledger(120) if entry["kind"] == "event"]
    assert [entry["actor"] for entry in told[-2:]] == ["signal:newer", "signal:older"]
    utility.stop()
