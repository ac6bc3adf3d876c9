"""A stand-in for a model server: ``python -m containers.bench.tier_server TIER MILLISECONDS ADDRESS_FILE``.

POST or GET /v1/x answers after a fixed time, /stream sends an event each 0.1 s (``?n=80``), /health says ok.
It writes where it listens into ADDRESS_FILE once it does, ends after its last answer on SIGTERM, and is only
the standard library: many of them run beside a load on two cores.
"""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

EVENT_SECONDS = 0.1


class TierServer:
    """One server; ``warm_up_status`` and such are read from the environment, to fail as asked."""

    def __init__(self, tier: str, seconds: float) -> None:
        self._tier = tier
        self._seconds = seconds
        self._healthy_after = float(os.environ.get("TIER_HEALTHY_AFTER_SECONDS", "0"))
        self._warm_status = os.environ.get("TIER_WARM_STATUS", "200 OK")
        self._busy = 0
        self._ending = asyncio.Event()
        self._idle = asyncio.Event()
        self._began = 0.0

    async def serve(self, address_file: Path) -> None:
        """Listen on a free port until SIGTERM and the end of the last answer."""
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        loop.add_signal_handler(signal.SIGTERM, self._ending.set)
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=1024)
        port = server.sockets[0].getsockname()[1]
        _write(address_file, f"http://127.0.0.1:{port}\n")
        await self._ending.wait()
        _write(address_file, "")
        server.close()
        self._idle.clear()
        if self._busy:
            await self._idle.wait()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(EOFError, ConnectionError):
            while not self._ending.is_set():
                head = await reader.readuntil(b"\r\n\r\n")
                self._busy += 1
                try:
                    await self._answer(head.decode("latin-1"), reader, writer)
                finally:
                    self._busy -= 1
                    if not self._busy:
                        self._idle.set()
        writer.close()

    async def _answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = head.split("\r\n")
        path = first.split()[1]
        length = next(
            (line.split(":")[1] for line in lines if line.lower().startswith("content-length")), "0"
        )
        await reader.readexactly(int(length))
        if path.startswith("/stream"):
            await self._stream(int(path.partition("n=")[2] or 80), writer)
            return
        status, body = "200 OK", f'{{"tier":"{self._tier}"}}'
        if path == "/health":
            late = asyncio.get_running_loop().time() - self._began < self._healthy_after
            status = "503 Loading" if late else "200 OK"
        elif path == "/warm":
            status = self._warm_status
        else:
            await asyncio.sleep(self._seconds)
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write((head + body).encode())
        await writer.drain()

    async def _stream(self, events: int, writer: asyncio.StreamWriter) -> None:
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        for number in range(events):
            writer.write(_chunk(f"data: {self._tier} {number}\n\n"))
            await writer.drain()
            await asyncio.sleep(EVENT_SECONDS)
        writer.write(_chunk("data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()


def _write(path: Path, text: str) -> None:
    """Replace a file whole; no text removes it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)
    if not text:
        path.unlink()


def _chunk(text: str) -> bytes:
    return f"{len(text):x}\r\n{text}\r\n".encode()


def main() -> None:
    """Serve as the command line says."""
    tier, milliseconds, address_file = sys.argv[1:]
    asyncio.run(TierServer(tier, float(milliseconds) / 1e3).serve(Path(address_file)))


if __name__ == "__main__":
    main()
