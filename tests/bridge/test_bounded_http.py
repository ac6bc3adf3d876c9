"""Answers of VTNs that never end, or grow when they are unpacked, and how long we wait when asked to."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from slurm_power import clock
from slurm_power.bridge.bounded_http import AnswerError
from slurm_power.bridge.http_page import _same_host
from slurm_power.bridge.openadr2_line import OpenAdr2Line
from slurm_power.bridge.openadr3_client import OpenAdr3Client
from slurm_power.bridge.signal_rounds import follow_vtn
from slurm_power.bridge.signal_state import SignalState
from slurm_power.config.signals import OpenAdr2Signal, OpenAdr3Signal
from tests.bridge.loopback import on_loopback

Write = Callable[[asyncio.StreamWriter], Awaitable[None]]
BOMB = gzip.compress(bytes(50_000_000))


async def drip(writer: asyncio.StreamWriter) -> None:
    """A letter now and then, each well within the time-out."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.1)


async def explode(writer: asyncio.StreamWriter) -> None:
    """Fifty megabytes in fifty kilobytes."""
    words = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(BOMB)}\r\n\r\n"
    writer.write(words.encode() + BOMB)
    await writer.drain()


async def refuse(writer: asyncio.StreamWriter) -> None:
    """An overloaded VTN behind a proxy with pages of its own packing."""
    words = "503 Busy\r\nRetry-After: 40\r\nContent-Encoding: br\r\nContent-Length: 3"
    writer.write(f"HTTP/1.1 {words}\r\n\r\nabc".encode())
    await writer.drain()


@asynccontextmanager
async def server(write: Write) -> AsyncIterator[str]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await write(writer)

    async with on_loopback(talk) as port:
        yield f"http://127.0.0.1:{port}"


async def ask2(url: str) -> None:
    line = OpenAdr2Line(OpenAdr2Signal(name="u", url=url, ven_name="v", timeout_seconds=1.0))
    try:
        await line.ask("OadrPoll", "oadrPoll", ven_id="v")
    finally:
        await line.close()


async def ask3(url: str) -> None:
    client = OpenAdr3Client(OpenAdr3Signal(name="u", url=url, ven_name="v", timeout_seconds=1.0))
    try:
        await client.everything("/events")
    finally:
        await client.close()


@pytest.mark.parametrize("ask", [ask2, ask3], ids=["openadr2", "openadr3"])
@pytest.mark.parametrize(
    ("write", "problem"), [(drip, "no whole answer in 1 s"), (explode, "more than"), (refuse, "503")]
)
def test_an_answer_is_bounded_as_a_whole(
    ask: Callable[[str], Awaitable[None]], write: Write, problem: str
) -> None:
    async def run() -> AnswerError:
        async with server(write) as url, asyncio.timeout(30):
            with pytest.raises(AnswerError, match=problem) as caught:
                await ask(url)
        return caught.value

    error = asyncio.run(run())
    assert (error.status, error.wait_seconds) == ((503, 40.0) if write is refuse else (0, 0.0))


def test_a_vtn_that_asks_for_time_gets_it() -> None:
    state = SignalState("u", "openadr3", patience_seconds=1.0)
    asked_seconds: list[float] = []

    async def round_() -> list[str]:
        asked_seconds.append(clock.monotonic())
        if len(asked_seconds) == 2:
            raise AnswerError("429", 429, 0.5)
        if len(asked_seconds) == 4:
            raise KeyError("a fault of ours ends it")
        return []

    with pytest.raises(KeyError):
        asyncio.run(follow_vtn(round_, state, lambda: 0.01))
    gaps_seconds = [later - before for before, later in pairwise(asked_seconds)]
    assert gaps_seconds[1] >= 0.5
    assert state.row()["reason"] == ""


def test_a_key_that_a_redirect_repeats_is_not_told_to_everybody() -> None:
    """What is wrong with a signal is in the ledger and on the dashboard; servers send from http to https."""
    state = SignalState("day", "http_prices", patience_seconds=1.0)
    with pytest.raises(AnswerError) as caught:
        _same_host("http://prices.example/v1?api_key=hunter2", "https://prices.example/v1?api_key=hunter2")
    state.failed(str(caught.value))
    assert "https://prices.example/v1?api_key=(hidden)" in state.row()["reason"]
    state.heard([str(caught.value)])
    assert "hunter2" not in state.row()["reason"]
