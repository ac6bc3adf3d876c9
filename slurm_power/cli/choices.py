"""What users and site say of a job's power: where it may be said, which word counts, what is wrong.

Light on purpose: psbatch reads this on every submission.
"""

from __future__ import annotations

import os

from slurm_power.cli import plain_conf
from slurm_power.cli.option_forms import OPTIONS, NotMeantError
from slurm_power.cli.sbatch_options import COMPLETION, WITHOUT_VALUE, our_name

NAMES = tuple(OPTIONS)
ABOUT_TIERS = ("tier", "tiers-ok", "min-quality")
MODEL = "SLURM_POWER_MODEL"
SAID = "SLURM_POWER_SAID"


class Said:
    """One value as somebody said it; ``where`` is for messages. ``meant``: None for one that is wrong."""

    __slots__ = ("meant", "option", "problem", "where")

    def __init__(self, option: str, value: str | None, where: str) -> None:
        self.option = option
        self.where = where
        self.meant: str | None = None
        self.problem = ""
        if not value:
            self.problem = f"{where}: needs a value, {OPTIONS[option].forms}"
            return
        try:
            self.meant = OPTIONS[option].normal(value)
        except NotMeantError as error:
            hint = did_you_mean(value, OPTIONS[option].words)
            self.problem = f"{where}: {value[:80]!r} {error}{hint}"


class InScript:
    """What a job script says: on #PSBATCH lines, on #SBATCH lines to our plugin, and what is wrong."""

    __slots__ = ("problems", "said", "said_to_sbatch")

    def __init__(self) -> None:
        self.said: list[Said] = []
        self.said_to_sbatch: list[Said] = []
        self.problems: list[str] = []


class Chosen:
    """The words that count, by option, in the order of the table; ``typed`` came by the command line.

    ``in_sbatch_lines`` are those of our options that #SBATCH lines of the script name; ``standing`` those
    whose word is for all jobs, by the user's file or the site; ``by_site`` those by the site.
    """

    __slots__ = ("by_site", "in_sbatch_lines", "said", "standing", "typed", "warnings")

    def __init__(self) -> None:
        self.said: dict[str, Said] = {}
        self.typed: set[str] = set()
        self.standing: set[str] = set()
        self.by_site: set[str] = set()
        self.in_sbatch_lines: set[str] = set()
        self.warnings: list[str] = []

    def words(self) -> dict[str, str]:
        """Normal forms by option."""
        return {option: said.meant for option, said in self.said.items() if said.meant is not None}

    def environment(self) -> dict[str, str]:
        """What the SPANK plugin is to find in the environment."""
        return {OPTIONS[option].variable: word for option, word in self.words().items()}

    def sbatch_words(self) -> list[str]:
        """Options for sbatch: an #SBATCH line would beat the environment, and shows that it knows them."""
        words = self.words()
        return [
            f"--{option}={words[option]}"
            for option in words
            if option in self.typed and option in self.in_sbatch_lines
        ]


def choose(
    ours: list[tuple[str, str | None]],
    script: InScript,
    conf: dict[str, str],
    problems: list[str],
) -> Chosen:
    """Command line first, then script, environment, the user's file, the site's defaults, an outer job.

    A wrong value of the user's is a problem; a wrong default of the site's must not stop anybody's work.
    """
    typed = [Said(name, value, f"--{name}") for name, value in ours]
    # The last word said at one place counts, so each list is read backwards.
    users = typed[::-1] + script.said[::-1] + from_environment()
    problems += [said.problem for said in reversed(users) if said.problem] + script.problems
    chosen = Chosen()
    # An #SBATCH line beats the environment in our plugin, which also says what is wrong with it.
    users[len(typed) : len(typed)] = script.said_to_sbatch[::-1]
    from_file = from_user_file(problems, chosen.warnings)
    users += from_file
    from_site = [
        Said(name, conf[key], f"the site's {key}") for name, key in site_keys().items() if conf.get(key)
    ]
    chosen.warnings += [f"ignoring {said.problem}" for said in from_site if said.problem]
    from_site += from_outer_job()
    chosen.in_sbatch_lines = {said.option for said in script.said_to_sbatch}
    for option in NAMES:
        for said in [*users, *from_site]:
            if said.option == option and said.meant is not None:
                chosen.said[option] = said
                if said in typed:
                    chosen.typed.add(option)
                if said in from_site:
                    chosen.by_site.add(option)
                if said in from_site or said in from_file:
                    chosen.standing.add(option)
                break
    return chosen


def did_you_mean(value: str, words: tuple[str, ...]) -> str:
    """Return ``; did you mean ...?`` for a near word, else nothing."""
    if not words:
        return ""
    from difflib import get_close_matches  # noqa: PLC0415 - 8 ms, only spent on a mistake

    near = get_close_matches(value.lower(), words, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def near_option(written: str) -> str:
    """Our option that is one or two letters off, else empty. No module: it is not always a mistake."""
    near = [(_distance(written, name), name) for name in (*NAMES, *WITHOUT_VALUE, COMPLETION)]
    distance, name = min(near)
    return name if distance <= (2 if len(name) > 5 else 1) else ""


def _distance(one: str, other: str) -> int:
    """Letters to insert, drop or change (Levenshtein, 1966)."""
    if abs(len(one) - len(other)) > 2:
        return 3
    before = list(range(len(other) + 1))
    for row, letter in enumerate(one, start=1):
        now = [row]
        for column, wanted in enumerate(other, start=1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (letter != wanted)))
        before = now
    return before[-1]


def from_script(head: bytes, where: str) -> InScript:
    """Read the #PSBATCH lines of a script; like sbatch, stop at the first line that is no comment."""
    found = InScript()
    for number, raw in enumerate(head.split(b"\n"), start=1):
        if is_body(raw):
            break
        words = raw.decode("utf-8", "surrogateescape").split()
        if raw.startswith((b"#PSBATCH ", b"#PSBATCH\t", b"#PSBATCH-")):
            _read_directive(words, f"{where}, line {number}", found)
        elif raw.startswith(b"#SBATCH"):
            _read_sbatch_line(words, f"{where}, line {number}", found)
    return found


def _read_sbatch_line(words: list[str], where: str, found: InScript) -> None:
    """Find our plugin's options among sbatch's."""
    for index, word in enumerate(words):
        written, has_value, value = word[2:].partition("=") if word.startswith("--") else ("", "", "")
        name = our_name(written, NAMES)
        if name:
            following = "" if index + 1 == len(words) else words[index + 1]
            text = (value if has_value else following).strip("\"'")
            found.said_to_sbatch.append(Said(name, text, f"{where}, #SBATCH --{name}"))


def is_body(raw: bytes) -> bool:
    """Whether a line of a script is where sbatch stops to look for options."""
    line = raw.strip()
    return bool(line) and not line.startswith(b"#")


def _read_directive(words: list[str], where: str, found: InScript) -> None:
    if words[0] != "#PSBATCH":
        found.problems.append(f"{where}: a space is missing after #PSBATCH")
    waiting = [word.strip("\"'") for word in _before_comment(words[1:])]
    while waiting:
        word = waiting.pop(0)
        written, has_value, value = word[2:].partition("=") if word.startswith("--") else ("", "", "")
        name = our_name(written, (*NAMES, *WITHOUT_VALUE))
        if name not in NAMES:
            found.problems.append(f"{where}: {_no_directive(word, name)}")
            return
        if not has_value:
            value = waiting.pop(0) if waiting else ""
        found.said.append(Said(name, value.strip("\"'"), f"{where}, --{name}"))


def _no_directive(word: str, name: str) -> str:
    if name:
        return f"--{name} belongs on the command line"
    meant = did_you_mean(word.partition("=")[0], tuple(f"--{known}" for known in NAMES))
    return f"{word!r} is no option of psbatch{meant or '; options of sbatch go on #SBATCH lines'}"


def _before_comment(words: list[str]) -> list[str]:
    for index, word in enumerate(words):
        if word.startswith("#"):
            return words[:index]
    return words


def from_environment() -> list[Said]:
    """Values of PSBATCH_WORKLOAD and its like, if they are set and not empty."""
    return [
        Said(name, os.environ[option.user_variable], f"${option.user_variable}")
        for name, option in OPTIONS.items()
        if os.environ.get(option.user_variable)
    ]


def from_outer_job() -> list[Said]:
    """What is in the environment already, as of a job that submits another; nobody's if it makes no sense.

    Not its tier: what it submits may be anything, and nobody has said that this may be moved.
    """
    return [
        Said(name, os.environ[option.variable], f"${option.variable}")
        for name, option in OPTIONS.items()
        if name not in ABOUT_TIERS and os.environ.get(option.variable)
    ]


def from_user_file(problems: list[str], warnings: list[str]) -> list[Said]:
    """Values of the user's own psbatch.conf (``workload=...``, ``max_hold=...``)."""
    base = os.environ.get("XDG_CONFIG_HOME")
    home = os.environ.get("HOME")
    if not base and not home:
        return []
    path = (base or f"{home}/.config") + "/slurm-power/psbatch.conf"
    said = []
    for key, value in plain_conf.read_plain(path, warnings).items():
        name = key.replace("_", "-")
        if name in OPTIONS:
            said.append(Said(name, value, f"{path}, {key}"))
        else:
            keys = tuple(known.replace("-", "_") for known in NAMES)
            problems.append(f"{path}: unknown key {key[:80]!r}{did_you_mean(key, keys)}")
    problems += [one.problem for one in said if one.problem]
    return said


def site_keys() -> dict[str, str]:
    """The keys of slurm-power.conf with the site's defaults, by option."""
    return {name: option.site_key for name, option in OPTIONS.items()}
