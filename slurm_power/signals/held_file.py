"""A CSV file of times and values into values that hold until the next; every bad row is named at once."""

import csv
import math
from datetime import UTC, datetime, tzinfo
from itertools import pairwise
from pathlib import Path
from statistics import median

from slurm_power.forecast.supply import HeldValues

# The last value of a file holds for so many times the usual spacing: one row late is no news.
_HOLD_SPACINGS = 2.0
_LONE_ROW_SECONDS = 3600.0
_MOST_PROBLEMS = 20
_MOST_BYTES = 50_000_000
_GAPS = frozenset({"", "nan", "na", "n/a", "null", "none"})
# Epoch seconds reach this in the year 5138; more are milliseconds.
_MOST_EPOCH_SECONDS = 1e11
_MOST_VALUE = 1e15


class SupplyFileError(Exception):
    """A file of the supply cannot be used; ``problems`` are sentences that name it, with its rows."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def with_choice(file: Path) -> tuple[Path, str | None]:
    """Split FILE#CHOICE, one of several things in a file; a file that has such a name is itself."""
    name, mark, choice = file.name.rpartition("#")
    if not mark or not name or file.exists():
        return file, None
    return file.with_name(name), choice or None


def read_headings(file: Path) -> list[str]:
    """The headings of a CSV file, without spaces around them; raises SupplyFileError."""
    rows = _rows(file)
    return [heading.strip() for heading in rows[0]] if rows else []


def read_held_values(
    file: Path,
    *,
    column: str | None,
    factor: float,
    zone: tzinfo,
    negative: bool,
    lasting: bool,
    most: float = _MOST_VALUE,
) -> HeldValues:
    """Read a file: times in its first column, values (times ``factor``) in ``column`` or the second.

    Times are ISO 8601, in ``zone`` where they do not say, or epoch seconds; rows may be in any order; with an
    empty value nothing is known from then on. The last value ends after twice the usual spacing of the rows,
    or never where it is ``lasting``. ``most`` (after ``factor``) is what no value comes up to. Raises
    SupplyFileError.
    """
    rows = _rows(file)
    at = _column(file, rows, column)
    found: dict[float, tuple[int, float | None]] = {}
    local_seen: set[datetime] = set()
    problems: list[str] = []
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        try:
            if len(row) <= at:
                raise ValueError(f"has {len(row)} columns, not {at + 1}")
            seconds = _seconds(row[0].strip(), zone, local_seen)
            value = _value(row[at].strip(), factor, most=min(most, _MOST_VALUE), negative=negative)
            earlier, known = found.get(seconds, (number, value))
            if known != value:
                raise ValueError(f"the time of row {earlier} again, with another value")
        except ValueError as error:
            problems.append(f"{file}: row {number}, column {rows[0][min(at, len(row) - 1)]!r}: {error}")
            if len(problems) == _MOST_PROBLEMS:
                problems.append(f"{file}: and perhaps more: reading stopped here")
                break
        else:
            found.setdefault(seconds, (number, value))
    if not problems and not found:
        problems.append(f"{file}: it has no rows")
    if problems:
        raise SupplyFileError(problems)
    moments = sorted(found)
    return HeldValues(
        seconds=tuple(moments),
        values=tuple(found[moment][1] for moment in moments),
        end_seconds=math.inf if lasting else moments[-1] + _hold_seconds(moments),
    )


def _rows(file: Path) -> list[list[str]]:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise SupplyFileError([f"{file}: larger than {_MOST_BYTES / 1e6:.0f} MB"])
        with file.open(encoding="utf-8-sig", newline="") as lines:
            return list(csv.reader(lines))
    except OSError as error:
        raise SupplyFileError([f"{file}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SupplyFileError([f"{file}: no text in UTF-8"]) from None
    except csv.Error as error:
        raise SupplyFileError([f"{file}: no CSV: {error}"]) from None


def _column(file: Path, rows: list[list[str]], column: str | None) -> int:
    headings = [heading.strip() for heading in rows[0]] if rows else []
    if len(headings) < 2:
        raise SupplyFileError([f"{file}: row 1 has to name a column of times and one of values"])
    if column is None:
        return 1
    if column not in headings[1:]:
        raise SupplyFileError([f"{file}: there is no column {column!r}; it has {', '.join(headings[1:])}"])
    return headings.index(column, 1)


def _hold_seconds(moments: list[float]) -> float:
    if len(moments) < 2:
        return _LONE_ROW_SECONDS
    return _HOLD_SPACINGS * median(later - sooner for sooner, later in pairwise(moments))


def _seconds(text: str, zone: tzinfo, local_seen: set[datetime]) -> float:
    """Unix time of a cell. A local time that comes twice where clocks go back is the later one then."""
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if not 0.0 <= seconds <= _MOST_EPOCH_SECONDS:
            raise ValueError(f"time {text!r} is no moment in epoch seconds; are those milliseconds?")
        return seconds
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"time {text!r} is neither ISO 8601 nor epoch seconds") from None
    if at.tzinfo is not None:
        return at.timestamp()
    again = at in local_seen
    local_seen.add(at)
    local = at.replace(tzinfo=zone)
    later = local.replace(fold=1)
    if local.utcoffset() != later.utcoffset():
        if _round_trip(local) != at:
            raise ValueError(f"time {text!r} does not exist in {zone}: clocks go forward there")
        if again:
            local = later
    return local.timestamp()


def _round_trip(local: datetime) -> datetime:
    there = local.astimezone(UTC).astimezone(local.tzinfo)
    return there.replace(tzinfo=None, fold=0)


def _value(text: str, factor: float, *, most: float, negative: bool) -> float | None:
    if text.lower() in _GAPS:
        return None
    try:
        value = float(text) * factor
    except ValueError:
        raise ValueError(f"value {text!r} is no number") from None
    if not abs(value) < most:
        raise ValueError(f"value {text!r} is too large to be true")
    if value < 0.0 and not negative:
        raise ValueError(f"value {text!r} is negative")
    return value
