"""psbatch knows which options of this sbatch take a value: else it would not find where a script begins."""

import re
import string

from containers.cluster.lab import Lab
from slurm_power.cli.sbatch_options import LONG_WITH_VALUE, LONG_WITHOUT_VALUE, SHORT_WITH_VALUE

ASK = """for option in "$@"; do
    printf "%s %s\\n" "$option" "$(sbatch "$option" 2>&1 </dev/null | tr "\\n" " ")"
done"""
# An answer that tells nothing, since the option does something else first.
DEAF = {"autocomplete", "help", "usage", "version"}


def answers(lab: Lab, names: list[str]) -> dict[str, str]:
    """What sbatch says to each option alone, without a value and with an empty script."""
    done = lab.run(["sh", "-c", ASK, "sh", *names], user="alice", timeout_seconds=120)
    pairs = (line.partition(" ") for line in done.stdout.splitlines())
    said = {option: text for option, _space, text in pairs}
    return {
        option: text
        for option, text in said.items()
        if "unrecognized option" not in text and "invalid option" not in text
    }


def test_long_options(site: Lab) -> None:
    names = sorted((LONG_WITH_VALUE | LONG_WITHOUT_VALUE) - DEAF)
    said = answers(site, [f"--{name}" for name in names])
    assert len(said) > 100
    wants = {option.removeprefix("--") for option, text in said.items() if "requires an argument" in text}
    assert wants == LONG_WITH_VALUE & {option.removeprefix("--") for option in said}


def test_short_options(site: Lab) -> None:
    said = answers(site, [f"-{letter}" for letter in string.ascii_letters if letter not in "hV"])
    wants = {option.removeprefix("-") for option, text in said.items() if "requires an argument" in text}
    assert wants == SHORT_WITH_VALUE & {option.removeprefix("-") for option in said}
    assert len(wants) > 20


def test_every_option_of_the_help_is_known(site: Lab) -> None:
    text = site.run(["sbatch", "--help"]).stdout
    own = text.partition("Options provided by plugins")[0]
    named = set(re.findall(r"^\s+(?:-\w, )?--([\w-]+)", own, flags=re.MULTILINE))
    assert len(named) > 80
    assert named - LONG_WITH_VALUE - LONG_WITHOUT_VALUE == set()
