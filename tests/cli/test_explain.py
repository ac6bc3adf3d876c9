"""psbatch --explain: what it asks, what it says, and that it never submits."""

import os
from typing import Any

import pytest

from slurm_power.cli.explain import gpu_type_asked_for, gpus_asked_for, question
from tests.cli.fake_powerctld import fake_powerctld
from tests.cli.recorder import Recorder, make_recorder

ANSWER: dict[str, Any] = {
    "ok": True,
    "expected": {
        "workload": "training",
        "flex": "flex2",
        "gpus": 8,
        "expected_mean_watts": 412.4,
        "expected_p95_watts": 530.0,
        "expected_known_from": "your jobs of this name",
        "expected_jobs": 14,
    },
    "held": True,
    "hold_reason": "would add 4.5 kW where 1.0 kW are free",
    "longest_hold_seconds": 900.0,
}


WHOSE = "14 of your jobs of this name"


@pytest.fixture
def recorder(tmp_path: Any) -> Recorder:
    return make_recorder(tmp_path)


def test_it_asks_for_the_job_that_sbatch_would_submit_and_says_what_is_expected(recorder: Recorder) -> None:
    script = recorder.script(
        "#!/bin/sh\n#SBATCH --gres=gpu:4 -N 2\n#SBATCH -J bert\n#PSBATCH --flex=2\ntrue\n"
    )
    with fake_powerctld(lambda _: ANSWER) as fake:
        recorder.site(f"controller_socket={fake.path}\n")
        outcome = recorder.run("--explain", "--workload=training", "-A", "physics", "-t1:00:00", script)
    assert outcome.argv is None, "nothing is submitted"
    assert (outcome.status, outcome.stderr) == (0, b"")
    (request,) = fake.requests
    assert request == {
        "op": "expect",
        "name": "bert",
        "gpus": 8,
        "workload": "training",
        "flex": "flex2",
        "account": "physics",
        "time_limit_seconds": 3600.0,
    }
    assert outcome.stdout.decode().splitlines() == [
        f"It should draw about 412 W a GPU (seldom above 530 W); 3.3 kW on its 8 GPUs: known from {WHOSE}.",
        "It counts as training, flex2: it may be held for up to 900 s, or slowed down as much.",
        "It would be held now: would add 4.5 kW where 1.0 kW are free.",
        "Nothing was submitted.",
    ]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"ok": False, "error": "you may not \x1b[2J"}, b"does not say: you may not ?[2J"),
        ({"ok": True}, b"makes no sense"),
        ({"ok": True, "expected": {}}, b"makes no sense"),
        (b"nothing\n", b"is no power controller"),
        (b"", b"is no power controller"),
    ],
)
def test_an_answer_that_is_none_is_said_and_nothing_submitted(
    recorder: Recorder, answer: Any, words: bytes
) -> None:
    with fake_powerctld(lambda _: answer) as fake:
        recorder.site(f"controller_socket={fake.path}\n")
        outcome = recorder.run("--explain", "job.sh")
    assert (outcome.status, outcome.argv, outcome.stdout) == (1, None, b"")
    assert words in outcome.stderr and b"nothing was submitted" in outcome.stderr


def test_without_a_controller_it_says_so(recorder: Recorder) -> None:
    recorder.site("controller_socket=/nonexistent/ctl.sock\n")
    outcome = recorder.run("--explain", "--flex=1", "job.sh")
    assert (outcome.status, outcome.argv) == (1, None)
    assert b"does not answer at /nonexistent/ctl.sock (no such file or directory)" in outcome.stderr


def test_after_the_script_it_is_the_scripts_own(recorder: Recorder) -> None:
    outcome = recorder.run("job.sh", "--explain")
    assert outcome.argv == [b"job.sh", b"--explain"]


@pytest.mark.parametrize(
    ("said", "gpus"),
    [
        ({}, 0),
        ({"gres": "gpu"}, 1),
        ({"gres": "gpu:4", "nodes": "2-4"}, 8),
        ({"gres": "gpu:h100:2,license:1"}, 2),
        ({"gres": "gres/gpu=3"}, 3),
        ({"gres": "shard:4"}, 0),
        ({"gpus": "h100:5", "gres": "gpu:1"}, 5),
        ({"gpus-per-node": "8", "nodes": "3"}, 24),
        ({"gpus-per-task": "1", "ntasks": "6"}, 6),
        ({"gpus-per-task": "2", "ntasks-per-node": "4", "nodes": "2"}, 16),
        ({"gpus": "none"}, 1),
    ],
)
def test_gpus_of_the_whole_job(said: dict[str, str], gpus: int) -> None:
    assert gpus_asked_for(said) == gpus


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({}, ""),
        ({"gres": "gpu:4"}, ""),
        ({"gres": "gpu:h100:2"}, "h100"),
        ({"gres": "gpu:h100"}, "h100"),
        ({"gres": "shard:4"}, ""),
        ({"gpus": "a100:5"}, "a100"),
        ({"gpus": "5"}, ""),
    ],
)
def test_the_type_of_gpus(said: dict[str, str], kind: str) -> None:
    assert gpu_type_asked_for(said) == kind


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800.0), ("1:30", 90.0), ("2:00:00", 7200.0), ("1-12", 129600.0), ("x", None)],
)
def test_time_limits_as_slurm_reads_them(text: str, seconds: float | None) -> None:
    assert question(["--time", text], "", None, None).get("time_limit_seconds") == seconds


def test_the_environment_and_the_words_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SBATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SBATCH_ACCOUNT", "physics")
    monkeypatch.setenv("SBATCH_JOB_NAME", "from-env")
    asked = question(["--job-name=mine", "-G2", "--wrap", "true"], "", None, None)
    assert (asked["name"], asked["account"], asked["gpus"]) == ("mine", "physics", 2)
    assert question([], "dir/job.sh", None, None)["name"] == "from-env"
    monkeypatch.delenv("SBATCH_JOB_NAME")
    assert question([], "dir/job.sh", None, None)["name"] == "job.sh"
    assert question(["--wrap=true"], "", None, None)["name"] == "wrap"
