"""The stream of pictures: whole each time, the same text for all, nothing kept for who does not read."""

import asyncio
import json
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from slurm_power.controller.answers.behalf import NOBODY
from slurm_power.model.role import Role
from slurm_power.powerctld_line import LineError
from slurm_power.web.people import Person
from slurm_power.web.pictures import Pictures, Text, gzip_of
from slurm_power.web.stream import FullError, Prove, Streams
from tests.web.bed import HOSTILE, Bed, until


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Server-sent events as a browser reads them: name and data."""
    name, data = "message", []
    for line in lines:
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            data.append(line[6:])
        elif not line and data:
            yield name, "\n".join(data)
            name, data = "message", []


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_each_second_brings_a_whole_picture(bed: Bed, encoding: str) -> None:
    with bed.client("mia", Role.USER) as client:
        headers = {"Accept-Encoding": encoding}
        with client.stream("GET", "/api/v1/stream", headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers.get("content-encoding", "identity") == encoding
            found = events_of(answer.iter_lines())
            pictures = [json.loads(data) for name, data in (next(found) for _ in range(3)) if name == "site"]
    assert len(pictures) == 3
    assert len({picture["at"] for picture in pictures}) >= 2
    assert [job["name"] for job in pictures[0]["jobs"]] == [HOSTILE]
    assert pictures[0]["standing"]["headline"].startswith(("SAFE", "AT RISK"))


def test_no_name_of_a_job_ends_an_event_or_begins_one(bed: Bed) -> None:
    """The name holds what would be a `bye` of the server's own."""
    with bed.client("carol", Role.AUDITOR) as client, client.stream("GET", "/api/v1/stream") as answer:
        found = events_of(answer.iter_lines())
        assert {name for name, _ in (next(found) for _ in range(2))} == {"site"}


def test_powerctld_away_is_said_and_its_return_is_seen(own_bed: Bed) -> None:
    with own_bed.client("opal", Role.OPERATOR) as client, client.stream("GET", "/api/v1/stream") as answer:
        found = events_of(answer.iter_lines())
        assert next(found)[0] == "site"
        own_bed.do(own_bed.stop_controller())
        away = next(data for name, data in found if name == "away")
        assert "powerctld" in json.loads(away)["error"]
        refused = client.get("/api/v1/sources")
        assert (refused.status_code, "powerctld" in refused.json()["error"]) == (503, True)
        assert client.get("/api/v1/healthz").json()["powerctld"] is False
        # What is on the disk is there all the same.
        assert client.get("/api/v1/ledger").json()["entries"]
        own_bed.do(own_bed.start_controller())
        assert next(name for name, _ in found if name != "away") == "site"


def test_the_end_is_said_before_it_comes(own_bed: Bed) -> None:
    with own_bed.client("opal", Role.OPERATOR) as client, client.stream("GET", "/api/v1/stream") as answer:
        found = events_of(answer.iter_lines())
        assert next(found)[0] == "site"
        own_bed.loop.call_soon_threadsafe(own_bed.web.stop)
        name, data = next(event for event in found if event[0] != "site")
        assert (name, "stopped" in json.loads(data)["reason"]) == ("bye", True)
        assert list(found) == []


def test_who_leaves_is_forgotten(bed: Bed) -> None:
    with bed.client("opal", Role.OPERATOR) as client, client.stream("GET", "/api/v1/stream") as answer:
        lines = answer.iter_lines()
        next(lines)
        until(lambda: bed.web.web.streams.count >= 1, "the stream counts")
    until(lambda: bed.web.web.streams.count == 0, f"{bed.web.web.streams._open}: nobody watches any more")


def test_a_browser_that_does_not_read_is_dropped_and_nothing_piles_up(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slurm_power.web.stream._SLOW_SECONDS", 0.5)
    big = {**bed.web.web.pictures.latest.live, "pad": "x" * 3_000_000}  # type: ignore[union-attr]  # there is one

    async def ask(_message: Any) -> Any:
        return big

    before, dropped = bed.web.web.pictures._ask, bed.web.web.streams.dropped
    bed.web.web.pictures._ask = ask
    try:
        with socket.create_connection(("127.0.0.1", bed.port)) as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            token = bed.token("opal", Role.OPERATOR)
            lines = (
                "GET /api/v1/stream HTTP/1.1",
                "Host: localhost",
                f"Authorization: Bearer {token}",
                "",
                "",
            )
            lazy.sendall("\r\n".join(lines).encode())
            until(lambda: bed.web.web.streams.dropped > dropped, "it is dropped", 20.0)
            until(lambda: bed.web.web.streams.count == 0, "its place is free")
    finally:
        bed.web.web.pictures._ask = before


def test_there_are_places_for_so_many_and_no_more() -> None:
    async def check() -> None:
        streams = Streams(Pictures(never), most=60)
        mia = Person("mia", Role.USER, "token")
        for _ in range(50):
            streams.began(mia)
        with pytest.raises(FullError, match="mia has 50"):
            streams.open(mia, packed=False, prove=nobody)
        other = Person("alice", Role.USER, "token")
        for _ in range(10):
            streams.open(other, packed=False, prove=nobody)
            streams.began(other)
        with pytest.raises(FullError, match="most_clients"):
            streams.open(Person("bob", Role.USER, "token"), packed=False, prove=nobody)
        streams.ended(other)
        streams.open(Person("bob", Role.USER, "token"), packed=False, prove=nobody)

    asyncio.run(check())


def test_who_has_not_said_who_they_are_cannot_take_all_places() -> None:
    async def check() -> None:
        streams = Streams(Pictures(never), most=10)
        unknown = Person(NOBODY, Role.VIEWER, "")
        for _ in range(8):
            streams.open(unknown, packed=False, prove=nobody)
            streams.began(unknown)
        with pytest.raises(FullError, match="log in"):
            streams.open(unknown, packed=False, prove=nobody)
        streams.open(Person("opal", Role.OPERATOR, "token"), packed=False, prove=nobody)

    asyncio.run(check())


async def hangs() -> Person | None:
    await asyncio.Event().wait()
    return None


async def breaks() -> Person | None:
    raise RuntimeError("no thread can be started")


async def nobody() -> Person | None:
    return None


@pytest.mark.parametrize(("prove", "ends"), [(hangs, False), (nobody, True), (breaks, True)])
def test_a_directory_that_hangs_holds_up_no_picture(
    monkeypatch: pytest.MonkeyPatch, prove: Prove, ends: bool
) -> None:
    """Who watches is looked up again and again, maybe by asking a service that is away."""
    monkeypatch.setattr("slurm_power.web.stream._PROVE_SECONDS", 0.2)
    monkeypatch.setattr("slurm_power.web.pictures.TURN_SECONDS", 0.02)

    async def ask(_message: Any) -> Any:
        return {"ok": True}

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def check() -> None:
        pictures, sent = Pictures(ask), []
        stream = Streams(pictures, most=10).open(
            Person("opal", Role.OPERATOR, "token"), packed=False, prove=prove
        )

        async def send(message: Any) -> None:
            sent.append(message.get("body", b""))

        turns = asyncio.create_task(pictures.run())
        watching = asyncio.create_task(stream({}, receive, send))
        try:
            # Ten pictures until the first look, many times that beside one that hangs.
            done, _ = await asyncio.wait([watching], timeout=1.5)
        finally:
            pictures.close()
            await asyncio.wait([turns, watching], timeout=5.0)
        assert bool(done) is ends
        assert any(b"no longer logged in" in one for one in sent) is ends
        assert ends or sum(b"event: site" in one for one in sent) > 20

    asyncio.run(check())


async def never(_message: Any) -> Any:
    raise LineError("powerctld: no such file")


def test_packed_pieces_make_one_file() -> None:
    pieces = [Text.of(data) for data in (b"a" * 100_000, b"", "\u20ac{}".encode())]
    unpacker = zlib.decompressobj(wbits=31)
    assert unpacker.decompress(gzip_of(*pieces)) == b"".join(piece.plain for piece in pieces)
    assert unpacker.eof and not unpacker.unused_data


def test_a_connection_that_asks_nothing_is_hung_up_on(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm_power.web.daemon._SILENT_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", bed.port)) as lazy:
        lazy.settimeout(15.0)
        lazy.sendall(b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n")
        began = time.monotonic()
        with suppress(ConnectionResetError):  # just as good
            assert lazy.recv(100) == b""
        assert time.monotonic() - began < 14.0


def test_the_same_question_is_asked_once_for_all(bed: Bed) -> None:
    asking = bed.web.web.asking
    asked: list[Any] = []
    before = asking._ask

    async def count(message: Any) -> Any:
        asked.append(message)
        return await before(message)

    asking._ask = count
    asking.forget()
    try:
        token = bed.token("opal", Role.OPERATOR)

        async def many() -> list[int]:
            headers = {"Authorization": f"Bearer {token}"}
            async with httpx.AsyncClient(base_url=bed.url, headers=headers, timeout=15.0) as client:
                answers = await asyncio.gather(*(client.get("/api/v1/sources") for _ in range(30)))
            return [answer.status_code for answer in answers]

        assert asyncio.run(many()) == [200] * 30
    finally:
        asking._ask = before
    assert len([message for message in asked if message["op"] == "sources"]) <= 2
