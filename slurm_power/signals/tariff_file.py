"""A tariff file into a tariff: our own TOML, or JSON schedules as the simulator ACN-Sim reads them.

Every problem is told at once, and the hours of a year have to be covered exactly once.
"""

import json
import math
import re
import tomllib
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any, TypeGuard

from slurm_power.config.problems import check_keys
from slurm_power.model.tariff import (
    DAY_MINUTES,
    WEEKDAYS,
    MonthDay,
    Period,
    Rates,
    Season,
    Tariff,
)
from slurm_power.signals.held_file import SupplyFileError

_ALL_DAYS = frozenset(range(7))
_DAY_WORDS = {
    "all": _ALL_DAYS,
    "weekdays": frozenset(range(5)),
    "weekends": frozenset({5, 6}),
    **{name: frozenset({number}) for number, name in enumerate(WEEKDAYS)},
}
_MONTH_DAY = re.compile(r"(\d{1,2})-(\d{1,2})")
_TIME = re.compile(r"(\d{1,2}):(\d{2})")
_LEAP_YEAR = 2024
_MOST_PRICE = 1e6


def read_tariff(file: Path) -> Tariff:
    """Read a tariff by the ending of its name; raises SupplyFileError with all problems."""
    problems: list[str] = []
    try:
        text = file.read_text(encoding="utf-8-sig")
        document = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise SupplyFileError([f"{file}: cannot be read: {error.strerror}"]) from None
    except (ValueError, RecursionError) as error:
        kind = "JSON" if file.suffix == ".json" else "TOML"
        raise SupplyFileError([f"{file}: is not {kind}: {error}"]) from None
    if not isinstance(document, dict):
        raise SupplyFileError([f"{file}: holds no table"])
    read = _schedules if file.suffix == ".json" else _seasons
    seasons = read(document, problems)
    name = document.get("name", file.stem)
    if not isinstance(name, str):
        problems.append("name: must be a string")
        name = file.stem
    if not problems:
        problems += _coverage(seasons)
    if problems:
        raise SupplyFileError([f"{file}: {problem}" for problem in problems])
    return Tariff(name=name, seasons=tuple(seasons))


def _seasons(document: dict[str, Any], problems: list[str]) -> list[Season]:
    """Our own form: [[season]] with [[season.period]] inside."""
    check_keys(document, {"name", "season"}, "", problems)
    seasons = []
    for path, table in _tables(document, "season", "", problems):
        check_keys(table, {"name", "from", "to", "demand_price_per_kw", "period"}, f"{path}.", problems)
        name = table.get("name", path)
        first = _month_day(table.get("from", "01-01"), f"{path}.from", problems)
        last = _month_day(table.get("to", "12-31"), f"{path}.to", problems)
        demand = _price(table, "demand_price_per_kw", path, problems, negative=False)
        periods = [
            _period(inner, period, demand, problems)
            for inner, period in _tables(table, "period", f"{path}.", problems)
        ]
        seasons.append(Season(name=str(name), first_day=first, last_day=last, periods=tuple(periods)))
    return seasons


def _period(path: str, table: dict[str, Any], demand: float | None, problems: list[str]) -> Period:
    known = {"days", "from", "to", "price_per_kwh", "demand_price_per_kw"}
    check_keys(table, known, f"{path}.", problems)
    price = _price(table, "price_per_kwh", path, problems, negative=True)
    if "price_per_kwh" not in table:
        problems.append(f"{path}.price_per_kwh: missing")
    own_demand = _price(table, "demand_price_per_kw", path, problems, negative=False)
    from_minute = _minute(table.get("from", "00:00"), f"{path}.from", problems)
    to_minute = _minute(table.get("to", "24:00"), f"{path}.to", problems)
    if from_minute >= to_minute:
        problems.append(f"{path}.to: is not after from; a period over midnight is two periods")
    return Period(
        days=_days(table.get("days", "all"), f"{path}.days", problems),
        from_minute=from_minute,
        to_minute=to_minute,
        rates=Rates(price_per_kwh=price, demand_price_per_kw=demand if own_demand is None else own_demand),
    )


def _schedules(document: dict[str, Any], problems: list[str]) -> list[Season]:
    """The JSON form: each schedule has days of the year, a mask of weekdays, and prices from hours on."""
    seasons = []
    for path, table in _tables(document, "schedule", "", problems):
        first = _month_day(table.get("effective_start"), f"{path}.effective_start", problems)
        last = _month_day(table.get("effective_end"), f"{path}.effective_end", problems)
        days = _days(str(table.get("dow_mask", "ALL")).lower(), f"{path}.dow_mask", problems)
        demand = _price(table, "demand_charge", path, problems, negative=False)
        hours, prices = table.get("times"), table.get("tariffs")
        if not isinstance(hours, list) or not isinstance(prices, list) or len(hours) != len(prices):
            problems.append(f"{path}: times and tariffs have to be two lists of one length")
            continue
        if not all(_is_number(hour) and 0 <= hour < 24 for hour in hours) or hours != sorted(set(hours)):
            problems.append(f"{path}.times: have to be rising hours from 0 to 24")
            continue
        if not all(_is_number(price) and abs(price) <= _MOST_PRICE for price in prices):
            problems.append(f"{path}.tariffs: have to be prices per kWh")
            continue
        edges = [round(60 * hour) for hour in hours] + [DAY_MINUTES]
        periods = tuple(
            Period(
                days=days,
                from_minute=edges[index],
                to_minute=edges[index + 1],
                # A demand charge of 0 is none at all.
                rates=Rates(price_per_kwh=float(price), demand_price_per_kw=demand or None),
            )
            for index, price in enumerate(prices)
        )
        name = str(table.get("id", path))
        seasons.append(Season(name=name, first_day=first, last_day=last, periods=periods))
    return seasons


def _coverage(seasons: list[Season]) -> list[str]:
    """Which hours of which days are covered twice or never, each kind of day told once."""
    if not seasons:
        return ["it has no season"]
    problems: dict[str, None] = {}
    told: set[tuple[str, ...]] = set()
    for number in range(366):
        day = date(_LEAP_YEAR, 1, 1) + timedelta(days=number)
        on = [season for season in seasons if season.holds((day.month, day.day))]
        names = tuple(season.name for season in on)
        if names in told:
            continue
        told.add(names)
        where = " and ".join(names) or f"{day:%m-%d}, in no season"
        for weekday in sorted(_ALL_DAYS):
            periods = [period for season in on for period in season.periods if weekday in period.days]
            for problem in _day_problems(periods):
                problems[f"{where}, {WEEKDAYS[weekday]}: {problem}"] = None
    return list(problems)


def _day_problems(periods: Iterable[Period]) -> list[str]:
    found, covered = [], 0
    for period in sorted(periods, key=lambda period: period.from_minute):
        if period.from_minute > covered:
            found.append(f"nothing holds from {_clock(covered)} to {_clock(period.from_minute)}")
        elif period.from_minute < covered:
            found.append(f"two periods hold from {_clock(period.from_minute)} on")
        covered = max(covered, period.to_minute)
    if covered < DAY_MINUTES:
        found.append(f"nothing holds from {_clock(covered)} to 24:00")
    return found


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _tables(
    document: dict[str, Any], key: str, path: str, problems: list[str]
) -> list[tuple[str, dict[str, Any]]]:
    found = document.get(key)
    if not isinstance(found, list) or not found or not all(isinstance(table, dict) for table in found):
        problems.append(f"{path}{key}: missing; at least one table is needed")
        return []
    return [(f"{path}{key} {number}", table) for number, table in enumerate(found, start=1)]


def _is_number(value: object) -> TypeGuard[float]:
    # Compared, not converted: an integer of hundreds of digits is no float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _price(
    table: dict[str, Any], key: str, path: str, problems: list[str], *, negative: bool
) -> float | None:
    value = table.get(key)
    if value is None:
        return None
    if not _is_number(value) or abs(value) > _MOST_PRICE or (value < 0 and not negative):
        problems.append(f"{path}.{key}: {value!r} is no price{'' if negative else ' of 0 or more'}")
        return None
    return float(value)


def _month_day(value: object, path: str, problems: list[str]) -> MonthDay:
    match = _MONTH_DAY.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        try:
            day = date(_LEAP_YEAR, int(match[1]), int(match[2]))
        except ValueError:
            pass
        else:
            return day.month, day.day
    problems.append(f"{path}: {value!r} is no day of a year; write 06-30")
    return 1, 1


def _minute(value: object, path: str, problems: list[str]) -> int:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    minute = int(match[1]) * 60 + int(match[2]) if match is not None and int(match[2]) < 60 else -1
    if 0 <= minute <= DAY_MINUTES:
        return minute
    problems.append(f"{path}: {value!r} is no time of day; write 16:30")
    return 0


def _days(value: object, path: str, problems: list[str]) -> frozenset[int]:
    words: list[object] = value if isinstance(value, list) else [value]
    found = [_DAY_WORDS.get(word) if isinstance(word, str) else None for word in words]
    known = [days for days in found if days is not None]
    if words and len(known) == len(words):
        return frozenset[int]().union(*known)
    problems.append(f"{path}: {value!r} is not all, weekdays, weekends or a list of days")
    return _ALL_DAYS
