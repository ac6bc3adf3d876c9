"""Submissions that say something about their power: the job differs from a plain one in our fields only."""

import time
from dataclasses import dataclass

from tests.compat.case import SCRIPT, Case, script


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCase:
    """``plain`` goes through sbatch, ``ours`` through psbatch.

    ``same``: both say the same of power, so that not even our fields differ, only how the words travelled, as
    variables or as the plugin's options.
    """

    plain: Case
    ours: Case
    same: bool = False


def _pair(name: str, words: tuple[str, ...], ours: tuple[str, ...], **fields: object) -> OwnCase:
    return OwnCase(
        plain=Case(name=name, words=words, **fields),  # type: ignore[arg-type]  # fields of Case
        ours=Case(name=name, words=ours, **fields),  # type: ignore[arg-type]  # fields of Case
    )


def _same(name: str, *words: str, **fields: object) -> OwnCase:
    """The same words to both: plain sbatch knows our options by the SPANK plugin."""
    case = Case(name=name, words=words, **fields)  # type: ignore[arg-type]  # fields of Case
    return OwnCase(plain=case, ours=case, same=True)


DIRECTIVES = {"job.sh": script("#PSBATCH --workload=training --flex=2", "#SBATCH --nice=3")}
# One moment for all: two that say "in nine days" a second apart do not mean the same.
FINISH_BY = int(time.time()) + 9 * 86_400
OUR_WORDS = ("--workload=training", "--flex=2")
ALL_OUR_WORDS = (*OUR_WORDS, "--max-hold=30", f"--finish-by=@{FINISH_BY}", "--power-cap=0.4kW")
# No catalog is there: the words travel, with a line on stderr that the record compares without.
TIER_WORDS = ("--workload=inference", "--tier=digits/full", "--tiers-ok=small,int8", "--min-quality=0.950")

OWN_CASES = (
    _pair("typed", ("job.sh",), (*OUR_WORDS, "job.sh")),
    _pair("typed, separate", ("job.sh", "a"), ("--workload", "inference", "--flex", "flex1", "job.sh", "a")),
    _pair(
        "typed between sbatch's",
        ("-J", "x", "-n", "2", "job.sh"),
        ("-J", "x", "--flex=3", "-n", "2", "job.sh"),
    ),
    _pair("typed twice", ("job.sh",), ("--flex=1", "--flex=2", "job.sh")),
    _pair("all of ours", ("job.sh",), (*ALL_OUR_WORDS, "job.sh")),
    _pair(
        "all of ours, separate",
        ("job.sh", "a"),
        (*" ".join(ALL_OUR_WORDS).replace("=", " ").split(), "job.sh", "a"),
    ),
    _pair("with a tier", ("job.sh",), (*TIER_WORDS, "job.sh")),
    _pair("with an array", ("-a1-3%2", "job.sh"), ("-a1-3%2", *OUR_WORDS, "job.sh")),
    _pair("with --wrap", ("--wrap=true",), ("--wrap=true", *OUR_WORDS)),
    _pair("script on input", ("-J", "x"), ("-J", "x", *OUR_WORDS), stdin=SCRIPT),
    _pair("parsable", ("--parsable", "job.sh"), ("--parsable", *OUR_WORDS, "job.sh")),
    _pair("nothing exported", ("--export=NONE", "job.sh"), ("--export=NONE", *OUR_WORDS, "job.sh")),
    _pair("one variable exported", ("--export=HOME", "job.sh"), ("--export=HOME", *OUR_WORDS, "job.sh")),
    _pair("a user's environment", ("--get-user-env", "job.sh"), ("--get-user-env", *OUR_WORDS, "job.sh")),
    _pair("refused by sbatch", ("-pside", "job.sh"), ("-pside", *OUR_WORDS, "job.sh")),
    _pair("a script that is not there", ("missing.sh",), (*OUR_WORDS, "missing.sh")),
    _pair("test-only", ("--test-only", "job.sh"), ("--test-only", *OUR_WORDS, "job.sh")),
    _pair("on #PSBATCH lines", ("job.sh",), ("job.sh",), files=DIRECTIVES),
    _pair("on #PSBATCH lines and typed", ("job.sh",), ("--flex=0", "job.sh"), files=DIRECTIVES),
    _pair(
        "by variables",
        ("job.sh",),
        ("job.sh",),
        environment={"PSBATCH_FLEX": "2", "PSBATCH_WORKLOAD": "generation"},
    ),
    _pair(
        "by the user's file",
        ("job.sh",),
        ("job.sh",),
        files={"job.sh": SCRIPT, "config/slurm-power/psbatch.conf": b"flex=3\nworkload=training\n"},
        through='XDG_CONFIG_HOME="$PWD/config" exec "$@"',
    ),
    OwnCase(
        plain=Case(name="heterogeneous", words=("-H", "-n1", ":", "-H", "-n2", "job.sh"), held=False),
        ours=Case(
            name="heterogeneous", words=("-H", "-n1", "--flex=2", ":", "-H", "-n2", "job.sh"), held=False
        ),
    ),
    _same("the same words to both", *OUR_WORDS, "job.sh"),
    _same("the same, all of ours", *ALL_OUR_WORDS, "job.sh"),
    _same("the same, with a tier", *TIER_WORDS, "job.sh"),
    _same("the same, an array", "-a1-3", *OUR_WORDS, "job.sh"),
    _same("the same, on an #SBATCH line", "job.sh", files={"job.sh": script("#SBATCH --workload=training")}),
)
