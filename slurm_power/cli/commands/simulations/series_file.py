"""A series of anybody's as CSV: a column of times and one of values, every bad row named at once."""

import csv
import math
from array import array
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from slurm_power.cli.commands.table_file import TableFileError, opened

# More than this helps nobody.
_MOST_PROBLEMS = 20
_GAPS = frozenset({"", "nan", "na", "n/a", "null", "none"})
# Epoch seconds reach this in the year 5138; more are milliseconds.
_MOST_EPOCH_SECONDS = 1e11


def read_series(path: Path, column: str | None) -> tuple["array[float]", "array[float]"]:
    """Times (epoch seconds) and values of a file, .gz or not; an empty value is NaN.

    The first column has the times, ISO 8601 (UTC where they do not say) or epoch seconds. ``column`` is a
    heading, by default the second's. Raises TableFileError.
    """
    with opened(path) as lines:
        return _rows(csv.reader(lines), str(path), column)


def _rows(rows: Iterator[list[str]], name: str, column: str | None) -> tuple["array[float]", "array[float]"]:
    headings = [heading.strip() for heading in next(rows, [])]
    if len(headings) < 2:
        raise TableFileError([f"{name}: row 1 has to name a column of times and one of values"])
    if column is not None and column not in headings:
        raise TableFileError([f"--column: {name} has no column {column!r}; it has {', '.join(headings)}"])
    at = 1 if column is None else headings.index(column)
    times, values = array("d"), array("d")
    problems: list[str] = []
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        try:
            if len(row) <= at:
                raise ValueError(f"has {len(row)} columns, not {at + 1}")
            if any(row[len(headings) :]):
                raise ValueError(
                    f"has {len(row)} columns, row 1 names {len(headings)}; is a comma within a number?"
                )
            time_seconds, value = _seconds(row[0].strip()), _value(row[at].strip())
        except ValueError as error:
            problems.append(f"{name}: row {number}: {error}")
            if len(problems) == _MOST_PROBLEMS:
                problems.append("and perhaps more: reading stopped here")
                break
            continue
        times.append(time_seconds)
        values.append(value)
    if problems:
        raise TableFileError(problems)
    if not times:
        raise TableFileError([f"{name}: it has no rows"])
    return times, values


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if not math.isfinite(seconds) or not 0.0 <= seconds <= _MOST_EPOCH_SECONDS:
            raise ValueError(f"time {text!r} is no moment in epoch seconds; are those milliseconds?")
        return seconds
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"time {text!r} is neither ISO 8601 nor epoch seconds") from None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def _value(text: str) -> float:
    if text.lower() in _GAPS:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"value {text!r} is no number") from None
    if not abs(value) < 1e15:
        raise ValueError(f"value {text!r} is too large to be a measurement")
    return value
