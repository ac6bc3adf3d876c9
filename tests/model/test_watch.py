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
        made.saw_below(3_000.0 - second % 2, now + second)
        made.take(5_000.0, now + second)
    assert graded(made, now + 29.0)[0] is Quality.GOOD
    now = move(made, now + 29.0, 4_000.0, seconds=4)
    assert graded(made, now)[0] is Quality.GOOD  # it may be about to show it
    now = move(made, now, 4_000.0, seconds=3)
    quality, _, reason = graded(made, now)
    assert (quality, "stuck for" in reason, "moved by 1000 W" in reason) == (Quality.INVALID, True, True)
    made.take(5_990.0, now + 1.0)
    assert graded(made, now + 1.0)[0] is Quality.GOOD


def move(made: Watch, now: float, *below: float, seconds: int = 1, doubt_watts: float = 0.0) -> float:
    """The source gives its last value on while what it feeds has these, each so long; returns the end."""
    for watts in below:
        for _ in range(seconds):
            now += 1.0
            made.saw_below(watts, now, doubt_watts)
            made.take(5_000.0, now)
    return now


def test_what_was_there_for_a_moment_only_proves_nothing() -> None:
    made, now = watch(5_000.0)
    now = move(made, now, 3_000.0, seconds=30)
    now = move(made, now, 1_800.0, 1_800.0, 3_000.0)
    now = move(made, now, 3_000.0, seconds=60)
    now = move(made, now, 1_800.0, 1_800.0, 3_000.0)
    assert graded(made, now)[0] is Quality.GOOD


def test_what_moves_while_the_source_is_silent_proves_nothing() -> None:
    made, now = watch(5_000.0)
    now = move(made, now, 3_000.0, seconds=30)
    for _ in range(20):
        now += 1.0
        made.failed("no answer", now)
        made.saw_below(1_000.0, now)
    now = move(made, now, 1_000.0, 3_000.0)
    assert graded(made, now)[0] is Quality.GOOD


def test_what_swings_faster_than_anybody_waits_is_seen_as_well() -> None:
    made, now = watch(5_000.0)
    now = move(made, now, 3_000.0, seconds=10)
    for _ in range(6):
        now = move(made, now, 4_000.0, seconds=2)
        now = move(made, now, 3_000.0, seconds=2)
    assert graded(made, now)[0] is Quality.INVALID


def test_what_is_only_assumed_to_move_proves_nothing() -> None:
    made, now = watch(5_000.0)
    now = move(made, now, 3_000.0, seconds=30)
    now = move(made, now, 3_700.0, seconds=30, doubt_watts=700.0)
    assert graded(made, now)[0] is Quality.GOOD
    now = move(made, now, 6_000.0, seconds=30, doubt_watts=700.0)
    assert graded(made, now)[0] is Quality.INVALID


def test_what_it_fed_before_it_changed_is_no_excuse() -> None:
    """The end of a load is told late; the next load of the same size is then seen all the same."""
    made, now = watch(9_000.0)
    for below in (7_000.0, 7_000.0):
        now += 1.0
        made.saw_below(below, now)
        made.take(9_000.0, now)
    now += 1.0
    made.take(5_000.0, now)
    now = move(made, now, 7_000.0, seconds=2)
    now = move(made, now, 3_000.0, seconds=30)
    assert graded(made, now)[0] is Quality.GOOD
    now = move(made, now, 7_000.0, seconds=8)
    assert graded(made, now)[0] is Quality.INVALID


@given(
    steps=st.lists(
        st.tuples(st.integers(1, 30), st.sampled_from([1_000.0, 1_300.0, 3_000.0, 9_000.0])), max_size=20
    ),
    refresh_seconds=st.sampled_from([1, 2]),
    phase_seconds=st.integers(0, 1),
)
def test_a_meter_that_follows_is_never_called_stuck(
    steps: list[tuple[int, float]], refresh_seconds: int, phase_seconds: int
) -> None:
    """However coarse it is: it shows tens of watts, as late as its refresh makes it."""
    made, now, shown = Watch("pdu1", PDU), 0, 0.0
    for seconds, below in steps:
        for _ in range(seconds):
            now += 1
            made.saw_below(below, float(now))
            if (now + phase_seconds) % refresh_seconds == 0:
                shown = round(0.112 * below + 20.0) * 10.0
            made.take(shown, float(now))
            made.saw_below(below, now + 0.5)
            assert "stuck" not in made.graded(float(now)).reason


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
    assert len(made._coverage._buckets) <= 61
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
