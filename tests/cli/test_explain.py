"""psbatch --explain: what it asks, what it says, and that it never submits."""

import json
import os
from typing import Any

import pytest

from slurm_power.cli.job_question import gpu_type_asked_for, gpus_asked_for, question
from tests.cli.fake_powerctld import fake_powerctld
from tests.cli.recorder import Recorder, make_recorder

ANSWER: dict[str, Any] = {
    "ok": True,
    "currency": "EUR",
    "expected": {
        "workload": "training",
        "flex": "flex2",
        "gpus": 8,
        "expected_mean_watts": 412.4,
        "expected_p95_watts": 530.0,
        "expected_known_from": "your jobs of this name",
        "expected_jobs": 14,
        "cap_slowdown_ratio": 0.0,
    },
    "site_watts": 4500,
    "held": True,
    "hold_reason": "would add 4.5 kW where 1.0 kW are free",
    "longest_hold_seconds": 900.0,
    "limits": [
        {"circuit": "grid", "limit_kind": "economic", "limit_watts": 32000.0, "room_watts": 1000},
        {"circuit": "rack1", "limit_kind": "safety", "limit_watts": 20000.0, "room_watts": None},
    ],
    "run": {"seconds": 2400, "p10_seconds": 1800, "p90_seconds": 3600, "own_jobs": 12},
    "expected_bill": {"energy_kwh": 3.0, "cost": 0.9, "carbon_kg": 0.75},
    "limit_bill": {"energy_kwh": 45.0, "cost": None, "carbon_kg": None},
    "flex_classes": [
        {
            "flex": "flex0",
            "longest_hold_seconds": 0.0,
            "most_slowdown_ratio": 0.0,
            "room_watts": 0.0,
            "hold_saves_cost": 0.0,
            "hold_saves_carbon_kg": None,
            "cap_saves_cost": 0.0,
        },
        {
            "flex": "flex2",
            "longest_hold_seconds": 900.0,
            "most_slowdown_ratio": 0.25,
            "room_watts": 1234.0,
            "hold_saves_cost": 0.125,
            "hold_saves_carbon_kg": 0.05,
            "cap_saves_cost": None,
        },
    ],
}
STARTS = "sbatch: Job 8 to start at 2026-01-02T03:04:05 using 1 processors on nodes c1 in partition main"
SUCH = "80 % of such jobs: 30 min to 1 h"
ENERGY = "3.00 kWh at the grid connection"
CARBON = "0.75 kg of CO2"
WHOSE = "14 of your jobs of this name"


@pytest.fixture
def recorder(tmp_path: Any) -> Recorder:
    return make_recorder(tmp_path)


def test_it_asks_for_the_job_that_sbatch_would_submit_and_says_what_is_expected(recorder: Recorder) -> None:
    script = recorder.script(
        "#!/bin/sh\n#SBATCH --gres=gpu:4 -N 2\n#SBATCH -J bert\n#PSBATCH --flex=2 --max-hold=1h\ntrue\n"
    )
    arguments = ["--workload=training", "-A", "physics", "-t1:00:00", script]
    with fake_powerctld(lambda _: ANSWER) as fake:
        recorder.site(f"controller_socket={fake.path}\n")
        outcome = recorder.run(
            "--explain", "--power-cap=450", *arguments, environ={b"RECORD_SAYS": STARTS.encode()}
        )
    assert outcome.argv is not None
    assert outcome.argv[0] == b"--test-only", "nothing is submitted"
    assert (outcome.status, outcome.stderr) == (0, b"")
    (request,) = fake.requests
    assert request == {
        "op": "expect",
        "name": "bert",
        "gpus": 8,
        "workload": "training",
        "flex": "flex2",
        "account": "physics",
        "time_limit_seconds": 3600,
        "max_hold_seconds": 3600,
        "cap_watts": 450,
        "start_in_seconds": 0.0,
    }
    assert outcome.stdout.decode().splitlines() == [
        f"It should draw about 412 W a GPU (seldom above 530 W); 3.3 kW on its 8 GPUs: known from {WHOSE}.",
        "It counts as training, flex2: it may be held for up to 15 min.",
        "Slurm expects it to start at 2026-01-02T03:04:05.",
        f"It would be held for power now, so it starts up to 15 min later: {ANSWER['hold_reason']}.",
        f"It should run for 40 min ({SUCH}; known from 12 of your jobs): {ENERGY}, cost 0.90 EUR, {CARBON}.",
        "Up to its time limit of 1 h: 45 kWh at the grid connection, cost unknown, CO2 unknown.",
        "Limits now: grid 32.0 kW, 1.0 kW free for new jobs; rack1 20.0 kW, no bound for new jobs.",
        "What each flex class would mean, over the expected run, savings in EUR (unknown: ?):",
        "         held at most  slower at most  gives way by  a hold may save  caps may save",
        "  flex0  0 s           0 %             0 W           0.00             0.00",
        "  flex2  15 min        25 %            1.2 kW        0.12, 0.05 kg    ?",
        "Nothing was submitted.",
    ]


def test_a_moment_travels_as_a_duration(recorder: Recorder) -> None:
    with fake_powerctld(lambda _: ANSWER) as fake:
        recorder.site(f"controller_socket={fake.path}\n")
        recorder.run("--explain", "--finish-by=now+2hours", "-G8", "job.sh")
    (request,) = fake.requests
    assert 7200.0 - 60.0 < request["finish_by_in_seconds"] <= 7200.0
    assert "start_in_seconds" not in request, "sbatch did not say when"


@pytest.mark.parametrize("line", ["--deadline=now+1hour", "--finish-by=now+9hours --deadline now+1hour"])
def test_sbatchs_own_deadline_counts_as_well(recorder: Recorder, line: str) -> None:
    script = recorder.script("#!/bin/sh\n#SBATCH --deadline=now+1hour\n")
    with fake_powerctld(lambda _: ANSWER) as fake:
        recorder.site(f"controller_socket={fake.path}\n")
        recorder.run("--explain", "-G8", *line.split(), "job.sh")
        recorder.run("--explain", "-G8", script)
        recorder.run("--explain", "-G8", "--deadline=teatime", "job.sh")
    for request in fake.requests[:2]:
        assert 3600.0 - 60.0 < request["finish_by_in_seconds"] <= 3600.0
    assert "finish_by_in_seconds" not in fake.requests[2], "written as only Slurm reads it"


def test_as_an_object(recorder: Recorder) -> None:
    with fake_powerctld(lambda _: ANSWER) as fake:
        recorder.site(f"controller_socket={fake.path}\n")
        outcome = recorder.run("--explain", "--json", "--flex=2", "-G8", "-J", b"\xff", "job.sh")
    assert outcome.stderr == b""
    found = json.loads(outcome.stdout)
    assert found["answer"] == {key: value for key, value in ANSWER.items() if key != "ok"}
    assert found["values"] == {"flex": {"value": "flex2", "from": "--flex"}}
    assert found["request"]["name"] == "\ufffd"
    assert found["test_only"] == {"exit_status": 0, "text": "", "starts_at": None}
    assert found["submitted"] is False


def test_without_gpus_nothing_is_made_up(recorder: Recorder) -> None:
    with fake_powerctld(lambda _: ANSWER) as fake:
        recorder.site(f"controller_socket={fake.path}\n")
        outcome = recorder.run("--explain", "job.sh", environ={b"RECORD_SAYS": STARTS.encode()})
    assert outcome.stdout.decode().splitlines() == [
        "No GPUs are asked for: its draw is unknown, and it would not be held for power.",
        "Slurm expects it to start at 2026-01-02T03:04:05.",
        "Nothing was submitted.",
    ]


def test_without_a_time_limit_and_runs_the_cost_is_unknown(recorder: Recorder) -> None:
    bare = {
        **ANSWER,
        "run": None,
        "expected_bill": None,
        "limit_bill": None,
        "flex_classes": [],
        "limits": [],
    }
    with fake_powerctld(lambda _: bare) as fake:
        recorder.site(f"controller_socket={fake.path}\n")
        outcome = recorder.run("--explain", "-G8", "job.sh")
    assert b"Energy and cost are unknown without a time limit (--time)." in outcome.stdout
    assert b"Slurm does not say when it would start: no reason given." in outcome.stdout


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"ok": False, "error": "you may not \x1b[2J"}, b"does not say: you may not ?[2J"),
        ({"ok": True}, b"makes no sense"),
        ({"ok": True, "expected": {}}, b"makes no sense"),
        ({**ANSWER, "run": {"seconds": "x"}}, b"makes no sense"),
        ({**ANSWER, "flex_classes": [7]}, b"makes no sense"),
        (b"nothing\n", b"is no power controller"),
        (b"", b"is no power controller"),
    ],
)
def test_an_answer_that_is_none_is_said_and_nothing_submitted(
    recorder: Recorder, answer: Any, words: bytes
) -> None:
    with fake_powerctld(lambda _: answer) as fake:
        recorder.site(f"controller_socket={fake.path}\n")
        outcome = recorder.run("--explain", "-G8", "job.sh")
    assert outcome.argv == [b"--test-only", b"-G8", b"job.sh"]
    assert (outcome.status, outcome.stdout) == (1, b"")
    assert words in outcome.stderr and b"nothing was submitted" in outcome.stderr


def test_without_a_controller_it_says_so(recorder: Recorder) -> None:
    recorder.site("controller_socket=/nonexistent/ctl.sock\n")
    outcome = recorder.run("--explain", "--flex=1", "job.sh")
    assert (outcome.status, outcome.stdout) == (1, b"")
    assert b"does not answer at /nonexistent/ctl.sock (no such file or directory)" in outcome.stderr
    found = json.loads(recorder.run("--explain", "--json", "job.sh").stdout)
    assert found["submitted"] is False
    assert "does not answer at /nonexistent/ctl.sock" in found["problems"][0]


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


def test_the_environment_and_the_words_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SBATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SBATCH_ACCOUNT", "physics")
    monkeypatch.setenv("SBATCH_JOB_NAME", "from-env")
    asked = question(["--job-name=mine", "-G2", "--wrap", "true"], "", b"", {})
    assert (asked["name"], asked["account"], asked["gpus"]) == ("mine", "physics", 2)
    assert question([], "dir/job.sh", b"", {})["name"] == "from-env"
    monkeypatch.delenv("SBATCH_JOB_NAME")
    assert question([], "dir/job.sh", b"", {})["name"] == "job.sh"
    assert question(["--wrap=true"], "", b"", {})["name"] == "wrap"
