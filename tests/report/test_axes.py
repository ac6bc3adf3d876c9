"""Marks of axes: round, apart, inside; and full hours of a local clock over its changes."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.report.frame.axes import power_axis, time_marks

BERLIN = ZoneInfo("Europe/Berlin")


@given(st.floats(-1e9, 1e9), st.floats(0.0, 1e9), st.integers(2, 8))
def test_marks_lie_inside_and_read_differently(low: float, span: float, most: int) -> None:
    axis = power_axis(low, low + span, most)
    assert axis.low_watts <= low <= low + span <= axis.high_watts
    assert axis.low_watts < axis.high_watts
    assert 1 <= len(axis.marks_watts) <= most + 1
    texts = [axis.text(mark) for mark in axis.marks_watts]
    assert len(texts) == len(set(texts))
    slack = 1e-6 * (axis.high_watts - axis.low_watts)
    assert all(axis.low_watts - slack <= mark <= axis.high_watts + slack for mark in axis.marks_watts)


@pytest.mark.parametrize(
    ("low", "high", "texts", "unit"),
    [
        (0.0, 32_000.0, ["0", "10", "20", "30"], "kW"),
        (21_000.0, 23_000.0, ["21.0", "21.5", "22.0", "22.5", "23.0"], "kW"),
        (100.0, 900.0, ["0", "200", "400", "600", "800"], "W"),
        (4e7, 8e7, ["40", "50", "60", "70", "80"], "MW"),
        (0.0, 0.0, ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5"], "W"),
    ],
)
def test_round_marks(low: float, high: float, texts: list[str], unit: str) -> None:
    axis = power_axis(low, high, 5)
    assert ([axis.text(mark) for mark in axis.marks_watts], axis.unit) == (texts, unit)


def marks(start: str, hours: float, most: int) -> list[str]:
    at = datetime.fromisoformat(start).replace(tzinfo=BERLIN).timestamp()
    return [text for _, text in time_marks(at, at + 3600.0 * hours, BERLIN, most)]


def test_marks_follow_the_local_clock() -> None:
    assert marks("2026-01-02T13:50", 1.5, 6) == ["14:00", "14:15", "14:30", "14:45", "15:00", "15:15"]
    assert marks("2026-01-02T20:00", 24.0, 8) == [
        "21:00",
        "Sat 03",
        "03:00",
        "06:00",
        "09:00",
        "12:00",
        "15:00",
        "18:00",
    ]
    # Clocks go forward at 02:00: that hour has no mark, and the others stay where the local clock is round.
    assert marks("2026-03-28T22:00", 10.0, 6) == ["22:00", "Sun 29", "04:00", "06:00", "08:00"]
    assert marks("2026-01-01T00:00", 24.0 * 10, 5)[:2] == ["Fri 02", "Sun 04"]
