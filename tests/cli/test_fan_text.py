"""Fan charts in characters: any series fits its frame, and every line is where its numbers are."""

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.cli.commands.site.fan_text import ASCII, LEAST_WIDTH, UNICODE, Signs, fan_lines, legend
from slurm_power.report.live.fan import FanChart, StartMark

NOW = 1_774_740_000.0  # a few hours before clocks go forward in Europe


def chart(**changes: object) -> FanChart:
    given_more: dict[str, object] = {
        "title": "t",
        "circuit": "grid",
        "past_start_seconds": NOW - 600.0,
        "past_step_seconds": 60.0,
        "past_watts": (1.0,) * 10,
        "issued_seconds": NOW,
        "step_seconds": 60.0,
        **changes,
    }
    return FanChart(**given_more)  # type: ignore[arg-type]  # fields given by name


def rows(drawn: FanChart, signs: Signs = ASCII, width: int = 60, height: int = 10) -> list[str]:
    return [line.plain for line in fan_lines(drawn, width=width, height=height, zone=UTC, signs=signs)]


watts = st.floats(-1e9, 1e9) | st.floats(0.0, 1e5)


@settings(max_examples=150, deadline=None)
@given(
    past=st.lists(st.none() | watts, max_size=40),
    steps=st.lists(st.tuples(watts, watts, watts).map(sorted), max_size=60),
    step_seconds=st.sampled_from([1.0, 60.0, 900.0, 86_400.0]),
    limit=st.none() | watts,
    at=st.floats(0.0, 1e6),
    width=st.integers(LEAST_WIDTH, 200),
    height=st.integers(3, 30),
    signs=st.sampled_from([UNICODE, ASCII]),
)
def test_any_chart_fits_its_frame(  # noqa: PLR0917  # hypothesis gives them by name
    past: list[float | None],
    steps: list[list[float]],
    step_seconds: float,
    limit: float | None,
    at: float,
    width: int,
    height: int,
    signs: Signs,
) -> None:
    drawn = chart(
        past_start_seconds=NOW - len(past) * 60.0,
        past_watts=tuple(past),
        step_seconds=step_seconds,
        p10_watts=tuple(step[0] for step in steps),
        p50_watts=tuple(step[1] for step in steps),
        p90_watts=tuple(step[2] for step in steps),
        limit_watts=() if limit is None else (limit,) * len(steps),
        starts=(StartMark(at_seconds=NOW + at, text="job 1 +1.0 kW"),),
    )
    if drawn.empty:
        return
    zone = ZoneInfo("Europe/Berlin")
    lines = fan_lines(drawn, width=width, height=height, zone=zone, signs=signs)
    assert len(lines) == height + 3
    assert all(len(line.plain) <= width for line in lines)
    assert len(legend(drawn, signs).plain) <= 80
    if signs is ASCII:
        assert all(line.plain.isascii() for line in lines)
    if steps:
        assert any(line.plain.count("o") or not line.plain.isascii() for line in lines)


@pytest.mark.parametrize("signs", [UNICODE, ASCII])
def test_the_highest_value_is_in_the_highest_row_with_a_line(signs: Signs) -> None:
    """A single short peak is not lost, however many steps share a column."""
    values = [10_000.0] * 500
    values[321] = 30_000.0
    drawn = chart(p10_watts=tuple(values), p50_watts=tuple(values), p90_watts=tuple(values), past_watts=())
    body = rows(drawn, signs)[1:-2]
    line = [any(letter == "o" or 0x2800 < ord(letter) < 0x2900 for letter in row) for row in body]
    assert line[0] or line[1]
    peak = next(row for row, there in zip(body, line, strict=True) if there)
    place = next(at for at, letter in enumerate(peak) if letter == "o" or 0x2800 < ord(letter) < 0x2900)
    assert place == pytest.approx(4 + 56 * 321 / 500, abs=1.5)


def test_a_gap_in_the_past_stays_a_gap() -> None:
    gap: tuple[float | None, ...] = (5.0,) * 10 + (None,) * 10 + (5.0,) * 10
    drawn = chart(past_start_seconds=NOW - 1_800.0, past_watts=gap)
    (line,) = (row for row in rows(drawn) if "*" in row)
    runs = [run for run in line.partition("|")[2].split(" ") if run]
    assert len(runs) == 2
    assert [len(run) for run in runs] == pytest.approx([19, 19], abs=1)


def test_the_words_of_starts_do_not_overlap() -> None:
    steps = (10.0,) * 60
    marks = tuple(StartMark(at_seconds=NOW + 60.0 * at, text=f"job {at} +1.0 kW") for at in (1, 2, 30, 59))
    drawn = chart(p10_watts=steps, p50_watts=steps, p90_watts=steps, past_watts=(), starts=marks)
    head = rows(drawn, width=80)[0]
    assert head.count("v") == 4
    assert "v job 30 +1.0 kW" in head
    assert "job 59 +1.0 kW v" in head
    assert " v job 2 +1.0 kW" in head or "vv job 2 +1.0 kW" in head


def test_a_limit_far_above_is_left_to_the_words() -> None:
    steps = (10.0,) * 60
    near = chart(p10_watts=steps, p50_watts=steps, p90_watts=steps, limit_watts=(14.0,) * 60)
    far = chart(p10_watts=steps, p50_watts=steps, p90_watts=steps, limit_watts=(100.0,) * 60)
    assert near.limit_in_sight
    assert not far.limit_in_sight
    assert "limit" in legend(near, UNICODE).plain
    assert "limit" not in legend(far, UNICODE).plain
    assert not any("╌" in row for row in rows(far, UNICODE))
