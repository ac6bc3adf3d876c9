"""Texts of slurm.conf, plugstack.conf and job_submit.lua: read settings, put marked blocks in, take them out.

Whatever is added stands between two marks, and what it replaces stands in there as a comment, so that taking
the blocks out gives back the text as it was, byte for byte. Texts are read with ``surrogateescape``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

OPEN_MARK = ">>> slurm-power"
CLOSE_MARK = "<<< slurm-power"
_WAS = "was: "
# The text did not end with a line end before: taken out with the block that says so.
_NO_LINE_END = "(no line end stood here)"
_SLURM, _LUA = "# ", "-- "
_PAIR = re.compile(r"([\w.]+)\s*[-*+/]?=\s*(?:\"([^\"]*)\"|(\S+))")


class BrokenBlockError(ValueError):
    """A mark without its other half: somebody has edited the blocks. The text says which line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One ``Key=value`` of slurm.conf on physical lines ``first`` to ``last`` (from 0, both included).

    ``alone`` is False when other settings stand on the same line.
    """

    key: str
    value: str
    first: int
    last: int
    alone: bool


def read_settings(text: str) -> list[Setting]:
    """All settings of a text in their order; keys as written, continued lines joined, comments left out."""
    found = []
    lines = text.split("\n")
    index = 0
    while index < len(lines):
        first, bare = index, _without_comment(lines[index])
        # Slurm strips comments first, so a comment is never continued.
        while bare.rstrip().endswith("\\") and index + 1 < len(lines):
            index += 1
            bare = bare.rstrip()[:-1] + " " + _without_comment(lines[index])
        index += 1
        place = {"first": first, "last": index - 1}
        if (include := re.match(r"\s*include\s+(\S+)", bare, re.IGNORECASE)) is not None:
            found.append(Setting(key="Include", value=include[1], alone=True, **place))
            continue
        pairs = _PAIR.findall(bare)
        found += [
            Setting(key=key, value=quoted or plain, alone=len(pairs) == 1, **place)
            for key, quoted, plain in pairs
        ]
    return found


def _without_comment(line: str) -> str:
    """Cut at the first ``#`` that no backslash stands before, as Slurm does."""
    start = 0
    while (place := line.find("#", start)) >= 0:
        if place == 0 or line[place - 1] != "\\":
            return line[:place]
        start = place + 1
    return line


def with_settings(text: str, changes: Sequence[tuple[str, str, str]]) -> str:
    """Set each (key, value, why): lines that hold the key are replaced, new keys stand in a block at the end.

    Raises ValueError for a key that shares its line with others.
    """
    if not changes:
        return text
    lines, whole = _lines(text)
    settings = read_settings("\n".join(lines))
    replaced: dict[int, tuple[int, list[str]]] = {}
    added: list[str] = []
    for key, value, why in changes:
        holding = [setting for setting in settings if setting.key.lower() == key.lower()]
        if any(not setting.alone for setting in holding):
            raise ValueError(
                f"line {holding[0].first + 1}: {key} shares its line with other settings; give it its own"
            )
        if not holding:
            added += [f"{_SLURM}{why}", f"{key}={value}"]
            continue
        *earlier, last = holding
        for setting in earlier:
            replaced[setting.first] = (setting.last, _block(_SLURM, why, _was(lines, setting), []))
        replaced[last.first] = (last.last, _block(_SLURM, why, _was(lines, last), [f"{key}={value}"]))
    result: list[str] = []
    index = 0
    while index < len(lines):
        if index in replaced:
            last_line, block = replaced[index]
            result += block
            index = last_line + 1
        else:
            result.append(lines[index])
            index += 1
    return _joined(result, _SLURM, added, whole=whole)


def with_line(text: str, line: str, why: str) -> str:
    """Add one line in a block at the end, as plugstack.conf wants it."""
    lines, whole = _lines(text)
    return _joined(lines, _SLURM, [f"{_SLURM}{why}", line], whole=whole)


def with_lua(text: str, code: Sequence[str]) -> str:
    """Put a block of Lua before the text's last ``return`` at the margin, else at its end."""
    lines, whole = _lines(text)
    place = len(lines)
    for index in range(len(lines) - 1, -1, -1):
        bare = lines[index].strip()
        if not bare or bare.startswith("--"):
            continue
        if lines[index].startswith("return"):
            place = index
        break
    if place == len(lines):
        return _joined(lines, _LUA, list(code), whole=whole)
    lines[place:place] = _block(_LUA, "", [], list(code))
    return "\n".join(lines) + ("\n" if whole else "")


def without_blocks(text: str) -> str:
    """Take every block out; raises BrokenBlockError when a mark has lost its other half."""
    lines, ends = text.split("\n"), True
    result: list[str] = []
    opened: int | None = None
    for index, line in enumerate(lines):
        prefix = _SLURM if line.startswith(_SLURM) else _LUA
        bare = line.removeprefix(prefix) if line.startswith(prefix) else ""
        if bare.startswith(OPEN_MARK):
            if opened is not None:
                raise BrokenBlockError(f"line {opened + 1}: the end of this block is gone")
            opened = index
            ends = ends and _NO_LINE_END not in bare
        elif bare.startswith(CLOSE_MARK):
            if opened is None:
                raise BrokenBlockError(f"line {index + 1}: the start of this block is gone")
            opened = None
        elif opened is None:
            result.append(line)
        elif bare.startswith(_WAS):
            result.append(bare.removeprefix(_WAS))
    if opened is not None:
        raise BrokenBlockError(f"line {opened + 1}: the end of this block is gone")
    found = "\n".join(result)
    return found if ends else found.removesuffix("\n")


def has_blocks(text: str) -> bool:
    """Say whether any mark of ours is in a text."""
    return OPEN_MARK in text or CLOSE_MARK in text


def _lines(text: str) -> tuple[list[str], bool]:
    """Split into lines, and say whether the last one had its end."""
    if not text:
        return [], True
    whole = text.endswith("\n")
    return text.removesuffix("\n").split("\n"), whole


def _joined(lines: list[str], prefix: str, added: list[str], *, whole: bool) -> str:
    if added or not whole:
        lines = lines + _block(prefix, "" if whole else _NO_LINE_END, [], added)
    return "\n".join(lines) + "\n"


def _block(prefix: str, remark: str, was: list[str], lines: list[str]) -> list[str]:
    opening = f"{prefix}{OPEN_MARK}" + (f" {remark}" if remark else "")
    return [opening, *was, *lines, f"{prefix}{CLOSE_MARK}"]


def _was(lines: list[str], setting: Setting) -> list[str]:
    return [f"{_SLURM}{_WAS}{line}" for line in lines[setting.first : setting.last + 1]]
