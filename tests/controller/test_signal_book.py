"""Signals as powerbridge tells of them, among the sources."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slurm_power.controller.answers.user_socket import RefusedError
from slurm_power.controller.sensing.signal_book import SILENT_SECONDS, SignalBook
from slurm_power.model.reading import Quality

AT = datetime(2026, 11, 28, 12, tzinfo=UTC)
TOLD = {
    "name": "utility",
    "kind": "openadr3",
    "state": "good",
    "last_heard": (AT - timedelta(seconds=3)).isoformat(),
    "reason": "",
}


def test_a_signal_is_a_source_with_its_age() -> None:
    book = SignalBook({"utility": "openadr3"})
    book.take([TOLD], 10.0)
    (row,) = book.rows(AT, 12.0)
    assert (row.source, row.measures, row.quality) == ("signal:utility", "openadr3 signal", Quality.GOOD)
    assert row.age_seconds == 3.0


def test_without_powerbridge_nothing_is_known() -> None:
    book = SignalBook({"utility": "openadr3"})
    (row,) = book.rows(AT, 0.0)
    assert row.quality is Quality.INVALID
    assert "does it run?" in row.reason
    book.take([TOLD], 10.0)
    (row,) = book.rows(AT, 11.0 + SILENT_SECONDS)
    assert row.quality is Quality.INVALID
    assert row.reason == "powerbridge is silent for 61 s"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"state": "fine"}, "signals.0.state: 'fine' is not one of good, questionable, invalid"),
        ({"name": None}, "signals.0.name: missing"),
        ({"reason": "a\x1b[2Jb"}, "signals.0.reason: must be one line"),
        ({"last_heard": "yesterday"}, "signals.0.last_heard: 'yesterday' is no time"),
        ({"last_heard": "2026-11-28T12:00:00"}, "signals.0.last_heard:"),
    ],
)
def test_what_it_cannot_be_is_refused_and_the_word_before_stands(
    change: dict[str, Any], problem: str
) -> None:
    book = SignalBook({})
    book.take([TOLD], 1.0)
    with pytest.raises(RefusedError, match=problem):
        book.take([{**TOLD, **change}], 2.0)
    assert [row.quality for row in book.rows(AT, 2.0)] == [Quality.GOOD]


@pytest.mark.parametrize("told", [None, {}, "x", [TOLD] * 201])
def test_no_list_is_refused(told: object) -> None:
    with pytest.raises(RefusedError, match="signals: must be a list"):
        SignalBook({}).take(told, 0.0)
