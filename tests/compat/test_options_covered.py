"""Every option of the installed sbatch stands in the table; one that does not fails here by its name."""

import re
import string

from slurm_power.cli.sbatch_options import LONG_WITH_VALUE, LONG_WITHOUT_VALUE, SHORT_WITH_VALUE
from tests.compat.options import ELSEWHERE, OPTIONS
from tests.compat.slurm import Slurm, run

TABLE = {option.name: option for option in OPTIONS}
# The plugin's; they are cases in cases_own.
OURS = {"workload", "flex", "max-hold", "finish-by", "power-cap", "tier", "tiers-ok", "min-quality"}


def installed_options(slurm: Slurm) -> set[str]:
    """All long options: those in sbatch's help, and those its parser names as possibilities.

    Not all stand in the help (``--kill-on-invalid-dep``); for an ambiguous beginning getopt lists them.
    """
    told = run(slurm, [b"sbatch", b"--help"]).stdout + run(slurm, [b"sbatch", b"--usage"]).stdout
    found = {name.decode() for name in re.findall(rb"(?<![\w-])--([a-z][a-z-]+)", told)}
    for first in string.ascii_lowercase:
        words = run(slurm, [b"sbatch", f"--{first}=".encode()]).stderr
        if b"possibilities:" in words:
            found |= {name.decode() for name in re.findall(rb"'--([a-z-]+)'", words.partition(b":")[2])}
    return found


def test_every_option_has_a_row(slurm: Slurm) -> None:
    installed = installed_options(slurm)
    assert len(installed) > 90
    assert not sorted(installed - TABLE.keys() - set(ELSEWHERE) - OURS)


def test_every_short_option_has_a_row(slurm: Slurm) -> None:
    told = run(slurm, [b"sbatch", b"--help"]).stdout.decode()
    pairs = re.findall(r"^ +-(\w), --([a-z-]+)", told, re.MULTILINE)
    assert len(pairs) > 30
    elsewhere = {"h": "help", "V": "version", "W": "wait"}
    missing = [
        (letter, name) for letter, name in pairs if letter not in elsewhere and TABLE[name].short != letter
    ]
    assert not missing


def test_rows_take_what_psbatch_thinks_they_take() -> None:
    for option in OPTIONS:
        known = LONG_WITH_VALUE if option.takes == "value" else LONG_WITHOUT_VALUE
        assert option.name in known or option.name == "share", option
        if option.short:
            assert (option.short in SHORT_WITH_VALUE) == (option.takes == "value"), option


def test_every_input_variable_has_a_row(slurm: Slurm) -> None:
    """Those whose names stand in sbatch itself."""
    program = run(slurm, [b"sh", b"-c", b'cat "$(command -v sbatch)"']).stdout
    named = {name.decode() for name in re.findall(rb"\0(SBATCH_[A-Z0-9_]+)(?=\0)", program)}
    assert len(named) > 50
    elsewhere = {"SBATCH_WAIT", "SBATCH_WAIT4SWITCH"}
    assert not sorted(named - {option.variable for option in OPTIONS} - elsewhere)
