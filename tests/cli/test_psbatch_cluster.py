"""psbatch on a real cluster: its own ways to submit or not to, by what Slurm then knows. Jobs are held."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from containers.cluster.lab import Lab

pytestmark = pytest.mark.slurm
PROJECT = Path(__file__).resolve().parents[2]
PSBATCH = ["python", "-m", "slurm_power.cli.psbatch"]
SCRIPT = "#!/bin/sh\n#SBATCH --job-name=printed --time=7\n#PSBATCH --flex=1\ntrue\n"


@pytest.fixture(autouse=True)
def nothing_left(lab: Lab) -> Iterator[None]:
    yield
    lab.run(["scancel", "--user=alice"])


def psbatch(
    lab: Lab, *arguments: str, stdin: str = "", check: bool = True
) -> subprocess.CompletedProcess[str]:
    more = {"PYTHONPATH": str(PROJECT)}
    return lab.run([*PSBATCH, *arguments], user="alice", stdin=stdin, check=check, environment=more)


def waiting(lab: Lab) -> list[str]:
    return lab.run(["squeue", "--user=alice", "--noheader", "--format=%i"]).stdout.split()


@pytest.mark.parametrize(
    ("arguments", "jobs"),
    [
        (["--wrap=true"], ["{0}"]),
        (["--array=1-3", "--wrap=true"], ["{0}_[1-3]"]),
        (["-N1", ":", "-N1", "--wrap=true"], ["{0}+1", "{0}+0"]),
        (["--parsable", "--wrap=true"], ["{0}"]),
    ],
)
def test_json_has_the_number_that_slurm_has(lab: Lab, arguments: list[str], jobs: list[str]) -> None:
    done = psbatch(lab, "--json", "--flex=2", "--hold", *arguments)
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["submitted"], found["cluster"]) == (True, None)
    assert found["values"] == {"flex": {"value": "flex2", "from": "--flex"}}
    assert sorted(waiting(lab)) == sorted(job.format(found["job_id"]) for job in jobs)


def test_json_of_what_slurm_refuses(lab: Lab) -> None:
    plain = lab.run(["sbatch", "--qos=none", "--wrap=true", "-p", "nowhere"], user="alice", check=False)
    ours = psbatch(lab, "--json", "--qos=none", "--wrap=true", "-p", "nowhere", check=False)
    assert ours.returncode == plain.returncode != 0
    assert ours.stderr.endswith(plain.stderr)
    assert json.loads(ours.stdout)["submitted"] is False


def test_dry_run_submits_nothing_and_says_what_slurm_says(lab: Lab) -> None:
    found = json.loads(psbatch(lab, "--dry-run", "--json", "--flex=2", "--wrap=true").stdout)
    assert found["test_only"]["exit_status"] == 0
    assert found["test_only"]["starts_at"][:2] == "20"
    assert "to start at" in found["test_only"]["text"]
    refused = psbatch(lab, "--dry-run", "--partition=nowhere", "--wrap=true", check=False)
    assert refused.returncode == 1
    assert "invalid partition specified: nowhere" in refused.stdout
    assert psbatch(lab, "--dry-run", stdin=SCRIPT).returncode == 0
    assert waiting(lab) == []


def test_the_printed_script_is_the_same_job(lab: Lab) -> None:
    printed = psbatch(lab, "--print-script", "--workload=training", stdin=SCRIPT).stdout
    assert waiting(lab) == []
    job = psbatch(lab, "--hold", "--parsable", stdin=printed).stdout.strip()
    kept = lab.run(["scontrol", "write", "batch_script", job, "-"]).stdout
    assert kept.rstrip("\0\n") == printed.rstrip("\n")
    assert lab.job(job)["JobName"] == "printed"
    again = json.loads(psbatch(lab, "--dry-run", "--json", stdin=printed).stdout)
    assert again["environment"] == {"SLURM_POWER_WORKLOAD": "training", "SLURM_POWER_FLEX": "flex1"}


@pytest.mark.parametrize("padding", [0, 200_000])
def test_a_script_through_a_pipe_reaches_slurm_whole(lab: Lab, padding: int) -> None:
    script = SCRIPT + "# filled up\n" * (padding // 12) + "echo end\n"
    job = psbatch(lab, "--hold", "--parsable", stdin=script).stdout.strip()
    kept = lab.run(["scontrol", "write", "batch_script", job, "-"]).stdout
    assert kept.rstrip("\0\n") == script.rstrip("\n")


def test_the_deadline_is_slurms_own(lab: Lab) -> None:
    job = psbatch(
        lab, "--hold", "--parsable", "--time=1", "--deadline=now+1hour", "--wrap=true"
    ).stdout.strip()
    assert lab.job(job)["Deadline"][:2] == "20"


def test_a_misspelt_option_ends_as_sbatch_ends(lab: Lab) -> None:
    ours = psbatch(lab, "--workloads=training", "--wrap=true", check=False)
    plain = lab.run(["sbatch", "--workloads=training", "--wrap=true"], user="alice", check=False)
    assert ours.returncode == plain.returncode
    assert "--workloads: did you mean --workload?" in ours.stderr
    assert ours.stderr.endswith(plain.stderr)
