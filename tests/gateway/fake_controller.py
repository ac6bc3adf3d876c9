"""powerctld as a gateway hears it: answers what a test wants it to, and keeps what it was told."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any


class FakeController:
    """Answers each ``service`` request with ``answer``; None hangs up, as a powerctld that dies."""

    def __init__(self, path: Path, answer: dict[str, Any] | None) -> None:
        self.path = path
        self.answer = answer
        self.told: list[dict[str, Any]] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(EOFError, ConnectionError):
            self.told.append(json.loads(await reader.readuntil(b"\n")))
            if self.answer is not None:
                writer.write(json.dumps({"ok": True, **self.answer}).encode() + b"\n")
                await writer.drain()
        writer.close()


def wants(tier: str, *, may_start: bool = True, ttl_seconds: float = 30.0, **more: Any) -> dict[str, Any]:
    return {
        "tier": tier,
        "may_start": may_start,
        "reason": "a test",
        "ttl_seconds": ttl_seconds,
        "wait_reason": "",
        **more,
    }
