"""A training of two ranks on a real cluster saves itself, is queued again and ends as it would have."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from containers.cluster.lab import Lab
from containers.cluster.layout import CHECKOUT, LabError, Options
from containers.cluster.lifecycle import up
from tests.cluster.lab import await_job

pytestmark = pytest.mark.slurm
TEMPLATE = CHECKOUT / "batch_templates" / "elastic-training.sbatch"
EXAMPLE = CHECKOUT / "docs" / "examples" / "elastic_training.py"
SETTINGS = {"STEPS": "300", "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "PYTHONPATH": str(CHECKOUT)}
UNDISTURBED = """
import os, sys, runpy, torch.distributed
children = []
for rank in range(2):
    pid = os.fork()
    if pid == 0:
        os.environ["SLURM_PROCID"] = str(rank)
        runpy.run_path(sys.argv[1], run_name="__main__")
        os._exit(0)
    children.append(pid)
sys.exit(max(os.waitpid(pid, 0)[1] for pid in children) != 0)
"""


@pytest.fixture(scope="module")
def power_node() -> Iterator[Lab]:
    started = up(Options(nodes=1, power=True))
    yield started.lab
    started.down()


def state_of(checkpoint: Path) -> dict[str, Any]:
    import torch

    found: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    return found


def progress(lab: Lab, job: str) -> dict[str, Any]:
    """What powerd knows of the job by its own word; {} before that."""
    socket = next(lab.run_directory.rglob("powerd*.sock"))
    code = (
        "import json,socket,sys;s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1]);"
        's.sendall(b\'{"op":"status"}\\n\');print(s.makefile().readline())'
    )
    answer = json.loads(lab.run([sys.executable, "-c", code, str(socket)]).stdout)
    rows = [row for row in answer.get("jobs", []) if row["job_id"] == job]
    return (rows[0].get("progress") or {}) if rows else {}


def test_final_weights_are_those_of_the_undisturbed_run(power_node: Lab, tmp_path: Path) -> None:
    lab, folder = power_node, power_node.run_directory / "home" / "alice" / "elastic"
    lab.run(["mkdir", "-p", str(folder)], user="alice")
    job = lab.run(
        ["psbatch", "--parsable", str(TEMPLATE)],
        user="alice",
        directory=folder,
        environment={**SETTINGS, "JOB_COMMAND": f"{sys.executable} {EXAMPLE}", "STEP_SECONDS": "0.02"},
    ).stdout.strip()
    output, checkpoint = folder / f"elastic-training-{job}.out", folder / f"checkpoint-{job}"

    def until_printed(text: str, seconds: float) -> None:
        try:
            lab.wait_until(lambda: output.exists() and text in output.read_text(), text, seconds=seconds)
        except LabError as error:
            raise AssertionError(f"{error}\n{lab.job(job)}\n{output.read_text()}") from error

    until_printed("step 60 ", 60)
    # What Slurm does 120 s before the time is over: the signal goes to the ranks, one by one.
    lab.run(["scancel", "--signal=USR2", job])
    until_printed("Saved, not done yet", 30)
    stopped_at = state_of(checkpoint)["step"]
    assert 60 <= stopped_at < 300

    def queued() -> bool:
        fields = lab.job(job)
        waits = fields.get("JobState") == "PENDING" and fields.get("Reason") == "BeginTime"
        return waits and lab.idle_nodes() == 1

    lab.wait_until(queued, "the job in the queue again", seconds=60)
    # Slurm lets a requeued job wait two minutes. What starts in the second of its requeue, the node refuses.
    lab.run(["scontrol", "update", f"JobId={job}", "StartTime=now+3"])
    until_printed(f"from step {stopped_at} ", 60)
    lab.wait_until(lambda: bool(progress(lab, job)), "its word to powerd", seconds=30)
    told = progress(lab, job)
    assert (told["global_batch"], told["max_micro_batch"], told["checkpoints"]) == (256, 128, True)
    assert told["step"] > stopped_at
    assert told["samples_per_second"] > 0.0
    try:
        await_job(lab, job, seconds=60)
    except AssertionError as error:
        raise AssertionError(f"{lab.job(job)}\n{output.read_text()}") from error
    assert lab.job(job)["Restarts"] == "1"

    environment = {**os.environ, **SETTINGS, "SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_ID": "1"}
    environment |= {"CHECKPOINT": str(tmp_path / "undisturbed"), "MASTER_PORT": "29731"}
    done = subprocess.run(
        [sys.executable, "-c", UNDISTURBED, str(EXAMPLE)], env=environment, timeout=100, check=False
    )
    assert done.returncode == 0
    ours, theirs = state_of(checkpoint), state_of(tmp_path / "undisturbed")
    assert ours["step"] == theirs["step"] == 300
    difference = max((ours["model"][key] - theirs["model"][key]).abs().max().item() for key in ours["model"])
    assert difference <= 1e-6


def test_a_job_that_has_started_too_often_ends(power_node: Lab) -> None:
    lab, folder = power_node, power_node.run_directory / "home" / "alice" / "bounded"
    lab.run(["mkdir", "-p", str(folder)], user="alice")
    job = lab.run(
        ["sbatch", "--parsable", str(TEMPLATE)],
        user="alice",
        directory=folder,
        environment={"STEPS": "100", "MOST_RESTARTS": "0"},
    ).stdout.strip()
    checkpoint = folder / f"checkpoint-{job}"
    lab.wait_until(checkpoint.exists, "its checkpoint", seconds=30)
    lab.run(["scancel", "--signal=USR2", job])
    await_job(lab, job, "FAILED")
    fields = lab.job(job)
    assert (fields["ExitCode"], fields["Restarts"]) == ("85:0", "0")
