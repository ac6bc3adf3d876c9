"""A minute of ticks into packed chunks of 64 neighbouring series, and their means, minima and maxima."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slurm_power.store.packing import ABSENT, UNKNOWN, Ids, Whole, pack, unpack

MINUTE_MS = 60_000
QUARTER_MS = 900_000
CHUNK_SERIES = 64
MINUTE_SECONDS = 60.0
COVERAGE_STEPS = 10_000
# Rows of a rolled-up chunk, in this order: coverage, mean, minimum, maximum.
ROLLED_ROWS = 4
# A tick speaks for the time since the one before it, but not for a pause of the writer.
_MOST_TICK_SECONDS = 2.0
_FIRST_TICK_SECONDS = 1.0
# Columns worked on at once: 80,000 would take a quarter of a GB.
_SLICE_CHUNKS = 64
_QUARTER_MINUTES = 15
_MOST = np.iinfo(np.int64).max


class Chunk(NamedTuple):
    """Series ``64 * part`` to ``64 * part + 63`` for a while; ``members`` is a bitmap of those in it."""

    part: int
    members: bytes
    data: bytes


@dataclass(slots=True)
class Block:
    """The ticks of one minute, by time: ids in rising order and their values in whole steps."""

    ticks: dict[int, tuple[Ids, Whole]] = field(default_factory=dict)
    minute: int = 0

    def add(self, at_ms: int, ids: Ids, row: Whole, *, keep: bool = False) -> None:
        """Add a tick; one of the same moment is replaced, unless ``keep``."""
        self.minute = at_ms // MINUTE_MS
        if not keep or at_ms not in self.ticks:
            self.ticks[at_ms] = (ids, row)


def chunks_of(block: Block, start_ms: int) -> tuple[bytes, list[Chunk], list[Chunk]]:
    """Times of a minute as offsets in ms, its chunks, and its rolled-up chunks."""
    times = np.array(sorted(block.ticks), dtype=np.int64)
    ticks = [block.ticks[int(at_ms)] for at_ms in times]
    different = {id(ids): ids for ids, _ in ticks}
    ids = np.unique(np.concatenate(list(different.values())))
    weights = np.minimum(np.diff(times, prepend=times[0] - 1000) / 1000.0, _MOST_TICK_SECONDS)
    weights[0] = _FIRST_TICK_SECONDS
    raw: list[Chunk] = []
    rolled: list[Chunk] = []
    for some in _slices(ids):
        rows = np.full((len(ticks), len(some)), ABSENT, dtype=np.int64)
        for number, (tick_ids, values) in enumerate(ticks):
            first, last = np.searchsorted(tick_ids, (some[0], some[-1] + 1))
            rows[number, np.searchsorted(some, tick_ids[first:last])] = values[first:last]
        summary = rolled_minute(rows, weights)
        for part, members, columns in _parts(some):
            raw.append(Chunk(part, members, pack(rows[:, columns])))
            rolled.append(Chunk(part, members, pack(summary[:, columns])))
    return (times - start_ms).astype("<i4").tobytes(), raw, rolled


def _slices(ids: Ids) -> Iterator[Ids]:
    """Neighbouring ids, cut where a chunk ends."""
    slices = ids // (CHUNK_SERIES * _SLICE_CHUNKS)
    yield from np.split(ids, np.flatnonzero(np.diff(slices)) + 1)


def _parts(ids: Ids) -> Iterator[tuple[int, bytes, slice]]:
    parts = ids // CHUNK_SERIES
    edges = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(ids)]
    for first, last in pairwise(edges):
        flags = np.zeros(CHUNK_SERIES, dtype=np.bool_)
        flags[ids[first:last] % CHUNK_SERIES] = True
        yield int(parts[first]), np.packbits(flags).tobytes(), slice(first, last)


def members_of(bitmap: bytes) -> NDArray[np.int64]:
    """Places of a chunk's series in it, 0 to 63, in the order of its columns."""
    return np.flatnonzero(np.unpackbits(np.frombuffer(bitmap, np.uint8)))


def rolled_minute(rows: Whole, weights: NDArray[np.float64]) -> Whole:
    """Coverage, time-weighted mean, minimum and maximum of each column of (ticks, columns)."""
    known = rows > ABSENT
    covered = weights @ known
    total = weights @ np.where(known, rows, 0).astype(np.float64)
    return _summary(
        np.minimum(covered / MINUTE_SECONDS, 1.0),
        total / np.where(covered > 0.0, covered, 1.0),
        np.where(known, rows, _MOST).min(axis=0),
        np.where(known, rows, -_MOST).max(axis=0),
    )


def _summary(coverage: NDArray[np.float64], mean: NDArray[np.float64], least: Whole, most: Whole) -> Whole:
    nothing = coverage <= 0.0
    # A hair of coverage must not round to none.
    steps = np.where(nothing, 0.0, np.maximum(np.rint(coverage * COVERAGE_STEPS), 1.0))
    found = np.stack([steps.astype(np.int64), np.rint(mean).astype(np.int64), least, most])
    found[1:, nothing] = UNKNOWN
    return found


def rolled_up(rows: Iterable[tuple[int, bytes, bytes]]) -> list[Chunk]:
    """Join the 1-min chunks (part, members, data) of a quarter of an hour into one for each part."""
    sums: dict[int, NDArray[np.float64]] = {}
    ends: dict[int, Whole] = {}
    seen: dict[int, NDArray[np.bool_]] = {}
    for part, bitmap, data in rows:
        members = members_of(bitmap)
        try:
            table = unpack(data, ROLLED_ROWS, len(members))
        except ValueError:
            continue  # one damaged minute must not keep all later ones from being rolled up
        if part not in sums:
            sums[part] = np.zeros((2, CHUNK_SERIES))
            ends[part] = np.stack([np.full(CHUNK_SERIES, _MOST), np.full(CHUNK_SERIES, -_MOST)])
            seen[part] = np.zeros(CHUNK_SERIES, dtype=np.bool_)
        seen[part][members] = True
        known = table[1] > ABSENT
        members, table = members[known], table[:, known]
        sums[part][0, members] += table[0]
        sums[part][1, members] += table[0].astype(np.float64) * table[1]
        ends[part][0, members] = np.minimum(ends[part][0, members], table[2])
        ends[part][1, members] = np.maximum(ends[part][1, members], table[3])
    chunks = []
    for part, (covered, weighted) in sums.items():
        mean = weighted / np.where(covered > 0.0, covered, 1.0)
        summary = _summary(covered / (COVERAGE_STEPS * _QUARTER_MINUTES), mean, ends[part][0], ends[part][1])
        chunks.append(Chunk(part, np.packbits(seen[part]).tobytes(), pack(summary[:, seen[part]])))
    return chunks
