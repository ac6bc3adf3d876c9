"""What each hook says to which daemon, by whatever name it is called."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.hooks.running import FOLDER, HOOKS, ON_CONTROLLER, run, said, served, slurms_words, write_conf

GOOD = b'{"ok":true}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_conf(tmp_path, tmp_path / "powerd.%n.sock", tmp_path / "powerctld.sock")
    return tmp_path


def test_a_start_with_all_that_its_user_said(folder: Path) -> None:
    with served(folder / "powerd.c1.sock", said(GOOD)) as server:
        done = run(
            folder,
            "prolog",
            SLURM_JOB_GPUS="0,2-3",
            CUDA_VISIBLE_DEVICES="MIG-1",
            SLURM_JOB_RESTART_COUNT="2",
            SPANK_POWER_WORKLOAD="training",
            SPANK_POWER_FLEX="flex2",
            SPANK_POWER_MAX_HOLD="1800s",
            SPANK_POWER_FINISH_BY="@1800000000",
            SPANK_POWER_CAP="400",
            SPANK_POWER_TIER="digits/full",
            SPANK_POWER_TIERS_OK="int8,small",
            SPANK_POWER_MIN_QUALITY="0.95",
        )
    assert (done.status, done.output, done.error) == (0, "", "")
    assert json.loads(server.requests[0]) == {
        "op": "prolog",
        "job_id": "17",
        "user": "alice",
        "uid": 20001,
        "gpu_slots": [0, 2, 3],
        "mig_uuids": ["MIG-1"],
        "workload": "training",
        "flex": "flex2",
        "max_hold_seconds": 1800,
        "finish_by": 1_800_000_000,
        "own_cap_watts": 400,
        "tier": "digits/full",
        "tiers_ok": "int8,small",
        "min_quality": 0.95,
        "restart_count": 2,
    }


@pytest.mark.parametrize(
    ("word", "number"),
    [("1", 1.0), ("-12.5", -12.5), ("0.000001", 1e-06), ("999999999.999999", 999999999.999999)]
    + [(word, None) for word in ("", "-", ".5", "5.", "1e3", "nan", "inf", "1.2.3", "٣", "9" * 13, "0x1")],
)
def test_a_least_quality_is_a_number_or_none(folder: Path, word: str, number: float | None) -> None:
    with served(folder / "powerd.c1.sock", said(GOOD)) as server:
        done = run(folder, "prolog", SPANK_POWER_MIN_QUALITY=word)
    assert done.error == ""
    assert json.loads(server.requests[0])["min_quality"] == number


@pytest.mark.parametrize(
    "wrong", ["", "soon", "1800", "1800m", "-1s", "٣s", "1e3s", "9" * 20 + "s", "s", "@1s"]
)
def test_what_is_no_normal_form_is_left_out(folder: Path, wrong: str) -> None:
    with served(folder / "powerd.c1.sock", said(GOOD)) as server:
        done = run(folder, "prolog", SPANK_POWER_MAX_HOLD=wrong, SPANK_POWER_FINISH_BY=wrong)
    assert done.error == ""
    request = json.loads(server.requests[0])
    assert (request["max_hold_seconds"], request["finish_by"]) == (None, None)


def test_an_end(folder: Path) -> None:
    with served(folder / "powerd.c1.sock", said(GOOD)) as server:
        done = run(folder, "epilog")
    assert (done.status, done.output, done.error) == (0, "", "")
    assert server.requests == [b'{"op":"epilog","job_id":"17"}\n']


@pytest.mark.parametrize(("name", "event"), [("prolog_slurmctld", "start"), ("epilog_slurmctld", "end")])
def test_the_controllers_hooks_find_their_way_without_slurm_conf(folder: Path, name: str, event: str) -> None:
    with served(folder / "powerctld.sock", said(GOOD)) as server:
        done = run(folder, name)
    assert (done.status, done.output, done.error) == (0, "", "")
    assert [json.loads(line) for line in server.requests] == [
        {"op": "job_hint", "job_id": "17", "event": event}
    ]


def test_a_task_gets_what_powerd_has_for_it(folder: Path) -> None:
    answer = b"SLURM_POWER_SOCKET=/run/a b.sock\nSLURM_POWER_CAP_WATTS=400\n.\n"
    with served(folder / "powerd.c1.sock", said(answer)) as server:
        done = run(folder, "task_prolog")
    assert server.requests == [b'{"op":"environment","job_id":"17"}\n']
    assert (done.status, done.error) == (0, "")
    assert done.output == "export SLURM_POWER_SOCKET=/run/a b.sock\nexport SLURM_POWER_CAP_WATTS=400\n"


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ({"GPUS_PER_NODE": "4"}, "export SLURM_GPUS_PER_NODE=2\n"),
        ({"GPUS": "h100:4"}, "export SLURM_GPUS=h100:2\n"),
        ({"GPUS": "8", "JOB_NUM_NODES": "2"}, "unset SLURM_GPUS\n"),
        *[({"GPUS_PER_NODE": text}, "") for text in ("2", "1", "", "x", "a:4,b:4", "4x", "x\n:4")],
        ({"GPUS": "4", "GPUS_ON_NODE": "0"}, ""),
        ({"GPUS": "4", "JOB_NUM_NODES": ""}, ""),
        ({"GPUS": "4", "STEP_ID": "0"}, ""),
        ({"GPUS": "4", "POWER_TIER": ""}, ""),
    ],
)
@pytest.mark.parametrize("answers", [True, False])
def test_a_script_finds_as_many_gpus_as_its_job_has(
    folder: Path, words: dict[str, str], lines: str, answers: bool
) -> None:
    """Also where nobody says anything of its tier."""
    around = {"POWER_TIER": "digits/full", "GPUS_ON_NODE": "2", "JOB_NUM_NODES": "1", **words}
    environment = {f"SLURM_{name}": value for name, value in around.items()}
    if answers:
        with served(folder / "powerd.c1.sock", said(b"SLURM_POWER_TIER=digits/int8\n.\n")):
            done = run(folder, "task_prolog", **environment)
        lines += "export SLURM_POWER_TIER=digits/int8\n"
    else:
        done = run(folder, "task_prolog", **environment)
    assert (done.status, done.output, done.error) == (0, lines, "")


CONTEXTS = {
    "prolog": "prolog_slurmd",
    "epilog": "epilog_slurmd",
    "prolog_slurmctld": "prolog_slurmctld",
    "epilog_slurmctld": "epilog_slurmctld",
    "task_prolog": "prolog_task",
}


@pytest.mark.parametrize("name", HOOKS)
def test_under_another_name_slurm_says_which_hook_it_is(folder: Path, name: str) -> None:
    """As with a glob in slurm.conf: Prolog=/etc/slurm/prolog.d/*"""
    target = folder / "50-power"
    shutil.copy(FOLDER / "slurm_power_hook", target)
    socket_name = "powerctld.sock" if name in ON_CONTROLLER else "powerd.c1.sock"
    with served(folder / socket_name, said(GOOD)) as server:
        done = subprocess.run(
            [str(target)],
            env={**slurms_words(folder, name), "SLURM_SCRIPT_CONTEXT": CONTEXTS[name]},
            capture_output=True,
            timeout=10,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    operation = json.loads(server.requests[0])["op"]
    assert operation == {"task_prolog": "environment"}.get(
        name, "job_hint" if name in ON_CONTROLLER else name
    )


def test_a_hook_that_nobody_has_named_says_so(folder: Path) -> None:
    target = folder / "some_hook"
    shutil.copy(FOLDER / "slurm_power_hook", target)
    done = subprocess.run([str(target)], env={}, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0
    assert "neither its name nor SLURM_SCRIPT_CONTEXT says which hook" in done.stderr
    assert done.stderr.count("\n") == 1
