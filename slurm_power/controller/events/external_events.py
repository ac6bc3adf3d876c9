"""Events that another system has announced, under its own ids: the same word again changes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from slurm_power.controller.events.event_record import EventRecord
from slurm_power.controller.levers.levers import LeverState
from slurm_power.wire import Message

MOST_EVENTS = 500
_KEY = "events_withdrawn"
_MOST_ID_LETTERS = 300
_SAME_SECONDS = 1.0
_REMEMBER = timedelta(days=1)


class States(Protocol):
    """Of a store only its remembered values."""

    def state(self, key: str, default: object = None) -> object:
        """Read back a remembered value."""
        ...

    def put_state(self, key: str, value: object) -> None:
        """Remember a JSON value."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalName:
    """An event's id where it comes from, and which state of it is told. Our own have no ``external_id``."""

    external_id: str = ""
    version: str = ""


def external_name(request: Message, problems: list[str]) -> ExternalName:
    """Read both names of a request, adding what is wrong with them to ``problems``."""
    words = {key: request.get(key) for key in ("external_id", "external_version")}
    texts = {key: "" if value is None else value for key, value in words.items()}
    for key, value in texts.items():
        if not isinstance(value, str) or len(value) > _MOST_ID_LETTERS or not value.isprintable():
            problems.append(f"{key}: must be one line of at most {_MOST_ID_LETTERS} printable characters")
            texts[key] = ""
    external_id = str(texts["external_id"])
    if texts["external_version"] and not external_id:
        problems.append("external_version: there is no external_id that it is of")
    return ExternalName(external_id=external_id, version=str(texts["external_version"]))


class ExternalEvents:
    """The events of others among ours, and those of theirs that an operator here has taken back."""

    def __init__(self, levers: LeverState, store: States) -> None:
        self._levers = levers
        self._store = store
        kept = store.state(_KEY, {})
        self._withdrawn: dict[str, Any] = dict(kept) if isinstance(kept, dict) else {}

    def find(self, external_id: str) -> EventRecord | None:
        """The event that has this id elsewhere; None for an unknown one and for an empty id."""
        if not external_id:
            return None
        return next((row for row in self._levers.events.values() if row.external_id == external_id), None)

    def full(self) -> bool:
        """Whether so many are known that no more are taken."""
        return sum(bool(row.external_id) for row in self._levers.events.values()) >= MOST_EVENTS

    def withdrawn(self, name: ExternalName) -> bool:
        """Whether an operator has taken back just this state of it: told again, it stays so."""
        kept = self._withdrawn.get(name.external_id)
        return isinstance(kept, Mapping) and kept.get("version") == name.version

    def withdraw(self, record: EventRecord, at: datetime) -> None:
        """Remember that an operator has ended it before its time."""
        if not record.external_id:
            return
        self._withdrawn = {
            key: value for key, value in self._withdrawn.items() if not _forgotten(value, at - _REMEMBER)
        }
        self._withdrawn[record.external_id] = {
            "version": record.external_version,
            "ends_at": record.ends_at.isoformat(),
        }
        self._store.put_state(_KEY, self._withdrawn)

    @staticmethod
    def same(record: EventRecord, name: ExternalName, ends_at: datetime) -> bool:
        """Whether this state of it, with this end, is what is known already."""
        moved = abs((record.ends_at - ends_at).total_seconds())
        return record.external_version == name.version and moved <= _SAME_SECONDS


def _forgotten(kept: object, before: datetime) -> bool:
    try:
        return datetime.fromisoformat(str(kept["ends_at"])) < before  # type: ignore[index]  # read from disk
    except (KeyError, TypeError, ValueError):
        return True
