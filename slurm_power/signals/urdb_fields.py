"""The parts of a URDB rate: periods of tiers, their schedules of 12 months by 24 hours, fixed charges."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from slurm_power.model.billing_rules import Window
from slurm_power.signals.tariff_fields import MOST_BOUND, MOST_PRICE, is_number

MONTHS = 12
_HOURS = 24
_WEEKDAYS = frozenset(range(5))
_WEEKEND = frozenset({5, 6})
_MONTHS_PER_UNIT = {"$/month": 1.0, "$/year": 1.0 / MONTHS}


@dataclass(frozen=True, slots=True, kw_only=True)
class UrdbTier:
    """One tier: ``price`` is its rate with its adjustment, ``up_to`` None in the last."""

    price: float
    up_to: float | None
    sell: float
    unit: str


def given(rate: Mapping[str, Any], key: str) -> bool:
    """Whether a field says something: null, empty text and empty lists do not."""
    return rate.get(key) not in (None, "", [], {})


def read_number(rate: Mapping[str, Any], key: str, problems: list[str], default: float = 0.0) -> float:
    """A field that holds one number."""
    value = rate.get(key)
    if not given(rate, key):
        return default
    if is_number(value) and abs(value) <= MOST_PRICE:
        return float(value)
    problems.append(f"{key}: {value!r} is no number")
    return default


def read_charge(rate: Mapping[str, Any], key: str, unit_key: str, problems: list[str]) -> tuple[float, float]:
    """A charge per month and one per day, of which one is zero; a charge per year is a twelfth a month."""
    amount = read_number(rate, key, problems)
    unit = str(rate[unit_key]) if given(rate, unit_key) else "$/month"
    if amount < 0.0:
        problems.append(f"{key}: {amount:g} is negative")
    if amount == 0.0 or unit in _MONTHS_PER_UNIT:
        return amount * _MONTHS_PER_UNIT.get(unit, 0.0), 0.0
    if unit == "$/day":
        return 0.0, amount
    problems.append(f"{unit_key}: {unit!r} is not $/month, $/day or $/year")
    return 0.0, 0.0


def read_structure(rate: Mapping[str, Any], key: str, problems: list[str]) -> list[list[UrdbTier]]:
    """The periods of a structure; the ``max`` of a last tier is no bound, there is nothing beyond."""
    if not given(rate, key):
        return []
    periods = rate[key]
    if not isinstance(periods, list) or not all(
        isinstance(tiers, list) and all(isinstance(tier, dict) for tier in tiers) for tiers in periods
    ):
        problems.append(f"{key}: has to be a list of periods, each a list of tiers")
        return []
    return [_tiers(tiers, f"{key}[{number}]", problems) for number, tiers in enumerate(periods)]


def _tiers(rows: list[dict[str, Any]], path: str, problems: list[str]) -> list[UrdbTier]:
    tiers: list[UrdbTier] = []
    lower = 0.0
    for number, row in enumerate(rows):
        inner: list[str] = []
        price = read_number(row, "rate", inner) + read_number(row, "adj", inner)
        sell = read_number(row, "sell", inner)
        upper = None
        if number < len(rows) - 1:
            upper = row.get("max")
            if not is_number(upper) or not lower < upper < MOST_BOUND:
                inner.append(f"max: {upper!r} is not above {lower:g}, where the tier begins")
                upper = None
            else:
                lower = upper = float(upper)
        inner += [
            f"{key}: unknown, and it may be money"
            for key in sorted(set(row) - {"rate", "adj", "sell", "max", "unit"})
            if given(row, key)
        ]
        problems += [f"{path}[{number}].{problem}" for problem in inner]
        unit = row.get("unit") if given(row, "unit") else ""
        tiers.append(UrdbTier(price=price, up_to=upper, sell=sell, unit=str(unit)))
    return tiers


def read_schedules(
    rate: Mapping[str, Any], weekday_key: str, weekend_key: str, periods: int, problems: list[str]
) -> dict[int, tuple[Window, ...]]:
    """Which windows each period has. Without schedules a lone period holds always."""
    if not given(rate, weekday_key) and not given(rate, weekend_key) and periods == 1:
        return {0: (Window(),)}
    windows: dict[int, list[Window]] = {}
    if weekday_key == weekend_key:
        day_kinds = {weekday_key: _WEEKDAYS | _WEEKEND}
    else:
        day_kinds = {weekday_key: _WEEKDAYS, weekend_key: _WEEKEND}
    for key, days in day_kinds.items():
        months_of: dict[tuple[int, int, int], set[int]] = {}
        for month, row in enumerate(_schedule(rate, key, periods, problems), start=1):
            for period, first, end in _runs(row):
                months_of.setdefault((period, first, end), set()).add(month)
        for (period, first, end), months in months_of.items():
            window = Window(months=frozenset(months), days=days, from_minute=60 * first, to_minute=60 * end)
            windows.setdefault(period, []).append(window)
    return {period: tuple(windows[period]) for period in sorted(windows)}


def _schedule(rate: Mapping[str, Any], key: str, periods: int, problems: list[str]) -> list[list[int]]:
    found = rate.get(key)
    if not given(rate, key):
        problems.append(f"{key}: missing")
        return []
    if (
        not isinstance(found, list)
        or len(found) != MONTHS
        or not all(isinstance(row, list) and len(row) == _HOURS for row in found)
    ):
        problems.append(f"{key}: has to be 12 months of 24 hours")
        return []
    wrong = {
        repr(period)
        for row in found
        for period in row
        if type(period) is not int or not 0 <= period < periods
    }
    if wrong:
        problems.append(
            f"{key}: there is no period {', '.join(sorted(wrong))}; they count from 0 to {periods - 1}"
        )
        return []
    return found


def _runs(row: list[int]) -> list[tuple[int, int, int]]:
    """(period, first hour, end) of each run of hours in one period."""
    cuts = [0, *(hour for hour in range(1, _HOURS) if row[hour] != row[hour - 1]), _HOURS]
    return [(row[first], first, end) for first, end in pairwise(cuts)]
