"""The columns of a series' clock say what its single moments say."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.billing_rules import Window
from slurm_power.plan.local_calendar import LocalCalendar


@settings(max_examples=40)
@given(
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]),
    start=st.integers(0, 2_000_000_000),
)
def test_the_columns_of_a_zone_are_its_clock(zone: str, start: int) -> None:
    seconds = start + 1800.0 * np.arange(0, 48 * 400, 331, dtype=np.float64)
    calendar = LocalCalendar.from_epoch(seconds, ZoneInfo(zone))
    aware = [datetime.fromtimestamp(at, ZoneInfo(zone)) for at in seconds.tolist()]
    assert calendar.local.tolist() == [at.replace(tzinfo=None) for at in aware]
    assert calendar.local.tolist() == LocalCalendar.of(aware).local.tolist()
    for column, expected in (
        (calendar.year, [at.year for at in aware]),
        (calendar.month, [at.month for at in aware]),
        (calendar.day, [at.day for at in aware]),
        (calendar.weekday, [at.weekday() for at in aware]),
        (calendar.minute, [at.hour * 60 + at.minute + at.second / 60 for at in aware]),
    ):
        assert column.tolist() == pytest.approx(expected)


windows = st.builds(
    Window,
    months=st.frozensets(st.integers(1, 12), min_size=1),
    first_day=st.tuples(st.integers(1, 12), st.integers(1, 28)),
    last_day=st.tuples(st.integers(1, 12), st.integers(1, 28)),
    days=st.frozensets(st.integers(0, 6), min_size=1),
    from_minute=st.integers(0, 1439),
    to_minute=st.integers(1, 1440),
)


@settings(max_examples=60)
@given(window=windows, start=st.datetimes(datetime(2023, 1, 1), datetime(2025, 1, 1)))  # noqa: DTZ001 - local
def test_the_columns_of_a_window_are_its_moments(window: Window, start: datetime) -> None:
    at = [start.replace(microsecond=0) + timedelta(minutes=727 * step) for step in range(300)]
    assert LocalCalendar.of(at).within([window]).tolist() == [window.holds(moment) for moment in at]
