"""Feeds that stop, lie, go backwards or live in another time: each is named, and what was known stands."""

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from slurm_power.bridge.bounded_http import AnswerError
from slurm_power.bridge.feeds import Feed
from slurm_power.bridge.grid_events import Price
from slurm_power.bridge.http_feed import FeedFileError, HttpFeedReader, run_http_feed
from slurm_power.bridge.http_rows import MOST_ROWS, PageError, read_page
from slurm_power.bridge.signal_state import SignalState
from slurm_power.config.http_signals import (
    HttpCarbonSignal,
    HttpCarbonUnit,
    HttpPricesSignal,
    HttpPriceUnit,
    HttpSignal,
)
from tests.bridge.bad_server import BadServer, bad_server, body
from tests.bridge.test_bridge_daemon import until
from tests.bridge.test_http_feed import HOUR, in_loop, reader_of, rows, signal_of, this_hour, written

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[BadServer]:
    with bad_server() as found:
        yield found


def prices(**more: Any) -> HttpPricesSignal:
    given: dict[str, Any] = {
        "name": "day",
        "url": "https://prices.example.org",
        "time": "at",
        "value": "v",
        "unit": HttpPriceUnit.PER_MWH,
        "least_value": -500.0,
        "most_value": 4000.0,
    }
    return HttpPricesSignal(**{**given, **more})


CARBON = HttpCarbonSignal(
    name="air", url="https://air.example.org", time="at", value="v", unit=HttpCarbonUnit.G_PER_KWH
)


def page(*told: tuple[object, object]) -> bytes:
    return json.dumps([{"at": at, "v": value} for at, value in told]).encode()


def hours(*values: object) -> list[tuple[object, object]]:
    return [((NOW + number * HOUR).isoformat(), value) for number, value in enumerate(values)]


ROWS: dict[str, tuple[HttpSignal, object, str]] = {
    "price of 1e9": (prices(), 1e9, "1e+09 is not plausible, it is not between -500 and 4000"),
    "price below": (prices(), -501.0, "-501 is not plausible"),
    "NaN": (prices(), float("nan"), "nan is no value"),
    "infinite": (prices(), float("-inf"), "-inf is no value"),
    "a word": (prices(), "dear", "'dear' is no value"),
    "with its unit": (prices(), "80 EUR/MWh", "'80 EUR/MWh' is no value"),
    "comma": (prices(), "80,5", "'80,5' is no value"),
    "true": (prices(), True, "'True' is no value"),
    "a list": (prices(), [80.0], "'[80.0]' is no value"),
    "negative carbon": (CARBON, -1.0, "-1 is not plausible, it is not between 0 and 2000"),
    "carbon in the millions": (CARBON, 4e8, "4e+08 is not plausible"),
    "carbon NaN": (CARBON, "nan", "nan is no value"),
}


@pytest.mark.parametrize("how", ROWS)
def test_an_absurd_value_is_left_out_and_named_and_the_others_count(how: str) -> None:
    signal, value, why = ROWS[how]
    read = read_page(page(*hours(80.0, value, 90.0)), signal, NOW)
    assert [one.starts_at for one in read.values] == [NOW, NOW + 2 * HOUR]
    assert any(why in doubt for doubt in read.doubts)


MOMENTS: dict[str, tuple[str, object, str]] = {
    "in spring an hour is missing": ("Europe/Berlin", "2027-03-28T02:30:00", "is no time (iso)"),
    "no zone the world has": ("UTC", "2026-11-28T12:00:00+99:00", "is no time (iso)"),
    "milliseconds for seconds": ("UTC", 1_795_867_200_000, "is no time (iso)"),
    "of the year 2099": ("UTC", "2099-01-01T00:00:00Z", "2099-01-01 is more than a year ahead"),
    "none": ("UTC", None, "a row has no time"),
    "a day that is not": ("UTC", "2026-02-30T00:00:00Z", "is no time (iso)"),
}


@pytest.mark.parametrize("how", MOMENTS)
def test_a_time_that_cannot_be_is_left_out_and_named(how: str) -> None:
    zone, at, why = MOMENTS[how]
    read = read_page(page((at, 1.0), (NOW.isoformat(), 80.0)), prices(zone=zone), NOW)
    assert [one.starts_at for one in read.values] == [NOW]
    assert any(why in doubt for doubt in read.doubts)


@pytest.mark.parametrize("newest_first", [False, True])
def test_where_clocks_go_back_the_hour_that_comes_twice_counts_twice(*, newest_first: bool) -> None:
    told: list[tuple[object, object]] = [
        (f"2026-10-25T{hour:02d}:00:00", 10.0 * number) for number, hour in enumerate((1, 2, 2, 3), start=1)
    ]
    if newest_first:
        told.reverse()
    now = datetime(2026, 10, 25, tzinfo=UTC)
    read = read_page(page(*told), prices(zone="Europe/Berlin"), now)
    assert read.doubts == []
    assert [(one.starts_at - now) / HOUR for one in read.values] == [-1.0, 0.0, 1.0, 2.0]
    assert [one.value for one in read.values] == pytest.approx([0.01, 0.02, 0.03, 0.04])


def test_a_page_of_bad_rows_alone_is_one_short_sentence() -> None:
    wrong = [(NOW + number * timedelta(minutes=1)).isoformat() for number in range(MOST_ROWS)]
    with pytest.raises(PageError) as raised:
        read_page(page(*((at, f"x{number}") for number, at in enumerate(wrong))), prices(), NOW)
    assert str(raised.value) == "'x0' is no value (20000 such rows)"
    kinds = (1e9, "x", -1e9, None)
    told = [(at, kinds[number % 3]) for number, at in enumerate(wrong[1:])]
    read = read_page(page((NOW.isoformat(), 80.0), *told), prices(), NOW)
    assert len(read.doubts) == 2
    assert sum(map(len, read.doubts)) < 200


UNITS = {
    "kWh where it was MWh": ([80.0, 95.0, 60.0], [0.081, 0.09, 0.07], "a thousandth of"),
    "MWh where it was kWh": ([0.08, 0.09, 0.06], [81.0, 90.0, 70.0], "a thousand times"),
    "both on one page": ([], [80.0, 90.0, 0.07, 85.0, 0.08, 0.09, 95.0], "a thousandth of"),
}


@pytest.mark.parametrize("how", UNITS)
@in_loop
async def test_units_that_are_mixed_up_are_flagged(how: str, server: BadServer, tmp_path: Path) -> None:
    before, after, why = UNITS[how]
    feed = reader_of(signal_of(server), tmp_path)
    if before:
        server.answer = body(rows(*before))
        assert await feed.round() == []
    server.answer = body(rows(*after))
    assert why in (await feed.round())[0]
    # Said again it is no truer, nor after a restart, and what it was is right again.
    assert why in (await feed.round())[0]
    assert why in (await reader_of(signal_of(server), tmp_path).round())[0]
    if before:
        server.answer = body(rows(*before))
        assert await feed.round() == []


@in_loop
async def test_cheap_hours_and_free_ones_are_no_wrong_unit(server: BadServer, tmp_path: Path) -> None:
    feed = reader_of(signal_of(server), tmp_path)
    for values in ((80.0, 90.0, 70.0, 60.0), (4.0, 0.0, -3.0, 12.0), (900.0, 1500.0, 2000.0, 1.0)):
        server.answer = body(rows(*values))
        assert await feed.round() == []


def dated(made_at: datetime, *values: float) -> bytes:
    return json.dumps({**json.loads(rows(*values)), "made": made_at.isoformat()}).encode()


@in_loop
async def test_a_page_made_before_the_last_one_is_told_and_changes_nothing(
    server: BadServer, tmp_path: Path
) -> None:
    signal = signal_of(server, published="made")
    now = datetime.now(UTC)
    server.answer = body(dated(now, 80.0, 90.0))
    assert await reader_of(signal, tmp_path).round() == []
    before = written(tmp_path)
    server.answer = body(dated(now - HOUR, 10.0, 20.0))
    # Also after a restart.
    feed = reader_of(signal, tmp_path)
    with pytest.raises(PageError, match="it went backwards: made at"):
        await feed.round()
    assert written(tmp_path) == before
    # A page of the future is doubtful, and does not make the next one look old.
    server.answer = body(dated(now + 100 * HOUR, 80.0, 90.0))
    assert "which is not yet" in (await feed.round())[0]
    server.answer = body(dated(now + timedelta(seconds=30), 85.0, 90.0))
    assert await feed.round() == []
    server.answer = body(json.dumps({**json.loads(rows(85.0, 90.0)), "made": "lately"}).encode())
    assert "made is no time of when it was made" in await feed.round()


def full(feeds: Path) -> None:
    """No disk is full at a test's will, but a link into /dev/full is."""
    feeds.mkdir(exist_ok=True)
    (feeds / ".day.price.csv.new").symlink_to("/dev/full")


def no_folder(feeds: Path) -> None:
    """Root writes into folders that are read-only, but never into a folder that is a file."""
    feeds.touch()


@pytest.mark.parametrize("how", [full, no_folder])
@in_loop
async def test_a_feed_that_cannot_be_written_is_a_fault_of_the_signal(
    how: Callable[[Path], None], server: BadServer, tmp_path: Path
) -> None:
    feeds = tmp_path / "feeds"
    server.answer = body(rows(80.0), ETag='"one"')
    feed = reader_of(signal_of(server), tmp_path)
    how(feeds)
    with pytest.raises(FeedFileError, match=r"day\.price\.csv cannot be written"):
        await feed.round()
    # That the page is unchanged is no reason to forget that nobody has got it.
    server.answer = body(b"", 304)
    how(feeds)
    with pytest.raises(FeedFileError):
        await feed.round()
    if feeds.is_file():
        feeds.unlink()
    assert await feed.round() == []
    assert len(written(tmp_path)) == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into folders that are read-only")
@in_loop
async def test_a_folder_that_is_read_only_is_a_fault_of_the_signal(server: BadServer, tmp_path: Path) -> None:
    (tmp_path / "feeds").mkdir(mode=0o500)
    server.answer = body(rows(80.0))
    with pytest.raises(FeedFileError, match="Permission denied"):
        await reader_of(signal_of(server), tmp_path).round()


@in_loop
async def test_what_powerctld_is_told_of_a_disk_that_takes_nothing(server: BadServer, tmp_path: Path) -> None:
    (tmp_path / "feeds").write_text("")
    server.answer = body(rows(80.0))
    signal = signal_of(server, poll_seconds=1.0)
    state = SignalState("day", "http_prices", patience_seconds=0.1)
    run = run_http_feed(signal, state, folder=tmp_path / "bridge", feeds=tmp_path / "feeds")
    task = asyncio.create_task(run)
    await until(lambda: "cannot be written" in state.row()["reason"])
    assert state.row()["state"] == "invalid"
    (tmp_path / "feeds").unlink()
    await until(lambda: state.row()["state"] == "good")
    task.cancel()


@in_loop
async def test_a_memory_that_cannot_be_written_is_a_doubt(server: BadServer, tmp_path: Path) -> None:
    (tmp_path / "bridge").write_text("")
    server.answer = body(rows(80.0))
    assert "signal.day.json cannot be written" in (await reader_of(signal_of(server), tmp_path).round())[0]
    assert len(written(tmp_path)) == 3


def test_a_file_that_somebody_deletes_is_written_again(tmp_path: Path) -> None:
    told = [Price(starts_at=this_hour(), ends_at=this_hour() + HOUR, value=0.08)]
    feed = Feed(tmp_path / "x.csv", "price_per_kwh")
    assert feed.put(told, this_hour()) == ""
    (tmp_path / "x.csv").unlink()
    assert feed.put(told, this_hour()) == ""
    assert (tmp_path / "x.csv").exists()


@in_loop
async def test_a_feed_that_stops_is_known_until_it_runs_out(server: BadServer, tmp_path: Path) -> None:
    server.answer = body(rows(80.0, 90.0))
    feed = HttpFeedReader(signal_of(server), folder=tmp_path / "bridge", feeds=tmp_path / "feeds")
    await feed.round()
    server.answer = body(b"", 500)
    with pytest.raises(AnswerError):
        await feed.round()
    assert feed.stopped(this_hour() + HOUR) == []
    assert "nothing is known since" in feed.stopped(this_hour() + 3 * HOUR)[0]
    assert written(tmp_path)[-1].endswith(",")
