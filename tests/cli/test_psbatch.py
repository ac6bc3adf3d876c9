"""psbatch against a recording sbatch: what it passes on, what it chooses, what it refuses."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm_power.cli import option_forms
from slurm_power.model.job import Flex, Workload
from tests.cli.recorder import PROJECT, Recorder, controller, make_recorder

NOTED = b'{"type":"noted"}\n'


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return make_recorder(tmp_path)


def test_words_are_the_models() -> None:
    assert tuple(Workload) == option_forms.WORKLOADS
    assert tuple(Flex) == option_forms.FLEXES


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [b"job.sh"],
        [b"-N2", b"--gres=gpu:2", b"job.sh", b"--flex", b"9", b"--workload=nothing"],
        [b"--parsable", b"--test-only", b"--wait", b"-J", b"--workload", b"job.sh"],
        [b"--wrap", b"echo 'a b' \"$HOME\" $(date) \\", b"--comment="],
        [b"-J", b"gr\xfc\xdfe \xff\xfe", b"job.sh", b"\x80", b"", b" ", b"a\nb", b"'", b"*"],
        [b"-N1", b":", b"-N2", b"job.sh", b":", b"--flex=1"],
        [b"--", b"job.sh", b"--flex=1"],
        [b"--jo", b"x", b"job.sh", b"--flex=77"],
        [b"-HN", b"2", b"job.sh", b"--flex=77"],
    ],
)
def test_everything_else_reaches_sbatch_untouched(recorder: Recorder, arguments: list[bytes]) -> None:
    outcome = recorder.run(*arguments, stdin=b"#!/bin/sh\n\x00\xff#PSBATCH --flex=2\n")
    assert outcome.argv == arguments
    assert outcome.stdin == b"#!/bin/sh\n\x00\xff#PSBATCH --flex=2\n"
    assert outcome.stdout == (b"" if b"--test-only" in arguments else b"Submitted batch job 7\n")
    assert b"SLURM_POWER_FLEX" not in outcome.environ
    assert b"SLURM_POWER_WORKLOAD" not in outcome.environ


def test_sbatch_is_the_same_process_and_ends_as_it_ends(recorder: Recorder) -> None:
    outcome = recorder.run("job.sh", status=37)
    assert outcome.status == 37
    assert outcome.sbatch_pid == outcome.pid
    assert outcome.ignored_signals & (1 << (signal.SIGPIPE - 1)) == 0


@pytest.mark.parametrize(
    "locale",
    [
        {},
        {b"LC_ALL": b"C"},
        {b"LC_CTYPE": b"C"},
        {b"LC_CTYPE": b""},
        {b"LANG": b"C.UTF-8"},
        {b"LC_CTYPE": b"C.UTF-8"},
    ],
)
def test_environment_gains_nothing_but_the_choice(recorder: Recorder, locale: dict[bytes, bytes]) -> None:
    odd = {b"ODD": b"\xff\n=", **locale}
    outcome = recorder.run("--flex=2", "job.sh", environ=odd)
    shell_sets = {b"PWD", b"OLDPWD", b"SHLVL", b"_"}
    given = {b"PATH", b"HOME", b"PYTHONPATH", b"RECORD", b"RECORD_STATUS", b"SLURM_POWER_CONF", *odd}
    assert set(outcome.environ) - shell_sets == given | {b"SLURM_POWER_FLEX"}
    assert {name: outcome.environ[name] for name in odd} == odd
    assert outcome.environ[b"SLURM_POWER_FLEX"] == b"flex2"


@pytest.mark.parametrize(
    ("arguments", "workload", "flex", "rest"),
    [
        (["--workload=training", "--flex=3", "job.sh"], b"training", b"flex3", [b"job.sh"]),
        (["--flex", "flex1", "-N2", "--workload", "inference"], b"inference", b"flex1", [b"-N2"]),
        (["--flex=1", "--flex=0", "job.sh", "--flex=2"], None, b"flex0", [b"job.sh", b"--flex=2"]),
        (["-J", "--flex", "--workload=generation"], b"generation", None, [b"-J", b"--flex"]),
        (["-N1", ":", "--flex=2", "-N2", "job.sh"], None, b"flex2", [b"-N1", b":", b"-N2", b"job.sh"]),
        # An option of somebody else's plugin: if its value is taken for the script, sbatch gets ours as well.
        (["--other=a", "--flex=2", "job.sh"], None, b"flex2", [b"--other=a", b"job.sh"]),
        (["--other", "a", "--flex=2", "job.sh"], None, None, [b"--other", b"a", b"--flex=2", b"job.sh"]),
        # Beginnings, as getopt takes them; what might be one of sbatch's options stays sbatch's.
        (["--work=training", "--fle", "2", "job.sh"], b"training", b"flex2", [b"job.sh"]),
        (["--w=0", "--f=2", "--j=name", "job.sh"], None, None, [b"--w=0", b"--f=2", b"--j=name", b"job.sh"]),
    ],
)
def test_own_options_end_before_the_script(
    recorder: Recorder, arguments: list[str], workload: bytes | None, flex: bytes | None, rest: list[bytes]
) -> None:
    outcome = recorder.run(*arguments)
    assert outcome.argv == rest
    assert outcome.environ.get(b"SLURM_POWER_WORKLOAD") == workload
    assert outcome.environ.get(b"SLURM_POWER_FLEX") == flex


def test_nearer_places_win(recorder: Recorder) -> None:
    def flex(*arguments: str, **more: bytes) -> bytes | None:
        environ = {name.encode(): value for name, value in more.items()}
        return recorder.run(*arguments, environ=environ).environ.get(b"SLURM_POWER_FLEX")

    silent = recorder.script("#!/bin/sh\n#SBATCH -N1\ntrue\n#PSBATCH --flex=3\n", "silent.sh")
    speaking = recorder.script("#!/bin/sh\n# words\n\n#PSBATCH --flex=1 --workload 'training' # why\n")
    assert flex(silent) is None
    recorder.site("default_flex=flex0\n")
    assert flex(silent) == b"flex0"
    recorder.user("# mine\nflex = 2\n")
    assert flex(silent) == b"flex2"
    assert flex(silent, PSBATCH_FLEX=b"flex3") == b"flex3"
    assert flex(speaking, PSBATCH_FLEX=b"flex3") == b"flex1"
    assert flex("--flex=0", speaking, PSBATCH_FLEX=b"flex3") == b"flex0"
    assert flex(silent, SLURM_POWER_FLEX=b"flex3") == b"flex2"


def test_command_line_beats_an_sbatch_line_of_our_plugin(recorder: Recorder) -> None:
    script = recorder.script("#!/bin/sh\n#SBATCH --workload=inference -N1\n")
    outcome = recorder.run("--workload=training", "--flex=1", script)
    assert outcome.argv == [b"--workload=training", script.encode()]


def test_all_wrong_values_are_told_at_once_and_nothing_is_submitted(recorder: Recorder) -> None:
    script = recorder.script("#!/bin/sh\n#PSBATCH --flex=flx3\n#PSBATCH --nodes=2\n#PSBATCH-x\n")
    recorder.user("worklod=training\n")
    outcome = recorder.run(
        "--workload=trainig", "--flex", "5", script, environ={b"PSBATCH_WORKLOAD": b"Inference"}
    )
    assert outcome.status == 2
    assert outcome.argv is None
    text = outcome.stderr.decode()
    assert (
        "--workload: 'trainig' is not one of training, inference, generation; did you mean training?" in text
    )
    assert "--flex: '5' is not one of" in text
    assert "line 2, --flex: 'flx3' is not one of flex0, flex1, flex2, flex3; did you mean flex3?" in text
    assert "line 3: '--nodes=2' is no option of psbatch; options of sbatch go on #SBATCH lines" in text
    assert "line 4: a space is missing after #PSBATCH" in text
    assert "$PSBATCH_WORKLOAD: 'Inference' is not one of" in text
    assert "unknown key 'worklod'; did you mean workload?" in text
    assert text.endswith("psbatch: nothing was submitted\n")


def test_missing_value_is_refused(recorder: Recorder) -> None:
    outcome = recorder.run("--flex")
    assert (outcome.status, outcome.argv) == (2, None)
    assert b"--flex: needs a value" in outcome.stderr


def test_wrong_default_of_the_site_stops_nobody(recorder: Recorder) -> None:
    recorder.site("default_flex=lots\ndefault_workload=inference\n")
    outcome = recorder.run("job.sh")
    assert outcome.status == 0
    assert outcome.environ[b"SLURM_POWER_WORKLOAD"] == b"inference"
    assert b"ignoring the site's default_flex: 'lots'" in outcome.stderr


def test_pipe_as_script_is_not_consumed(recorder: Recorder) -> None:
    pipe = recorder.directory / "pipe"
    os.mkfifo(pipe)
    assert recorder.run("--flex=1", str(pipe)).status == 0


def test_help_and_version_come_first_from_us_then_from_sbatch(recorder: Recorder) -> None:
    outcome = recorder.run("--help")
    assert outcome.stdout.startswith(b"Usage: psbatch")
    assert outcome.stdout.endswith(b"Submitted batch job 7\n")
    assert outcome.argv == [b"--help"]
    outcome = recorder.run("-V")
    assert outcome.stdout.startswith(b"psbatch 0.")
    assert outcome.argv == [b"-V"]
    assert outcome.stderr == b""
    assert recorder.run("job.sh", "--help").stdout == b"Submitted batch job 7\n"


def test_without_sbatch(recorder: Recorder) -> None:
    outcome = recorder.run("job.sh", path="/nonexistent")
    assert outcome.status == 127
    assert b"sbatch: command not found" in outcome.stderr


def test_a_site_may_call_it_sbatch(recorder: Recorder) -> None:
    ours = recorder.directory / "ours"
    ours.mkdir()
    (ours / "sbatch").write_text(f"#!{sys.executable}\nfrom slurm_power.cli.psbatch import main\nmain()\n")
    (ours / "sbatch").chmod(0o755)
    path = f"{ours}:{recorder.directory}/bin:/usr/bin:/bin"
    outcome = recorder.run("--flex=1", "job.sh", path=path, command=(str(ours / "sbatch"),))
    assert outcome.argv == [b"job.sh"]


def test_a_script_called_sbatch_that_starts_psbatch_is_passed_over(recorder: Recorder) -> None:
    ours = recorder.directory / "ours"
    ours.mkdir()
    (ours / "sbatch").write_text(f'#!/bin/sh\nexec {sys.executable} -m slurm_power.cli.psbatch "$@"\n')
    (ours / "sbatch").chmod(0o755)
    path = f"{ours}:{recorder.directory}/bin:/usr/bin:/bin"
    outcome = recorder.run("--flex=1", "job.sh", path=path, command=(str(ours / "sbatch"),))
    assert outcome.argv == [b"job.sh"]


def test_controller_is_told_and_nothing_is_printed(recorder: Recorder) -> None:
    with controller(NOTED) as (address, received):
        outcome = recorder.run("job.sh", controller=address)
    assert received == [b'{"type":"submitting"}\n']
    assert (outcome.status, outcome.stderr) == (0, b"")


@pytest.mark.parametrize(
    "answer", [b"", b"\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b'{"type":"error"}\n', b"\xff" * 100_000]
)
def test_garbage_from_the_controller_is_one_line(recorder: Recorder, answer: bytes) -> None:
    with controller(answer) as (address, _):
        outcome = recorder.run("--flex=2", "job.sh", controller=address)
    assert outcome.stderr.count(b"\n") == 1
    assert b"submitting plainly" in outcome.stderr
    assert (outcome.status, outcome.environ[b"SLURM_POWER_FLEX"]) == (0, b"flex2")


def test_hanging_controller_costs_its_time_out_and_no_more(recorder: Recorder) -> None:
    with controller(None) as (address, _):
        recorder.site(f"controller={address}\n")
        started = time.monotonic()
        outcome = recorder.run("job.sh")
        took_seconds = time.monotonic() - started
    line = f"psbatch: no power controller at {address} (no answer within 150 ms): submitting plainly\n"
    assert outcome.stderr.decode() == line
    assert outcome.status == 0
    assert 0.150 <= took_seconds < 3.0


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "connection refused"),
        ("127.0.0.1", "not host:port"),
        ("127.0.0.1:port", "not host:port"),
        ("no-such-host.invalid:6820", ""),
        ("[::1]:1", ""),
    ],
)
def test_unusable_address_is_one_line(recorder: Recorder, address: str, reason: str) -> None:
    outcome = recorder.run("job.sh", controller=address)
    assert outcome.stderr.count(b"\n") == 1
    assert reason.encode() in outcome.stderr
    assert outcome.status == 0


def test_conf_is_found_beside_slurm_conf(recorder: Recorder) -> None:
    recorder.site("default_flex=flex3\n")
    environ = {b"SLURM_POWER_CONF": b"", b"SLURM_CONF": os.fsencode(recorder.directory / "slurm.conf")}
    assert recorder.run("job.sh", environ=environ).environ[b"SLURM_POWER_FLEX"] == b"flex3"


def test_fresh_interpreter_loads_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules); import slurm_power.cli.psbatch, slurm_power.cli.submission;"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    )
    ours = {name for name in done.stdout.split() if name.startswith("slurm_power")}
    assert set(done.stdout.split()) - ours <= {"__future__", "_socket", "sitecustomize"}
