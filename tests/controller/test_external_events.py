"""Events of other systems at the controller's socket: told again, changed, taken back, over a restart."""

from collections.abc import Iterator
from typing import Any

import pytest

from slurm_power import clock
from slurm_power.controller.answers.behalf import behalf_of
from slurm_power.controller.answers.event_answer import add_event, cancel_event
from slurm_power.controller.answers.user_socket import Caller, RefusedError
from tests.controller.test_event_desk import ASKED, STRANGER, Bench

THEIRS = {
    **{key: value for key, value in ASKED.items() if key != "cut_ratio"},
    "limit_watts": 9_000,
    "external_id": "utility/e1/0",
    "external_version": "1",
}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench()
    monkeypatch.setattr(clock, "now", lambda: made.at)
    yield made


def told(bench: Bench, **more: Any) -> dict[str, Any]:
    return bench.ask(add_event, {**THEIRS, **more})


def test_the_same_again_changes_nothing_also_after_a_restart(bench: Bench) -> None:
    first = told(bench)
    assert first["event_id"] == "ev-1"
    assert told(bench) == {"event_id": "ev-1", "limit_watts": 9_000.0, "unchanged": True}
    bench.restart()
    bench.live(60)
    assert told(bench, start_in_seconds=540)["unchanged"]
    assert list(bench.levers.events) == ["ev-1"]
    assert bench.book.kinds() == ["event"]


def test_a_new_state_replaces_the_event_under_its_own_id(bench: Bench) -> None:
    told(bench)
    answer = told(bench, limit_watts=8_000, start_in_seconds=1200, external_version="2")
    assert (answer["event_id"], answer["limit_watts"]) == ("ev-1", 8_000.0)
    (event,) = bench.levers.events.values()
    assert (event.limit_watts, event.external_version) == (8_000.0, "2")
    assert bench.book.kinds() == ["event", "event changed"]


def test_a_change_while_it_runs_does_not_let_the_load_up_again(bench: Bench) -> None:
    bench.live(1000)
    told(bench, start_in_seconds=0, ramp_seconds=60)
    bench.live(120)
    assert bench.snapshot().limit_watts("grid") == 9_000.0
    told(bench, limit_watts=8_500, start_in_seconds=0, ramp_seconds=60, external_version="2")
    assert bench.snapshot().limit_watts("grid") == 8_500.0
    (event,) = bench.levers.events.values()
    assert event.baseline_watts == pytest.approx(20_000.0)


def test_its_announcer_takes_it_back_and_may_do_so_twice(bench: Bench) -> None:
    told(bench)
    words = {"op": "cancel_event", "external_id": "utility/e1/0"}
    assert bench.ask(cancel_event, words) == {"event_id": "ev-1"}
    assert bench.ask(cancel_event, words) == {"event_id": None}
    assert not bench.levers.events
    assert told(bench)["event_id"] == "ev-2"


def test_what_an_operator_took_back_stays_so_until_it_is_changed(bench: Bench) -> None:
    told(bench)
    bench.ask(cancel_event, {"op": "cancel_event", "event_id": "ev-1"})
    assert told(bench) == {"event_id": None, "withdrawn": True}
    bench.restart()
    assert told(bench)["withdrawn"]
    assert told(bench, external_version="2")["event_id"] == "ev-2"


def test_the_ledger_names_the_signal(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    actors = []
    monkeypatch.setattr(bench.operators, "_note", lambda actor, *_, **__: actors.append(actor))
    caller = Caller(0, behalf_of({"name": "utility", "role": "operator", "via": "signal"}))
    bench.ask(add_event, THEIRS, caller)
    bench.ask(cancel_event, {"op": "cancel_event", "external_id": "utility/e1/0"}, caller)
    assert actors == ["signal:utility", "signal:utility"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"external_id": "a\nb"}, "external_id: must be one line"),
        ({"external_id": 7}, "external_id: must be one line"),
        ({"external_id": "x" * 301}, "external_id: must be one line"),
        ({"external_id": ""}, "external_version: there is no external_id"),
    ],
)
def test_bad_names_are_refused_and_nothing_is_changed(
    bench: Bench, words: dict[str, Any], problem: str
) -> None:
    with pytest.raises(RefusedError, match=problem):
        told(bench, **words)
    assert not bench.levers.events


def test_only_operators_may_tell_of_them(bench: Bench) -> None:
    with pytest.raises(RefusedError, match="may not announce"):
        bench.ask(add_event, THEIRS, STRANGER)


def test_a_flood_of_events_ends_at_a_bound(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm_power.controller.events.external_events.MOST_EVENTS", 3)
    for number in range(3):
        told(bench, external_id=f"utility/e{number}/0")
    with pytest.raises(RefusedError, match="no more are taken"):
        told(bench, external_id="utility/e3/0")
    assert len(bench.levers.events) == 3
