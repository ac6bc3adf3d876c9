"""Read packed series back: raw ticks, and the 1-min and 15-min tiers with what is not rolled up yet."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slurm_power.model.series import Point, Resolution
from slurm_power.ports import StoreError
from slurm_power.store.blocks import (
    CHUNK_SERIES,
    COVERAGE_STEPS,
    MINUTE_MS,
    QUARTER_MS,
    ROLLED_ROWS,
    Block,
    Chunk,
    chunks_of,
    members_of,
    rolled_up,
)
from slurm_power.store.packing import ABSENT, UNKNOWN, Ids, Whole, unpack, unpack_ids
from slurm_power.store.schema import SERIES, refuse_newer

_EPOCH_END_MS = 2**53
_MOST_LOOKED_UP = 2000


class _Wanted(NamedTuple):
    name: str
    step: float


class SeriesReading:
    """The reading half of the embedded store of series. A read sees one state of the file."""

    def __init__(self, connection: sqlite3.Connection, file: Path) -> None:
        self._connection = connection
        self.file = file

    @classmethod
    def open(cls, file: Path) -> "SeriesReading":
        """Open a file of series for reading, a live one too; raises StoreError."""
        try:
            connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, isolation_level=None)
            refuse_newer(connection, SERIES, file)
        except sqlite3.Error as error:
            raise StoreError(f"{file}: {error}") from error
        return cls(connection, file)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _transaction(self, begin: str = "BEGIN") -> Iterator[None]:
        self._connection.execute(begin)
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def names(self) -> list[str]:
        """Names of all series ever written, in order; raises StoreError."""
        try:
            rows = self._connection.execute("SELECT DISTINCT name FROM series ORDER BY name").fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self.file}: {error}") from error
        return [name for (name,) in rows]

    def read(
        self,
        names: Sequence[str],
        since: datetime | None = None,
        until: datetime | None = None,
        resolution: Resolution = Resolution.RAW,
    ) -> dict[str, list[Point]]:
        """Points that touch [since, until) of each series, oldest first; raises StoreError."""
        since_ms = 0 if since is None else round(since.timestamp() * 1000)
        until_ms = _EPOCH_END_MS if until is None else round(until.timestamp() * 1000)
        found: dict[str, list[Point]] = {name: [] for name in names}
        try:
            with self._transaction():
                wanted = self._wanted(found)
                if resolution is Resolution.RAW:
                    self._read_raw(wanted, since_ms, until_ms, found)
                else:
                    first_ms = since_ms // (resolution * 1000) * resolution * 1000
                    self._read_rolled(wanted, first_ms, until_ms, resolution, found)
        except (sqlite3.Error, ValueError) as error:
            raise StoreError(f"{self.file}: {error}") from error
        for points in found.values():
            points.sort(key=lambda point: point.at_seconds)
        return found

    def _wanted(self, names: Iterable[str]) -> dict[int, _Wanted]:
        asked = list(dict.fromkeys(names))
        if len(asked) <= _MOST_LOOKED_UP:
            # Years of jobs are many names; a few are found by the index.
            query = "SELECT id, name, step FROM series WHERE name = ?"
            rows = [row for name in asked for row in self._connection.execute(query, (name,))]
            return {number: _Wanted(name, step) for number, name, step in rows}
        wanted = set(asked)
        every = self._connection.execute("SELECT id, name, step FROM series")
        return {number: _Wanted(name, step) for number, name, step in every if name in wanted}

    def _read_raw(
        self, wanted: dict[int, _Wanted], since_ms: int, until_ms: int, found: dict[str, list[Point]]
    ) -> None:
        for part in sorted({number // CHUNK_SERIES for number in wanted}):
            rows = self._connection.execute(
                "SELECT start_ms, times, members, data FROM chunk JOIN block USING (start_ms)"
                " WHERE tier = 0 AND part = ? AND start_ms > ? AND start_ms < ? ORDER BY start_ms",
                (part, since_ms - MINUTE_MS, until_ms),
            )
            for start_ms, offsets, bitmap, data in rows:
                times = start_ms + np.frombuffer(offsets, "<i4").astype(np.int64)
                inside = (times >= since_ms) & (times < until_ms)
                _take_raw(wanted, times, inside, Chunk(part, bitmap, data), found)
        for at_ms, ids, row in self.ticks():
            if since_ms <= at_ms < until_ms:
                self._take_tick(wanted, at_ms, ids, row, found)

    @staticmethod
    def _take_tick(
        wanted: dict[int, _Wanted], at_ms: int, ids: Ids, row: Whole, found: dict[str, list[Point]]
    ) -> None:
        for number, (name, step) in wanted.items():
            place = int(np.searchsorted(ids, number))
            if place < len(ids) and ids[place] == number:
                found[name].append(_raw_point(at_ms, int(row[place]), step))

    def ticks(self) -> Iterator[tuple[int, Ids, Whole]]:
        """The ticks of the running minute, oldest first; torn ones are left out."""
        rows = self._connection.execute("SELECT at_ms, ids, data FROM tick ORDER BY at_ms").fetchall()
        for at_ms, packed_ids, data in rows:
            try:
                ids = unpack_ids(packed_ids)
                yield at_ms, ids, unpack(data, 1, len(ids))[0]
            except ValueError:
                continue

    def packed_ticks(self, start_ms: int) -> Iterator[tuple[int, Ids, Whole]]:
        """The ticks of a minute that is packed already; a part that cannot be read is left out."""
        rows = self._connection.execute(
            "SELECT part, times, members, data FROM chunk JOIN block USING (start_ms)"
            " WHERE tier = 0 AND start_ms = ? ORDER BY part",
            (start_ms,),
        ).fetchall()
        times = np.zeros(0, dtype=np.int64)
        ids: list[Ids] = []
        tables: list[Whole] = []
        for part, offsets, bitmap, data in rows:
            times = start_ms + np.frombuffer(offsets, "<i4").astype(np.int64)
            members = members_of(bitmap)
            try:
                tables.append(unpack(data, len(times), len(members)))
            except ValueError:
                continue
            ids.append((part * CHUNK_SERIES + members).astype(np.int32))
        if not ids:
            return
        all_ids, table = np.concatenate(ids), np.concatenate(tables, axis=1)
        for at_ms, row in zip(times.tolist(), table, strict=True):
            there = row != ABSENT
            yield at_ms, all_ids[there], row[there]

    def _read_rolled(
        self,
        wanted: dict[int, _Wanted],
        first_ms: int,
        until_ms: int,
        resolution: Resolution,
        found: dict[str, list[Point]],
    ) -> None:
        parts = sorted({number // CHUNK_SERIES for number in wanted})
        for part in parts:
            rows = self._connection.execute(
                "SELECT start_ms, part, members, data FROM chunk"
                " WHERE tier = ? AND part = ? AND start_ms >= ? AND start_ms < ?",
                (int(resolution), part, first_ms, until_ms),
            )
            for row in rows:
                _take_rolled(wanted, row[0], Chunk(*row[1:]), found)
        for row in self._not_rolled_yet(resolution, parts):
            if first_ms <= row[0] < until_ms:
                _take_rolled(wanted, row[0], Chunk(*row[1:]), found)

    def _not_rolled_yet(
        self, resolution: Resolution, parts: list[int]
    ) -> list[tuple[int, int, bytes, bytes]]:
        """Chunks that the next turn of the minute, or of the quarter, will write: (start, part, ...)."""
        block = Block()
        for at_ms, ids, row in self.ticks():
            asked = np.isin(ids // CHUNK_SERIES, parts)
            if asked.any():
                block.add(at_ms, ids[asked], row[asked])
        running = []
        if block.ticks:
            start_ms = block.minute * MINUTE_MS
            running = [(start_ms, *chunk) for chunk in chunks_of(block, start_ms)[2]]
        if resolution is Resolution.MINUTE:
            return running
        after_ms = self._connection.execute(
            "SELECT COALESCE(MAX(start_ms), ?) + ? FROM chunk WHERE tier = ?",
            (-QUARTER_MS, QUARTER_MS, int(resolution)),
        ).fetchone()[0]
        rows = [
            row
            for part in parts
            for row in self._connection.execute(
                "SELECT start_ms, part, members, data FROM chunk"
                " WHERE tier = ? AND part = ? AND start_ms >= ?",
                (int(Resolution.MINUTE), part, after_ms),
            )
        ]
        quarters: dict[int, list[tuple[int, bytes, bytes]]] = {}
        for start_ms, *chunk in rows + running:
            quarters.setdefault(start_ms // QUARTER_MS * QUARTER_MS, []).append(tuple(chunk))
        return [(start, *chunk) for start, chunks in quarters.items() for chunk in rolled_up(chunks)]


def _take_raw(
    wanted: dict[int, _Wanted],
    times: Whole,
    inside: NDArray[np.bool_],
    chunk: Chunk,
    found: dict[str, list[Point]],
) -> None:
    members = members_of(chunk.members)
    table = unpack(chunk.data, len(times), len(members))
    for column, member in enumerate(members.tolist()):
        series = wanted.get(chunk.part * CHUNK_SERIES + member)
        if series is None:
            continue
        there = inside & (table[:, column] != ABSENT)
        moments, numbers = times[there].tolist(), table[there, column].tolist()
        found[series.name] += [
            _raw_point(at_ms, number, series.step) for at_ms, number in zip(moments, numbers, strict=True)
        ]


def _raw_point(at_ms: int, number: int, step: float) -> Point:
    value = None if number == UNKNOWN else _value(number, step)
    return Point(at_ms / 1000, value, value, value, 0.0 if value is None else 1.0)


def _value(number: int, step: float) -> float:
    """Steps back to a value, without the digits that a step of 0.1 does not have."""
    return round(number * step, 9)


def _take_rolled(
    wanted: dict[int, _Wanted],
    start_ms: int,
    chunk: Chunk,
    found: dict[str, list[Point]],
) -> None:
    members = members_of(chunk.members)
    table = unpack(chunk.data, ROLLED_ROWS, len(members))
    for column, member in enumerate(members.tolist()):
        series = wanted.get(chunk.part * CHUNK_SERIES + member)
        if series is None:
            continue
        covered, *rest = table[:, column].tolist()
        mean, least, most = (None if number == UNKNOWN else _value(number, series.step) for number in rest)
        found[series.name].append(Point(start_ms / 1000, mean, least, most, covered / COVERAGE_STEPS))
