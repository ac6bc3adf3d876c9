"""Series as they were kept before they had a file of their own: a row per tick and name beside the ledger."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from slurm_power.model.series import Point, Resolution
from slurm_power.ports import SeriesReader, StoreError

_EPOCH_END = 2.0**40


class OldSamples:
    """Reads the table ``sample`` of a ledger's file; a file without one has no series."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5.0)
            found = self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sample'")
            self._there = found.fetchone() is not None
        except sqlite3.Error as error:
            raise StoreError(f"{file}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def names(self) -> list[str]:
        """Names of all series, in order; raises StoreError."""
        return [str(name) for (name,) in self._rows("SELECT DISTINCT name FROM sample ORDER BY name")]

    def read(
        self,
        names: Sequence[str],
        since: datetime | None = None,
        until: datetime | None = None,
        resolution: Resolution = Resolution.RAW,
    ) -> dict[str, list[Point]]:
        """Points that touch [since, until), by series, oldest first, RAW by default; raises StoreError."""
        width = int(resolution) or 1
        since_seconds = 0.0 if since is None else since.timestamp()
        if resolution is not Resolution.RAW:
            since_seconds = since_seconds // width * width
        span = (since_seconds, _EPOCH_END if until is None else until.timestamp())
        query = "SELECT at, value, value, value, value IS NOT NULL"
        group = ""
        if resolution is not Resolution.RAW:
            query = (
                f"SELECT CAST(at / {width} AS INTEGER) * {width}, AVG(value), MIN(value), MAX(value),"
                " MIN(1.0, COUNT(DISTINCT CASE WHEN value IS NOT NULL THEN CAST(at AS INTEGER) END)"
                f" / {width}.0)"
            )
            group = f"GROUP BY CAST(at / {width} AS INTEGER)"
        query += f" FROM sample WHERE name = ? AND at >= ? AND at < ? {group} ORDER BY 1"
        found = {}
        for name in names:
            rows = self._rows(query, (name, *span))
            found[name] = [
                Point(float(at), mean, least, most, float(ratio)) for at, mean, least, most, ratio in rows
            ]
        return found

    def _rows(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        if not self._there:
            return []
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self.file}: {error}") from error


class JoinedSeries:
    """Several readers as one: each series is what all of them have of it."""

    def __init__(self, readers: Sequence[SeriesReader]) -> None:
        self._readers = readers

    def close(self) -> None:
        """Close all of them."""
        for reader in self._readers:
            reader.close()

    def names(self) -> list[str]:
        """Names of all series, in order; raises StoreError."""
        return sorted({name for reader in self._readers for name in reader.names()})

    def read(
        self,
        names: Sequence[str],
        since: datetime | None = None,
        until: datetime | None = None,
        resolution: Resolution = Resolution.RAW,
    ) -> dict[str, list[Point]]:
        """Points that touch [since, until), by series, oldest first, RAW by default; raises StoreError."""
        parts = [reader.read(names, since, until, resolution) for reader in self._readers]
        return {
            name: sorted(
                (point for part in parts for point in part[name]), key=lambda point: point.at_seconds
            )
            for name in names
        }
