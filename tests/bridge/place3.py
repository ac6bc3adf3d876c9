"""Our VEN of OpenADR 3, a VTN on loopback, and powerctld."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from containers.vtn.openadr3 import Vtn3
from slurm_power.bridge.openadr3 import Ven3
from slurm_power.bridge.openadr3_client import OpenAdr3Client
from slurm_power.config.signals import OpenAdr3Signal
from tests.bridge.places import VenPlace, tell
from tests.plan.situations import site

SECRET = "a secret"
DESCRIPTORS = [
    {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": "IMPORT_CAPACITY_LIMIT", "units": "KW"},
    {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": "PRICE", "units": "KWH", "currency": "EUR"},
]


def at(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


class Place(VenPlace):
    """OpenADR 3, with the test bed's own VTN."""

    def __init__(self, tmp_path: Path, **more: Any) -> None:
        super().__init__(tmp_path, **more)
        self.vtn = Vtn3(client_secret=SECRET)
        (tmp_path / "secret").write_text(SECRET + "\n")
        self.program = self.vtn.put("programs", {"programName": "curtail", "payloadDescriptors": DESCRIPTORS})
        self.url = ""
        self.client: OpenAdr3Client | None = None

    async def open(self) -> None:
        self.url = await self.vtn.start()

    async def close(self) -> None:
        if self.client is not None:
            await self.client.close()
        await self.vtn.stop()

    async def begin(self) -> None:
        if self.client is not None:
            await self.client.close()
        words: dict[str, Any] = {
            "level_1_cut_ratio": 0.1,
            "client_id": "ven",
            "client_secret_file": self.folder / "secret",
            **self.more,
        }
        signal = OpenAdr3Signal(name="utility", url=self.url, ven_name="site-1", **words)
        assert not signal.problems()
        self.client = OpenAdr3Client(signal)
        self.ven = Ven3(
            signal,
            site().root,
            self.powerctld,
            self.client,
            folder=self.folder / "bridge",
            series=self.folder,
            feeds=self.folder / "feeds",
        )

    def event(self, watts: float, start: float = 60, seconds: float = 600, **more: Any) -> dict[str, Any]:
        payload = {"type": "IMPORT_CAPACITY_LIMIT", "values": [watts / 1000.0]}
        return {
            "programID": self.program,
            "eventName": "too hot",
            "intervalPeriod": {"start": at(start), "duration": f"PT{seconds:g}S"},
            "intervals": [{"id": 0, "payloads": [payload]}],
            **more,
        }


def story(tmp_path: Path, told: Callable[[Place], Awaitable[None]], **more: Any) -> None:
    """Run a story at a new place."""
    tell(Place(tmp_path, **more), told)
