"""The embedded series store: each tick one row at once, each full minute repacked by column and rolled up."""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slurm_power.model.series import Resolution
from slurm_power.ports import StoreError
from slurm_power.store.blocks import MINUTE_MS, QUARTER_MS, Block, Chunk, chunks_of, rolled_up
from slurm_power.store.packing import Ids, pack, pack_ids, to_steps
from slurm_power.store.private import private_file
from slurm_power.store.reading import SeriesReading
from slurm_power.store.retention import Keep, Room
from slurm_power.store.schema import SERIES, bring_up_to_date, look_before_opening

# The last word of a name says what it counts; values are kept in whole steps of this.
DEFAULT_STEPS: Mapping[str, float] = {
    "watts": 0.1,
    "joules": 1.0,
    "ratio": 0.0001,
    "hertz": 1e6,
    "kwh": 1e-6,
    "other": 0.001,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """The series of a tick: as they were named, and as they are stored, by rising id."""

    names: list[str]
    steps: NDArray[np.float64]
    order: NDArray[np.intp]
    ids: Ids
    packed_ids: bytes


class SqliteSeries(SeriesReading):
    """One open file of series. One process may write; readers come and go.

    A tick is in the file when ``add`` returns, and survives the end of the process; a power cut may cost
    the last seconds. Values are kept in whole steps of ``step_of(name)``. A minute that is over is packed
    by column, its mean, minimum, maximum and coverage are added to the 1-min and 15-min tiers, and what
    ``keep`` no longer allows goes. All calls come from one thread at a time; they raise StoreError.
    """

    def __init__(
        self,
        file: Path,
        *,
        keep: Keep | None = None,
        steps: Mapping[str, float] | None = None,
        busy_seconds: float = 5.0,
    ) -> None:
        """``steps`` maps the last word of a name (``watts``) to the step its values are kept in."""
        self._steps = dict(DEFAULT_STEPS if steps is None else steps)
        try:
            look_before_opening(file, SERIES)
            private_file(file)
            connection = sqlite3.connect(
                file, timeout=busy_seconds, check_same_thread=False, isolation_level=None
            )
            # auto_vacuum counts only before the first table is there.
            connection.execute("PRAGMA page_size=8192")
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            bring_up_to_date(connection, SERIES, file)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{file}: {error}") from error
        super().__init__(connection, file)
        self._room = Room(connection, file, keep or Keep())
        self._ids = {
            (name, step): number
            for number, name, step in connection.execute("SELECT id, name, step FROM series")
        }
        self._next_id = max(self._ids.values(), default=0) + 1
        self._columns_now: _Columns | None = None
        try:
            self._block = self._left_over()
        except sqlite3.Error as error:
            connection.close()
            raise StoreError(f"{file}: {error}") from error

    def _left_over(self) -> Block:
        """Take up the minute that an earlier process did not finish; older ones are finished now."""
        block = Block()
        for at_ms, ids, row in list(self.ticks()):
            if block.ticks and at_ms // MINUTE_MS != block.minute:
                self._finish(block)
                block = Block()
            block.add(at_ms, ids, row)
        # What is left of other minutes can no longer be read.
        self._connection.execute("DELETE FROM tick WHERE at_ms < ?", (block.minute * MINUTE_MS,))
        return block

    def add(self, at: datetime, values: Mapping[str, float | None]) -> None:
        """Add one tick of named values; None says that the value is not known."""
        at_ms = round(at.timestamp() * 1000.0)
        new: list[tuple[int, str, float]] = []
        try:
            if self._block.ticks and at_ms // MINUTE_MS != self._block.minute:
                self._finish(self._block)
                self._block = Block()
            columns = self._columns(values, new)
            row = to_steps(np.array(list(values.values()), dtype=np.float64), columns.steps)[columns.order]
            with self._transaction("BEGIN IMMEDIATE"):
                self._connection.executemany("INSERT INTO series (id, name, step) VALUES (?,?,?)", new)
                self._connection.execute(
                    "INSERT OR REPLACE INTO tick (at_ms, ids, data) VALUES (?,?,?)",
                    (at_ms, columns.packed_ids, pack(row[None, :])),
                )
        except sqlite3.Error as error:
            for number, name, step in new:
                del self._ids[name, step]
                self._next_id = min(self._next_id, number)
            self._columns_now = None if new else self._columns_now
            raise StoreError(f"{self.file}: {error}") from error
        self._block.add(at_ms, columns.ids, row)

    def _columns(self, values: Mapping[str, float | None], new: list[tuple[int, str, float]]) -> "_Columns":
        """Columns of these names; the same names again cost nothing. Unknown ones are added to ``new``."""
        names = list(values)
        if self._columns_now is not None and names == self._columns_now.names:
            return self._columns_now
        keys = [(name, self.step_of(name)) for name in names]
        for key in keys:
            if key not in self._ids:
                self._ids[key] = self._next_id
                new.append((self._next_id, *key))
                self._next_id += 1
        ids = np.array([self._ids[key] for key in keys], dtype=np.int32)
        order = np.argsort(ids)
        self._columns_now = _Columns(
            names=names,
            steps=np.array([step for _, step in keys], dtype=np.float64),
            order=order,
            ids=ids[order],
            packed_ids=pack_ids(ids[order]),
        )
        return self._columns_now

    def step_of(self, name: str) -> float:
        """The step that values of a series are kept in."""
        word = name.rpartition(".")[2].rpartition("_")[2]
        return self._steps.get(word, self._steps.get("other", DEFAULT_STEPS["other"]))

    def _finish(self, block: Block) -> None:
        """Pack a minute by column, roll it up, drop what is too old or too much; all or nothing."""
        start_ms = block.minute * MINUTE_MS
        with self._transaction("BEGIN IMMEDIATE"):
            self._take_back(block, start_ms)
            times, raw, minute = chunks_of(block, start_ms)
            self._connection.execute(
                "INSERT OR REPLACE INTO block (start_ms, times) VALUES (?,?)", (start_ms, times)
            )
            self._insert(Resolution.RAW, start_ms, raw)
            self._roll_quarter(start_ms)
            self._insert(Resolution.MINUTE, start_ms, minute)
            self._connection.execute(
                "DELETE FROM tick WHERE at_ms >= ? AND at_ms < ?", (start_ms, start_ms + MINUTE_MS)
            )
            self._room.drop_old(start_ms)
        self._room.keep_budget()

    def _take_back(self, block: Block, start_ms: int) -> None:
        """Join what is already packed of this minute: the clock was set back."""
        known = self._connection.execute("SELECT 1 FROM block WHERE start_ms = ?", (start_ms,)).fetchone()
        if known is None:
            return
        for at_ms, ids, row in list(self.packed_ticks(start_ms)):
            block.add(at_ms, ids, row, keep=True)
        for tier in (Resolution.RAW, Resolution.MINUTE):
            self._connection.execute("DELETE FROM chunk WHERE tier = ? AND start_ms = ?", (tier, start_ms))

    def _insert(self, tier: Resolution, start_ms: int, chunks: Iterable[Chunk]) -> None:
        self._connection.executemany(
            "INSERT INTO chunk (tier, start_ms, part, members, data) VALUES (?,?,?,?,?)",
            [(int(tier), start_ms, chunk.part, chunk.members, chunk.data) for chunk in chunks],
        )

    def _roll_quarter(self, start_ms: int) -> None:
        """Roll the last quarter of an hour with minutes up, once the first minute beyond it is finished."""
        row = self._connection.execute(
            "SELECT MAX(start_ms) FROM chunk WHERE tier = ?", (int(Resolution.MINUTE),)
        ).fetchone()
        if row[0] is None or row[0] // QUARTER_MS == start_ms // QUARTER_MS:
            return
        quarter_ms = row[0] // QUARTER_MS * QUARTER_MS
        rows = self._connection.execute(
            "SELECT part, members, data FROM chunk WHERE tier = ? AND start_ms >= ? AND start_ms < ?",
            (int(Resolution.MINUTE), quarter_ms, quarter_ms + QUARTER_MS),
        ).fetchall()
        self._connection.execute(
            "DELETE FROM chunk WHERE tier = ? AND start_ms = ?", (int(Resolution.QUARTER_HOUR), quarter_ms)
        )
        self._insert(Resolution.QUARTER_HOUR, quarter_ms, rolled_up(rows))

    def close(self) -> None:
        """Close the file; the running minute goes on where it stopped when it is opened again."""
        self._connection.close()
