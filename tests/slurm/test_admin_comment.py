"""What we write into AdminComment leaves everything else there as it was."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.job import Flex, Workload
from slurm_power.slurm.admin_comment import HoldNote, UserTags, hold_note, tags, user_tags, with_hold
from slurm_power.slurm.hold_book import HoldBook

NOTE = HoldNote(
    until=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    reason='peak: "grid" is full',
    begin=datetime(2026, 1, 2, 3, 0, 0, tzinfo=UTC),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda key: key != "power"), JSON, max_size=4), st.booleans())
def test_a_hold_comes_and_goes_without_a_trace(others: dict[str, object], tagged: bool) -> None:
    before = {**others, **({"power": {"workload": "training", "flex": "flex2"}} if tagged else {})}
    held = with_hold(json.dumps(before), NOTE)
    assert held is not None
    assert hold_note(held) == NOTE
    assert {key: value for key, value in json.loads(held).items() if key != "power"} == others
    freed = with_hold(held, None)
    assert freed is not None
    assert (json.loads(freed) if freed else {}) == before
    assert hold_note(freed) is None


@pytest.mark.parametrize("foreign", ["ticket 4711", "[1,2]", '"text"', '{"power": 3}', "{broken"])
def test_foreign_text_is_never_changed(foreign: str) -> None:
    assert with_hold(foreign, NOTE) is None
    assert hold_note(foreign) is None
    assert tags(foreign) == (None, None)


def test_no_comment_is_room_for_ours() -> None:
    for empty in ("", "(null)"):
        assert hold_note(with_hold(empty, NOTE) or "") == NOTE


def test_somebody_elses_hold_note_is_not_ours() -> None:
    assert hold_note('{"power":{"hold":{"by":"other","until":"2026-01-02T03:04:05Z"}}}') is None


def test_tags() -> None:
    text = '{"power":{"workload":"generation","flex":"flex9"}}'
    assert tags(text) == (Workload.GENERATION, None)
    assert tags('{"power":{"flex":"flex1","workload":["x"]}}') == (None, Flex.FLEX1)


def test_a_users_wishes() -> None:
    text = '{"power":{"max_hold_seconds":1800,"finish_by":1767323045,"cap_watts":400}}'
    found = user_tags(text)
    assert (found.workload, found.flex) == (None, None)
    assert (found.max_hold_seconds, found.own_cap_watts) == (1800.0, 400.0)
    assert found.finish_by == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert user_tags('{"power":{"max_hold_seconds":0}}').max_hold_seconds == 0.0
    text = '{"power":{"tier":"digits/full","tiers_ok":["int8","small"],"min_quality":0.95}}'
    found = user_tags(text)
    assert (found.tier, found.tiers_ok, found.min_quality) == ("digits/full", ("int8", "small"), 0.95)
    assert user_tags('{"power":{"tiers_ok":["any"]}}').tiers_ok == ("any",)


@pytest.mark.parametrize(
    "power",
    [
        '{"max_hold_seconds":-1,"finish_by":0,"cap_watts":0}',
        '{"max_hold_seconds":1e300,"finish_by":1e300,"cap_watts":1e300}',
        '{"max_hold_seconds":NaN,"finish_by":Infinity,"cap_watts":NaN}',
        '{"max_hold_seconds":true,"finish_by":true,"cap_watts":true}',
        '{"max_hold_seconds":"1800","finish_by":"@1767323045","cap_watts":[400]}',
        '{"tier":"digits","tiers_ok":"int8","min_quality":"0.95"}',
        '{"tier":["a/b"],"tiers_ok":["int8",3],"min_quality":1e300}',
        '{"tier":"a/b/c","tiers_ok":["int8","any"],"min_quality":NaN}',
        '{"tier":"A/b","tiers_ok":["none"],"min_quality":true}',
        '{"tier":"","tiers_ok":{"int8":1},"min_quality":null}',
        '{"tiers_ok":["1","2","3","4","5","6","7","8","9"]}',
        "{}",
    ],
)
def test_wishes_that_make_no_sense_are_none(power: str) -> None:
    assert user_tags(f'{{"power":{power}}}') == UserTags()


@pytest.mark.parametrize(
    "word",
    [
        *('"max_hold_seconds":500', '"finish_by":1767323045', '"cap_watts":500', '"tier":"a/b"'),
        *('"tiers_ok":["b"]', '"min_quality":-0.5'),
    ],
)
def test_wishes_outlive_a_hold(word: str) -> None:
    text = f'{{"power":{{{word}}}}}'
    assert user_tags(text) != UserTags()
    held = with_hold(text, NOTE)
    assert held is not None
    assert user_tags(held) == user_tags(text)


def test_the_book_survives_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "state" / "holds.json"
    book = HoldBook(file)
    book.put("17", NOTE)
    book.put("18", NOTE)
    assert HoldBook(file).get("17") == NOTE
    book.put("17", None)
    again = HoldBook(file)
    assert again.get("17") is None
    again.keep_only({"99"})
    assert HoldBook(file).get("18") is None


def test_a_broken_book_is_empty_and_can_be_written(tmp_path: Path) -> None:
    file = tmp_path / "holds.json"
    file.write_text("{")
    book = HoldBook(file)
    assert book.get("17") is None
    book.put("17", NOTE)
    assert HoldBook(file).get("17") == NOTE
