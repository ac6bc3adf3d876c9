"""What of site.toml is policy, as flat values with one fingerprint; and what has changed between two."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from datetime import date
from enum import Enum
from typing import Any

from slurm_power.config import SiteConfig

# Longer values (the nodes of a circuit) are kept as their number and digest.
_LONGEST_VALUE = 1000
_MOST_CHANGES = 100
_MOST_CHANGE_BYTES = 50_000


def policy_values(config: SiteConfig, text: str = "") -> dict[str, Any]:
    """Policy, limits, circuits, batteries, admission and governance, by the path that each value has.

    ``text``: the site's own words, which are there by their digest.
    """
    found: dict[str, Any] = {"site.name": config.site.name, "site.timezone": str(config.zone)}
    tables: list[tuple[str, Any]] = [
        ("policy", config.policy),
        ("admission", config.admission),
        ("governance", config.governance),
    ]
    tables += [(f"circuit.{name}", circuit) for name, circuit in config.site.circuits.items()]
    tables += [(f"ess.{name}", ess) for name, ess in config.site.ess.items()]
    for path, record in tables:
        for field in fields(record):
            if field.name != "name":
                found[f"{path}.{field.name}"] = _bounded(_plain(getattr(record, field.name)))
    found["governance.text_sha256"] = _digest(text) if text else ""
    return found


def fingerprint(values: Mapping[str, Any]) -> str:
    """SHA-256 over the values as JSON with sorted keys and without spaces."""
    return _digest(_canonical(values))


def changes_between(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What is not as before, each key with its ``old`` and ``new`` value; None where there is none."""
    keys = sorted({*before, *now})
    return {
        key: {"old": before.get(key), "new": now.get(key)}
        for key in keys
        if key not in before or key not in now or _canonical(before[key]) != _canonical(now[key])
    }


def in_parts(changes: Mapping[str, dict[str, Any]]) -> Iterator[dict[str, dict[str, Any]]]:
    """The changes in pieces that a ledger entry can have."""
    part: dict[str, dict[str, Any]] = {}
    size = 0
    for key, change in changes.items():
        length = len(_canonical({key: change}))
        if part and (len(part) >= _MOST_CHANGES or size + length > _MOST_CHANGE_BYTES):
            yield part
            part, size = {}, 0
        part[key] = change
        size += length
    if part:
        yield part


def change_words(changes: Mapping[str, dict[str, Any]], most: int = 3) -> str:
    """The first of the changes in a line."""
    told = [f"{key} {_word(one['old'])} -> {_word(one['new'])}" for key, one in list(changes.items())[:most]]
    more = len(changes) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


def _word(value: Any) -> str:
    text = value if isinstance(value, str) and value else _canonical(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {key: _plain(one) for key, one in asdict(value).items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, date):
        return value.isoformat()
    return value if isinstance(value, bool | int | float | str | type(None)) else str(value)


def _bounded(value: Any) -> Any:
    text = _canonical(value)
    if len(text) <= _LONGEST_VALUE:
        return value
    count = len(value) if isinstance(value, list | dict) else len(text)
    return {"count": count, "sha256": _digest(text)}


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
