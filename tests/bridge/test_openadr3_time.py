"""The times of OpenADR 3, case by case."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slurm_power.bridge.openadr3_time import TimeError, duration_seconds, moment, spans

T0 = datetime(2026, 11, 28, 12, tzinfo=UTC)
SEEN = datetime(2026, 11, 28, 9, tzinfo=UTC)
HOUR = 3600.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT0S", 0.0),
        ("PT1H", HOUR),
        ("PT1.5S", 1.5),
        ("P1DT2H3M4S", 86_400 + 7_384.0),
        ("P2W", 14 * 86_400.0),
        ("P1Y", 365 * 86_400.0),
        ("P9999Y", math.inf),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_seconds(text, "x") == seconds


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "1H", "-PT1H", "PT1H ", "PTS", None, 60, "P" + "9" * 100 + "Y"]
)
def test_what_is_no_duration(text: Any) -> None:
    with pytest.raises(TimeError, match=r"^x: "):
        duration_seconds(text, "x")


@pytest.mark.parametrize("text", ["0001-01-01", "0001-01-01T00:00:00", "0001-01-01T00:00:00Z"])
def test_the_beginning_of_time_is_now(text: str) -> None:
    assert moment(text, "x") is None


@pytest.mark.parametrize("text", ["2026-11-28T12:00:00", "now", "", None, 5, "9999-12-31T23:59:59-23:00"])
def test_what_is_no_moment(text: Any) -> None:
    with pytest.raises(TimeError, match=r"^x: "):
        moment(text, "x")


def event(*intervals: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "e",
        "intervals": [{"id": n, "payloads": [], **one} for n, one in enumerate(intervals)],
        **more,
    }


def hours(found: dict[str, Any]) -> list[tuple[float, float | None]]:
    """Begin and end of each interval, in hours after noon."""
    return [
        (
            (span.starts_at - T0).total_seconds() / HOUR,
            None if span.ends_at is None else (span.ends_at - T0).total_seconds() / HOUR,
        )
        for span in spans(found, first_seen=SEEN, ven_name="v")
    ]


NOON = {"start": "2026-11-28T12:00:00Z", "duration": "PT1H"}
CASES: list[tuple[str, dict[str, Any], list[tuple[float, float | None]]]] = [
    ("defaults", event({}, {}, intervalPeriod=NOON), [(0, 1), (1, 2)]),
    (
        "one of its own length",
        event({}, {"intervalPeriod": {"duration": "PT2H"}}, {}, intervalPeriod=NOON),
        [(0, 1), (1, 3), (3, 4)],
    ),
    (
        "a gap",
        event({}, {"intervalPeriod": {"start": "2026-11-28T15:00:00Z"}}, {}, intervalPeriod=NOON),
        [(0, 1), (3, 4), (4, 5)],
    ),
    (
        "follows at once",
        event({}, {"intervalPeriod": {"start": "0001-01-01", "duration": "PT3H"}}, intervalPeriod=NOON),
        [(0, 1), (1, 4)],
    ),
    ("now", event({"intervalPeriod": {"start": "0001-01-01", "duration": "PT1H"}}), [(-3, -2)]),
    ("now by itself", event({"intervalPeriod": {"duration": "PT1H"}}), [(-3, -2)]),
    ("for ever", event({}, {}, intervalPeriod={**NOON, "duration": "P9999Y"}), [(0, None)]),
    ("cancelled", event({}, intervalPeriod={"start": "0001-01-01", "duration": "PT0S"}), [(-3, -3)]),
    ("cut", event({}, {}, {}, intervalPeriod=NOON, duration="PT90M"), [(0, 1), (1, 1.5)]),
    (
        "repeated",
        event({}, {}, intervalPeriod=NOON, duration="PT5H"),
        [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)],
    ),
    ("its own duration alone", event({}, intervalPeriod={"start": NOON["start"]}, duration="PT2H"), [(0, 2)]),
    ("no interval", event(intervalPeriod=NOON), []),
]


@pytest.mark.parametrize(("found", "wanted"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_intervals(found: dict[str, Any], wanted: list[tuple[float, float | None]]) -> None:
    assert hours(found) == wanted


def test_a_loop_for_ever_has_an_end_for_us() -> None:
    looped = spans(event({}, intervalPeriod=NOON, duration="P9999Y"), first_seen=SEEN, ven_name="v")
    assert len(looped) == 2000
    assert looped[-1].ends_at == T0 + timedelta(hours=2000)


def test_a_random_start_is_the_same_each_time_and_another_for_others() -> None:
    shaken = event({}, {}, intervalPeriod={**NOON, "randomizeStart": "PT10M"})
    first = hours(shaken)
    assert first == hours(shaken)
    assert first[1][0] - first[0][0] == pytest.approx(1.0)
    begins = {
        spans(shaken, first_seen=SEEN, ven_name=f"v{number}")[0].starts_at - T0 for number in range(200)
    }
    assert len(begins) == 200
    assert all(abs(begin) <= timedelta(minutes=10) for begin in begins)
    assert min(begins) < timedelta(minutes=-8)
    assert max(begins) > timedelta(minutes=8)


@pytest.mark.parametrize(
    "bad",
    [
        event({}, intervalPeriod={"start": NOON["start"]}),
        event({}, intervalPeriod=7),
        event({}, intervalPeriod={**NOON, "start": "9999-12-31T23:59:59Z", "duration": "P1Y"}),
        {"id": "e", "intervals": "x"},
        {"id": "e", "intervals": [5], "intervalPeriod": NOON},
        {"id": "e", "intervals": [{"id": 0}], "intervalPeriod": NOON},
        {"id": "e", "intervals": [{"id": 0, "payloads": []}] * 2001, "intervalPeriod": NOON},
    ],
)
def test_what_cannot_be_understood_says_where(bad: dict[str, Any]) -> None:
    with pytest.raises(TimeError):
        spans(bad, first_seen=SEEN, ven_name="v")
