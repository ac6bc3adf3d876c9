"""Plugin, hooks and daemons on this Slurm: they build, they register jobs, and no node is drained by them."""

import json
from functools import partial
from typing import Any

import pytest

from containers.cluster.configuration import spank_sources
from containers.cluster.lab import Lab
from containers.demo.stage import ask
from tests.cluster.lab import await_job, submit
from tests.versions.chosen import chosen_version

NODES = ("c1", "c2", "c3", "c4")


@pytest.fixture(autouse=True)
def _no_node_is_drained(site: Lab) -> Any:
    yield
    site.wait_until(lambda: site.idle_nodes() == len(NODES), "four idle nodes", seconds=20)
    assert site.run(["sinfo", "-h", "-R"]).stdout.strip() == ""


def on_node(lab: Lab, node: str) -> list[dict[str, Any]]:
    """The jobs that a node's daemon knows."""
    found: list[dict[str, Any]] = ask(lab.run_directory / "run" / f"powerd.{node}.sock", {"op": "status"})[
        "jobs"
    ]
    return found


def _has_jobs(lab: Lab, node: str) -> bool:
    return bool(on_node(lab, node))


def test_this_is_the_version_that_was_asked_for(site: Lab) -> None:
    for command in ("sbatch", "slurmctld", "slurmd"):
        printed = site.run([command, "-V"]).stdout.split()[-1]
        assert printed.startswith(f"{chosen_version()}."), command


def test_the_plugin_builds_without_a_warning(site: Lab) -> None:
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-fPIC", "-shared"]
    target = site.run_directory / "strict.so"
    done = site.run(
        ["cc", *flags, "-o", str(target), *map(str, spank_sources())], check=False, timeout_seconds=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_slurm_complains_about_nothing_of_ours(site: Lab) -> None:
    logs = {file: file.stat().st_size for file in (site.run_directory / "log").glob("slurm*.log")}
    await_job(site, submit(site, "srun true", "--gres=gpu:1", "--flex=2"))
    words = ("spank", "plugin", "lua", "prolog", "epilog")
    for file, size in logs.items():
        fresh = file.read_bytes()[size:].decode(errors="replace").lower()
        # Debian builds Slurm for a PMIx that it does not install along.
        wrong = [line for line in fresh.splitlines() if "error" in line and "pmix" not in line]
        assert [line for line in wrong if any(word in line for word in words)] == [], file.name


def test_a_jobs_gpus_are_registered_and_released(site: Lab) -> None:
    job = submit(
        site, "while [ ! -e go ]; do sleep 0.1; done", "-N2", "--gres=gpu:3", "-w", "c1,c2", "--flex=1"
    )
    for node in ("c1", "c2"):
        site.wait_until(partial(_has_jobs, site, node), f"the job on {node}", seconds=20)
        (known,) = on_node(site, node)
        assert (known["job_id"], known["user"], known["flex"], len(known["gpus"])) == (
            job,
            "alice",
            "flex1",
            3,
        )
    site.wait_until(lambda: _row(site, job).get("state") == "running", "the controller's view", seconds=20)
    assert (_row(site, job)["gpu_count"], _row(site, job)["nodes"]) == (6, ["c1", "c2"])
    (site.run_directory / "home/alice/go").touch()
    await_job(site, job)
    site.wait_until(lambda: not on_node(site, "c1") + on_node(site, "c2"), "the epilogs", seconds=20)
    (site.run_directory / "home/alice/go").unlink()


def _row(lab: Lab, job: str) -> dict[str, Any]:
    jobs = ask(lab.run_directory / "run" / "powerctld.sock", {"op": "status"})["jobs"]
    return next((row for row in jobs if row["job_id"] == job), {})


@pytest.mark.parametrize("signal", [9, 19], ids=["killed", "stopped"])
def test_a_job_runs_where_the_nodes_daemon_is_gone_or_hangs(site: Lab, signal: int) -> None:
    site.send_signal("powerd.c3", signal)
    try:
        job = submit(site, "true", "--gres=gpu:8", "-w", "c3")
        await_job(site, job, seconds=40)
    finally:
        if signal == 9:
            site.start("powerd.c3")
        else:
            site.send_signal("powerd.c3", 18)


def test_a_job_is_submitted_and_runs_without_any_daemon_of_ours(site: Lab) -> None:
    daemons = ["powerctld", *(f"powerd.{node}" for node in NODES)]
    for name in daemons:
        site.kill(name)
    try:
        words = [
            "psbatch",
            "--parsable",
            "-t",
            "5",
            "--flex=2",
            "-o",
            "/dev/null",
            "--gres=gpu:8",
            "--wrap=true",
        ]
        job = site.run(words, user="alice").stdout.strip()
        await_job(site, job, seconds=40)
        assert json.loads(site.job(job)["AdminComment"])["power"]["flex"] == "flex2"
    finally:
        for name in reversed(daemons):
            site.start(name)
