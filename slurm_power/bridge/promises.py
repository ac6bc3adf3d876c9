"""How far events without an end of their own are promised: some hours, renewed while they are still told."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from slurm_power.bridge.grid_events import Window


class Promises:
    """The ends given to windows that have none. ``kept`` is what an earlier process had."""

    def __init__(self, hours: float, kept: object = None) -> None:
        self._span = timedelta(hours=hours)
        self._ends: dict[str, datetime] = {}
        for key, value in (kept if isinstance(kept, dict) else {}).items():
            try:
                self._ends[str(key)] = datetime.fromisoformat(value)
            except (TypeError, ValueError):
                continue

    def onto(
        self, windows: Iterable[Window], now: datetime, unconfirmed: Collection[str] = ()
    ) -> list[Window]:
        """The windows, all with an end; one is renewed when half of its time is over.

        Those of ``unconfirmed`` events, which nobody tells any more, keep the end they have.
        """
        found, ends = [], {}
        for window in windows:
            if not window.until_revoked:
                found.append(window)
                continue
            key = f"{window.event_id}/{window.part}"
            begin = max(now, window.starts_at)
            end = self._ends.get(key)
            if end is not None and window.event_id in unconfirmed:
                ends[key] = end
                found.append(replace(window, ends_at=end))
                continue
            if end is None or end - begin < self._span / 2 or end - begin > self._span:
                end = begin + self._span
            ends[key] = end
            found.append(replace(window, ends_at=end))
        self._ends = ends
        return found

    def end_of(self, window: Window) -> datetime:
        """When a window ends as things stand."""
        if not window.until_revoked:
            return window.ends_at
        return self._ends.get(f"{window.event_id}/{window.part}", window.ends_at)

    def to_json(self) -> Mapping[str, Any]:
        """What must survive a restart."""
        return {key: end.isoformat() for key, end in self._ends.items()}
