"""The file of a feed: what its signal takes back is not in it any more, what is past stays."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slurm_power.bridge.feeds import Feed
from slurm_power.bridge.grid_events import Price
from slurm_power.signals.held_file import read_held_values

HOUR = timedelta(hours=1)
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def price(first: float, last: float, value: float) -> Price:
    """A price of some hours from noon."""
    return Price(starts_at=NOON + first * HOUR, ends_at=NOON + last * HOUR, value=value)


@pytest.mark.parametrize("left", [[], [price(12, 13, 0.3)]])
def test_prices_that_are_taken_back_are_gone_from_now_on(tmp_path: Path, left: list[Price]) -> None:
    file = tmp_path / "utility.price.csv"
    feed = Feed(file, "price_per_kwh")
    assert feed.put([price(0, 1, 0.1), price(1, 2, 0.2), *left], NOON) == ""
    assert feed.put(left, NOON + 0.5 * HOUR) == ""
    # Told again and again it stays so, from when it was taken back.
    assert feed.put(left, NOON + 0.6 * HOUR) == ""
    held = read_held_values(file, column=None, factor=1.0, zone=UTC, negative=True, lasting=False)
    at = [held.value_at((NOON + hours * HOUR).timestamp()) for hours in (0.0, 0.4, 0.5, 1.5, 12.5)]
    assert at == [0.1, 0.1, None, None, 0.3 if left else None]


@pytest.mark.parametrize("days", [0, 9])
def test_a_file_is_never_without_rows(tmp_path: Path, days: int) -> None:
    # One without rows is refused, and what it said before would go on.
    file = tmp_path / "utility.price.csv"
    feed = Feed(file, "price_per_kwh")
    feed.put([price(1, 2, 0.2)], NOON)
    feed.put([], NOON + timedelta(days=days))
    held = read_held_values(file, column=None, factor=1.0, zone=UTC, negative=True, lasting=False)
    assert held.value_at((NOON + 1.5 * HOUR).timestamp()) == (0.2 if days else None)
