"""Stored series into a table of a row a moment and a column a series, as CSV or Parquet."""

import csv
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from slurm_power.model.series import Point, Resolution
from slurm_power.ports import SeriesReader

TIME_COLUMN = "time_utc"
# Read at once, so that neither memory nor the store's log grows with the span: a few thousand moments.
_SLICE_SECONDS = {Resolution.RAW: 3600, Resolution.MINUTE: 86_400, Resolution.QUARTER_HOUR: 15 * 86_400}

Row = list[float | None]


class Sheet(Protocol):
    """A file that takes rows, slice by slice."""

    def write(self, moments: Sequence[datetime], rows: Sequence[Row]) -> None:
        """Add rows, each as long as there are columns beside the time."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...


def columns(names: Sequence[str], resolution: Resolution) -> list[str]:
    """Names of the columns beside the time: the series' own, which end in their unit, or four for each."""
    if resolution is Resolution.RAW:
        return list(names)
    return [
        column
        for name in names
        for column in (
            _named(name, "mean"),
            _named(name, "min"),
            _named(name, "max"),
            f"{name}.coverage_ratio",
        )
    ]


def _named(name: str, word: str) -> str:
    """``circuit.grid.watts`` into ``circuit.grid.mean_watts``: the unit stays the last word."""
    stem, _, last = name.rpartition(".")
    return f"{stem}.{word}_{last}" if stem else f"{word}_{last}"


def export(
    reader: SeriesReader,
    names: Sequence[str],
    span: tuple[datetime, datetime],
    resolution: Resolution,
    sheet: Sheet,
    *,
    seen: Callable[[float], None] | None = None,
) -> int:
    """Write a half-open span of the series to a sheet, oldest first; returns the rows. Raises StoreError.

    ``seen`` is told how many seconds of the span are written.
    """
    count = 0
    for first, last in _slices(*span, resolution):
        found = reader.read(names, first, last, resolution)
        table: dict[float, dict[str, Point]] = {}
        for name in names:
            for point in found[name]:
                table.setdefault(point.at_seconds, {})[name] = point
        moments = sorted(table)
        sheet.write(
            [datetime.fromtimestamp(moment, UTC) for moment in moments],
            [_row(table[moment], names, resolution) for moment in moments],
        )
        count += len(moments)
        if seen is not None:
            seen((last - span[0]).total_seconds())
    return count


def _slices(since: datetime, until: datetime, resolution: Resolution) -> Iterator[tuple[datetime, datetime]]:
    """Cut where intervals of the resolution end, so that none is read twice."""
    width = timedelta(seconds=_SLICE_SECONDS[resolution])
    at = since
    while at < until:
        end = (
            datetime.fromtimestamp(at.timestamp() // width.total_seconds() * width.total_seconds(), UTC)
            + width
        )
        yield at, min(end, until)
        at = end


def _row(points: dict[str, Point], names: Sequence[str], resolution: Resolution) -> Row:
    if resolution is Resolution.RAW:
        return [points[name].mean if name in points else None for name in names]
    row: Row = []
    for name in names:
        point = points.get(name)
        row += [None] * 4 if point is None else [point.mean, point.least, point.most, point.coverage_ratio]
    return row


class CsvSheet:
    """RFC 4180; moments as ISO 8601 in UTC, nothing where nothing is known."""

    def __init__(self, file: Path, names: Sequence[str]) -> None:
        self._file = file.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._writer.writerow([TIME_COLUMN, *names])

    def write(self, moments: Sequence[datetime], rows: Sequence[Row]) -> None:
        """Add rows."""
        self._writer.writerows(
            [_iso(moment), *("" if value is None else repr(value) for value in row)]
            for moment, row in zip(moments, rows, strict=True)
        )

    def close(self) -> None:
        """Finish the file."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class ParquetSheet:
    """One row group a slice; the time is a timestamp in UTC, null where nothing is known."""

    def __init__(self, file: Path, names: Sequence[str]) -> None:
        import pyarrow  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415  # pyarrow is an extra

        self._pyarrow = pyarrow
        fields = [
            (TIME_COLUMN, pyarrow.timestamp("ms", tz="UTC")),
            *((name, pyarrow.float64()) for name in names),
        ]
        self._schema = pyarrow.schema(fields)
        self._writer = parquet.ParquetWriter(str(file), self._schema)

    def write(self, moments: Sequence[datetime], rows: Sequence[Row]) -> None:
        """Add rows."""
        if moments:
            table = [list(moments), *(list(column) for column in zip(*rows, strict=True))]
            self._writer.write_table(self._pyarrow.table(table, schema=self._schema))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


@contextmanager
def replaced(file: Path) -> Iterator[Path]:
    """Give a new file beside ``file`` that takes its place at the end; on an error it goes again."""
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    os.fchmod(handle, 0o644)
    os.close(handle)
    new = Path(name)
    try:
        yield new
        new.replace(file)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
