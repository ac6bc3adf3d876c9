"""Keep the levers over a restart: whole when much has changed, else only what has since they were kept whole.

Thousands of caps are renewed every second, a few of them change. As a whole they are a megabyte.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from slurm_power.controller.jobs.plain_record import plain
from slurm_power.controller.levers.levers import LeverState, changed_keys

_WHOLE, _SINCE = "levers", "levers_since"
# As many changes are looked up and written as fast as is worth the whole.
_MOST_CHANGES = 250
_BY_KEY = ("caps", "holds", "held_before")


class States(Protocol):
    """Of a store only its remembered values."""

    def state(self, key: str, default: object = None) -> object:
        """Read back a remembered value."""
        ...

    def put_state(self, key: str, value: object) -> None:
        """Remember a JSON value."""
        ...


class KeptLevers:
    """The levers in a store; ``keep`` is called after every cycle."""

    def __init__(self, store: States) -> None:
        self._store = store
        self._number = 0
        self._last: dict[str, dict[str, Any]] | None = None
        self._changed: dict[str, set[str]] = {part: set() for part in _BY_KEY}
        self._written: object = None

    def read(self, at: datetime, cap_lease_seconds: float) -> LeverState:
        """What an earlier controller left; see `LeverState.from_json`."""
        whole = self._store.state(_WHOLE)
        if isinstance(whole, dict):
            self._number = int(whole.get("number", 0))
            since = self._store.state(_SINCE)
            # Changes to an older whole are in the one that came after it.
            if isinstance(since, dict) and since.get("number") == self._number:
                whole = _with_changes(whole, since)
        return LeverState.from_json(whole, at, cap_lease_seconds)

    def keep(self, levers: LeverState) -> None:
        """Write what has changed."""
        now: dict[str, dict[str, Any]] = {
            "caps": dict(levers.caps),
            "holds": dict(levers.holds),
            "held_before": dict(levers.held_before),
        }
        if self._last is not None:
            for part in _BY_KEY:
                self._changed[part] |= set(changed_keys(self._last[part], now[part]))
        if self._last is None or sum(map(len, self._changed.values())) > _MOST_CHANGES:
            self._number += 1
            self._changed = {part: set() for part in _BY_KEY}
            self._store.put_state(_WHOLE, levers.to_json() | {"number": self._number})
            self._written = None
        else:
            since = self._since(levers, now)
            if since != self._written:
                self._store.put_state(_SINCE, since)
                self._written = since
        self._last = now

    def _since(self, levers: LeverState, now: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        renewed = [cap.renewed_at for cap in levers.caps.values()]
        last = max(renewed, default=None)
        return {
            "number": self._number,
            **{
                part: {
                    key: plain(now[part][key]) if key in now[part] else None for key in self._changed[part]
                }
                for part in _BY_KEY
            },
            "rest": levers.rest_to_json(),
            "renewed_at": None if last is None else _text(last),
            "renewed_before": {
                job_id: _text(cap.renewed_at) for job_id, cap in levers.caps.items() if cap.renewed_at != last
            },
        }


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _with_changes(whole: Mapping[str, Any], since: Mapping[str, Any]) -> dict[str, Any]:
    """The levers as they were written whole, and what has changed since."""
    found: dict[str, Any] = {**whole, **since["rest"]}
    for part in _BY_KEY:
        merged = {**whole[part], **since[part]}
        found[part] = {key: value for key, value in merged.items() if value is not None}
    for job_id, cap in found["caps"].items():
        cap["renewed_at"] = since["renewed_before"].get(job_id, since["renewed_at"])
    return found
