"""Writes values as TOML 1.0; the standard library only reads it."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date, time
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_document(document: Mapping[str, Any]) -> str:
    """All tables of a document, each under its header."""
    return _tables(document, ()).lstrip("\n")


def toml_key(name: str) -> str:
    """A key, in quotes where it needs them."""
    return name if _BARE.fullmatch(name) else _string(name)


def toml_value(value: object) -> str:  # noqa: PLR0911 - one for each kind of value
    """A value on one line; raises TypeError for one that TOML has no form of."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _string(value)
        case int():
            return str(value)
        case float():
            return repr(value)
        case date() | time():  # a datetime is a date
            return value.isoformat()
        case Mapping():
            inside = ", ".join(f"{toml_key(key)} = {toml_value(one)}" for key, one in value.items())
            return f"{{ {inside} }}" if inside else "{}"
        case Sequence():
            return f"[{', '.join(toml_value(one) for one in value)}]"
        case _:
            raise TypeError(f"TOML has no form of {value!r}")


def _string(text: str) -> str:
    # JSON's escapes are TOML's; JSON leaves DEL as it is, TOML does not take it so.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _tables(table: Mapping[str, Any], path: tuple[str, ...]) -> str:
    plain = {key: value for key, value in table.items() if not _is_group(value)}
    text = "".join(f"{toml_key(key)} = {toml_value(value)}\n" for key, value in plain.items())
    for key, value in table.items():
        if key in plain:
            continue
        header = ".".join(toml_key(part) for part in (*path, key))
        if isinstance(value, Mapping):
            # A table of tables alone needs no header of its own.
            own = not value or any(not _is_group(one) for one in value.values())
            text += (f"\n[{header}]\n" if own else "") + _tables(value, (*path, key))
        else:
            text += "".join(f"\n[[{header}]]\n{_tables(one, (*path, key))}" for one in value)
    return text


def _is_group(value: object) -> bool:
    """Whether it gets headers: a table, or a list of nothing but tables."""
    if isinstance(value, Mapping):
        return True
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)
