"""Read TOML tables field by field, collecting every problem with its path before giving up."""

import tomllib
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from datetime import date
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_type_hints

from slurm_power.model.secret_text import holds_secret, without_secrets

Record = TypeVar("Record")


class ConfigError(Exception):
    """A configuration that cannot be used. ``problems`` lists all of them, each starting with its path.

    They quote what stands in the file, and are read by others than who may read it: without its secrets.
    """

    def __init__(self, file: Path, problems: list[str]) -> None:
        self.file = file
        self.problems = [without_secrets(problem) for problem in problems]
        super().__init__("\n".join(f"{file}: {problem}" for problem in self.problems))


def read_toml(file: Path) -> dict[str, Any]:
    """Parse a TOML file; raises ConfigError when it cannot be read or parsed."""
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise ConfigError(file, [f"cannot be read: {error.strerror}"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(file, [f"is not TOML: {error}"]) from None


def check_keys(table: dict[str, Any], known: set[str], path: str, problems: list[str]) -> None:
    """Report unknown keys, with the nearest known one as a hint."""
    unknown = sorted(set(table) - known)
    problems += [f"{path}{key}: unknown key{did_you_mean(key, known)}" for key in unknown]


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return the nearest known word as a hint to add to a sentence, else all of them."""
    words = sorted(known)
    near = get_close_matches(wrong, words, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(words) or 'none'}"


def subtables(document: dict[str, Any], key: str, problems: list[str]) -> dict[str, dict[str, Any]]:
    """Return the named tables under ``key`` (``[circuit.grid]``), reporting what is no table."""
    found = document.get(key, {})
    if not isinstance(found, dict):
        problems.append(f"{key}: must be a group of tables such as [{key}.name]")
        return {}
    tables = {}
    for name, table in found.items():
        if isinstance(table, dict):
            tables[name] = table
        else:
            problems.append(f"{key}.{name}: must be a table, write [{key}.NAME]")
    return tables


def read_record(
    record: type[Record], table: dict[str, Any], path: str, problems: list[str], **given: object
) -> Record | None:
    """Build a dataclass from a table. ``given`` fields come from elsewhere and may not stand in the table.

    Returns None, with at least one problem added, if a field is missing or of the wrong kind.
    """
    before = len(problems)
    all_fields = {field.name: field for field in fields(record)}  # type: ignore[arg-type]  # a dataclass type
    hints = get_type_hints(record)
    check_keys(table, set(all_fields) - set(given), path, problems)
    values: dict[str, object] = dict(given)
    for name, field in all_fields.items():
        if name in given:
            continue
        if name in table:
            values[name] = _converted(table[name], hints[name], f"{path}{name}", problems)
        elif _required(field):
            problems.append(f"{path}{name}: missing")
    return record(**values) if len(problems) == before else None


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _converted(value: object, wanted: Any, path: str, problems: list[str]) -> object:
    """Turn a TOML value into the field's type, or report why not."""
    if isinstance(wanted, UnionType):
        wanted = next(kind for kind in get_args(wanted) if kind is not NoneType)
    if isinstance(wanted, type) and issubclass(wanted, StrEnum):
        return _member(value, wanted, path, problems)
    converted = _plain(value, wanted)
    if converted is None:
        seen = "" if holds_secret(path) else f", not {value!r}"
        problems.append(f"{path}: must be {_WORDS.get(wanted, wanted)}{seen}")
    return converted


def _member(value: object, wanted: type[StrEnum], path: str, problems: list[str]) -> object:
    allowed = [member.value for member in wanted]
    if value in allowed:
        return wanted(value)
    problems.append(f"{path}: {value!r} is not one of {', '.join(allowed)}")
    return None


def _plain(value: object, wanted: Any) -> object:
    """Return the value as the wanted plain type, or None; TOML itself has no null."""
    if wanted is float and type(value) in (int, float):
        return float(value)  # type: ignore[arg-type]  # the line above proves it a number
    if wanted is Path and isinstance(value, str):
        return Path(value)
    if wanted == tuple[str, ...] and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return value if type(value) is wanted else None


_WORDS = {
    float: "a number",
    int: "a whole number",
    str: "a string",
    bool: "true or false",
    Path: "a path",
    date: "a date such as 2027-01-31",
    tuple[str, ...]: "a list of strings",
}
