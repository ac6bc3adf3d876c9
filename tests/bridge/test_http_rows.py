"""Rows of a page into what was known: nothing overlaps, nothing is lost, nothing counts for ever."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.bridge.grid_events import Price
from slurm_power.bridge.http_rows import merged, read_page
from slurm_power.config.http_signals import HttpPricesSignal, HttpPriceUnit, TimeForm

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def signal(**more: Any) -> HttpPricesSignal:
    given_keys: dict[str, Any] = {
        "name": "day",
        "url": "https://prices.example.org",
        "time": "at",
        "value": "eur",
        "unit": HttpPriceUnit.PER_MWH,
        "least_value": -500.0,
        "most_value": 4000.0,
    }
    return HttpPricesSignal(**{**given_keys, **more})


def page(rows: list[tuple[str | float, float]]) -> bytes:
    return json.dumps([{"at": at, "eur": value} for at, value in rows]).encode()


def test_two_rows_a_month_apart_are_no_prices_for_a_month() -> None:
    first, last = NOW - timedelta(days=27), NOW
    prices = read_page(page([(first.isoformat(), 80.0), (last.isoformat(), 90.0)]), signal(), NOW).values
    assert [one.ends_at - one.starts_at for one in prices if one.starts_at == last] == [timedelta(days=1)]


@pytest.mark.parametrize(
    ("form", "at"),
    [
        (TimeForm.EPOCH_SECONDS, NOW.timestamp()),
        (TimeForm.EPOCH_MILLISECONDS, NOW.timestamp() * 1000),
        (TimeForm.ISO, "2026-11-28T13:00:00"),
        (TimeForm.ISO, "2026-11-28T12:00:00Z"),
    ],
)
def test_moments_as_pages_write_them(form: TimeForm, at: str | float) -> None:
    read = read_page(page([(at, 80.0)]), signal(time_form=form, zone="Europe/Berlin"), NOW)
    (price,) = read.values
    assert (price.starts_at, read.doubts) == (NOW, [])
    assert price.value == pytest.approx(0.08)


def test_the_hour_that_comes_twice_comes_twice() -> None:
    now = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)
    rows: list[tuple[str | float, float]] = [
        (f"2026-10-25T{hour:02d}:00:00", 10.0 * number) for number, hour in enumerate((1, 2, 2, 3))
    ]
    prices = read_page(page(rows), signal(zone="Europe/Berlin"), now).values
    assert [one.starts_at for one in prices] == [now - HOUR + number * HOUR for number in range(4)]
    assert [one.value for one in prices] == pytest.approx([0.0, 0.01, 0.02, 0.03])


prices_of = st.lists(
    st.tuples(st.integers(-60, 60), st.integers(1, 10), st.floats(-1.0, 1.0)), max_size=12
).map(
    lambda rows: [
        Price(starts_at=NOW + at * HOUR, ends_at=NOW + (at + long) * HOUR, value=value)
        for at, long, value in _apart(rows)
    ]
)


def _apart(rows: list[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
    """As pages are read: in order, none into the next."""
    ordered = sorted({at: (at, long, value) for at, long, value in rows}.values())
    nexts = [row[0] for row in ordered[1:]]
    return [
        (at, min(long, after - at), value)
        for (at, long, value), after in zip(ordered, [*nexts, 10_000], strict=False)
    ]


def value_at(prices: list[Price], at: datetime) -> float | None:
    found = [one.value for one in prices if one.starts_at <= at < one.ends_at]
    assert len(found) <= 1
    return found[0] if found else None


@given(known=prices_of, told=prices_of)
def test_what_is_told_counts_and_what_it_does_not_speak_of_stands(
    known: list[Price], told: list[Price]
) -> None:
    found = merged(known, told, NOW)
    for sooner, later in pairwise(found):
        assert sooner.ends_at <= later.starts_at
    for hour in range(-48, 72):
        at = NOW + hour * HOUR + HOUR / 2
        newer = value_at(told, at)
        assert value_at(found, at) == (newer if newer is not None else value_at(known, at))


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=8), st.lists, max_leaves=8))
def test_whatever_stands_in_a_row_is_a_doubt_and_no_failure(value: Any) -> None:
    content = json.dumps([{"at": value, "eur": 1.0}, {"at": NOW.isoformat(), "eur": value}, value]).encode()
    good = json.dumps({"at": (NOW + HOUR).isoformat(), "eur": 50.0}).encode()
    read = read_page(content[:-1] + b"," + good + b"]", signal(), NOW)
    assert value_at(read.values, NOW + HOUR + HOUR / 4) == pytest.approx(0.05)
    assert all(isinstance(doubt, str) for doubt in read.doubts)
