"""Our VEN of OpenADR 2.0b against openleadr's VTN on loopback: events, answers, restarts, telemetry."""

import contextlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from openleadr.errors import NotAllowedError

from containers.vtn.openadr2 import VEN_ID
from slurm_power import clock
from slurm_power.bridge import openadr2
from slurm_power.bridge.bounded_http import AnswerError, clock_doubt
from slurm_power.powerctld_line import LineError
from tests.bridge.place2 import Place, story
from tests.bridge.places import SLACK_SECONDS, series_of


def test_an_event_is_followed_changed_and_cancelled(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        assert await place.ven.round() == []
        assert (place.vtn.registrations, place.vtn.offers) == (1, 1)
        place.vtn.event(9_000)
        assert await place.ven.round() == []
        assert place.powerctld.standing() == [
            (9_000.0, pytest.approx(60, abs=SLACK_SECONDS), pytest.approx(660, abs=SLACK_SECONDS))
        ]
        assert place.vtn.answers == [("e1", "optIn")]
        place.vtn.event(8_000, 120, modification=1)
        assert await place.ven.round() == []
        assert place.powerctld.standing()[0][:2] == (8_000.0, pytest.approx(120, abs=SLACK_SECONDS))
        place.vtn.server.cancel_event(VEN_ID, "e1")
        assert await place.ven.round() == []
        assert place.powerctld.standing() == []
        assert place.powerctld.book.kinds() == ["event", "event changed", "event cancelled"]

    story(tmp_path, told)


LEVELS: list[tuple[dict[str, Any], float]] = [
    ({"value": 1, "name": "SIMPLE", "kind": "level", "unit": ""}, 18_000.0),
    ({"value": 1, "name": "simple", "kind": "level", "unit": ""}, 18_000.0),
    ({"value": -5_000, "kind": "delta"}, 15_000.0),
    ({"value": 0.8, "kind": "multiplier", "unit": ""}, 16_000.0),
    ({"value": 0.5, "name": "LOAD_CONTROL", "kind": "x-loadControlCapacity", "unit": ""}, 15_000.0),
    ({"value": -25, "name": "LOAD_CONTROL", "kind": "x-loadControlPercentOffset", "unit": ""}, 15_000.0),
]


@pytest.mark.parametrize(
    ("words", "watts"), LEVELS, ids=[f"{words.get('name')} {words['kind']}" for words, _ in LEVELS]
)
def test_signals_become_limits(tmp_path: Path, words: dict[str, Any], watts: float) -> None:
    async def told(place: Place) -> None:
        await place.ven.round()
        place.vtn.event(**words)
        assert await place.ven.round() == []
        assert [row[0] for row in place.powerctld.standing()] == [pytest.approx(watts, rel=0.01)]

    story(tmp_path, told)


ABSURD: list[tuple[dict[str, Any], str]] = [
    ({"value": -5_000}, "negative"),
    ({"value": 9e9}, "above the rating"),
    ({"value": 9_000, "unit": ""}, "no unit of real power"),
    ({"value": 2, "name": "SIMPLE", "kind": "level", "unit": ""}, "level_2_cut_ratio"),
    ({"value": 9_000, "seconds": 400 * 86_400}, "longest_event_hours"),
    ({"value": 9_000, "start": 400 * 86_400}, "days ahead"),
    ({"value": 0.2, "name": "ELECTRICITY_PRICE", "kind": "price", "unit": ""}, "is not followed"),
]


@pytest.mark.parametrize(("words", "problem"), ABSURD, ids=[problem for _, problem in ABSURD])
def test_what_cannot_be_meant_is_opted_out_of(tmp_path: Path, words: dict[str, Any], problem: str) -> None:
    async def told(place: Place) -> None:
        await place.ven.round()
        place.vtn.event(**words)
        (doubt,) = await place.ven.round()
        assert problem in doubt
        assert place.vtn.answers == [("e1", "optOut")]
        assert place.powerctld.standing() == []

    story(tmp_path, told)


def test_states_out_of_order_twice_and_changed_in_secret(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        await place.ven.round()
        place.vtn.event(9_000, modification=3)
        await place.ven.round()
        place.vtn.event(5_000, modification=2)
        assert "came after 3" in (await place.ven.round())[0]
        place.vtn.event(7_000, modification=3)
        assert "without a new modification number" in (await place.ven.round())[0]
        assert [row[0] for row in place.powerctld.standing()] == [9_000.0]
        await place.begin()
        place.vtn.event(5_000, modification=2)
        assert "came after 3" in (await place.ven.round())[0]
        assert [row[0] for row in place.powerctld.standing()] == [9_000.0]
        assert place.powerctld.book.kinds().count("event") == 1

    story(tmp_path, told)


@pytest.mark.parametrize("event_id", ["e1", "farm", "near-term", "active"])
def test_an_event_that_comes_near_and_runs_has_not_changed(tmp_path: Path, event_id: str) -> None:
    async def told(place: Place) -> None:
        await place.ven.round()
        event = place.vtn.event(9_000, event_id=event_id)
        assert await place.ven.round() == []
        for status in ("near", "active"):
            event["event_descriptor"]["event_status"] = status
            place.vtn.server.events_updated[VEN_ID] = True
            assert await place.ven.round() == []
        assert place.powerctld.book.kinds() == ["event"]

    story(tmp_path, told)


def test_running_open_overlapping_and_past_events(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        await place.ven.round()
        place.vtn.event(9_000, -100, 600, event_id="running", priority=2)
        place.vtn.event(8_000, 200, 100, event_id="stricter", priority=2)
        place.vtn.event(11_000, 400, 50, event_id="more-important", priority=1)
        place.vtn.event(7_000, -900, 600, event_id="past")
        place.vtn.event(12_000, 3_000, 0, event_id="open")
        assert await place.ven.round() == []
        near = pytest.approx
        assert place.powerctld.standing() == [
            (9_000.0, near(0, abs=SLACK_SECONDS), near(400, abs=SLACK_SECONDS)),
            (8_000.0, near(200, abs=SLACK_SECONDS), near(300, abs=SLACK_SECONDS)),
            (11_000.0, near(400, abs=SLACK_SECONDS), near(450, abs=SLACK_SECONDS)),
            (9_000.0, near(450, abs=SLACK_SECONDS), near(500, abs=SLACK_SECONDS)),
            (12_000.0, near(3_000, abs=SLACK_SECONDS), near(3_000 + 24 * 3_600, abs=SLACK_SECONDS)),
        ]

    story(tmp_path, told)


def test_a_test_event_is_answered_and_not_followed(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        await place.ven.round()
        place.vtn.event(9_000, test=True)
        assert await place.ven.round() == []
        assert place.vtn.answers == [("e1", "optIn")]
        assert place.powerctld.standing() == []

    story(tmp_path, told)


def test_a_restart_of_the_vtn_loses_neither_events_nor_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openadr2, "_AGAIN_SECONDS", 0.0)

    async def told(place: Place) -> None:
        await place.ven.round()
        place.vtn.event(9_000)
        await place.ven.round()
        remembered = await place.vtn.stop()
        with pytest.raises(AnswerError):
            await place.ven.round()
        assert len(place.powerctld.standing()) == 1
        # This one has the events, but neither registration nor report requests (openleadr-python #186).
        await place.vtn.start(remembered=remembered)
        offers = place.vtn.offers
        await place.ven.round()
        assert place.vtn.offers == offers + 1
        assert place.powerctld.book.kinds() == ["event"]
        await place.vtn.stop()
        # And this one has forgotten everything.
        await place.vtn.start()
        await place.ven.round()
        assert len(place.powerctld.standing()) == 1

    story(tmp_path, told)


def test_our_restart_asks_for_events_that_came_meanwhile(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        await place.ven.round()
        place.vtn.event(9_000, event_id="before")
        await place.ven.round()
        place.vtn.event(8_000, 2_000, event_id="while-away")
        # Its poll has been answered to nobody: only asking for all events brings it (openleadr-python #137).
        place.vtn.server.events_updated[VEN_ID] = False
        await place.begin()
        await place.ven.round()
        assert [row[0] for row in place.powerctld.standing()] == [9_000.0, 8_000.0]
        assert place.powerctld.book.kinds().count("event") == 2

    story(tmp_path, told)


def test_no_answer_is_given_before_powerctld_has_taken_it(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        await place.ven.round()
        place.vtn.event(9_000)
        place.powerctld.away = True
        with pytest.raises(LineError):
            await place.ven.round()
        assert place.vtn.answers == []
        place.powerctld.away = False
        await place.ven.round()
        assert place.vtn.answers == [("e1", "optIn")]

    story(tmp_path, told)


def test_ids_that_look_like_numbers_and_text_that_looks_like_xml(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        await place.ven.round()
        place.vtn.event(9_000, event_id="007", comment="&lt;b&gt; &amp; =cmd")
        place.vtn.event(8_000, 900, event_id="1.2.3")
        with contextlib.suppress(AnswerError):  # this VTN itself takes our answer's ids for numbers
            await place.ven.round()
        assert [row[0] for row in place.powerctld.standing()] == [9_000.0, 8_000.0]
        assert {event.external_id for event in place.powerctld.levers.events.values()} == {
            "utility/007/0-0",
            "utility/1.2.3/0-0",
        }

    story(tmp_path, told)


def test_telemetry_goes_back_with_its_quality(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        now = clock.now()
        series_of(place.folder, 8_000.0, now - timedelta(seconds=20), now + timedelta(seconds=60))
        await place.ven.round()
        (request,) = place.ven._requests
        assert (request.step_seconds, request.back_seconds) == (2.0, 4.0)
        request.since = (now - timedelta(seconds=9)).isoformat()
        await place.ven.round()
        assert [value for _, value in place.vtn.values] == [8_000.0, 8_000.0]
        # What was told once is not told again.
        await place.ven.round()
        assert len(place.vtn.values) == 2

    story(tmp_path, told)


def test_a_vtn_that_asks_for_it_gets_a_new_registration(tmp_path: Path) -> None:
    registered: set[str] = set()

    def lookup(ven_id: str) -> dict[str, str] | None:
        return {"ven_id": ven_id, "registration_id": "r"} if ven_id in registered else None

    async def told(place: Place) -> None:
        place.vtn.on_registration = lambda: registered.add(VEN_ID)
        assert await place.ven.round() == []
        place.vtn.event(9_000)
        await place.ven.round()
        registered.clear()
        assert await place.ven.round() == []
        assert place.vtn.registrations == 2
        assert place.powerctld.book.kinds() == ["event"]
        assert place.vtn.offers == 2
        # One that never has enough is left alone until the next round.
        registered.clear()
        place.vtn.on_registration = lambda: None
        with pytest.raises(AnswerError, match="again and again"):
            await place.ven.round()
        assert place.vtn.registrations == 3
        assert len(place.powerctld.standing()) == 1

    story(tmp_path, told, tls={"ven_lookup": lookup})


def test_a_more_important_event_comes_and_goes_without_letting_what_runs_go(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        await place.ven.round()
        place.vtn.event(9_000, -100, 600, event_id="running", priority=2)
        await place.ven.round()

        def levels() -> list[float]:
            events = place.powerctld.levers.events.values()
            return [one.limit_watts for one in events if one.starts_at <= clock.now() < one.ends_at]

        assert levels() == [9_000.0]
        place.vtn.event(12_000, 30, 60, event_id="important", priority=1)
        await place.ven.round()
        assert levels() == [9_000.0]
        assert [row[0] for row in place.powerctld.standing()] == [9_000.0, 12_000.0, 9_000.0]
        place.vtn.server.cancel_event(VEN_ID, "important")
        await place.ven.round()
        assert levels() == [9_000.0]
        assert [row[0] for row in place.powerctld.standing()] == [9_000.0]

    story(tmp_path, told)


@pytest.mark.parametrize("refusal", [NotAllowedError("no reports here"), RuntimeError("broken")])
def test_a_vtn_that_refuses_reports_has_its_events_followed(tmp_path: Path, refusal: Exception) -> None:
    async def told(place: Place) -> None:
        place.vtn.report_refusal = refusal
        place.vtn.event(9_000)
        for _ in range(2):
            (doubt,) = await place.ven.round()
            assert doubt.startswith("reports: ")
        assert place.vtn.registrations == 1
        assert [row[0] for row in place.powerctld.standing()] == [9_000.0]
        assert place.vtn.answers == [("e1", "optIn")]

    story(tmp_path, told)


def test_a_clock_far_from_ours_is_flagged(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        await place.ven.round()
        assert place.line is not None
        ahead = clock.now() + timedelta(seconds=300)
        assert "300 s ahead" in clock_doubt(f"{ahead:%a, %d %b %Y %H:%M:%S} GMT").replace("299", "300")
        assert clock_doubt("nonsense") == ""
        assert place.line.clock_doubt == ""

    story(tmp_path, told)
