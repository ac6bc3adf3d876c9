"""Jobs by their names, and the files in which they say where they are: only our own are believed."""

import asyncio
import os
from pathlib import Path

import pytest

from slurm_power.gateway.backends import BackendsError
from slurm_power.gateway.jobs import SlurmJobs
from slurm_power.gateway.members import JobSeen
from slurm_power.gateway.service_file import ServiceFile, TierJob


def service(folder: Path, *, submit: tuple[str, ...] = ("sbatch",)) -> ServiceFile:
    return ServiceFile(
        path=folder / "chat.toml",
        name="chat",
        family="digits",
        full_tier="full",
        tiers_ok=(),
        listen="127.0.0.1:1",
        directory=folder,
        tiers={"full": TierJob(script=folder / "x.sbatch", sbatch=("--gpus=2",), environment={"A": "1"})},
        submit=submit,
    )


def program(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def test_only_a_whole_file_of_our_own_is_an_address(tmp_path: Path) -> None:
    jobs = SlurmJobs(service(tmp_path))
    place = tmp_path / "inference-7.address"
    assert jobs.address("7") == ""
    place.write_text("http://node1:80")
    assert jobs.address("7") == "", "its line is not complete"
    place.write_text("http://node1:8000\n")
    assert jobs.address("7") == "http://node1:8000"
    place.chmod(0o666)
    assert jobs.address("7") == "", "anybody could have written it"
    place.chmod(0o600)
    os.chown(place, 65534, 65534)
    assert jobs.address("7") == "", "it is somebody else's"
    place.unlink()
    place.symlink_to(tmp_path / "other")
    (tmp_path / "other").write_text("http://node1:8000\n")
    assert jobs.address("7") == "", "a link leads anywhere"
    place.unlink()
    os.mkfifo(place)
    assert jobs.address("7") == "", "a pipe must not hang us"


def test_a_second_job_of_one_name_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "12|RUNNING|1:00:00|physics|chat.full.aa\\n9|PENDING|UNLIMITED|physics|chat.full.aa\\n"
    program(
        tmp_path, "squeue", f'printf "{rows}30|COMPLETING|0:10|physics|chat.full.bb\\n31|RUNNING|1|x|other"'
    )
    program(tmp_path, "scancel", f'echo "$@" >> {tmp_path}/cancelled')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = asyncio.run(SlurmJobs(service(tmp_path)).look({"aa": "full", "bb": "full", "cc": "full"}))
    assert {key: (job.job_id, job.seen) for key, job in found.items()} == {
        "aa": ("9", JobSeen.PENDING),
        "bb": ("30", JobSeen.ENDING),
    }
    assert found["aa"].left_seconds is None
    assert found["bb"].left_seconds == 10.0
    assert (tmp_path / "cancelled").read_text() == "12\n"


def test_a_silent_slurm_is_no_empty_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BackendsError, match="Unable to contact"):
        asyncio.run(SlurmJobs(service(tmp_path)).look({"aa": "full"}))


@pytest.mark.parametrize("command", ["sbatch", "psbatch"])
def test_what_is_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    program(tmp_path, command, f'echo "$@ TIER=$SLURM_POWER_TIER A=$A JOB=$SLURM_JOB_ID" > {tmp_path}/said')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "99")
    assert asyncio.run(SlurmJobs(service(tmp_path, submit=(command,))).submit("aa", "full")) == ""
    said = (tmp_path / "said").read_text()
    assert said.startswith(f"--job-name=chat.full.aa --chdir={tmp_path} ")
    assert said.endswith(f"--gpus=2 {tmp_path}/x.sbatch TIER=digits/full A=1 JOB=\n")
    assert ("--tier=digits/full --tiers-ok=none" in said) is (command == "psbatch")


def test_a_refusal_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "sbatch", "echo 'sbatch: error: Invalid account' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    jobs = SlurmJobs(service(tmp_path))
    assert asyncio.run(jobs.submit("aa", "full")) == "sbatch: error: Invalid account"
    assert "no script" in asyncio.run(jobs.submit("aa", "tiny"))
    absent = SlurmJobs(service(tmp_path, submit=("no-such-command",)))
    assert "No such file" in asyncio.run(absent.submit("aa", "full"))
