"""Read another process's message of which nothing is sure: what is missing or wrong is empty, no error."""

import math
from collections.abc import Mapping
from typing import Any

_MOST_TEXT = 300


def table(message: object, key: str) -> Mapping[str, Any]:
    """The object under a key, empty where there is none."""
    value = message.get(key) if isinstance(message, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def rows(message: object, key: str) -> list[Mapping[str, Any]]:
    """The list of objects under a key, empty where there is none."""
    value = message.get(key) if isinstance(message, Mapping) else None
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def number(message: Mapping[str, Any], key: str) -> float | None:
    """A finite number, None where there is none."""
    value = message.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def words(message: Mapping[str, Any], key: str) -> str:
    """Text on one line, without what steers terminals; "" where there is none."""
    value = message.get(key)
    return plain(value) if isinstance(value, str) else ""


def plain(text: str) -> str:
    """Text of somebody else as a line of at most 300 letters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_MOST_TEXT])
