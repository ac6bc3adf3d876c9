"""The two things a user tells us, workload and flex: where they may be said, and whether they make sense.

Light on purpose: psbatch reads this on every submission, so the words stand here again as plain tuples; a
test holds them equal to ``slurm_power.model.job``.
"""

from __future__ import annotations

import os

from slurm_power.cli import plain_conf

WORKLOADS = ("training", "inference", "generation")
FLEXES = ("flex0", "flex1", "flex2", "flex3")
WORDS = {"workload": WORKLOADS, "flex": FLEXES}
OPTIONS = tuple(WORDS)

# What the SPANK plugin reads in the environment of sbatch, srun and salloc.
CARRIERS = {"workload": "SLURM_POWER_WORKLOAD", "flex": "SLURM_POWER_FLEX"}
USER_VARIABLES = {"workload": "PSBATCH_WORKLOAD", "flex": "PSBATCH_FLEX"}
SITE_KEYS = {"workload": "default_workload", "flex": "default_flex"}


class Said:
    """One value as somebody said it; ``where`` is for messages."""

    __slots__ = ("option", "value", "where")

    def __init__(self, option: str, value: str | None, where: str) -> None:
        self.option = option
        self.value = value
        self.where = where

    def meant(self) -> str | None:
        """Return the word it stands for (``2`` is ``flex2``), or None if it stands for none."""
        words = WORDS[self.option]
        if self.option == "flex" and self.value in ("0", "1", "2", "3"):
            return words[int(self.value)]
        return self.value if self.value in words else None

    def problem(self) -> str:
        """Say what is wrong with it, and what it may have meant."""
        words = WORDS[self.option]
        known = ", ".join(words)
        if not self.value:
            return f"{self.where}: needs a value, one of {known}"
        return f"{self.where}: {self.value!r} is not one of {known}{did_you_mean(self.value, words)}"


class InScript:
    """What a job script says: values on #PSBATCH lines, options on #SBATCH lines, problems."""

    __slots__ = ("problems", "said", "sbatch_options")

    def __init__(self) -> None:
        self.said: list[Said] = []
        self.sbatch_options: set[str] = set()
        self.problems: list[str] = []


def did_you_mean(value: str, words: tuple[str, ...]) -> str:
    """Return ``; did you mean ...?`` for a near word, else nothing."""
    from difflib import get_close_matches  # noqa: PLC0415 - 8 ms, only spent on a mistake

    near = get_close_matches(value.lower(), words, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def from_script(path: str) -> InScript:
    """Read the #PSBATCH lines of a script file; like sbatch, stop at the first line that is no comment."""
    found = InScript()
    for number, raw in enumerate(plain_conf.read_head(path).split(b"\n"), start=1):
        line = raw.strip()
        if line and not line.startswith(b"#"):
            break
        words = raw.decode("utf-8", "surrogateescape").split()
        if raw.startswith((b"#PSBATCH ", b"#PSBATCH\t", b"#PSBATCH-")):
            _read_directive(words, f"{path}, line {number}", found)
        elif raw.startswith(b"#SBATCH"):
            names = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
            found.sbatch_options |= names & set(OPTIONS)
    return found


def _read_directive(words: list[str], where: str, found: InScript) -> None:
    if words[0] != "#PSBATCH":
        found.problems.append(f"{where}: a space is missing after #PSBATCH")
    waiting = [word.strip("\"'") for word in _before_comment(words[1:])]
    while waiting:
        word = waiting.pop(0)
        name, has_value, value = word[2:].partition("=") if word.startswith("--") else ("", "", "")
        if name not in OPTIONS:
            hint = did_you_mean(word, ("--workload", "--flex")) or "; sbatch's options go on #SBATCH lines"
            found.problems.append(f"{where}: {word!r} is no option of psbatch{hint}")
            return
        if not has_value:
            value = waiting.pop(0) if waiting else ""
        found.said.append(Said(name, value.strip("\"'"), f"{where}, --{name}"))


def _before_comment(words: list[str]) -> list[str]:
    for index, word in enumerate(words):
        if word.startswith("#"):
            return words[:index]
    return words


def from_environment() -> list[Said]:
    """Values of PSBATCH_WORKLOAD and PSBATCH_FLEX, if they are set and not empty."""
    return [
        Said(option, os.environ[variable], f"${variable}")
        for option, variable in USER_VARIABLES.items()
        if os.environ.get(variable)
    ]


def from_user_file(problems: list[str]) -> list[Said]:
    """Values of the user's own psbatch.conf (``workload=...``, ``flex=...``)."""
    base = os.environ.get("XDG_CONFIG_HOME")
    home = os.environ.get("HOME")
    if not base and not home:
        return []
    path = (base or f"{home}/.config") + "/slurm-power/psbatch.conf"
    said = []
    for key, value in plain_conf.read_plain(path).items():
        if key in OPTIONS:
            said.append(Said(key, value, f"{path}, {key}"))
        else:
            problems.append(f"{path}: unknown key {key!r}{did_you_mean(key, OPTIONS)}")
    return said


def from_site(conf: dict[str, str]) -> list[Said]:
    """The site's defaults out of slurm-power.conf."""
    return [Said(option, conf[key], f"{key}") for option, key in SITE_KEYS.items() if conf.get(key)]
