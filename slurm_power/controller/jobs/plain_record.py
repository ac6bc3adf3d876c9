"""The controller's records to plain values and back, for what is kept over a restart."""

from datetime import UTC, datetime
from typing import Any

_DATES = frozenset({"changed_at", "renewed_at", "since", "ends_at", "starts_at", "announced_at"})


def plain(value: Any) -> Any:
    """A record's fields, with wall times; `asdict` would copy each value, which takes six times as long."""
    if isinstance(value, int | float):
        return value
    fields: dict[str, Any] = {name: getattr(value, name) for name in value.__slots__}
    for name in _DATES & fields.keys():
        if fields[name] is not None:
            fields[name] = fields[name].astimezone(UTC).isoformat()
    return fields


def dated(record: dict[str, Any]) -> dict[str, Any]:
    """The fields back, with their times as moments."""
    return {
        key: datetime.fromisoformat(value) if key in _DATES and value is not None else value
        for key, value in record.items()
    }
