"""Where psbatch's values may be said, which one counts, and what is said of all that is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_power.cli.option_forms import OPTIONS
from tests.cli.recorder import PROJECT, Outcome, Recorder, make_recorder

# A value of each option, and its normal form: one for each place.
VALUES = {
    "workload": ("training", "inference", "generation", "training", "inference"),
    "flex": ("0", "1", "2", "3", "flex1"),
    "max-hold": ("1m", "2m", "3m", "4m", "5m"),
    "finish-by": ("@{0}1", "@{0}2", "@{0}3", "@{0}4", "@{0}5"),
    "power-cap": ("101", "102W", "0.103kW", "104", "105"),
    "tier": ("a/1", "a/2", "a/3", "a/4", "a/5"),
    "tiers-ok": ("b,a", "b", "any", "none", "c,c"),
    "min-quality": ("0.10", "0.2", "00.3", "-4.0", "5"),
}
NORMAL = {
    "workload": VALUES["workload"],
    "flex": ("flex0", "flex1", "flex2", "flex3", "flex1"),
    "max-hold": ("60s", "120s", "180s", "240s", "300s"),
    "finish-by": VALUES["finish-by"],
    "power-cap": ("101", "102", "103", "104", "105"),
    "tier": VALUES["tier"],
    "tiers-ok": ("a,b", "b", "any", "none", "c"),
    "min-quality": ("0.1", "0.2", "0.3", "-4", "5"),
}
# The words about tiers are those of this job, not of one that submits it; and all but the tier need one.
NOT_INHERITED = ("tier", "tiers-ok", "min-quality")
WITH_A_TIER = {b"PSBATCH_TIER": b"a/b", b"PSBATCH_WORKLOAD": b"inference"}


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return make_recorder(tmp_path)


def soon(text: str) -> str:
    """A moment some days ahead, but for its last digit."""
    import time

    return text.format((int(time.time()) + 500_000) // 10)


def carried(outcome: Outcome) -> dict[str, str]:
    found = {}
    for name, option in OPTIONS.items():
        value = outcome.environ.get(option.variable.encode())
        if value is not None:
            found[name] = value.decode()
    return found


@pytest.mark.parametrize("name", list(OPTIONS))
def test_command_line_script_environment_own_file_site(recorder: Recorder, name: str) -> None:
    option = OPTIONS[name]
    site, own, variable, line, typed = (soon(value) for value in VALUES[name])
    normal = [soon(value) for value in NORMAL[name]]
    silent = recorder.script("#!/bin/sh\ntrue\n", "silent.sh")
    speaking = recorder.script(f"#!/bin/sh\n#PSBATCH --{name}={line}\ntrue\n")
    around = WITH_A_TIER if name in NOT_INHERITED[1:] else {}
    others = {} if not around else {"tier": "a/b", "workload": "inference"}
    environ = {option.user_variable.encode(): variable.encode(), **around}
    assert carried(recorder.run(silent)) == {}
    outer = {option.variable.encode(): typed.encode(), **around}
    inherited = {} if name in NOT_INHERITED else {name: normal[4]}
    assert carried(recorder.run(silent, environ=outer)) == {**others, **inherited}
    recorder.site(f"{option.site_key}={site}\n")
    assert carried(recorder.run(silent, environ=outer)) == {**others, name: normal[0]}
    assert carried(recorder.run(silent, environ=around)) == {**others, name: normal[0]}
    recorder.user(f"{name.replace('-', '_')} = {own}\n")
    assert carried(recorder.run(silent, environ=around)) == {**others, name: normal[1]}
    assert carried(recorder.run(silent, environ=environ)) == {**others, name: normal[2]}
    assert carried(recorder.run(speaking, environ=environ)) == {**others, name: normal[3]}
    typed_words = (f"--{name}", typed)
    assert carried(recorder.run(*typed_words, speaking, environ=environ)) == {**others, name: normal[4]}
    assert carried(recorder.run(f"--{name}={typed}", silent, environ=environ)) == {**others, name: normal[4]}


def test_nonsense_of_an_outer_job_is_left_to_the_plugin(recorder: Recorder) -> None:
    outcome = recorder.run("job.sh", environ={b"SLURM_POWER_FLEX": b"lots", b"SLURM_POWER_FINISH_BY": b"@5"})
    assert (outcome.status, carried(outcome)) == (0, {"flex": "lots", "finish-by": "@5"})


def test_deadline_is_sbatchs_own(recorder: Recorder) -> None:
    outcome = recorder.run("--deadline=2030-01-01", "--deadl", "now+1hour", "job.sh")
    assert outcome.argv == [b"--deadline=2030-01-01", b"--deadl", b"now+1hour", b"job.sh"]


def test_everything_wrong_at_once_with_where_and_what_to_write(recorder: Recorder) -> None:
    script = recorder.script("#!/bin/sh\n#PSBATCH --max-hold=soon\n#PSBATCH --explain\n#PSBATCH --flexx=2\n")
    recorder.user("power_cap=lots\nmaxhold=3\n")
    outcome = recorder.run(
        "--finish-by=2020-01-01",
        "--power-cap=0",
        "--explain=yes",
        script,
        environ={b"PSBATCH_FINISH_BY": b"later"},
    )
    assert (outcome.status, outcome.argv, outcome.stdout) == (2, None, b"")
    text = outcome.stderr.decode()
    for words in (
        "--explain: takes no value",
        "--finish-by: '2020-01-01' is in the past",
        "--power-cap: '0' is not between 1 W and 100 kW",
        "job.sh, line 2, --max-hold: 'soon' is no time: minutes (30), MM:SS, HH:MM:SS, D-HH[:MM[:SS]], or",
        "job.sh, line 3: --explain belongs on the command line",
        "job.sh, line 4: '--flexx=2' is no option of psbatch; did you mean --flex?",
        "$PSBATCH_FINISH_BY: 'later' is no moment: YYYY-MM-DD[THH:MM[:SS]], HH:MM[:SS], now+N",
        "psbatch.conf, power_cap: 'lots' is no power: watts per GPU: 400, 400W or 0.4kW",
        "psbatch.conf: unknown key 'maxhold'; did you mean max_hold?",
    ):
        assert f"{words}" in text, words
    assert all(line.startswith("psbatch: ") for line in text.splitlines())
    assert text.endswith("psbatch: nothing was submitted\n")


def test_what_is_wrong_is_an_object_with_json(recorder: Recorder) -> None:
    outcome = recorder.run("--json", "--flex=9", "job.sh")
    assert (outcome.status, outcome.argv) == (2, None)
    found = json.loads(outcome.stdout)
    assert found["submitted"] is False
    assert found["problems"] == ["--flex: '9' is not one of flex0, flex1, flex2, flex3"]
    script = bytes(recorder.directory) + b"/\xff.sh"
    Path(os.fsdecode(script)).write_bytes(b"#!/bin/sh\n#PSBATCH --flex=\xfe\n")
    found = json.loads(recorder.run("--json", script).stdout)
    assert r"/\xff.sh, line 2, --flex: '\udcfe' is not one of" in found["problems"][0]


@pytest.mark.parametrize("words", [("--explain", "--dry-run"), ("--print-script", "--json")])
def test_what_does_not_go_together(recorder: Recorder, words: tuple[str, ...]) -> None:
    outcome = recorder.run(*words, "job.sh")
    assert (outcome.status, outcome.argv) == (2, None)
    assert b"do not go together" in outcome.stderr


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("--workloads=training", b"did you mean --workload?"),
        ("--flexx=2", b"did you mean --flex?"),
        ("--maxhold=2", b"did you mean --max-hold?"),
        ("--finishby=18:00", b"did you mean --finish-by?"),
        ("--powercap=2", b"did you mean --power-cap?"),
        ("--jsn", b"did you mean --json?"),
    ],
)
def test_a_misspelt_option_goes_to_sbatch_with_a_hint(recorder: Recorder, word: str, hint: bytes) -> None:
    outcome = recorder.run(word, "--flex=1", "job.sh")
    assert outcome.argv == [word.encode(), b"job.sh"]
    assert outcome.environ[b"SLURM_POWER_FLEX"] == b"flex1"
    assert hint in outcome.stderr


@pytest.mark.parametrize(
    "word", ["--x11", "--container-path=a", "--power=2", "--time=3", "--flag", "--workflow=a"]
)
def test_no_hint_at_options_of_sbatch_and_of_others(recorder: Recorder, word: str) -> None:
    outcome = recorder.run(word, "job.sh")
    assert outcome.argv == [word.encode(), b"job.sh"]
    assert b"did you mean" not in outcome.stderr


def test_own_file_that_cannot_be_read_is_said_and_passed_over(recorder: Recorder) -> None:
    recorder.user("flex=1\n")
    file = recorder.home / ".config/slurm-power/psbatch.conf"
    file.unlink()
    file.symlink_to(file)  # a loop: nobody can read it, not even root
    outcome = recorder.run("job.sh")
    assert (outcome.status, outcome.argv) == (0, [b"job.sh"])
    assert b"psbatch.conf: too many levels of symbolic links" in outcome.stderr


SCRIPT = b"#!/bin/sh\n#PSBATCH --flex=2\n#SBATCH -N1\ntrue\n"


def test_psbatch_lines_count_on_standard_input_and_sbatch_gets_all_of_it(recorder: Recorder) -> None:
    for body in (SCRIPT, SCRIPT + b"\x00\xff" * 40_000, SCRIPT + os.urandom(300_000)):
        outcome = recorder.run("-N1", stdin=body)
        assert outcome.stdin == body
        assert outcome.environ[b"SLURM_POWER_FLEX"] == b"flex2"
        assert outcome.sbatch_pid == outcome.pid


def test_a_script_longer_than_slurm_takes_reaches_sbatch_whole(recorder: Recorder) -> None:
    body = SCRIPT + b"# filled up to nine mebibytes\n" * 320_000
    outcome = recorder.run(stdin=body)
    assert outcome.stdin == body
    assert outcome.environ[b"SLURM_POWER_FLEX"] == b"flex2"


def test_a_file_on_standard_input_is_read_from_where_it_stands(recorder: Recorder) -> None:
    file = Path(recorder.script("skipped\n" + SCRIPT.decode()))
    record = recorder.directory / "record"
    with file.open("rb", buffering=0) as source:
        source.seek(len("skipped\n"))
        subprocess.run(
            [sys.executable, "-m", "slurm_power.cli.psbatch"],
            env={
                "PATH": f"{recorder.directory}/bin:/usr/bin:/bin",
                "PYTHONPATH": str(PROJECT),
                "RECORD": str(record),
                "SLURM_POWER_CONF": "/nonexistent",
            },
            stdin=source,
            capture_output=True,
            check=True,
            timeout=30,
        )
    assert (record / "stdin").read_bytes() == SCRIPT
    assert b"SLURM_POWER_FLEX=flex2" in (record / "environ").read_bytes().split(b"\0")


@pytest.mark.parametrize(
    "arguments",
    [["--wrap=true"], ["--wra", "true"], ["job.sh"], ["--help"], ["--vers"], ["--autocomplete=a"]],
)
def test_input_that_is_no_script_is_not_touched(recorder: Recorder, arguments: list[str]) -> None:
    outcome = recorder.run(*arguments, stdin=SCRIPT)
    assert outcome.stdin == SCRIPT
    assert b"SLURM_POWER_FLEX" not in outcome.environ


def test_the_beginning_of_a_script_is_enough(recorder: Recorder) -> None:
    """What lies behind the first 64 KiB is not looked at; the script goes through."""
    script = recorder.script("#!/bin/sh\n" + "# words\n" * 10_000 + "#PSBATCH --flex=2\n")
    outcome = recorder.run(script)
    assert outcome.status == 0
    assert b"SLURM_POWER_FLEX" not in outcome.environ
