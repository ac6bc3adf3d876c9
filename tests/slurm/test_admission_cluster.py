"""Admission on a real Slurm: what job_submit makes of jobs, and licences and reservations by command."""

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from slurm_power.model.admission import LaidWindow
from slurm_power.ports import SchedulerError
from slurm_power.slurm.admission_file import file_text
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.licences import CliLicences, licence_counts, parse_licences, with_count
from slurm_power.slurm.reservations import CliReservations, parse_reservations
from tests.slurm.bench import Bench, running
from tests.slurm.cluster import Cluster, eventually
from tests.spank.stand_in import CLASSES, FILES, FOLDER, SETTINGS

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(os.geteuid() != 0, reason="a real Slurm as plain processes needs root"),
]

Value = TypeVar("Value")
TOTAL = 52_000


@pytest.fixture(scope="module")
def scripted(cluster: Cluster) -> Iterator[Path]:
    """The cluster's etc with our job_submit, and a file of figures: 1 kW for each GPU."""
    etc = cluster.conf.parent
    for name in FILES:
        shutil.copyfile(FOLDER / name, etc / name)
    figures = etc / "expected_watts"
    settings = {**SETTINGS, "total": TOTAL}
    if done(CliLicences(commands(cluster)).for_het_parts()):
        settings["het_parts"] = 1
    figures.write_text(file_text(settings, CLASSES, ()))
    figures.chmod(0o644)
    (etc / "slurm-power.conf").write_text(f"admission_file={figures}\n")
    with cluster.no_controller():
        cluster.conf.write_text(
            cluster.conf.read_text().replace("GresTypes", "JobSubmitPlugins=lua\nGresTypes")
        )
    yield etc


@pytest.fixture(autouse=True)
def no_windows(cluster: Cluster) -> Iterator[None]:
    yield
    for window in parse_reservations(cluster.run("scontrol", "-o", "show", "reservation")):
        cluster.run("scontrol", "delete", f"ReservationName={window.name}", check=False)


def commands(cluster: Cluster) -> CommandRunner:
    return CommandRunner(cluster.conf, timeout_seconds=5)


def done(step: Coroutine[Any, Any, Value]) -> Value:
    return asyncio.run(step)


def fields(cluster: Cluster, job: str) -> dict[str, str]:
    words = cluster.run("scontrol", "-o", "show", "job", job).split()
    return dict(word.split("=", 1) for word in words if "=" in word)


def as_alice(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    return cluster.run_as("alice", *words)


def held(cluster: Cluster, *options: str) -> str:
    return cluster.submit("--hold", *options)


@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize(
    ("options", "watts"),
    [
        (("--gres=gpu:h100:4",), 4000),
        (("--gres=gpu:2", "--nodes=2"), 4000),
        (("--gres=gpu:2", "--nodes=1-3"), 6000),
        (("--gres=gpu:2", "--ntasks=16"), 4000),
        (("--gpus=8",), 8000),
        (("--gpus=h100:8", "--nodes=2"), 8000),
        (("--gpus-per-node=2", "--nodes=2"), 4000),
        (("--gpus-per-task=1", "--ntasks=3"), 3000),
        (("--gpus-per-socket=2", "--sockets-per-node=1"), 2000),
        (("--ntasks-per-gpu=2", "--ntasks=6"), 3000),
        (("--gres=gpu:1", "--exclusive"), 8000),
        (("--gres=gpu:3", "--array=0-9"), 3000),
        (("--gres=gpu:2", "--licenses=watts:1"), 2000),
        (("--gres=gpu:2", "--licenses=watts:9000"), 9000),
    ],
)
def test_however_gpus_are_asked_for(
    cluster: Cluster, bench: Bench, options: tuple[str, ...], watts: int
) -> None:
    job = held(cluster, *options)
    assert fields(cluster, job)["Licenses"] == f"watts:{watts}"
    # What a user asks for beyond it is theirs, not what is expected.
    assert json.loads(bench.comment(job)) == {"power": {"watts": 2000 if watts == 9000 else watts}}


@pytest.mark.usefixtures("scripted")
def test_each_task_and_component_has_its_own(cluster: Cluster, bench: Bench) -> None:
    array = cluster.submit("--array=0-1", "--gres=gpu:2")
    bench.until(array, running)
    eventually(lambda: used(cluster) == 4000, 10, "both tasks' watts")
    cluster.run("scancel", array)
    both = cluster.run(
        *("sbatch", "--parsable", "--hold", "--output=/dev/null", "--chdir=/tmp", "--gres=gpu:1"),
        *(":", "--gres=gpu:3", "--wrap=sleep 60"),
    ).strip()
    rows = cluster.run("squeue", "-h", "-j", both, "-o", "%W").split()
    # Newer Slurms would refuse the job if the second part had any.
    second = "watts:3000" if done(CliLicences(commands(cluster)).for_het_parts()) else "(null)"
    assert sorted(rows) == sorted(["watts:1000", second])


def used(cluster: Cluster) -> int:
    return done(CliLicences(commands(cluster)).counts())["watts"].used


@pytest.mark.usefixtures("scripted")
def test_more_than_all_is_taken_and_waits_its_turn(cluster: Cluster) -> None:
    job = held(cluster, "--licenses=watts:52000")
    assert fields(cluster, job)["Licenses"] == "watts:52000"
    refused = as_alice(
        cluster, "sbatch", "--licenses=watts:52001", "-D", "/tmp", "-o", "/dev/null", "--wrap=true"
    )
    assert "Invalid license specification" in refused.stderr


@pytest.mark.usefixtures("scripted")
def test_a_user_cannot_take_the_watts_off(cluster: Cluster) -> None:
    sent = as_alice(
        cluster,
        "sbatch",
        "--parsable",
        "--hold",
        "--gres=gpu:2",
        "-D",
        "/tmp",
        "-o",
        "/dev/null",
        "--wrap=sleep 60",
    )
    job = sent.stdout.strip()
    for change, licences in (
        ("Licenses=", "watts:2000"),
        ("Licenses=watts:5", "watts:2000"),
        ("Gres=gpu:4", "watts:4000"),
        ("TimeLimit=5", "watts:4000"),
    ):
        assert as_alice(cluster, "scontrol", "update", f"JobId={job}", change).returncode == 0
        assert fields(cluster, job)["Licenses"] == licences, change
    cluster.run("scontrol", "update", f"JobId={job}", "Licenses=watts:7")
    assert fields(cluster, job)["Licenses"] == "watts:7", "an administrator's word stands"
    cluster.run("scancel", job)


def test_a_sites_own_script_is_read_without_a_restart(cluster: Cluster, scripted: Path) -> None:
    ours = (scripted / "job_submit.lua").read_text()
    own = f"""dofile("{scripted}/slurm_power_submit.lua")
function slurm_job_submit(job, parts, uid)
  if job.name == "refused" then slurm.log_user("not here") return slurm.ERROR end
  job.comment = "own"
  slurm_power_submit(job, parts)
  return slurm.SUCCESS
end
function slurm_job_modify(job, record, parts, uid)
  slurm_power_modify(job, record, parts, uid)
  return slurm.SUCCESS
end
return slurm.SUCCESS
"""
    (scripted / "job_submit.lua").write_text(own)
    try:
        eventually(
            lambda: fields(cluster, held(cluster, "--gres=gpu:1")).get("Comment") == "own",
            10,
            "the new script",
        )
        job = held(cluster, "--gres=gpu:2")
        assert fields(cluster, job)["Licenses"] == "watts:2000"
        refused = as_alice(cluster, "sbatch", "-J", "refused", "-D", "/tmp", "-o", "/dev/null", "--wrap=true")
        assert "not here" in refused.stderr
        assert refused.returncode != 0
    finally:
        (scripted / "job_submit.lua").write_text(ours)


# --- by command ---------------------------------------------------------------------------------------------


def test_windows_are_laid_changed_and_ended(cluster: Cluster) -> None:
    port, now = CliReservations(commands(cluster)), int(time.time())
    done(port.lay("slurmpower_a", start=now - 5, end=now + 95, licence="watts", watts=30_000))
    done(port.lay("slurmpower_b", start=now + 500, end=now + 600, licence="watts", watts=52_000))
    laid = {window.name: window for window in done(port.laid())}
    assert laid["slurmpower_a"] == LaidWindow(
        name="slurmpower_a", start=now - 5, end=now + 95, licences={"watts": 30_000}, ours=True
    )
    with pytest.raises(SchedulerError, match="Invalid license"):
        done(port.lay("slurmpower_c", start=now, end=now + 50, licence="watts", watts=22_001))
    done(port.change("slurmpower_a", start=None, end=now + 300, licence="watts", watts=40_000))
    done(port.change("slurmpower_b", start=now + 400, end=now + 450, licence="watts", watts=1))
    laid = {window.name: window for window in done(port.laid())}
    assert (laid["slurmpower_a"].start, laid["slurmpower_a"].end) == (now - 5, now + 300)
    assert laid["slurmpower_a"].licences == {"watts": 40_000}
    assert (laid["slurmpower_b"].start, laid["slurmpower_b"].end) == (now + 400, now + 450)
    for name in ("slurmpower_a", "slurmpower_b"):
        done(port.end(name))
        done(port.end(name))
    assert done(port.laid()) == ()


def test_others_reservations_are_seen_and_never_touched(cluster: Cluster) -> None:
    cluster.run(
        *("scontrol", "create", "reservation", "ReservationName=own", "StartTime=now", "Duration=5"),
        *("Users=root", "Licenses=watts:100", "Flags=ANY_NODES,IGNORE_JOBS"),
    )
    cluster.run(
        *("scontrol", "create", "reservation", "ReservationName=slurmpower_nodes", "StartTime=now"),
        *("Duration=5", "Users=root", "Nodes=c1", "Licenses=watts:100"),
    )
    port = CliReservations(commands(cluster))
    assert {window.name: window.ours for window in done(port.laid())} == {
        "own": False,
        "slurmpower_nodes": False,
    }
    for step in (port.end("own"), port.change("own", start=None, end=0, licence="watts", watts=1)):
        with pytest.raises(SchedulerError, match="not ours"):
            done(step)


def test_a_job_waits_for_the_end_of_a_window(cluster: Cluster, bench: Bench) -> None:
    port, now = CliReservations(commands(cluster)), int(time.time())
    done(port.lay("slurmpower_a", start=now, end=now + 8, licence="watts", watts=51_500))
    job = cluster.submit("--licenses=watts:1000", "--time=1")
    eventually(lambda: fields(cluster, job).get("Reason") == "Licenses", 6, "a job that waits")
    bench.until(job, running)
    assert time.time() >= now + 8 - 1


def test_a_running_jobs_licences(cluster: Cluster, bench: Bench) -> None:
    port = CliLicences(commands(cluster))
    job = cluster.submit("--licenses=watts:900")
    bench.until(job, running)
    assert done(port.of_jobs())[job] == "watts:900"
    assert done(port.counts())["watts"].total == TOTAL
    done(port.set_of_job(job, "watts:400"))
    assert used(cluster) == 400
    with pytest.raises(SchedulerError):
        done(port.set_of_job("1 Priority=0", "watts:1"))


# --- texts --------------------------------------------------------------------------------------------------


def test_licence_texts() -> None:
    assert licence_counts("watts:700,matlab;x=2;y*3") == {"watts": 700, "matlab": 1, "x": 2, "y": 3}
    assert licence_counts("(null)") == {}
    assert licence_counts("") == {}
    assert with_count("a:1;watts:5", "watts", 7) == "a:1,watts:7"
    assert with_count("", "watts", 0) == "watts:0"
    assert with_count("a:1|b:1", "watts", 7) is None


def test_layers_of_a_resource_count_by_their_root() -> None:
    text = (
        "LicenseName=power Total=5000 Used=100 Free=4900 Reserved=0 Remote=no\n"
        "LicenseName=power Total=2000 Used=100 Free=1900 Reserved=0 Remote=no\n"
        "LicenseName=far@grid Total=9 Used=0 Free=9 Reserved=0 Remote=yes\nnonsense\n"
    )
    found = parse_licences(text)
    assert {name: count.total for name, count in found.items()} == {"power": 5000}


def test_reservations_without_licences_are_left_out() -> None:
    text = (
        "ReservationName=maint StartTime=2026-11-28T09:00:00 EndTime=2026-11-28T10:00:00 Nodes=c1 NodeCnt=1"
        " Users=root Licenses=(null) State=ACTIVE\n"
        "No reservations in the system\n"
        "ReservationName=slurmpower_x StartTime=Unknown EndTime=Unknown Users=root Licenses=watts:1\n"
    )
    assert parse_reservations(text) == ()
