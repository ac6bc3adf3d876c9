"""Alerts over time: pending, firing, over; silenced, covered, taken over by the next bridge."""

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.bridge.alert_book import AlertBook, News, Notice, Silence
from slurm_power.model.alert import INHIBITS, RULES, AlertRule, Finding, Severity

RULE = AlertRule(
    name="dead_source",
    severity=Severity.WARN,
    for_seconds=10.0,
    keep_seconds=20.0,
    repeat_seconds=100.0,
    meaning="",
)
SLOW = {"dead_source": RULE}
DEAD = Finding(rule="dead_source", cause="host:pdu", summary="pdu: stale", what_to_do="look")


def book(**more: float) -> AlertBook:
    return AlertBook(SLOW, {}, **more)


def told(notices: Iterable[Notice]) -> list[str]:
    return [notice.news.value for notice in notices]


def run(
    own: AlertBook, seen: Iterable[bool], start: float = 0.0, step: float = 5.0
) -> list[tuple[float, str]]:
    """Look every ``step`` seconds; returns what was told and when."""
    found = []
    for turn, there in enumerate(seen):
        at = start + turn * step
        found += [(at, news) for news in told(own.look([DEAD] if there else [], at))]
    return found


def test_it_fires_after_its_time_and_ends_after_its_time() -> None:
    assert run(book(), [True] * 4 + [False] * 5) == [(10.0, "firing"), (35.0, "over")]


def test_a_short_one_is_never_told() -> None:
    assert run(book(), [True, True, False, False, False, True, False, False, False]) == []


def test_gaps_shorter_than_its_time_do_not_hide_what_comes_and_goes() -> None:
    assert run(book(), [True, True, False] * 4)[0] == (20.0, "firing")


def test_it_does_not_fire_again_before_its_repeat_time() -> None:
    seen = [True] * 3 + [False] * 5 + [True] * 20
    assert run(book(), seen) == [(10.0, "firing"), (30.0, "over"), (110.0, "firing")]


@given(
    st.lists(st.booleans(), max_size=120),
    st.floats(1.0, 30.0),
    st.integers(0, 120),
)
def test_no_flapping_whatever_is_seen(seen: list[bool], step: float, restart_after: int) -> None:
    own = book()
    fired: list[float] = []
    open_since: float | None = None
    for turn, there in enumerate([*seen, *[False] * 60]):
        at = turn * step
        if turn == restart_after:
            stored = json.loads(json.dumps(own.to_json()))
            own = book()
            own.take_json(stored, at)
        for notice in own.look([DEAD] if there else [], at):
            if notice.news is News.FIRING:
                assert open_since is None, "told twice that it fires"
                assert not fired or at >= fired[-1] + RULE.repeat_seconds
                fired.append(at)
                open_since = at
            elif notice.news is News.OVER:
                assert open_since is not None, "over before it fired"
                open_since = None
    assert open_since is None, "it never ended"
    assert own.firing == []


def test_the_next_bridge_does_not_tell_again_and_tells_the_end() -> None:
    first = book()
    run(first, [True] * 4)
    second = book()
    second.take_json(json.loads(json.dumps(first.to_json())), 60.0)
    assert run(second, [True] * 4, start=60.0) == []
    assert run(second, [False] * 8, start=80.0) == [(95.0, "over")]


def test_what_ended_while_no_bridge_was_there_is_told() -> None:
    first = book()
    run(first, [True] * 4)
    second = book()
    second.take_json(first.to_json(), 1000.0)
    assert run(second, [False] * 8, start=1000.0) == [(1020.0, "over")]


@pytest.mark.parametrize(
    "stored", [None, [], {"alerts": 3}, {"alerts": [{"alert_id": "x"}], "last_fired": {"a": "b"}}]
)
def test_a_state_that_is_none_is_an_empty_one(stored: object) -> None:
    own = book()
    own.take_json(stored, 0.0)
    assert own.firing == []


def test_without_a_picture_nothing_is_over_and_nothing_begins() -> None:
    own = book()
    run(own, [True] * 3)
    for turn in range(3, 30):
        assert own.look([], 5.0 * turn, known=False) == []
    assert len(own.firing) == 1
    assert run(own, [False] * 8, start=150.0) == [(165.0, "over")]


def test_a_silence_holds_its_tongue_and_the_end_is_told_all_the_same() -> None:
    own = book(remind_seconds=30.0)
    own.silences["dead_source:host:pdu"] = Silence(until=100.0, reason="known", who="alice")
    assert run(own, [True] * 20) == []
    assert own.announced() == []
    assert run(own, [True] * 2, start=100.0) == [(100.0, "firing")]
    own.silences["dead_source"] = Silence(until=1000.0, reason="known", who="alice")
    assert run(own, [True] * 20, start=110.0) == []
    assert [news for _, news in run(own, [False] * 8, start=210.0)] == ["over"]


def test_reminders() -> None:
    assert run(book(remind_seconds=30.0), [True] * 16) == [(10.0, "firing"), (40.0, "still"), (70.0, "still")]


def test_it_may_become_graver_once_and_never_less_grave() -> None:
    own = book()
    run(own, [True] * 3)
    grave = Finding(rule="dead_source", cause="host:pdu", summary="", what_to_do="", severity=Severity.PAGE)
    assert told(own.look([grave], 15.0)) == ["graver"]
    assert told(own.look([DEAD], 20.0)) == []
    assert told(own.look([grave], 25.0)) == []
    assert own.firing[0].severity is Severity.PAGE


def test_a_moved_severity_moves_what_is_graver() -> None:
    moved = AlertRule(
        name="dead_source",
        severity=Severity.INFO,
        for_seconds=0,
        keep_seconds=9,
        repeat_seconds=9,
        meaning="",
    )
    own = AlertBook({"dead_source": moved}, {})
    grave = Finding(rule="dead_source", cause="a", summary="", what_to_do="", severity=Severity.PAGE)
    own.look([grave], 0.0)
    assert own.firing[0].severity is Severity.WARN


def test_what_another_explains_becomes_part_of_it() -> None:
    own = book()
    run(own, [True] * 3)
    chief = Finding(
        rule="dead_source", cause="nodes:rack1", summary="", what_to_do="", covers=("dead_source:host:pdu",)
    )
    news = []
    for turn in range(3, 12):
        news += [
            (notice.news.value, notice.alert.cause, notice.remark) for notice in own.look([chief], 5.0 * turn)
        ]
    assert news[0][:2] == ("over", "host:pdu")
    assert "part of dead_source:nodes:rack1" in news[0][2]
    assert news[1][:2] == ("firing", "nodes:rack1")
    assert len(own.firing) == 1


def test_one_alert_keeps_those_quiet_that_follow_from_it() -> None:
    own = AlertBook(RULES, INHIBITS)
    silent = Finding(rule="powerctld_silent", cause="powerctld", summary="", what_to_do="")
    limit = Finding(rule="limit_at_risk", cause="grid", summary="", what_to_do="")
    seen = [
        notice
        for turn in range(8)
        for notice in own.look([silent, limit] if turn > 3 else [silent], 5.0 * turn)
    ]
    assert [notice.alert.rule for notice in seen] == ["powerctld_silent"]
    later = [notice for turn in range(8, 20) for notice in own.look([limit], 5.0 * turn)]
    assert [(notice.news.value, notice.alert.rule) for notice in later] == [
        ("over", "powerctld_silent"),
        ("firing", "limit_at_risk"),
    ]


def test_a_rule_that_is_off_is_not_told_and_ends_what_was() -> None:
    own = book()
    run(own, [True] * 3)
    off = AlertBook(
        {"dead_source": AlertRule(**{**{n: getattr(RULE, n) for n in RULE.__slots__}, "off": True})}, {}
    )
    off.take_json(own.to_json(), 20.0)
    (over,) = off.look([DEAD], 20.0)
    assert over.news is News.OVER
    assert off.firing == []
