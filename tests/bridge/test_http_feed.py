"""Feeds by HTTP against a real server that behaves badly, and a price on its way into the supply."""

import asyncio
import functools
import gzip
import json
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from slurm_power.bridge.bounded_http import AnswerError, clock_doubt, retry_after_seconds
from slurm_power.bridge.daemon import Bridge, feeds_folder
from slurm_power.bridge.http_feed import HttpFeedReader, addresses
from slurm_power.bridge.http_page import PageReader
from slurm_power.bridge.http_rows import PageError
from slurm_power.cli.powerbridge_run import file_problems
from slurm_power.config import ConfigError, load_site
from slurm_power.config.http_signals import HttpPricesSignal, HttpPriceUnit
from slurm_power.controller.sensing.supply_desk import SupplyDesk
from slurm_power.wire import Message
from tests.bridge.bad_server import BadServer, bad_server, body
from tests.bridge.test_bridge_daemon import site_file, until

HOUR = timedelta(hours=1)


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


@pytest.fixture
def server() -> Iterator[BadServer]:
    with bad_server() as found:
        yield found


def this_hour() -> datetime:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def rows(*values: float, first: datetime | None = None) -> bytes:
    start = first or this_hour()
    told = [{"at": (start + number * HOUR).isoformat(), "eur": value} for number, value in enumerate(values)]
    return json.dumps({"data": told}).encode()


def signal_of(server: BadServer, **more: Any) -> HttpPricesSignal:
    given: dict[str, Any] = {
        "name": "day",
        "url": f"{server.url}/prices",
        "rows": "data",
        "time": "at",
        "value": "eur",
        "unit": HttpPriceUnit.PER_MWH,
        "least_value": -500.0,
        "most_value": 4000.0,
        "timeout_seconds": 5.0,
        "most_bytes": 10_000,
    }
    return HttpPricesSignal(**{**given, **more})


def reader_of(signal: HttpPricesSignal, folder: Path) -> HttpFeedReader:
    return HttpFeedReader(signal, folder=folder / "bridge", feeds=folder / "feeds")


def written(folder: Path) -> list[str]:
    return (folder / "feeds" / "day.price.csv").read_text().splitlines()


@in_loop
async def test_rows_become_the_csv_and_an_unchanged_page_is_not_sent_again(
    server: BadServer, tmp_path: Path
) -> None:
    server.answer = body(rows(80.0, 120.0), ETag='"one"')
    assert await reader_of(signal_of(server), tmp_path).round() == []
    hour = this_hour()
    assert written(tmp_path) == [
        "time,price_per_kwh",
        f"{hour.isoformat()},0.08",
        f"{(hour + HOUR).isoformat()},0.12",
        f"{(hour + 2 * HOUR).isoformat()},",
    ]
    # Another process, as after a restart: it knows the mark and what stood behind it.
    (tmp_path / "feeds" / "day.price.csv").unlink()
    server.answer = body(b"", 304)
    assert await reader_of(signal_of(server), tmp_path).round() == []
    assert server.asked[-1][1]["if-none-match"] == '"one"'
    assert f"{hour.isoformat()},0.08" in written(tmp_path)
    # Other keys mean other values: nothing is taken over.
    server.answer = body(rows(80.0))
    await reader_of(signal_of(server, unit=HttpPriceUnit.PER_KWH), tmp_path).round()
    assert "if-none-match" not in server.asked[-1][1]


@in_loop
async def test_a_page_that_shrinks_is_told_and_what_it_said_stands(server: BadServer, tmp_path: Path) -> None:
    feed = reader_of(signal_of(server), tmp_path)
    server.answer = body(rows(80.0, 120.0, 130.0))
    assert await feed.round() == []
    server.answer = body(rows(90.0))
    assert "it went backwards" in (await feed.round())[0]
    assert [line.partition(",")[2] for line in written(tmp_path)[1:]] == ["0.09", "0.12", "0.13", ""]


@in_loop
async def test_a_page_that_stops_is_told(server: BadServer, tmp_path: Path) -> None:
    server.answer = body(rows(80.0, first=this_hour() - 5 * HOUR))
    feed = reader_of(signal_of(server), tmp_path)
    assert await feed.round() == []
    assert "nothing is known since" in feed.stopped(datetime.now(UTC))[0]


def _endless(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(b" " * 4096)


def _gzip_bomb(request: BaseHTTPRequestHandler) -> None:
    body(gzip.compress(b" " * 50_000_000), Content_Encoding="gzip")(request)


BAD = {
    "endless": (_endless, "more than 10000 bytes"),
    "bomb": (_gzip_bomb, "more than 10000 bytes"),
    "no gzip": (body(b"abc", Content_Encoding="gzip"), "says gzip and is none"),
    "cut gzip": (body(gzip.compress(rows(1.0))[:-9], Content_Encoding="gzip"), "has no end"),
    "packed": (body(b"abc", Content_Encoding="br"), "packed as br"),
    "html": (body(b"<html>login</html>", Content_Type="text/html"), "no JSON"),
    "deep": (body(b"[" * 5000 + b"]" * 5000), "nested deeper"),
    "open string": (body(b'"' + b'\\"' * 4000), "no JSON"),
    "no rows": (body(b'{"other": []}'), "rows: data is no list"),
    "all absurd": (body(rows(1e6, float("nan"))), "not plausible"),
    "error": (body(b"", 500), "500 Internal"),
    "busy": (body(b"", 429, Retry_After="120"), "asks to wait 120 s"),
    "away": (body(b"", 302, Location="http://localhost:1/x"), "another host"),
    "round": (body(b"", 302, Location="/prices"), "more than 3 times"),
    "unasked 304": (body(b"", 304), "304"),
}


@pytest.mark.parametrize("how", BAD)
@in_loop
async def test_bad_answers_say_why_and_leave_what_is_known(
    how: str, server: BadServer, tmp_path: Path
) -> None:
    feed = reader_of(signal_of(server), tmp_path)
    server.answer = body(rows(80.0))
    await feed.round()
    before = written(tmp_path)
    server.answer, why = BAD[how]
    with pytest.raises((AnswerError, PageError), match=why):
        await feed.round()
    assert written(tmp_path) == before


@in_loop
async def test_a_server_that_drips_is_cut_off(server: BadServer, tmp_path: Path) -> None:
    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not server.over.wait(0.05):
            request.wfile.write(b" ")

    server.answer = drip
    with pytest.raises(AnswerError, match=r"no whole answer in 0\.5 s"):
        await reader_of(signal_of(server, timeout_seconds=0.5), tmp_path).round()


@in_loop
async def test_secrets_are_sent_in_headers_also_after_a_redirect_on_the_same_host(
    server: BadServer, tmp_path: Path
) -> None:
    def moved(request: BaseHTTPRequestHandler) -> None:
        there = request.path == "/new"
        (body(rows(80.0)) if there else body(b"", 307, Location="/new"))(request)

    server.answer = moved
    secret = tmp_path / "headers"
    secret.write_text("Authorization: Bearer abc\n")
    feed = reader_of(signal_of(server, headers_file=secret), tmp_path)
    assert await feed.round() == []
    assert [(path, headers["authorization"]) for path, headers in server.asked] == [
        ("/prices", "Bearer abc"),
        ("/new", "Bearer abc"),
    ]
    secret.write_text("Bearer s3cret\n")
    with pytest.raises(AnswerError, match="line 1") as raised:
        await feed.round()
    assert "s3cret" not in str(raised.value)


@in_loop
async def test_each_day_has_its_page_and_tomorrows_may_be_missing(server: BadServer, tmp_path: Path) -> None:
    def by_day(request: BaseHTTPRequestHandler) -> None:
        today = request.path.endswith(f"{datetime.now(UTC):%Y-%m-%d}")
        (body(rows(80.0)) if today else body(b"", 404))(request)

    server.answer = by_day
    feed = reader_of(signal_of(server, url=f"{server.url}/{{date}}"), tmp_path)
    assert await feed.round() == []
    assert len(server.asked) == 2
    server.answer = body(b"", 404)
    with pytest.raises(AnswerError, match="404"):
        await feed.round()


def test_days_begin_where_the_zone_says(server: BadServer) -> None:
    signal = signal_of(server, url="https://x.org/{year}/{month}-{day}?a={from}&b={to}", zone="Europe/Berlin")
    # The night in which clocks go back: that day has 25 hours.
    found = list(addresses(signal, datetime(2026, 10, 24, 22, 30, tzinfo=UTC)))
    assert found[0].url == "https://x.org/2026/10-25?a=2026-10-24T22%3A00%3A00Z&b=2026-10-25T23%3A00%3A00Z"
    one = replace(signal, url="https://x.org/?a={from}&b={to}")
    assert [page.url for page in addresses(one, datetime(2026, 10, 24, 22, 30, tzinfo=UTC))] == [
        "https://x.org/?a=2026-10-24T22%3A00%3A00Z&b=2026-10-26T23%3A00%3A00Z"
    ]


def test_retry_after_in_both_forms_and_bounded() -> None:
    assert retry_after_seconds("120") == 120.0
    assert retry_after_seconds("999999999") == 6 * 3600.0
    assert 50.0 < retry_after_seconds(format_datetime(datetime.now(UTC) + timedelta(minutes=1))) <= 60.0
    assert [retry_after_seconds(text) for text in ("", "-5", "soon")] == [0.0, 0.0, 0.0]
    huge = "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"
    assert (retry_after_seconds(huge), clock_doubt(huge)) == (0.0, "")


@in_loop
async def test_an_authority_that_is_no_file_is_named(server: BadServer, tmp_path: Path) -> None:
    with pytest.raises(AnswerError, match="ca_file"):
        PageReader(signal_of(server, ca_file=tmp_path / "none"))


SIGNAL = """
[signals.day]
kind = "http_prices"
url = "{url}"
rows = "data"
time = "at"
value = "eur"
unit = "per_MWh"
least_value = -500
most_value = 4000
poll_seconds = 1
headers_file = "headers"
[supply]
price_file = "state/feeds/day.price.csv"
price_unit = "per_kWh"
"""


@in_loop
async def test_a_price_by_http_arrives_at_the_desk_of_the_supply(server: BadServer, tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("X-Key: 1\n")
    config = load_site(site_file(tmp_path, SIGNAL.format(url=server.url)))
    assert "chmod 600" in file_problems(config)[0]
    (tmp_path / "headers").chmod(0o600)
    assert file_problems(config) == []
    told: list[dict[str, Any]] = []

    async def ask(message: Message) -> Message:
        signals = message["signals"]
        assert isinstance(signals, list)
        told.extend(signals)
        return {"ok": True}

    server.answer = body(rows(81.0, 81.0, 81.0))
    stop = asyncio.Event()
    bridge = asyncio.create_task(Bridge(config, ask, {}).run(stop))
    faults: list[str] = []

    def fault(_subject: str, problem: str) -> None:
        faults.append(problem)

    try:
        await until((feeds_folder(config) / "day.price.csv").exists)
        desk = SupplyDesk(config, fault=fault)
        reading = asyncio.create_task(desk.run())
        await until(lambda: desk.supply.price_per_kwh is not None)
        reading.cancel()
        held = desk.supply.price_per_kwh
        assert held is not None
        now = datetime.now(UTC).timestamp()
        assert {value for _, _, value in held.pieces(now, now + 60.0)} == {0.081}
        assert faults == []
        await until(lambda: any(row["state"] == "good" for row in told))
        server.answer = body(b"", 503, Retry_After="3")
        await until(lambda: told[-1]["state"] == "questionable")
        assert "503" in told[-1]["reason"]
    finally:
        stop.set()
        await bridge


def test_all_that_is_wrong_in_a_table_is_named(tmp_path: Path) -> None:
    bad = SIGNAL.format(url="http://prices.example.org/{hour}").replace("-500", "5000")
    bad += '[signals.air]\nkind = "http_carbon"\nurl = "https://{day}.org/"\ntime = ""\nvalue = "v"\n'
    bad += 'unit = "g_per_kWh"\nzone = "Mars/Base"\ndays = 9\n'
    with pytest.raises(ConfigError) as raised:
        load_site(site_file(tmp_path, bad))
    for word in (
        "signals.day.url: must be https",
        "signals.day.url: {hour} is unknown",
        "signals.day.least_value and most_value: 5000",
        "signals.air.url: the host",
        "signals.air.time: is empty",
        "signals.air.zone: 'Mars/Base'",
        "signals.air.days: 9",
    ):
        assert word in str(raised.value)
