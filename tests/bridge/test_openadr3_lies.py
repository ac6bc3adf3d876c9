"""A VTN of OpenADR 3 that asks for what cannot be meant, or answers what is no answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from slurm_power.bridge.bounded_http import AnswerError
from tests.bridge.place3 import Place, at, story

ABSURD: list[tuple[dict[str, Any], str]] = [
    ({"intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [-5]}]}]}, "negative"),
    ({"intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [9e6]}]}]}, "rating"),
    ({"intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": ["x"]}]}]}, "number"),
    ({"intervals": [{"id": 0, "payloads": [{"type": "DISPATCH_SETPOINT", "values": [5]}]}]}, "unit"),
    ({"intervals": [{"id": 0, "payloads": [{"type": "SIMPLE", "values": [2]}]}]}, "level_2_cut_ratio"),
    ({"intervals": [{"id": 0, "payloads": [{"type": "SIMPLE", "values": [7]}]}]}, "no level from 0 to 3"),
    ({"intervalPeriod": {"start": at(60), "duration": "P3Y"}}, "longest_event_hours"),
    ({"intervalPeriod": {"start": "2099-01-01T00:00:00Z", "duration": "PT1H"}}, "days ahead"),
    ({"intervalPeriod": {"start": "tomorrow!!", "duration": "PT1H"}}, "no time with its zone"),
    ({"intervalPeriod": {"start": at(60)}}, "nothing says how long"),
]


@pytest.mark.parametrize(("change", "problem"), ABSURD, ids=[problem for _, problem in ABSURD])
def test_what_cannot_be_meant_is_flagged_told_back_and_never_applied(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    async def told(place: Place) -> None:
        good = place.vtn.put("events", place.event(9_000))
        bad = place.vtn.put("events", {**place.event(9_000), **change})
        (doubt,) = await place.ven.round()
        assert problem in doubt
        assert len(place.powerctld.standing()) == 1
        (report,) = place.vtn.reports(bad)
        assert report["resources"][0]["intervals"][0]["payloads"] == [
            {"type": "OPERATING_STATE", "values": ["RUNNING_OPTED_OUT"]}
        ]
        assert place.vtn.reports(good) == []
        await place.ven.round()
        assert len(place.vtn.reports(bad)) == 1

    story(tmp_path, told)


def test_a_change_into_nonsense_or_backwards_leaves_what_stood(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        event = place.vtn.put("events", place.event(9_000))
        await place.ven.round()
        before = place.powerctld.standing()
        nonsense = {"intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [-1]}]}]}
        place.vtn.put("events", {**place.event(9_000), **nonsense}, event)
        assert "negative" in (await place.ven.round())[0]
        assert [row[0] for row in place.powerctld.standing()] == [row[0] for row in before]
        place.vtn.put("events", place.event(7_000), event)
        place.vtn.objects["events"][event]["modificationDateTime"] = "2020-01-01T00:00:00Z"
        await place.begin()
        assert "went backwards" in (await place.ven.round())[0]
        assert [row[0] for row in place.powerctld.standing()] == [9_000.0]

    story(tmp_path, told)


@pytest.mark.parametrize("status", [403, 404])
def test_a_login_that_is_refused_cancels_nothing(tmp_path: Path, status: int) -> None:
    """Of an event such an answer says that it is gone; of a token it says nothing of events."""

    async def told(place: Place) -> None:
        event = place.vtn.put("events", place.event(9_000))
        await place.ven.round()
        instead = {
            "/events": lambda: web.json_response([]),
            f"/events/{event}": lambda: web.json_response({}, status=401),
            "/auth/token": lambda: web.json_response({"title": "no"}, status=status),
        }
        place.vtn.answer_instead = lambda request: instead.get(request.path, lambda: None)()
        with pytest.raises(AnswerError, match=f"no token: {status}"):
            await place.ven.round()
        assert len(place.powerctld.standing()) == 1

    story(tmp_path, told)


HOSTILE: list[tuple[str, Callable[[], web.StreamResponse], str]] = [
    ("html", lambda: web.Response(text="<html>", content_type="text/html"), "no JSON"),
    ("an object", lambda: web.json_response({"id": "x"}), "no list"),
    ("ids missing", lambda: web.json_response([{"x": 1}]), "without an id"),
    ("deep", lambda: web.Response(text="[" * 100_000, content_type="application/json"), "no JSON"),
    ("huge", lambda: web.Response(body=b" " * 5_000_000), "more than 4000000 bytes"),
    ("moved", lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), "302"),
    ("broken", lambda: web.json_response({"title": "oh\x1b[2J"}, status=500), "500 oh [2J"),
]


@pytest.mark.parametrize(("answer", "problem"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_answers_that_are_none_are_survived(
    tmp_path: Path, answer: Callable[[], web.StreamResponse], problem: str
) -> None:
    async def told(place: Place) -> None:
        place.vtn.put("events", place.event(9_000))
        await place.ven.round()
        place.vtn.answer_instead = lambda request: answer() if request.path == "/events" else None
        with pytest.raises(AnswerError) as caught:
            await place.ven.round()
        assert problem in str(caught.value)
        assert str(caught.value).isprintable()
        assert len(place.powerctld.standing()) == 1
        place.vtn.answer_instead = lambda _: None
        assert await place.ven.round() == []

    story(tmp_path, told)
