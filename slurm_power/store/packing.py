"""Columns of whole numbers into small blobs and back: deltas along time in 16 bits, escapes, zlib."""

import zlib

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]
Ids = NDArray[np.int32]

# Two numbers that no reading can have: nothing was known, and the series was not there at all.
UNKNOWN = np.iinfo(np.int64).min
ABSENT = UNKNOWN + 1
# What a double still counts exactly; anything larger is no reading.
MOST_STEPS = 2.0**53

_CODE_ABSENT, _CODE_ESCAPE, _CODE_UNKNOWN = 0xFFFD, 0xFFFE, 0xFFFF
_LEVEL = 1


def to_steps(values: NDArray[np.float64], steps: NDArray[np.float64]) -> Whole:
    """Round values to whole steps; what is no number, or too large for one, becomes UNKNOWN."""
    scaled = values / steps
    good = np.abs(scaled) <= MOST_STEPS  # False for NaN as well
    found = np.full(values.shape, UNKNOWN, dtype=np.int64)
    found[good] = np.rint(scaled[good]).astype(np.int64)
    return found


def pack(rows: Whole) -> bytes:
    """Pack a table of (ticks, columns). Each column holds deltas to its last known value, the first to 0.

    Deltas beyond 16 bits are kept exactly, in a list of their own.
    """
    columns = np.ascontiguousarray(rows.T)
    known = columns > ABSENT
    deltas = _deltas(columns, known)
    zigzag = ((deltas << 1) ^ (deltas >> 63)).view(np.uint64)
    escaped = known & (zigzag >= _CODE_ABSENT)
    codes = zigzag.astype(np.uint16)
    codes[escaped] = _CODE_ESCAPE
    codes[columns == UNKNOWN] = _CODE_UNKNOWN
    codes[columns == ABSENT] = _CODE_ABSENT
    low, high = (codes & 0xFF).astype(np.uint8), (codes >> 8).astype(np.uint8)
    wide = deltas[escaped].astype("<i8")
    return zlib.compress(low.tobytes() + high.tobytes() + wide.tobytes(), _LEVEL)


def _deltas(columns: Whole, known: NDArray[np.bool_]) -> Whole:
    """Difference of each known value to the last known one before it in its column; 0 where unknown."""
    count, ticks = columns.shape
    place = np.where(known, np.arange(1, ticks + 1), 0)
    last = np.zeros_like(place)
    np.maximum.accumulate(place[:, :-1], axis=1, out=last[:, 1:])
    padded = np.zeros((count, ticks + 1), dtype=np.int64)
    padded[:, 1:] = np.where(known, columns, 0)
    before = np.take_along_axis(padded, last, axis=1)
    return np.where(known, padded[:, 1:] - before, 0)


def unpack(blob: bytes, ticks: int, columns: int) -> Whole:
    """Unpack a table of (ticks, columns); raises ValueError for a blob that is none of this shape."""
    try:
        plain = zlib.decompress(blob)
    except zlib.error as error:
        raise ValueError(f"a packed block cannot be read: {error}") from None
    cells = ticks * columns
    if len(plain) < 2 * cells or (len(plain) - 2 * cells) % 8:
        raise ValueError(f"a packed block has {len(plain)} bytes, too few for {ticks} ticks of {columns}")
    low = np.frombuffer(plain, np.uint8, cells)
    high = np.frombuffer(plain, np.uint8, cells, cells)
    codes = (low.astype(np.uint16) | (high.astype(np.uint16) << 8)).reshape(columns, ticks)
    wide = np.frombuffer(plain, "<i8", offset=2 * cells)
    escaped = codes == _CODE_ESCAPE
    if np.count_nonzero(escaped) != len(wide):
        raise ValueError("a packed block has lost some of its large steps")
    zigzag = codes.astype(np.int64)
    deltas = (zigzag >> 1) ^ -(zigzag & 1)
    deltas[escaped] = wide
    unknown, absent = codes == _CODE_UNKNOWN, codes == _CODE_ABSENT
    deltas[unknown | absent] = 0
    found = np.cumsum(deltas, axis=1)
    found[unknown], found[absent] = UNKNOWN, ABSENT
    return np.ascontiguousarray(found.T)


def pack_ids(ids: Ids) -> bytes:
    """Pack ids in rising order."""
    return zlib.compress(np.diff(ids, prepend=np.int32(0)).astype("<i4").tobytes(), _LEVEL)


def unpack_ids(blob: bytes) -> Ids:
    """Unpack ids; raises ValueError for a blob that holds none."""
    try:
        return np.cumsum(np.frombuffer(zlib.decompress(blob), "<i4"), dtype=np.int32)
    except zlib.error as error:
        raise ValueError(f"packed ids cannot be read: {error}") from None
