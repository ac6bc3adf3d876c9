"""Which of sbatch's options a user has said, on the command line, in the script or in the environment.

For what a model tier would add to them: what its user has said stays.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slurm_power.cli.sbatch_options import HETEROGENEOUS_SEPARATOR, sbatch_name, takes_next_word

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHORT = {
    "A": "account", "a": "array", "B": "extra-node-info", "b": "begin", "C": "constraint",
    "c": "cpus-per-task", "D": "chdir", "d": "dependency", "e": "error", "F": "nodefile", "G": "gpus",
    "H": "hold", "i": "input", "J": "job-name", "k": "no-kill", "L": "licenses", "M": "clusters",
    "m": "distribution", "N": "nodes", "n": "ntasks", "O": "overcommit", "o": "output", "p": "partition",
    "q": "qos", "Q": "quiet", "S": "core-spec", "s": "oversubscribe", "t": "time", "v": "verbose",
    "w": "nodelist", "W": "wait", "x": "exclude",
}  # fmt: skip
# Different ways to ask for the same; of gres and tres what is about GPUs.
_GPUS = ("gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task")
_GENERIC = ("gres", "tres-per-task")
_MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")
_VARIABLES = {"JOB_NAME": "job-name", "TIMELIMIT": "time", "MEM_PER_NODE": "mem", "ARRAY_INX": "array"}


class SaidOption:
    """One option as it was written, in one word or two; ``kind`` is the same for all ways to say the same."""

    __slots__ = ("kind", "words")

    def __init__(self, name: str, value: str, words: list[str]) -> None:
        self.kind = _kind(name, value)
        self.words = words


def _kind(name: str, value: str) -> str:
    if name in _GPUS or (name in _GENERIC and "gpu" in value):
        return "gpus"
    return "mem" if name in _MEMORY else name


def options_in(words: list[str]) -> Iterator[SaidOption]:
    """The options in a list of words, up to the first that is none."""
    index = 0
    while index < len(words):
        word = words[index]
        if word == HETEROGENEOUS_SEPARATOR:
            index += 1
            continue
        if word in ("--", "-") or not word.startswith("-"):
            return
        count = 2 if "=" not in word and takes_next_word(word) and index + 1 < len(words) else 1
        following = words[index + 1] if count == 2 else ""
        if word.startswith("--"):
            written, _, value = word[2:].partition("=")
            name = sbatch_name(written) or written
        else:
            name, value = _SHORT.get(word[1], word[1]), word[2:]
        yield SaidOption(name, value or following, words[index : index + count])
        index += count


def kinds_said(rest: list[str], head: bytes) -> set[str]:
    """All kinds that a user has said something of: by words for sbatch, the script's head, SBATCH_*."""
    found = {option.kind for option in options_in(rest)}
    for raw in head.decode("utf-8", "replace").splitlines():
        if raw.strip() and not raw.startswith("#"):
            break
        if raw.startswith("#SBATCH"):
            words = [word.strip("\"'") for word in raw.split(" #")[0].split()[1:]]
            found |= {option.kind for option in options_in(words)}
    for variable, value in os.environ.items():
        if variable.startswith("SBATCH_") and value:
            name = variable.removeprefix("SBATCH_")
            found.add(_kind(_VARIABLES.get(name, name.lower().replace("_", "-")), value))
    return found
