"""Rows of times and values out of a JSON page that nobody vouches for, and into what was known before.

Nothing here raises but ``PageError``: a row that cannot be true is left out, and a doubt says so.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

from slurm_power.bridge.grid_events import LONGEST_AHEAD, Price, printable
from slurm_power.bridge.http_doubts import RowDoubtError, RowDoubts
from slurm_power.config.http_signals import HttpKind, HttpSignal, TimeForm

KEEP = timedelta(days=3)
"""So long what is past is remembered."""
MOST_ROWS = 20_000
_MOST_DEPTH = 32
_LONE_ROW = timedelta(hours=1)
_MOST_USUAL = timedelta(days=1)
# Epoch seconds reach this in the year 5138; more are milliseconds.
_MOST_EPOCH_SECONDS = 1e11
# Its end is optional, so that a string without one is looked at once and not from each of its letters.
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


class PageError(Exception):
    """A page has nothing that could be used; says why."""


@dataclass(frozen=True, slots=True)
class _Row:
    starts_at: datetime
    ends_at: datetime | None
    value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPage:
    """What a page says: values in order and without overlaps, per kWh or in watts; what of it is doubtful.

    ``starts_at``: its first row, also one without a value. ``made_at``: when it was made, where it says so
    and we were told where.
    """

    values: list[Price]
    doubts: list[str]
    starts_at: datetime | None = None
    made_at: datetime | None = None


def read_page(content: bytes, signal: HttpSignal, now: datetime) -> ReadPage:
    """Read a page; raises PageError where no row of those that it has can be used."""
    page = _parsed(content)
    rows = _found(page, signal)
    if len(rows) > MOST_ROWS:
        raise PageError(f"it has {len(rows)} rows, more than {MOST_ROWS}")
    if signal.time_form is TimeForm.ISO and len(rows) > 1 and str(rows[0][0]) > str(rows[-1][0]):
        # The newest first: of a time that comes twice, the later one would be seen first.
        rows.reverse()
    doubts = RowDoubts()
    local_seen: set[datetime] = set()
    read = [row for one in rows if (row := _row(one, signal, local_seen, now, doubts)) is not None]
    if rows and not read:
        raise PageError("; ".join(doubts.said()) or "it has no row that could be used")
    values, more = _in_order(read, signal)
    if not values and signal.kind is not HttpKind.LIMITS:
        more.append("it has no values")
    made_at = None
    if signal.published:
        try:
            made_at = _moment(_at(page, signal.published), signal, set())
        except RowDoubtError:
            more.append(f"{signal.published} is no time of when it was made")
    starts_at = min((row.starts_at for row in read), default=None)
    return ReadPage(values=values, doubts=doubts.said() + more, starts_at=starts_at, made_at=made_at)


def merged(
    known: Sequence[Price],
    told: Sequence[Price],
    now: datetime,
    speaks_for: tuple[datetime, datetime] | None = None,
) -> list[Price]:
    """What is known after a page: what it tells counts where it tells something, the rest stays.

    In the time that it ``speaks_for`` nothing stays but what it tells. Both are in order and without
    overlaps, and so is the answer; what is long past is forgotten.
    """
    pieces = list(told)
    span = [] if speaks_for is None else [Price(starts_at=speaks_for[0], ends_at=speaks_for[1], value=0.0)]
    for old in known:
        pieces += [rest for piece in _outside(old, told) for rest in _outside(piece, span)]
    return sorted((one for one in pieces if one.ends_at > now - KEEP), key=lambda one: one.starts_at)


def _outside(old: Price, told: Sequence[Price]) -> list[Price]:
    """What of a value lies in no row of ``told``."""
    left, from_at = [], old.starts_at
    for one in told:
        if one.ends_at <= from_at:
            continue
        if one.starts_at >= old.ends_at:
            break
        if one.starts_at > from_at:
            left.append(replace(old, starts_at=from_at, ends_at=one.starts_at))
        from_at = one.ends_at
    if from_at < old.ends_at:
        left.append(replace(old, starts_at=from_at))
    return left


def _parsed(content: bytes) -> Any:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PageError("its answer is no text in UTF-8") from None
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > _MOST_DEPTH:
            raise PageError(f"its answer is nested deeper than {_MOST_DEPTH} levels")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise PageError("its answer is no JSON") from None


def _step(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(key)
    if isinstance(value, list) and key.isascii() and key.isdigit() and int(key[:9]) < len(value):
        return value[int(key[:9])]
    return None


def _at(value: Any, path: str) -> Any:
    """What stands at a dotted path: names of objects, numbers of lists; None where nothing is."""
    if path and isinstance(value, Mapping) and path in value:
        return value[path]
    for key in path.split(".") if path else ():
        value = _step(value, key)
    return value


def _found(page: Any, signal: HttpSignal) -> list[tuple[Any, Any, Any]]:
    """(time, end, value) of each row: of a list of rows, of lists side by side, or of one row alone."""
    place = signal.rows or "the answer"
    rows = _at(page, signal.rows)
    if isinstance(rows, Mapping):
        times, values, ends = _at(rows, signal.time), _at(rows, signal.value), _at(rows, signal.end)
        if isinstance(times, list) and isinstance(values, list):
            if len(times) != len(values):
                raise PageError(f"{signal.time} has {len(times)} entries, {signal.value} {len(values)}")
            if not signal.end:
                ends = [None] * len(times)
            if not isinstance(ends, list) or len(ends) != len(times):
                raise PageError(f"{signal.end}: is no list as long as {signal.time}")
            return list(zip(times, ends, values, strict=True))
        rows = [rows]
    if not isinstance(rows, list):
        raise PageError(f"rows: {printable(place, 60)} is no list in its answer")
    return [
        (_at(row, signal.time), _at(row, signal.end) if signal.end else None, _at(row, signal.value))
        for row in rows
    ]


def _row(
    one: tuple[Any, Any, Any],
    signal: HttpSignal,
    local_seen: set[datetime],
    now: datetime,
    doubts: RowDoubts,
) -> _Row | None:
    time, end, value = one
    try:
        starts_at = _moment(time, signal, local_seen)
        if starts_at > now + LONGEST_AHEAD:
            raise RowDoubtError("is more than a year ahead", f"{starts_at:%Y-%m-%d}")
        ends_at = None if end is None else _moment(end, signal, set(), after=starts_at)
        if ends_at is not None and not timedelta(0) < ends_at - starts_at <= timedelta(days=31):
            raise RowDoubtError("a row ends before it begins, or a month after")
        number = _number(value, signal)
    except RowDoubtError as error:
        doubts.add(error)
        return None
    return _Row(starts_at, ends_at, number)


def _moment(
    given: Any, signal: HttpSignal, local_seen: set[datetime], after: datetime | None = None
) -> datetime:
    if isinstance(given, bool) or given is None:
        raise RowDoubtError("a row has no time")
    try:
        if signal.time_form is TimeForm.ISO:
            if not isinstance(given, str):
                raise ValueError
            at = datetime.fromisoformat(given.strip())
        else:
            seconds = float(given) / (1.0 if signal.time_form is TimeForm.EPOCH_SECONDS else 1e3)
            if not 0.0 <= seconds <= _MOST_EPOCH_SECONDS:
                raise ValueError
            return datetime.fromtimestamp(seconds, UTC)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
        return _local(at, signal, local_seen, after)
    except (ValueError, TypeError, OverflowError):
        raise RowDoubtError(f"is no time ({signal.time_form.value})", repr(printable(given, 40))) from None


def _local(at: datetime, signal: HttpSignal, local_seen: set[datetime], after: datetime | None) -> datetime:
    """A time without a zone; one that comes twice where clocks go back is the later one then."""
    first = at.replace(tzinfo=ZoneInfo(signal.zone)).astimezone(UTC)
    second = at.replace(tzinfo=ZoneInfo(signal.zone), fold=1).astimezone(UTC)
    if first > second:
        # Clocks go forward over it: it does not exist.
        raise ValueError
    if second > first and (at in local_seen or (after is not None and first <= after)):
        return second
    local_seen.add(at)
    return first


def _number(value: Any, signal: HttpSignal) -> float | None:
    """A value in our unit; None where the page says that there is none."""
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
    except (ValueError, TypeError, OverflowError):
        raise RowDoubtError("is no value", repr(printable(value, 40))) from None
    if not math.isfinite(number):
        raise RowDoubtError("is no value", number)
    if not signal.least_value <= number <= signal.most_value:
        bounds = f"{signal.least_value:g} and {signal.most_value:g}"
        raise RowDoubtError(f"is not plausible, it is not between {bounds}", f"{number:g}")
    return number * signal.factor


def _in_order(rows: list[_Row], signal: HttpSignal) -> tuple[list[Price], list[str]]:
    """Each time once, in order, each row until its end or the next; gaps stay gaps."""
    doubts = []
    starts = [row.starts_at for row in rows]
    if starts != sorted(starts) and starts != sorted(starts, reverse=True):
        doubts.append("its rows are in no order")
    by_start: dict[datetime, _Row] = {}
    twice = 0
    for row in rows:
        other = by_start.get(row.starts_at)
        twice += other is not None and other.value != row.value
        by_start[row.starts_at] = row
    if twice:
        doubts.append(f"two values for one time, the later in its answer counts ({twice} times)")
    ordered = [by_start[start] for start in sorted(by_start)]
    usual = _usual(ordered, signal)
    overlaps = 0
    prices: list[Price] = []
    for number, row in enumerate(ordered):
        ends_at = row.starts_at + usual if row.ends_at is None else row.ends_at
        if number + 1 < len(ordered) and ordered[number + 1].starts_at < ends_at:
            overlaps += row.ends_at is not None
            ends_at = ordered[number + 1].starts_at
        if row.value is not None:
            prices.append(Price(starts_at=row.starts_at, ends_at=ends_at, value=row.value))
    if overlaps:
        doubts.append(f"rows overlap, each counts until the next begins ({overlaps} times)")
    return prices, doubts


def _usual(ordered: Sequence[_Row], signal: HttpSignal) -> timedelta:
    """How long a row counts that does not say so."""
    if signal.step_minutes is not None:
        return timedelta(minutes=signal.step_minutes)
    if len(ordered) < 2:
        return _LONE_ROW
    gaps = [(later.starts_at - sooner.starts_at).total_seconds() for sooner, later in pairwise(ordered)]
    # Two rows a month apart are no prices for a month: a feed that stopped would look as if it went on.
    return min(timedelta(seconds=median(gaps)), _MOST_USUAL)
