"""Our VEN of OpenADR 3 against a VTN on loopback: events, changes, restarts, lies, and reports back."""

import asyncio
import json
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest

from slurm_power import clock
from slurm_power.bridge.bounded_http import AnswerError
from slurm_power.powerctld_line import LineError
from tests.bridge.place3 import SECRET, Place, at, story
from tests.bridge.places import SLACK_SECONDS, series_of


def test_an_event_stands_is_changed_and_deleted(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        event = place.vtn.put("events", place.event(9_000))
        assert await place.ven.round() == []
        assert place.powerctld.standing() == [
            (9_000.0, pytest.approx(60, abs=SLACK_SECONDS), pytest.approx(660, abs=SLACK_SECONDS))
        ]
        assert await place.ven.round() == []
        assert place.powerctld.book.kinds() == ["event"]
        place.vtn.put("events", place.event(8_000, 120), event)
        assert await place.ven.round() == []
        assert place.powerctld.standing()[0][:2] == (8_000.0, pytest.approx(120, abs=SLACK_SECONDS))
        place.vtn.delete("events", event)
        assert await place.ven.round() == []
        assert place.powerctld.standing() == []
        assert place.powerctld.book.kinds() == ["event", "event changed", "event cancelled"]
        assert not place.vtn.invalid

    story(tmp_path, told)


def test_no_restart_doubles_or_loses_an_event(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        first = place.vtn.put("events", place.event(9_000))
        await place.ven.round()
        await place.begin()
        place.powerctld.restart()
        await place.vtn.stop()
        with pytest.raises(AnswerError):
            await place.ven.round()
        assert len(place.powerctld.standing()) == 1
        await place.vtn.start()
        await place.ven.round()
        assert place.powerctld.book.kinds() == ["event"]
        # powerctld was killed before it had written the event down.
        place.powerctld.levers.events.clear()
        await place.ven.round()
        assert len(place.powerctld.standing()) == 1
        # Deleted while we were down, and our own file lost as well.
        place.vtn.delete("events", first)
        (place.folder / "bridge" / "signal.utility.json").unlink()
        await place.begin()
        await place.ven.round()
        assert place.powerctld.standing() == []

    story(tmp_path, told)


def test_events_stand_while_powerctld_or_the_vtn_are_away(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        event = place.vtn.put("events", place.event(9_000))
        place.powerctld.away = True
        with pytest.raises(LineError):
            await place.ven.round()
        place.powerctld.away = False
        await place.ven.round()
        assert len(place.powerctld.standing()) == 1
        place.powerctld.away = True
        place.vtn.delete("events", event)
        with pytest.raises(LineError):
            await place.ven.round()
        place.powerctld.away = False
        await place.ven.round()
        assert place.powerctld.standing() == []

    story(tmp_path, told)


def test_a_vtn_that_has_lost_its_memory_cancels_nothing(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        place.vtn.put("events", place.event(9_000))
        await place.ven.round()
        for rows in place.vtn.objects.values():
            rows.clear()
        await place.begin()
        doubts = await place.ven.round()
        assert any("program" in doubt for doubt in doubts)
        assert len(place.powerctld.standing()) == 1

    story(tmp_path, told)


def test_what_an_operator_ended_is_not_begun_again(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        event = place.vtn.put("events", place.event(9_000))
        await place.ven.round()
        await place.powerctld({"op": "cancel_event", "event_id": "ev-1"})
        assert "ended by an operator" in (await place.ven.round())[0]
        assert place.powerctld.standing() == []
        place.vtn.put("events", place.event(8_500), event)
        await place.ven.round()
        assert len(place.powerctld.standing()) == 1

    story(tmp_path, told)


def test_more_than_a_page_of_events_and_an_unchanged_page(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        for number in range(60):
            place.vtn.put("events", place.event(9_000, 3_600 * (1 + number)))
        assert await place.ven.round() == []
        assert len(place.powerctld.standing()) == 60
        place.vtn.requests.clear()
        assert await place.ven.round() == []
        assert [status for path, status in place.vtn.requests if "/events" in path] == [304, 304]

    story(tmp_path, told)


def test_a_token_that_ends_is_asked_for_anew(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        place.vtn.put("events", place.event(9_000))
        await place.ven.round()
        place.vtn.forget_tokens()
        assert await place.ven.round() == []
        tokens = [path for path, _ in place.vtn.requests if path.endswith("/auth/token")]
        assert len(tokens) == 2
        (place.folder / "secret").write_text("wrong")
        place.vtn.forget_tokens()
        with pytest.raises(AnswerError, match="no token: 401 invalid_client"):
            await place.ven.round()

    story(tmp_path, told)


def test_a_vtn_of_3_1_says_where_its_tokens_are(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        place.vtn.token_path = "/elsewhere/token"
        place.vtn.put("events", place.event(9_000))
        assert await place.ven.round() == []
        assert len(place.powerctld.standing()) == 1
        # A secret is not sent in the clear to wherever somebody says.
        place.vtn.token_path, place.vtn.token_host = "/third/token", "http://vtn.example.org"
        await place.begin()
        with pytest.raises(AnswerError, match="no token: 404"):
            await place.ven.round()

    story(tmp_path, told)


def test_now_and_for_ever_end_when_they_are_deleted(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        period = {"start": "0001-01-01T00:00:00", "duration": "P9999Y"}
        event = place.vtn.put("events", {**place.event(9_000), "intervalPeriod": period})
        assert await place.ven.round() == []
        ((_, start, end),) = place.powerctld.standing()
        assert start <= 0
        assert end == pytest.approx(24 * 3600, abs=SLACK_SECONDS)
        await place.begin()
        await place.ven.round()
        assert len(place.powerctld.kinds_of("event")) == 1
        assert not place.powerctld.kinds_of("event changed")
        place.vtn.put(
            "events", {**place.event(9_000), "intervalPeriod": {**period, "duration": "PT0S"}}, event
        )
        assert await place.ven.round() == []
        assert place.powerctld.kinds_of("event cancelled")

    story(tmp_path, told)


def test_prices_become_a_file_that_the_supply_reads(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        payload = {"type": "PRICE", "values": [0.17, 0.03, -0.02]}
        event = {**place.event(0, -600, 10_800), "intervals": [{"id": 0, "payloads": [payload]}]}
        place.vtn.put("events", event)
        assert await place.ven.round() == []
        assert place.powerctld.standing() == []

    story(tmp_path, told)
    from slurm_power.signals.held_file import read_held_values

    file = tmp_path / "feeds" / "utility.price.csv"
    held = read_held_values(file, column=None, factor=1.0, zone=UTC, negative=True, lasting=False)
    assert held.values == (0.17, 0.03, -0.02, None)
    assert held.seconds[1] - held.seconds[0] == 3600.0


def test_a_feed_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        (tmp_path / "feeds").write_text("a file where a folder should be")
        payload = {"type": "PRICE", "values": [0.17]}
        place.vtn.put("events", {**place.event(0), "intervals": [{"id": 0, "payloads": [payload]}]})
        (doubt,) = await place.ven.round()
        assert "utility.price.csv cannot be written" in doubt

    story(tmp_path, told)


def test_reports_go_back_as_they_were_asked_for_once(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        now = clock.now()
        series_of(place.folder, 8_000.0, now - timedelta(seconds=60), now)
        payload = {"type": "IMPORT_CAPACITY_LIMIT", "values": [9.0]}
        event = place.vtn.put(
            "events",
            {
                **place.event(9_000, -50, 20),
                "intervals": [{"id": number, "payloads": [payload]} for number in (0, 1)],
                "reportDescriptors": [
                    {"payloadType": "USAGE", "units": "KWH"},
                    {"payloadType": "DEMAND", "units": "KW", "frequency": 1},
                    {"payloadType": "SOMETHING_ELSE"},
                ],
            },
        )
        assert await place.ven.round() == []
        usage, *demand = sorted(place.vtn.reports(event), key=lambda row: str(row["reportName"]))
        intervals = usage["resources"][0]["intervals"]
        assert [row["id"] for row in intervals] == [0, 1]
        (value, quality) = intervals[0]["payloads"]
        assert value["values"] == [pytest.approx(8.0 * 20 / 3600, rel=1e-3)]
        assert quality["values"] == ["OK"]
        assert [row["resources"][0]["intervals"][0]["payloads"][0]["values"] for row in demand] == [
            [8.0],
            [8.0],
        ]
        await place.ven.round()
        await place.begin()
        await place.ven.round()
        assert len(place.vtn.reports(event)) == 3
        assert not place.vtn.invalid
        assert place.vtn.objects["vens"] and place.vtn.objects["resources"]

    story(tmp_path, told)


TARGETS: list[tuple[list[Any], bool]] = [
    ([{"type": "VEN_NAME", "values": ["site-2", "site-1"]}], True),
    ([{"type": "VEN_NAME", "values": ["site-2"]}], False),
    ([{"type": "RESOURCE_NAME", "values": ["other"]}], False),
    ([{"type": "VEN_NAME", "values": ["site-2"]}, {"type": "GROUP", "values": ["north"]}], True),
    ([{"type": "GROUP", "values": ["south"]}], False),
    ([{"type": "PROGRAM_NAME", "values": ["curtail"]}], True),
    (["north"], True),
    ([], True),
]


@pytest.mark.parametrize(("targets", "ours"), TARGETS, ids=[str(row) for row in TARGETS])
def test_an_event_for_others_is_not_followed(tmp_path: Path, targets: list[Any], ours: bool) -> None:
    """A VTN of 3.0 shows every VEN all events: whom they are for stands in them."""

    async def told(place: Place) -> None:
        event = place.vtn.put("events", place.event(9_000, targets=targets))
        assert await place.ven.round() == []
        assert len(place.powerctld.standing()) == ours
        # Given to others instead, it is over for us.
        elsewhere = [{"type": "VEN_NAME", "values": ["site-2"]}]
        place.vtn.put("events", place.event(9_000, targets=elsewhere), event)
        assert await place.ven.round() == []
        assert place.powerctld.standing() == []

    story(tmp_path, told, targets=("north",))


def test_the_state_file_has_no_secret(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        place.vtn.put("events", place.event(9_000))
        await place.ven.round()
        text = (place.folder / "bridge" / "signal.utility.json").read_text()
        assert SECRET not in text
        assert json.loads(text)["known"]

    story(tmp_path, told)


def test_an_event_that_ends_by_itself_recovers_in_peace(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        event = place.vtn.put("events", place.event(9_000, -10, 16))
        await place.ven.round()
        ((_, _, end),) = place.powerctld.standing()
        assert end <= 6
        before = place.powerctld.standing()
        async with asyncio.timeout(30):
            while place.powerctld.standing()[0][2] > -1:  # noqa: ASYNC110  # the clock's own event
                await asyncio.sleep(0.1)
        await place.ven.round()
        place.vtn.delete("events", event)
        await place.ven.round()
        await place.begin()
        await place.ven.round()
        assert len(place.powerctld.levers.events) == len(before)
        assert not place.powerctld.kinds_of("event cancelled")

    story(tmp_path, told)


def test_an_event_that_loops_in_a_blink_or_comes_by_the_thousand_is_bounded(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        period = {"start": at(60), "duration": "PT0.01S"}
        place.vtn.put("events", {**place.event(9_000), "intervalPeriod": period, "duration": "P9999Y"})
        for number in range(300):
            place.vtn.put("events", place.event(9_000, 7_200 * (1 + number)))
        doubts = await place.ven.round()
        assert any("301 events" in doubt for doubt in doubts)
        assert any("too far ahead" in doubt for doubt in doubts)
        assert len(place.powerctld.standing()) == 100

    story(tmp_path, told)


def test_what_a_forgetful_vtn_has_told_is_forgotten_when_it_is_over(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        place.vtn.put("events", place.event(9_000, -10, 16))
        period = {"start": "0001-01-01", "duration": "P9999Y"}
        place.vtn.put("events", {**place.event(9_500), "intervalPeriod": period})
        await place.ven.round()
        ends = [end for _, _, end in place.powerctld.standing()]
        for rows in place.vtn.objects.values():
            rows.clear()
        await place.begin()
        assert any("is gone" in doubt for doubt in await place.ven.round())
        # Nobody tells the other any more: it is not renewed.
        for promised in place.ven._promises._ends:
            place.ven._promises._ends[promised] = clock.now() + timedelta(seconds=3)
        await place.ven.round()
        assert place.powerctld.standing()[-1][2] <= SLACK_SECONDS < max(ends)
        async with asyncio.timeout(30):
            while await place.ven.round():  # noqa: ASYNC110  # the clock's own event
                await asyncio.sleep(0.1)
        assert not place.ven._raw

    story(tmp_path, told)
