"""Windows: levels that cannot be meant, priorities, ids, promises without an end, and feeds."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.bridge.feeds import Feed
from slurm_power.bridge.grid_events import Level, Price, Window, by_priority, external_id, plain_id, printable
from slurm_power.bridge.promises import Promises
from slurm_power.bridge.windows_json import window_from_json, window_json
from tests.plan.situations import site

AT = datetime(2026, 11, 28, 12, tzinfo=UTC)


def window(start: float, end: float, *, event_id: str = "e", priority: int | None = None) -> Window:
    return Window(
        event_id=event_id,
        part="0",
        version="1",
        starts_at=AT + timedelta(minutes=start),
        ends_at=AT + timedelta(minutes=end),
        level=Level(limit_watts=9_000.0),
        reason="r",
        priority=priority,
    )


@pytest.mark.parametrize(
    "level",
    [
        Level(limit_watts=-1.0),
        Level(limit_watts=math.nan),
        Level(limit_watts=math.inf),
        Level(limit_watts=1e9),
        Level(cut_ratio=0.0),
        Level(cut_ratio=1.5),
        Level(cut_watts=1e9),
        Level(cut_watts=-5.0),
    ],
)
def test_levels_that_cannot_be_meant(level: Level) -> None:
    assert level.problem(site().root)


def test_a_limit_as_high_as_the_circuits_own_asks_for_nothing() -> None:
    root = site().root
    level = Level(limit_watts=root.ceiling_watts)
    assert not level.problem(root)
    assert not level.binds(root)
    assert Level(limit_watts=root.ceiling_watts - 1.0).binds(root)


spans = st.tuples(st.integers(0, 50), st.integers(1, 50), st.sampled_from([None, 0, 1, 2]))


@given(st.lists(spans, min_size=1, max_size=6))
def test_in_each_minute_the_highest_priority_there_is_holds(rows: list[tuple[int, int, int | None]]) -> None:
    windows = [
        window(start, start + length, event_id=f"e{number}", priority=priority)
        for number, (start, length, priority) in enumerate(rows)
    ]
    found = by_priority(windows, AT)
    assert len({external_id("s", one) for one in found}) == len(found)
    for minute in range(102):
        moment = AT + timedelta(minutes=minute, seconds=30)
        asked = [one for one in windows if one.starts_at <= moment < one.ends_at]
        holding = {one.event_id for one in found if one.starts_at <= moment < one.ends_at}
        best = min((math.inf if one.priority is None else one.priority for one in asked), default=None)
        wanted = {
            one.event_id for one in asked if (math.inf if one.priority is None else one.priority) == best
        }
        assert holding == wanted


@pytest.mark.parametrize("text", ["a b", "x" * 101, "", "a/b", "\x1b[2J", "ä", "\ud800"])
def test_foreign_ids_become_plain_ones_that_differ(text: str) -> None:
    found = plain_id(text)
    assert found.isascii()
    assert found.isalnum()
    assert found != plain_id(text + "x")
    assert plain_id("event-7_a.b:c") == "event-7_a.b:c"


def test_foreign_text_is_one_line() -> None:
    assert printable("a\nb\x1b[2Jc") == "a b [2Jc"
    assert len(printable("x" * 1000)) == 120


def test_a_window_comes_back_from_its_file() -> None:
    made = replace(window(0, 5, priority=1), until_revoked=True, joined=True)
    assert window_from_json(window_json(made)) == made


def test_what_has_no_end_is_promised_for_hours_and_renewed_at_half_time() -> None:
    promises = Promises(24.0)
    open_one = replace(window(0, 0), until_revoked=True)

    def end_at(hours: float) -> float:
        (found,) = promises.onto([open_one], AT + timedelta(hours=hours))
        return (found.ends_at - AT) / timedelta(hours=1)

    assert [end_at(hours) for hours in (0, 1, 11, 13, 14)] == [24, 24, 24, 37, 37]
    kept = Promises(24.0, dict(promises.to_json()))
    assert kept.onto([open_one], AT + timedelta(hours=15))[0].ends_at == AT + timedelta(hours=37)
    assert kept.onto([open_one], AT + timedelta(hours=30), {"e"})[0].ends_at == AT + timedelta(hours=37)
    assert Promises(24.0, {"e/0": "nonsense"}).onto([open_one], AT)[0].ends_at == AT + timedelta(hours=24)


def price(hour: float, value: float) -> Price:
    start = AT + timedelta(hours=hour)
    return Price(starts_at=start, ends_at=start + timedelta(hours=1), value=value)


def test_a_feed_keeps_the_past_and_takes_the_future_anew(tmp_path: Path) -> None:
    file = tmp_path / "feeds" / "u.price.csv"
    Feed(file, "price_per_kwh").put([price(0, 0.1), price(1, 0.2), price(3, 0.4)], AT)
    assert [row.split(",")[1] for row in file.read_text().split()] == [
        "price_per_kwh",
        "0.1",
        "0.2",
        "",
        "0.4",
        "",
    ]
    again = Feed(file, "price_per_kwh")
    again.put([price(1, 0.25)], AT + timedelta(hours=1))
    assert [row.split(",")[1] for row in file.read_text().split()] == ["price_per_kwh", "0.1", "0.25", ""]
    again.put([], AT + timedelta(hours=1))
    assert "0.1" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_a_feed_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "feeds").write_text("no folder")
    Feed(tmp_path / "feeds" / "u.price.csv", "price_per_kwh").put([price(0, 0.1)], AT)
