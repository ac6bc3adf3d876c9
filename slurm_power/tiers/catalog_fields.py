"""Takes the keys of one TOML table, each of its kind and in its range; tells what is wrong, with its path."""

import math
import re
from collections.abc import Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Any, TypeVar

from slurm_power.config.problems import check_keys

Word = TypeVar("Word", bound=StrEnum)

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
NAME_FORM = "small letters, digits, '.', '_' and '-', at most 32, first a letter or digit"
_LONGEST_TEXT = 1024
_MOST_WHOLE = (1 << 63) - 1
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Fields:
    """One table of the file. Each key is asked for once; :meth:`finish` tells those nobody asked for."""

    def __init__(self, table: Mapping[str, Any], path: str, problems: list[str]) -> None:
        self._table = dict(table)
        self._asked: set[str] = set()
        self.path = path
        self.problems = problems

    def say(self, key: str, problem: str) -> None:
        """Add a problem of one key."""
        self.problems.append(f"{self.path}.{key}: {problem}")

    def take(self, key: str) -> object:
        """The raw value, None where it is missing; TOML itself has no null."""
        self._asked.add(key)
        return self._table.get(key)

    def finish(self) -> None:
        """Tell unknown keys, with the nearest known one as a hint."""
        check_keys(self._table, self._asked, f"{self.path}.", self.problems)

    def text(self, key: str, *, required: bool = False) -> str:
        """A string on one line; empty where it is missing."""
        value = self.take(key)
        if value is None or value == "":
            if required:
                self.say(key, "missing")
            return ""
        if not isinstance(value, str):
            self.say(key, f"must be a string, not {value!r}")
        elif problem := text_problem(value):
            self.say(key, problem)
        else:
            return value
        return ""

    def name(self, key: str, *, required: bool = False) -> str:
        """A name of ours."""
        value = self.text(key, required=required)
        if value and not NAME.fullmatch(value):
            self.say(key, f"{value[:80]!r} is no name: {NAME_FORM}")
            return ""
        return value

    def word(self, key: str, kind: type[Word], default: Word | None) -> Word | None:
        """One of a set of words; required where there is no default."""
        value = self.take(key)
        allowed = [member.value for member in kind]
        if value is None:
            if default is None:
                self.say(key, f"missing; one of {', '.join(allowed)}")
            return default
        if value not in allowed:
            self.say(key, f"{value!r} is not one of {', '.join(allowed)}")
            return default
        return kind(value)

    def flag(self, key: str) -> bool | None:
        """True or false, None where it is missing."""
        value = self.take(key)
        if value is None or isinstance(value, bool):
            return value
        self.say(key, f"must be true or false, not {value!r}")
        return None

    def number(self, key: str, *, above: float = -math.inf, least: float = -math.inf) -> float | None:
        """A finite number, more than ``above`` and no less than ``least``; None where it is missing."""
        return self.checked_number(key, self.take(key), above=above, least=least)

    def checked_number(
        self, key: str, value: object, *, above: float = -math.inf, least: float = -math.inf
    ) -> float | None:
        """The same for a value that was taken already."""
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.say(key, f"must be a number, not {value!r}")
            return None
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.say(key, f"must be a finite number, not {number}")
        elif number <= above:
            self.say(key, f"must be more than {above:g}, not {number:g}")
        elif number < least:
            self.say(key, f"must be {least:g} or more, not {number:g}")
        else:
            return number
        return None

    def whole(self, key: str, *, least: int = 0, default: int | None = None) -> int | None:
        """A whole number, ``default`` where it is missing."""
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.say(key, f"must be a whole number, not {value!r}")
        elif abs(value) > _MOST_WHOLE:  # TOML's own bound; beyond it no arithmetic with floats works
            self.say(key, "must be a whole number of 64 bits")
        elif value < least:
            self.say(key, f"must be {least} or more, not {value}")
        else:
            return value
        return default

    def day(self, key: str) -> date | None:
        """A date, None where it is missing."""
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, date) and not isinstance(value, datetime):
            return value
        self.say(key, f"must be a date without quotes, such as 2026-01-31, not {value!s}")
        return None

    def table(self, key: str) -> "Fields | None":
        """A table below this one, None where it is missing."""
        value = self.take(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.say(key, f"must be a table, not {value!r}")
            return None
        return Fields(value, f"{self.path}.{key}", self.problems)

    def numbers(self, key: str) -> dict[str, float]:
        """A table of finite numbers by free names."""
        table = self.table(key)
        if table is None:
            return {}
        found = {}
        for name in table.names():
            if problem := text_problem(name):
                table.say(repr(name[:80]), problem)
            elif (number := table.number(name)) is not None:
                found[name] = number
        return found

    def peek(self, key: str) -> object:
        """The raw value, without having asked for it."""
        return self._table.get(key)

    def names(self) -> list[str]:
        """All keys that stand in the table, sorted."""
        return sorted(self._table)

    def has(self, key: str) -> bool:
        """Whether a key stands there, right or wrong."""
        return key in self._table


def text_problem(text: str) -> str:
    """What is wrong with a text that has to stand on one line, empty for nothing."""
    if _CONTROL.search(text):
        return "must be one line, without control characters"
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return "must be UTF-8"
    return f"is longer than {_LONGEST_TEXT} characters" if len(text) > _LONGEST_TEXT else ""
