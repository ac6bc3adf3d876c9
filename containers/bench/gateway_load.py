"""An open-loop load on an HTTP address: idempotent requests at a rate, and long streams; all counted."""

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

TIER_HEADER = b"x-model-tier:"
TIMEOUT_SECONDS = 10.0
_RETRIES = 5
_RETRY_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request: when it began (wall time) and how long it took. ``status`` 0: it got no answer at all.

    ``retries`` is how often this client had to send it again because its connection broke.
    """

    began: float
    seconds: float
    status: int
    tier: str
    retries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One stream: ``end`` is "whole", "named" (an error event with a name), or "cut"."""

    began: float
    events: int
    tiers: tuple[str, ...]
    end: str


@dataclass(slots=True)
class Load:
    """What comes to ``port`` of this host, until ``stop``."""

    port: int
    rate: float
    requests: list[Request] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    _idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=deque)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    _stopped: bool = False

    async def run(self) -> None:
        """Send requests at the rate, whatever becomes of the ones before; ends after ``stop``."""
        began, number = time.monotonic(), 0
        while not self._stopped:
            await asyncio.sleep(max(0.0, began + number / self.rate - time.monotonic()))
            number += 1
            self._spawn(self._request(number))
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for _, writer in self._idle:
            writer.close()

    def stop(self) -> None:
        """Send nothing more; what is under way ends by itself."""
        self._stopped = True

    def stream(self, events: int) -> None:
        """Open one stream of that many events, one each 0.1 s."""
        self._spawn(self._stream(events))

    def failed(self) -> Counter[int]:
        """Requests that were not answered well, by status."""
        return Counter(request.status for request in self.requests if request.status != 200)

    def stream_ends(self) -> Counter[str]:
        """How the streams ended."""
        return Counter(stream.end for stream in self.streams)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _request(self, number: int) -> None:
        began, clock = time.time(), time.perf_counter()
        status, tier, retries = 0, "", 0
        for retries in range(_RETRIES + 1):  # noqa: B007 - read after the loop
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    status, tier = await self._once(number)
                break
            except (OSError, EOFError):
                await asyncio.sleep(_RETRY_SECONDS)
            except TimeoutError:
                break
        seconds = time.perf_counter() - clock
        self.requests.append(Request(began=began, seconds=seconds, status=status, tier=tier, retries=retries))

    async def _once(self, number: int) -> tuple[int, str]:
        # What was closed while idle is no failure of anybody: a fresh connection then.
        while self._idle and self._idle[-1][0].at_eof():
            self._idle.pop()[1].close()
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(
                b"POST /v1/x HTTP/1.1\r\nHost: chat\r\nContent-Length: 2\r\n"
                b"Idempotency-Key: %d\r\n\r\n{}" % number
            )
            status, head = await _head(reader)
            await reader.readexactly(_length(head))
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        return status, _tier(head)

    async def _stream(self, events: int) -> None:
        began, seen, tiers, end = time.time(), 0, set(), "cut"
        writer = None
        with contextlib.suppress(OSError, EOFError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(
                b"GET /stream?n=%d HTTP/1.1\r\nHost: chat\r\nAccept: text/event-stream\r\n\r\n" % events
            )
            await _head(reader)
            while line := await reader.readline():
                if line.startswith(b"data: [DONE]"):
                    end = "whole" if seen == events else "cut"
                elif line.startswith(b"event: error"):
                    end = "named"
                elif line.startswith(b"data: ") and not line.startswith(b"data: {"):
                    seen += 1
                    tiers.add(line.split()[1].decode())
                elif line == b"0\r\n":
                    break
        if writer is not None:
            writer.close()
        self.streams.append(Stream(began=began, events=seen, tiers=tuple(sorted(tiers)), end=end))


async def _head(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    return int(head.split()[1]), head


def _length(head: bytes) -> int:
    return next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")
    )


def _tier(head: bytes) -> str:
    found = (line for line in head.split(b"\r\n") if line.startswith(TIER_HEADER))
    return next(found, b"").partition(b":")[2].strip().decode()
