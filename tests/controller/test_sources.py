"""Sources in one list, and in the ledger when they go bad: at once, but never a page a minute."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.controller.sensing.sources import SourceNotes
from slurm_power.model.reading import Quality
from slurm_power.model.snapshot import NodeState
from slurm_power.telemetry.circuits import SourceRow
from slurm_power.telemetry.clock_skew import ClockSkews
from slurm_power.telemetry.coverage import SourceCoverage
from tests.plan.situations import ess_reading, gpu

ROW = SourceRow(
    source="pdu1", measures="circuit rack1", watts=1.0, age_seconds=1.0, quality=Quality.GOOD, reason="late"
)


class Notes:
    def __init__(self) -> None:
        self.lines: list[tuple[float, str, str]] = []
        self.now = 0.0
        self.notes = SourceNotes(
            lambda _actor, kind, _subject, text: self.lines.append((self.now, kind, text))
        )

    def see(self, quality: Quality, seconds: int = 1, reason: str = "late by 3 s") -> None:
        for _ in range(seconds):
            self.now += 1.0
            self.notes.look([replace(ROW, quality=quality, reason=reason)], self.now)

    @property
    def kinds(self) -> list[str]:
        return [kind for _, kind, _ in self.lines]


def test_a_change_is_written_at_once() -> None:
    seen = Notes()
    seen.see(Quality.GOOD, 5)
    seen.see(Quality.QUESTIONABLE, 3)
    seen.see(Quality.INVALID)
    seen.see(Quality.GOOD, 3)
    assert seen.lines == [
        (6.0, "source questionable", "circuit rack1: late by 3 s"),
        (9.0, "source invalid", "circuit rack1: late by 3 s"),
        (10.0, "source good", "circuit rack1: good again"),
    ]


def test_another_reason_is_written_at_once_whatever_was_before() -> None:
    seen = Notes()
    for _ in range(5):
        seen.see(Quality.INVALID, 3, "stale for 7 s")
        seen.see(Quality.GOOD, 3)
    seen.see(Quality.QUESTIONABLE, 1, "stuck for 8 s while what it feeds moved by 900 W")
    assert seen.kinds == ["source invalid", "source good", "source questionable"]


def test_another_reason_of_the_same_quality_is_written_too() -> None:
    seen = Notes()
    seen.see(Quality.QUESTIONABLE, 3, "differs from what it feeds by 900 W")
    seen.see(Quality.QUESTIONABLE, 3, "stuck for 8 s; estimated from what it feeds")
    seen.see(Quality.QUESTIONABLE, 3, "stuck for 11 s; estimated from what it feeds")
    assert [text for _, _, text in seen.lines] == [
        "circuit rack1: differs from what it feeds by 900 W",
        "circuit rack1: stuck for 8 s; estimated from what it feeds",
    ]


def test_one_that_comes_and_goes_is_counted() -> None:
    seen = Notes()
    for round_ in range(360):  # an hour
        seen.see(Quality.INVALID, 4, f"stale for {round_}.5 s")
        seen.see(Quality.GOOD, 6)
    assert len(seen.lines) <= 2 * 7
    assert "times more within 60" in seen.lines[2][2]


@given(st.lists(st.tuples(st.sampled_from(list(Quality)), st.integers(1, 60)), min_size=300, max_size=300))
def test_however_it_flaps_there_are_few_lines_an_hour(spells: list[tuple[Quality, int]]) -> None:
    seen = Notes()
    for quality, seconds in spells:
        seen.see(quality, seconds)
    assert len(seen.lines) <= len(Quality) * (1 + seen.now / 600.0)


def test_what_is_gone_is_good_again_or_not_read_any_more() -> None:
    seen = Notes()
    seen.see(Quality.INVALID)
    seen.notes.look([], 2.0)
    assert seen.kinds == ["source invalid", "source good"]
    seen.notes.look([], 3.0)
    assert len(seen.lines) == 2


def test_coverage_is_a_share_of_gpus_and_of_time() -> None:
    coverage = SourceCoverage(["c1", "c2"])
    gpus = {f"c1-{slot}": gpu(f"c1-{slot}", 300.0) for slot in range(4)}
    lost = {**gpus, "c1-3": replace(gpus["c1-3"], error="GPU is lost")}
    battery = ess_reading()
    for second in range(100):
        state = NodeState(name="c1", age_seconds=0.5, gpus=gpus if second < 50 else lost)
        late = replace(battery, quality=Quality.QUESTIONABLE if second % 4 == 0 else Quality.GOOD)
        coverage.look({"c1": state}, {"battery": late}, float(second))
    assert coverage.of_node("c1", 100.0) == 0.875
    assert coverage.of_node("c2", 100.0) == 0.0
    assert coverage.of_ess("battery", 100.0) == 0.75
    assert coverage.of_node("c1", 1_000.0) is None
    assert coverage.of_node("c9", 100.0) is None


@pytest.mark.parametrize(
    ("skew_seconds", "reason"),
    [
        (0.0, ""),
        (4.0, ""),
        (-4.0, ""),
        (61.0, "its clock is 61 s ahead of the controller's"),
        (-300.0, "its clock is 300 s behind the controller's"),
    ],
)
def test_a_clock_that_is_off_is_told_but_not_a_slow_network(skew_seconds: float, reason: str) -> None:
    skews = ClockSkews()
    for report in range(40):
        delay_seconds = 0.0 if report % 8 == 0 else 30.0
        skews.take("c1", 1e9 + report + skew_seconds, 1e9 + report + delay_seconds)
    assert skews.reason("c1") == reason
    assert skews.reason("c2") == ""


def test_a_report_without_its_time_tells_nothing_of_a_clock() -> None:
    skews = ClockSkews()
    for nothing in (None, "noon", math.nan, math.inf):
        skews.take("c1", nothing, 1e9)
    assert skews.reason("c1") == ""
