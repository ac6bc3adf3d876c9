"""One page of the ledger, read beside the controller that writes it, in bounded time."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from slurm_power import clock
from slurm_power.ports import StoreError

_COLUMNS = "seq, at, actor, kind, subject, reason, job_id, user, saved_watts, details, hash"
_STEPS_BETWEEN_LOOKS = 50_000


def ledger_page(
    file: Path,
    *,
    after: int = 0,
    before: int | None = None,
    job_id: str | None = None,
    kind: str | None = None,
    visible_to: str | None = None,
    most: int = 100,
    longest_seconds: float = 2.0,
) -> tuple[list[dict[str, Any]], bool]:
    """Entries with ``after`` < sequence < ``before``, oldest first, and whether there are more of them.

    With ``after`` alone the oldest of them are meant, else the newest. ``visible_to``: entries about that
    user and about nobody (no job, no service), None: all. Raises StoreError, also when it takes too long.
    """
    forwards = before is None and after > 0
    order, ends = ("ASC", "seq > :after") if forwards else ("DESC", "seq > :after AND seq < :before")
    rest = ""
    if kind is not None:
        rest += " AND kind = :kind"
    if job_id is not None:
        rest += " AND job_id = :job"
    # Each half is read in the order of an index, so that somebody else's entries cost nothing.
    halves = [""] if visible_to is None else [" AND user = :user"]
    if visible_to is not None and job_id is None:
        halves.append(" AND job_id IS NULL AND user IS NULL")
    parts = [
        f"SELECT * FROM (SELECT {_COLUMNS} FROM ledger"  # noqa: S608  # constant words, values are bound
        f" WHERE {ends}{rest}{half} ORDER BY seq {order} LIMIT :most)"
        for half in halves
    ]
    words = f"{' UNION ALL '.join(parts)} ORDER BY seq {order} LIMIT :most"
    values: dict[str, object] = {
        "after": after,
        "before": 1 << 62 if before is None else before,
        "kind": kind,
        "job": job_id,
        "user": visible_to,
        "most": most + 1,
    }
    rows = _rows(file, words, values, longest_seconds)
    more = len(rows) > most
    found = [_entry(row) for row in rows[:most]]
    return (found if forwards else found[::-1]), more


def _rows(file: Path, words: str, values: dict[str, object], longest_seconds: float) -> list[tuple[Any, ...]]:
    ends_seconds = clock.monotonic() + longest_seconds
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=2.0)) as connection:
            connection.set_progress_handler(
                lambda: int(clock.monotonic() > ends_seconds), _STEPS_BETWEEN_LOOKS
            )
            return connection.execute(words, values).fetchall()
    except sqlite3.Error as error:
        late = clock.monotonic() > ends_seconds
        text = "the ledger is long: ask for a job, or for less of it" if late else f"{file}: {error}"
        raise StoreError(text) from None


def _entry(row: tuple[Any, ...]) -> dict[str, Any]:
    names = [name.strip() for name in _COLUMNS.split(",")]
    entry = dict(zip(names, row, strict=True))
    entry["sequence"] = entry.pop("seq")
    entry["details"] = json.loads(entry["details"])
    return entry
