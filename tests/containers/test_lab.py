import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.containers.conftest import (
    CHECKOUT,
    RUN_DEMO,
    RUNNER_STATUS,
    ContainerLab,
    engine,
    engine_environment,
    wait_until,
)

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

SERVICES = ("munge", "database", "slurmdbd", "slurmctld", "c1", "c2", "c3", "c4", "plant", "powerctld")
IMAGES = ("slurm", "node", "controller", "plant", "database")
# Far above 8 idle GPUs, far below what a training draws.
BUSY_NODE_WATTS = 2500.0
KILL_POWERD = """
import os, signal, pathlib
for process in pathlib.Path("/proc").glob("[0-9]*"):
    words = (process / "cmdline").read_bytes().split(b"\\0")
    if b"/opt/slurm-power/bin/powerd" in words[:2]:
        os.kill(int(process.name), signal.SIGKILL)
        print(process.name)
"""


def gpu_watts(lab: ContainerLab, node: str) -> float:
    gpus = lab.stage.plant(op="truth")["truth"]["nodes"][node]["gpus"]
    return float(sum(gpu["instant_watts"] for gpu in gpus))


def test_every_service_is_healthy_by_the_engines_own_checks(lab: ContainerLab) -> None:
    def states() -> dict[str, str]:
        rows = lab.docker("ps", "-a", "--format", "{{.Names}} {{.Status}}").stdout.splitlines()
        return dict(row.split(" ", 1) for row in rows)

    wait_until(lambda: all("(healthy)" in state for state in states().values()), "health")
    assert set(states()) == {f"slurm-power-lab_{service}_1" for service in SERVICES}


def test_a_job_on_two_nodes_is_felt_by_the_plant_and_told_by_the_controller(lab: ContainerLab) -> None:
    command = "psbatch --parsable --workload=training --flex=flex2 --nodes=2 --ntasks-per-node=1 --gres=gpu:8"
    load = "srun plant-load --workload training --seconds 600"
    job_id = lab.stage.run([*command.split(), "--time=15", f"--wrap={load}"], user="alice").strip()

    def told() -> dict[str, Any]:
        return next((job for job in lab.stage.status()["jobs"] if job["job_id"] == job_id), {})

    def busy() -> bool:
        nodes = told().get("nodes", [])
        return len(nodes) == 2 and all(gpu_watts(lab, node) > BUSY_NODE_WATTS for node in nodes)

    wait_until(busy, "two busy nodes")
    wait_until(lambda: (told().get("gpu_watts") or 0.0) > 2 * BUSY_NODE_WATTS, "the controller to see it")
    assert told()["user"] == "alice"
    assert told()["gpu_count"] == 16
    nodes = told()["nodes"]
    lab.stage.run(["scancel", job_id], user="alice")
    wait_until(lambda: all(gpu_watts(lab, node) < BUSY_NODE_WATTS for node in nodes), "idle GPUs")
    wait_until(lambda: len(lab.stage.run(["sinfo", "-hN", "-tidle", "-o%N"]).split()) == 4, "idle nodes")


def test_munge_knows_a_user_of_another_container(lab: ContainerLab) -> None:
    socket = "--socket=/lab/munge/munge.sock"
    status, credential = lab.execute("c1", "munge", "--no-input", socket, user="bob")
    assert status == 0
    status, said = lab.execute("c2", "unmunge", socket, stdin=credential)
    assert status == 0
    assert re.search(r"^UID:\s+bob \(20002\)$", said, re.MULTILINE)
    # The key stays where munged runs.
    status, found = lab.execute("c1", "find", "/", "-xdev", "-name", "*.key", "-path", "*munge*")
    assert (status, found) == (0, "")


@pytest.mark.parametrize(
    ("service", "seen", "unseen"),
    [
        ("c1", ("slurmctld", "powerctld", "c4"), ("plant", "database")),
        ("slurmctld", ("slurmdbd", "powerctld"), ("plant", "database")),
        ("powerctld", ("slurmctld", "plant"), ("database",)),
        ("plant", ("powerctld",), ("slurmctld", "c1", "database")),
        ("slurmdbd", ("database", "slurmctld"), ("plant",)),
    ],
)
def test_networks_separate_what_has_no_business_with_each_other(
    lab: ContainerLab, service: str, seen: tuple[str, ...], unseen: tuple[str, ...]
) -> None:
    # The engine's name server asks the outside about names it does not know, and no answer ever comes.
    lookup = ("env", "RES_OPTIONS=timeout:1 attempts:1", "getent", "hosts")
    assert all(lab.execute(service, *lookup, name)[0] == 0 for name in seen)
    assert all(lab.execute(service, *lookup, name)[0] != 0 for name in unseen)


def test_a_node_sees_its_own_gpus_alone_through_the_system_library(lab: ContainerLab) -> None:
    assert lab.execute("c1", "ls", "/lab/nvml")[1].split() == ["c1.constants", "c1.state"]
    program = (
        "import pynvml, json; pynvml.nvmlInit();"
        "print(json.dumps([pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(i))"
        " for i in range(pynvml.nvmlDeviceGetCount())]))"
    )
    uuids = {}
    for node in ("c1", "c2"):
        state = f"PLANT_NVML_STATE=/lab/nvml/{node}.state"
        status, said = lab.execute(node, "env", state, "python3", "-c", program, user="alice")
        assert status == 0
        uuids[node] = set(json.loads(said))
        assert len(uuids[node]) == 8
    assert not uuids["c1"] & uuids["c2"]


def test_a_killed_powerd_comes_back_and_finds_the_controller(lab: ContainerLab) -> None:
    def connections() -> int:
        said = lab.docker("logs", "slurm-power-lab_c3_1").stderr
        return said.count("connected to the controller")

    before = connections()
    assert before >= 1
    status, killed = lab.execute("c3", "python3", "-c", KILL_POWERD)
    assert status == 0
    assert killed.split()
    wait_until(lambda: connections() > before, "powerd's return")
    wait_until(lambda: "idle" in lab.stage.run(["sinfo", "-hnc3", "-o%T"]), "an idle node")


@pytest.mark.parametrize("image", IMAGES)
def test_published_images_hold_no_compiler_no_pip_and_no_bundle(lab: ContainerLab, image: str) -> None:
    name = f"localhost/slurm-power/{image}:lab"
    history = lab.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", name).stdout
    assert history
    assert "PIP_" not in history
    assert "bundle.pem" not in history
    command = "command -v gcc cc pip pip3; find / -xdev -name bundle.pem"
    found = lab.docker("run", "--rm", "--network=none", "--entrypoint", "sh", name, "-c", command)
    assert (found.stderr, found.stdout) == ("", "")


# Last: it ends the lab.
def test_the_runners_status_is_passed_through_and_nothing_is_left(
    lab: ContainerLab, engine_directory: Path
) -> None:
    lab.stage.end()
    assert lab.finish() == RUNNER_STATUS
    told = lab.log.read_text()
    assert all(f"== {service} is ready" in told for service in SERVICES)
    assert "== nothing is left" in told
    left = engine("check", engine_directory)
    assert (left.returncode, left.stdout) == (0, "")


def test_the_demo_holds_its_limit_in_containers(engine_directory: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    done = subprocess.run(
        [RUN_DEMO, "--report", str(report)],
        env=engine_environment(engine_directory),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The limit was held" in done.stdout
    assert "nothing is left" in done.stdout
    assert report.stat().st_size > 0
