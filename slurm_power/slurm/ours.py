"""Tells which of the files that Slurm runs are ours, of which version, however a site calls them. Pure."""

import re
import shlex
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from slurm_power.slurm.conf_text import OPEN_MARK
from slurm_power.slurm.found import Found
from slurm_power.slurm.shipped import HOOKS, Shipped

_CALLED = re.compile(rf"(/[\w./+-]*/(?:{'|'.join(HOOKS.values())}))(?![\w./+-])")
_CHAINED = re.compile(r"^for hook in (.*); do$", re.MULTILINE)
_LOADED = re.compile(r"""["'](/[^"'\n]+\.lua)["']""")
_PLUGIN = re.compile(r"^\s*(?:optional|required)\s+(\S*slurm_power\S*\.so)\b", re.MULTILINE)
# A wrapper may call a wrapper; deeper than that nobody can tell any more.
_DEEPEST = 3


class State(StrEnum):
    """``other``: ours, but not this version's."""

    CURRENT = "current"
    OTHER = "other"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """A file of ours, and the path it was found at; empty where there is none."""

    state: State
    path: str = ""


ABSENT = Ours(state=State.ABSENT)


def called_files(text: str) -> list[str]:
    """The absolute paths in a script or in Lua that may be files of ours."""
    return [*_CALLED.findall(text), *_LOADED.findall(text)]


def chained_patterns(text: str) -> list[str]:
    """The site's own hooks, as paths or globs, that a chain of ours runs."""
    match = _CHAINED.search(text)
    return [] if match is None else shlex.split(match[1])


def chained(found: Found, path: str) -> list[str]:
    """The files that a chain runs beside ours."""
    patterns = chained_patterns(found.text(path))
    return [name for name in found.files if any(PurePosixPath(name).match(pattern) for pattern in patterns)]


def hook(found: Found, setting: str, ship: Shipped) -> Ours:
    """Find our hook among the files that a setting runs."""
    name = HOOKS[setting]
    files = list(found.hook_files.get(setting, ()))
    return _first(found, files, {ship.hooks.get(setting, "")}, f"/{name}", 0)


def job_submit(found: Found, ship: Shipped) -> Ours:
    """Find our job_submit script: the site's own, or loaded by it."""
    if "lua" not in found.words("JobSubmitPlugins"):
        return ABSENT
    return _first(found, [found.job_submit_lua], {ship.job_submit, *ship.lua.values()}, ".lua", 0)


def in_use(found: Found) -> set[str]:
    """Every file that slurmctld or a slurmd may still run, by the settings in force."""
    named = [path for files in found.hook_files.values() for path in files]
    if "lua" in found.words("JobSubmitPlugins"):
        named.append(found.job_submit_lua)
    known: set[str] = set()
    while named:
        path = named.pop()
        if path not in known:
            known.add(path)
            named += called_files(found.text(path))
    return known


def plugins(found: Found) -> list[str]:
    """The files of our SPANK plugin that plugstack.conf names."""
    return plugins_of(found.text(found.plugstack_conf))


def plugins_of(plugstack: str) -> list[str]:
    """The same in the text of plugstack.conf."""
    return _PLUGIN.findall(plugstack)


def _first(found: Found, paths: list[str], shipped: set[str], end: str, depth: int) -> Ours:
    answer = ABSENT
    for path in paths:
        text = found.text(path)
        if text and text in shipped:
            return Ours(state=State.CURRENT, path=path)
        inner = ABSENT
        if depth < _DEEPEST:
            called = [name for name in called_files(text) if name.endswith(end) and name != path]
            inner = _first(found, called, shipped, end, depth + 1)
        if inner.state is State.CURRENT:
            return inner
        if inner.state is State.OTHER:
            answer = inner
        elif _reads_like_ours(text) and answer is ABSENT:
            answer = Ours(state=State.OTHER, path=path)
    return answer


def _reads_like_ours(text: str) -> bool:
    """Ours name themselves in their messages; wrappers and marked blocks only name our paths."""
    return (
        OPEN_MARK not in text and re.search(r"slurm[-_]power(?: \{|: job_submit|_describe)", text) is not None
    )
