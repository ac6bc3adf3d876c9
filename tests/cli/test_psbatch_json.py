"""psbatch --json: sbatch as a child that behaves as if it were not one, and one object on stdout."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.recorder import PROJECT, Recorder, make_recorder

PSBATCH = [sys.executable, "-m", "slurm_power.cli.psbatch", "--json"]
# Says its number, or nothing; then waits for what its caller does, as with --wait.
WAITING = """#!/bin/sh
[ "$SILENT" ] || echo 7
trap 'echo "$1" > "$RECORD/trapped"; exit 9' TERM HUP USR1
trap '' INT
touch "$RECORD/ready"
while :; do sleep 0.05; done
"""


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return make_recorder(tmp_path)


def test_number_cluster_values_and_warnings(recorder: Recorder) -> None:
    outcome = recorder.run("--json", "--flex=2", "-N1", "job.sh", stdin=b"left alone")
    assert outcome.argv == [b"--parsable", b"-N1", b"job.sh"]
    assert outcome.stdin == b"left alone"
    assert outcome.environ[b"SLURM_POWER_FLEX"] == b"flex2"
    assert outcome.ignored_signals & (1 << (signal.SIGPIPE - 1)) == 0
    assert json.loads(outcome.stdout) == {
        "submitted": True,
        "job_id": 7,
        "cluster": "north",
        "values": {"flex": {"value": "flex2", "from": "--flex"}},
        "warnings": ["no power controller (none is configured): submitting plainly"],
    }


def test_script_on_standard_input_and_bytes_that_are_no_text(recorder: Recorder) -> None:
    body = b"#!/bin/sh\n#PSBATCH --flex=3\n\xff\x00"
    outcome = recorder.run("--json", b"--comment=\xff", stdin=body)
    assert (outcome.argv, outcome.stdin) == ([b"--parsable", b"--comment=\xff"], body)
    assert json.loads(outcome.stdout)["values"]["flex"]["from"] == "standard input, line 2, --flex"
    script = os.fsdecode(bytes(recorder.directory) + b"/gr\xfc\xdfe.sh")
    Path(script).write_bytes(b"#!/bin/sh\n#PSBATCH --flex=1\n")
    outcome = recorder.run("--json", os.fsencode(script))
    assert json.loads(outcome.stdout)["values"]["flex"]["from"].endswith(r"gr\xfc\xdfe.sh, line 2, --flex")


def test_a_refusal_keeps_its_status_and_words(recorder: Recorder) -> None:
    (recorder.directory / "bin/sbatch").write_text("#!/bin/sh\necho 'sbatch: error: no' >&2\nexit 44\n")
    outcome = recorder.run("--json", "job.sh")
    assert outcome.status == 44
    assert outcome.stderr.endswith(b"sbatch: error: no\n")
    found = json.loads(outcome.stdout)
    assert (found["submitted"], found["job_id"]) == (False, None)


def test_a_submission_without_a_number_is_not_called_one(recorder: Recorder) -> None:
    outcome = recorder.run("--json", "--test-only", "job.sh")
    assert outcome.status == 0
    assert json.loads(outcome.stdout)["submitted"] is None


def test_without_sbatch(recorder: Recorder) -> None:
    outcome = recorder.run("--json", "job.sh", path="/nonexistent")
    assert outcome.status == 127
    assert b"sbatch: command not found" in outcome.stderr


def waiting(recorder: Recorder, *arguments: str, **more: str) -> "subprocess.Popen[bytes]":
    """psbatch with an sbatch that waits, when that has begun to."""
    (recorder.directory / "bin/sbatch").write_text(WAITING)
    process = subprocess.Popen(
        [*PSBATCH, *arguments],
        env={
            "PATH": f"{recorder.directory}/bin:/usr/bin:/bin",
            "PYTHONPATH": str(PROJECT),
            "RECORD": str(recorder.directory),
            "SLURM_POWER_CONF": "/nonexistent",
            **more,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    ready = recorder.directory / "ready"
    while not ready.exists():
        assert process.poll() is None
        os.sched_yield()
    return process


def test_the_object_comes_before_a_wait_ends(recorder: Recorder) -> None:
    process = waiting(recorder, "--wait", "job.sh")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["job_id"] == 7
    assert process.poll() is None
    process.terminate()
    assert process.wait(30) == 9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_sbatch(recorder: Recorder, number: int) -> None:
    process = waiting(recorder, "job.sh")
    process.send_signal(number)
    assert process.wait(30) == 9
    assert (recorder.directory / "trapped").exists()
    process.communicate()


def test_it_dies_as_sbatch_dies(recorder: Recorder) -> None:
    process = waiting(recorder, "job.sh", SILENT="1")
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    stdout, _ = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert json.loads(stdout)["submitted"] is False
