"""Our VEN of OpenADR 2.0b, openleadr's VTN on loopback, and powerctld."""

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from containers.vtn.openadr2 import Vtn2
from slurm_power.bridge.openadr2 import Ven2
from slurm_power.bridge.openadr2_line import OpenAdr2Line
from slurm_power.config.signals import OpenAdr2Signal
from tests.bridge.places import VenPlace, tell
from tests.plan.situations import site


class Place(VenPlace):
    """OpenADR 2.0b, with openleadr's VTN. ``tls``: what that one is given."""

    def __init__(self, tmp_path: Path, tls: dict[str, Any] | None = None, **more: Any) -> None:
        super().__init__(tmp_path, **more)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.vtn = Vtn2(port, **(tls or {}))
        self.scheme = "https" if "http_cert" in self.vtn.tls else "http"
        self.line: OpenAdr2Line | None = None

    async def open(self) -> None:
        await self.vtn.start()

    async def close(self) -> None:
        if self.line is not None:
            await self.line.close()
        await self.vtn.stop()

    async def begin(self) -> None:
        if self.line is not None:
            await self.line.close()
        signal = OpenAdr2Signal(
            name="utility",
            url=f"{self.scheme}://localhost:{self.vtn.port}/OpenADR2/Simple/2.0b",
            ven_name="site-1",
            level_1_cut_ratio=0.1,
            **self.more,
        )
        assert not signal.problems()
        self.line = OpenAdr2Line(signal)
        self.ven = Ven2(
            signal,
            site().root,
            self.powerctld,
            self.line,
            folder=self.folder / "bridge",
            series=self.folder,
        )


def story(tmp_path: Path, told: Callable[[Place], Awaitable[None]], **more: Any) -> None:
    """Run a story at a new place."""
    tell(Place(tmp_path, **more), told)
