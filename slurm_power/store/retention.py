"""How long series are kept, and the disk budget that is kept with them: the oldest raw data goes first."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from slurm_power.model.series import Resolution

_DAY_MS = 86_400_000
_TIERS = (Resolution.RAW, Resolution.MINUTE, Resolution.QUARTER_HOUR)
# After a long pause much is too old at once: this many minutes of a tier go with each new one.
_DROP_AT_ONCE = 30
# Of the budget, for the write-ahead log and for what a minute adds before something else goes.
_RESERVE_RATIO = 0.25
_MOST_RESERVE_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Days that each tier is kept, and the bytes on disk that all of them together may take."""

    raw_days: float = 7.0
    minute_days: float = 180.0
    quarter_hour_days: float = 3650.0
    disk_budget_bytes: int = 20_000_000_000

    def days(self, tier: Resolution) -> float:
        """Days that a tier is kept."""
        kept = (self.raw_days, self.minute_days, self.quarter_hour_days)
        return kept[_TIERS.index(tier)]


class Room:
    """Makes room in an open file of series; never drops the newest block."""

    def __init__(self, connection: sqlite3.Connection, file: Path, keep: Keep) -> None:
        self._connection = connection
        self._log = file.with_name(file.name + "-wal")
        self._keep = keep
        self._page_bytes = int(connection.execute("PRAGMA page_size").fetchone()[0])
        reserve = min(_RESERVE_RATIO * keep.disk_budget_bytes, _MOST_RESERVE_BYTES)
        self._allowed_bytes = keep.disk_budget_bytes - int(reserve)

    def drop_old(self, now_ms: int) -> None:
        """Drop some of what is older than its tier is kept."""
        for tier in _TIERS:
            before_ms = now_ms - round(self._keep.days(tier) * _DAY_MS)
            for _ in range(_DROP_AT_ONCE):
                start_ms = self._oldest(tier)
                if start_ms is None or start_ms >= before_ms:
                    break
                self._drop(tier, start_ms)

    def keep_budget(self) -> None:
        """Fold the log into the file, and drop the oldest raw data, then coarser, while it is too much."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if self._used_bytes() > self._allowed_bytes:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                while self._used_bytes() > self._allowed_bytes and self._drop_one():
                    pass
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        surplus = self._pages() - self._allowed_bytes // self._page_bytes
        if surplus > 0:
            # This pragma frees a page a step, with rows of no column: ``execute`` would stop after the first.
            self._connection.executescript(f"PRAGMA incremental_vacuum({surplus})")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _pages(self) -> int:
        return int(self._connection.execute("PRAGMA page_count").fetchone()[0])

    def _used_bytes(self) -> int:
        """Bytes in use in the file, and in a log that a reader keeps from being folded in."""
        free = int(self._connection.execute("PRAGMA freelist_count").fetchone()[0])
        log_bytes = self._log.stat().st_size if self._log.exists() else 0
        over = max(0, log_bytes - _MOST_RESERVE_BYTES // 2)
        return (self._pages() - free) * self._page_bytes + over

    def _drop_one(self) -> bool:
        for tier in _TIERS:
            start_ms = self._oldest(tier)
            if start_ms is not None and start_ms != self._oldest(tier, newest=True):
                self._drop(tier, start_ms)
                return True
        return False

    def _oldest(self, tier: Resolution, *, newest: bool = False) -> int | None:
        which = "MAX" if newest else "MIN"
        row = self._connection.execute(
            f"SELECT {which}(start_ms) FROM chunk WHERE tier = ?",  # noqa: S608  # one of two words
            (int(tier),),
        ).fetchone()
        return None if row[0] is None else int(row[0])

    def _drop(self, tier: Resolution, start_ms: int) -> None:
        self._connection.execute("DELETE FROM chunk WHERE tier = ? AND start_ms = ?", (int(tier), start_ms))
        if tier is Resolution.RAW:
            self._connection.execute("DELETE FROM block WHERE start_ms = ?", (start_ms,))
