"""One source by itself: what makes a reading questionable or useless, and when it is good again."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.reading import PowerReading, Quality
from slurm_power.model.watch import Expectation, Watch

PDU = Expectation(rating_watts=20_000.0, lowest_watts=-200.0, max_age_seconds=6.0)


def watch(*readings: float, every_seconds: float = 1.0) -> tuple[Watch, float]:
    """A source that gave these values, one after the other; and the time of the last."""
    made, now = Watch("pdu1", PDU), 0.0
    for watts in readings:
        now += every_seconds
        made.take(watts, now)
    return made, now


def graded(made: Watch, now_seconds: float) -> tuple[Quality, float | None, str]:
    reading = made.graded(now_seconds)
    return reading.quality, reading.watts, reading.reason


def test_before_the_first_reading_nothing_is_known() -> None:
    assert graded(Watch("pdu1", PDU), 5.0)[0] is Quality.INVALID


@pytest.mark.parametrize(
    ("watts", "word"),
    [(math.nan, "no number"), (math.inf, "no number"), (60_001.0, "above"), (-201.0, "below")],
)
def test_what_cannot_be_is_useless_until_the_next_sound_reading(watts: float, word: str) -> None:
    made, now = watch(5_000.0, watts)
    quality, _, reason = graded(made, now)
    assert (quality, word in reason) == (Quality.INVALID, True)
    made.take(5_010.0, now + 1.0)
    assert graded(made, now + 1.0) == (Quality.GOOD, 5_010.0, "")


def test_age_makes_questionable_then_useless_and_says_why() -> None:
    made, now = watch(5_000.0)
    made.failed("no answer", now + 1.0)
    assert graded(made, now + 6.0)[0] is Quality.GOOD
    assert graded(made, now + 7.0) == (Quality.QUESTIONABLE, 5_000.0, "late by 1.0 s; no answer")
    assert graded(made, now + 13.0) == (Quality.INVALID, 5_000.0, "stale for 13.0 s; no answer")


def test_an_impossible_step_counts_as_the_higher_until_it_is_confirmed() -> None:
    down, now = watch(25_000.0, 1_000.0)
    assert graded(down, now)[:2] == (Quality.QUESTIONABLE, 25_000.0)
    down.take(1_000.0, now + 1.0)
    assert graded(down, now + 1.0)[:2] == (Quality.GOOD, 1_000.0)
    up, now = watch(1_000.0, 25_000.0)
    assert graded(up, now)[:2] == (Quality.QUESTIONABLE, 25_000.0)


def test_standing_still_is_wrong_only_while_what_it_feeds_moves() -> None:
    made, now = watch(*[5_000.0] * 30)
    for second in range(30):
        made.saw_below(3_000.0 + second % 2, now + second)
        made.take(5_000.0, now + second)
    assert graded(made, now + 29.0)[0] is Quality.GOOD
    made.saw_below(4_000.0, now + 30.0)
    quality, _, reason = graded(made, now + 30.0)
    assert (quality, "stuck for" in reason, "moved by 1000 W" in reason) == (Quality.INVALID, True, True)
    made.take(5_990.0, now + 31.0)
    assert graded(made, now + 31.0)[0] is Quality.GOOD


def test_coverage_counts_what_could_be_used() -> None:
    made, now = watch(5_000.0, 5_001.0, math.nan)
    made.failed("no answer", now + 1.0)
    assert made.coverage_ratio(now + 1.0) == 0.5
    assert made.coverage_ratio(now + 1_000.0) is None
    assert Watch("pdu1", PDU).coverage_ratio(0.0) is None


def test_a_meter_that_stays_silent_takes_no_memory() -> None:
    made, now = watch(5_000.0)
    for second in range(5_000):
        made.failed("no answer", now + second)
    assert len(made._usable) <= 602
    assert made.coverage_ratio(now + 5_000.0) == 0.0


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=30))
def test_whatever_comes_a_good_reading_is_the_last_one_and_plausible(readings: list[float]) -> None:
    made, now = watch(*readings)
    reading: PowerReading = made.graded(now)
    if reading.quality is Quality.GOOD:
        assert reading.watts == readings[-1]
        assert -200.0 <= readings[-1] <= 60_000.0
    if reading.quality is Quality.QUESTIONABLE:
        assert reading.watts is not None
        assert reading.watts >= readings[-1]
        assert reading.reason
    if reading.quality is Quality.INVALID:
        assert reading.reason
