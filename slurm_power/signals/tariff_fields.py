"""The fields that tariff files are made of: prices, days of a year, times of a day, and lists of tables."""

import math
import re
from datetime import date
from typing import Any, TypeGuard

from slurm_power.config.problems import check_keys
from slurm_power.model.billing_rules import ALL_DAYS, DAY_MINUTES, WEEKDAYS, MonthDay

LEAP_YEAR = 2024
MOST_PRICE = 1e6
MOST_BOUND = 1e300
_DAY_WORDS = {
    "all": ALL_DAYS,
    "weekdays": frozenset(range(5)),
    "weekends": frozenset({5, 6}),
    **{name: frozenset({number}) for number, name in enumerate(WEEKDAYS)},
}
_MONTH_DAY = re.compile(r"(\d{1,2})-(\d{1,2})")
_TIME = re.compile(r"(\d{1,2}):(\d{2})")


def tables(
    document: dict[str, Any], key: str, path: str, problems: list[str]
) -> list[tuple[str, dict[str, Any]]]:
    """The tables of a list, each with its name in problems; they count from 1."""
    found = document.get(key)
    if not isinstance(found, list) or not found or not all(isinstance(table, dict) for table in found):
        problems.append(f"{path}{key}: missing; at least one table is needed")
        return []
    return [(f"{path}{key} {number}", table) for number, table in enumerate(found, start=1)]


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite number; true and false are none."""
    # Compared, not converted: an integer of hundreds of digits is no float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def read_price(
    table: dict[str, Any], key: str, path: str, problems: list[str], *, negative: bool
) -> float | None:
    """A price of the table, None where it has none."""
    value = table.get(key)
    if value is None:
        return None
    if not is_number(value) or abs(value) > MOST_PRICE or (value < 0 and not negative):
        problems.append(f"{path}.{key}: {value!r} is no price{'' if negative else ' of 0 or more'}")
        return None
    return float(value)


def read_month_day(value: object, path: str, problems: list[str]) -> MonthDay:
    """A day of the year as 06-30."""
    match = _MONTH_DAY.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        try:
            day = date(LEAP_YEAR, int(match[1]), int(match[2]))
        except ValueError:
            pass
        else:
            return day.month, day.day
    problems.append(f"{path}: {value!r} is no day of a year; write 06-30")
    return 1, 1


def read_minute(value: object, path: str, problems: list[str]) -> int:
    """A time of day as 16:30, in minutes; 24:00 ends the day."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    minute = int(match[1]) * 60 + int(match[2]) if match is not None and int(match[2]) < 60 else -1
    if 0 <= minute <= DAY_MINUTES:
        return minute
    problems.append(f"{path}: {value!r} is no time of day; write 16:30")
    return 0


def read_days(value: object, path: str, problems: list[str]) -> frozenset[int]:
    """Weekdays by their names, 0 is Monday."""
    words: list[object] = value if isinstance(value, list) else [value]
    found = [_DAY_WORDS.get(word) if isinstance(word, str) else None for word in words]
    known = [days for days in found if days is not None]
    if words and len(known) == len(words):
        return frozenset[int]().union(*known)
    problems.append(f"{path}: {value!r} is not all, weekdays, weekends or a list of days")
    return ALL_DAYS


def read_hours(table: dict[str, Any], path: str, problems: list[str]) -> tuple[int, int]:
    """The minutes of the day from ``from`` to ``to``, by default the whole day."""
    from_minute = read_minute(table.get("from", "00:00"), f"{path}.from", problems)
    to_minute = read_minute(table.get("to", "24:00"), f"{path}.to", problems)
    if from_minute >= to_minute:
        problems.append(f"{path}.to: is not after from; a period over midnight is two periods")
    return from_minute, to_minute


def read_text(table: dict[str, Any], key: str, default: str, problems: list[str], path: str = "") -> str:
    """A word of the table, or the default."""
    value = table.get(key, default)
    if isinstance(value, str) and value:
        return value
    problems.append(f"{path}{key}: must be a string")
    return default


def read_tiers(
    table: dict[str, Any], bound: str, price: str, path: str, problems: list[str], *, negative: bool
) -> list[tuple[float | None, float]]:
    """Bounds and prices of ``tiers`` in rising order; only the last tier has no bound."""
    rows = tables(table, "tiers", f"{path}.", problems)
    found: list[tuple[float | None, float]] = []
    lower = 0.0
    for number, (inner, row) in enumerate(rows, start=1):
        check_keys(row, {bound, price}, f"{inner}.", problems)
        value = read_price(row, price, inner, problems, negative=negative)
        if price not in row:
            problems.append(f"{inner}.{price}: missing")
        upper = row.get(bound)
        if number == len(rows):
            if upper is not None:
                problems.append(f"{inner}.{bound}: the last tier has no end")
        elif not is_number(upper) or not lower < upper < MOST_BOUND:
            problems.append(f"{inner}.{bound}: {upper!r} is not above {lower:g}, where the tier begins")
        else:
            lower = float(upper)
        found.append((lower if number < len(rows) else None, value or 0.0))
    return found
