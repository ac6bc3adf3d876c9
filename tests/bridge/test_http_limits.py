"""Import limits from a JSON page: what stands at powerctld's event desk, also when the page stops or lies."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from slurm_power.bridge.bounded_http import AnswerError
from slurm_power.bridge.http_feed import poll
from slurm_power.bridge.http_limits import HttpLimits
from slurm_power.bridge.http_rows import PageError
from slurm_power.bridge.signal_state import SignalState
from slurm_power.config import ConfigError, load_site
from slurm_power.config.http_signals import (
    EventCommitment,
    HttpLimitsSignal,
    HttpLimitUnit,
    HttpPricesSignal,
    HttpPriceUnit,
    HttpSignal,
)
from slurm_power.model.site import Circuit
from slurm_power.powerctld_line import LineError
from tests.bridge.bad_server import BadServer, bad_server, body
from tests.bridge.powerctld import Powerctld
from tests.bridge.test_bridge_daemon import site_file
from tests.bridge.test_http_feed import in_loop

MINUTE = timedelta(minutes=1)


@pytest.fixture
def server() -> Iterator[BadServer]:
    with bad_server() as found:
        yield found


def grid(powerctld: Powerctld) -> Circuit:
    root: Circuit = powerctld.config.site.root
    return root


def page(*rows: tuple[float, float, float | None], published: str = "", now: datetime | None = None) -> bytes:
    """Rows of (from, to, kW), in minutes from now."""
    at = (now or datetime.now(UTC)).replace(microsecond=0)
    told = [
        {"from": (at + first * MINUTE).isoformat(), "to": (at + last * MINUTE).isoformat(), "kw": limit}
        for first, last, limit in rows
    ]
    return json.dumps({"made": published or None, "limits": told}).encode()


def limits_of(server: BadServer, powerctld: Powerctld, folder: Path, **more: Any) -> HttpLimits:
    given: dict[str, Any] = {
        "name": "aggregator",
        "url": f"{server.url}/limits",
        "rows": "limits",
        "time": "from",
        "end": "to",
        "value": "kw",
        "unit": HttpLimitUnit.KILOWATTS,
        "timeout_seconds": 5.0,
    }
    return HttpLimits(HttpLimitsSignal(**{**given, **more}), grid(powerctld), powerctld, folder=folder)


def levels(powerctld: Powerctld) -> list[float]:
    return [level for level, _, end in powerctld.standing() if end > 1]


@in_loop
async def test_rows_become_events_that_name_their_source(server: BadServer, tmp_path: Path) -> None:
    powerctld = Powerctld()
    limit_kw = 0.5 * grid(powerctld).ceiling_watts / 1e3
    server.answer = body(page((-10, 50, limit_kw), (50, 110, 0.5 * limit_kw)))
    feed = limits_of(server, powerctld, tmp_path, commitment=EventCommitment.BEST_EFFORT)
    assert await feed.round() == []
    assert levels(powerctld) == [1e3 * limit_kw, 500.0 * limit_kw]
    first = powerctld.asked[-2]
    assert first["for"] == {"name": "aggregator", "role": "operator", "via": "signal"}
    assert (first["commitment"], first["recover_seconds"]) == ("best-effort", 0.0)
    assert "aggregator" in str(first["reason"])


@in_loop
async def test_the_same_page_again_and_a_restart_double_nothing(server: BadServer, tmp_path: Path) -> None:
    powerctld = Powerctld()
    server.answer = body(page((-10, 50, 1.0)))
    await limits_of(server, powerctld, tmp_path).round()
    feed = limits_of(server, powerctld, tmp_path)
    assert await feed.round() == []
    assert levels(powerctld) == [1000.0]
    # The state of powerbridge is lost too: powerctld knows which events are whose.
    (tmp_path / "signal.aggregator.json").unlink()
    server.answer = body(page())
    assert await limits_of(server, powerctld, tmp_path).round() == []
    assert levels(powerctld) == []


@in_loop
async def test_a_sound_page_takes_limits_back_a_doubtful_one_does_not(
    server: BadServer, tmp_path: Path
) -> None:
    powerctld = Powerctld()
    feed = limits_of(server, powerctld, tmp_path)
    now = datetime.now(UTC)
    server.answer = body(page((0, 60, 1.0), (60, 120, 0.8), now=now))
    await feed.round()
    server.answer = body(page((0, 60, 1.0), (60, 120, "lots"), now=now))  # type: ignore[arg-type]  # a lie
    assert "'lots' is no value" in (await feed.round())[0]
    assert levels(powerctld) == [1000.0, 800.0]
    server.answer = body(page((0, 60, 1.0), (60, 120, None), now=now))
    assert await feed.round() == []
    assert levels(powerctld) == [1000.0]
    # A page that begins later says nothing of now: the running limit stands.
    server.answer = body(page((90, 120, 0.7), now=now))
    assert await feed.round() == []
    assert levels(powerctld) == [1000.0, 700.0]
    server.answer = body(page())
    assert await feed.round() == []
    assert levels(powerctld) == []


LIES = {
    "silent": (body(b"", 503), AnswerError, "503"),
    "no JSON": (body(b"<html>"), PageError, "no JSON"),
    "above the rating": (body(page((0, 60, 1e6))), PageError, "not plausible"),
    "negative": (body(page((0, 60, -1.0))), PageError, "not plausible"),
    "NaN": (body(page((0, 60, float("nan")))), PageError, "nan is no value"),
}


@pytest.mark.parametrize("how", LIES)
@in_loop
async def test_what_stands_outlasts_a_page_that_stops_or_lies(
    how: str, server: BadServer, tmp_path: Path
) -> None:
    powerctld = Powerctld()
    feed = limits_of(server, powerctld, tmp_path)
    server.answer = body(page((0, 60, 1.0)))
    await feed.round()
    server.answer, kind, why = LIES[how]
    with pytest.raises(kind, match=why):
        await feed.round()
    assert levels(powerctld) == [1000.0]


@in_loop
async def test_a_page_of_tomorrow_takes_nothing_back_today(server: BadServer, tmp_path: Path) -> None:
    powerctld = Powerctld()
    now = datetime.now(UTC)
    # The zone in which it is about noon: the limit that runs is of today alone.
    zone = f"Etc/GMT{now.hour - 12:+d}"
    today = now.astimezone(ZoneInfo(zone)).date()
    feed = limits_of(server, powerctld, tmp_path, url=f"{server.url}/{{date}}", zone=zone)
    pages = {f"/{today}": page((-10, 50, 1.0)), f"/{today + timedelta(days=1)}": page()}
    server.answer = lambda request: body(pages[request.path])(request)
    assert await feed.round() == []
    assert levels(powerctld) == [1000.0]
    # Today's own page still takes it back.
    pages[f"/{today}"] = page()
    assert await feed.round() == []
    assert levels(powerctld) == []
    # So does one that is today's and tomorrow's in one.
    feed = limits_of(server, powerctld, tmp_path, url=f"{server.url}/{{year}}", zone=zone)
    for told, standing in ((page((-10, 50, 1.0)), 1), (page(), 0)):
        server.answer = body(told)
        assert await feed.round() == []
        assert len(levels(powerctld)) == standing


@in_loop
async def test_an_older_page_is_told_and_takes_nothing_back(server: BadServer, tmp_path: Path) -> None:
    powerctld = Powerctld()
    feed = limits_of(server, powerctld, tmp_path, published="made")
    now = datetime.now(UTC)
    server.answer = body(page((0, 60, 1.0), published=now.isoformat()))
    assert await feed.round() == []
    server.answer = body(page(published=(now - timedelta(hours=1)).isoformat()))
    with pytest.raises(PageError, match="it went backwards: made at"):
        await feed.round()
    assert levels(powerctld) == [1000.0]


@in_loop
async def test_too_long_a_limit_is_named_and_not_followed(server: BadServer, tmp_path: Path) -> None:
    powerctld = Powerctld()
    server.answer = body(page((0, 120, 1.0)))
    doubts = await limits_of(server, powerctld, tmp_path, longest_event_hours=1.0).round()
    assert "more than longest_event_hours" in doubts[0]
    assert levels(powerctld) == []


@in_loop
async def test_an_operators_end_stays_and_is_told(server: BadServer, tmp_path: Path) -> None:
    powerctld = Powerctld()
    feed = limits_of(server, powerctld, tmp_path)
    server.answer = body(page((0, 60, 1.0)), ETag='"1"')
    await feed.round()
    (event_id,) = powerctld.levers.events
    await powerctld({"op": "cancel_event", "event_id": event_id, "reason": "a test"})
    assert "ended by an operator here" in (await feed.round())[0]
    assert levels(powerctld) == []


@in_loop
async def test_powerctld_that_is_away_is_told_later(server: BadServer, tmp_path: Path) -> None:
    powerctld = Powerctld()
    powerctld.away = True
    feed = limits_of(server, powerctld, tmp_path)
    server.answer = body(page((0, 60, 1.0)), ETag='"1"')
    with pytest.raises(LineError):
        await feed.round()
    powerctld.away = False
    server.answer = body(b"", 304)
    assert await feed.round() == []
    assert levels(powerctld) == [1000.0]


@in_loop
@pytest.mark.parametrize(("kind", "most_seconds"), [("limits", 720.0), ("prices", 7200.0)])
async def test_limits_are_not_slept_through_where_a_page_asks_for_time(
    kind: str, most_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [3600.0]

    async def refused() -> list[str]:
        raise AnswerError("503", 503, asked[0])

    class Enough(Exception):  # noqa: N818  # ends a loop that has no end
        pass

    async def slept(seconds: float, _: object) -> None:
        asked.append(seconds)
        raise Enough

    monkeypatch.setattr("slurm_power.bridge.http_feed.sleep_spread", slept)
    common: dict[str, Any] = {"name": "a", "url": "https://x.org", "time": "t", "value": "v"}
    signal: HttpSignal = (
        HttpLimitsSignal(**common, step_minutes=15.0, unit=HttpLimitUnit.KILOWATTS)
        if kind == "limits"
        else HttpPricesSignal(**common, unit=HttpPriceUnit.PER_KWH, least_value=0.0, most_value=1.0)
    )
    with pytest.raises(Enough):
        await poll(signal, SignalState("a", "x", patience_seconds=1.0), refused)
    assert 600.0 <= asked[-1] <= most_seconds


def test_a_limit_without_an_end_is_refused_by_the_configuration(tmp_path: Path) -> None:
    table = """
[signals.aggregator]
kind = "http_limits"
url = "https://limits.example.org/{date}"
time = "from"
value = "kw"
unit = "kW"
circuit = "nowhere"
ramp_seconds = 4000
commitment = "perhaps"
"""
    with pytest.raises(ConfigError) as raised:
        load_site(site_file(tmp_path, table))
    assert "signals.aggregator.commitment: 'perhaps'" in str(raised.value)
    with pytest.raises(ConfigError) as raised:
        load_site(site_file(tmp_path, table.replace('commitment = "perhaps"\n', "")))
    for word in ("aggregator.end: missing", "ramp_seconds: 4000", "there is no [circuit.nowhere]"):
        assert word in str(raised.value)
