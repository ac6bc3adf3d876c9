"""docs/admins.md, followed literally on a Slurm that has never heard of slurm-power."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.cluster.daemons import base_environment
from containers.cluster.lab import Lab
from containers.cluster.layout import CHECKOUT, Options
from containers.cluster.lifecycle import up
from tests.install.bare import Bare
from tests.install.followed import follow
from tests.install.shells import shells

UNITS = "/etc/systemd/system"
WANTS = f"{UNITS}/multi-user.target.wants"
pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def bare() -> Iterator[Bare]:
    started = up(Options(nodes=2, power=True))
    yield Bare(started.lab, own_hooks=False)
    started.down()


class Systemd:
    """Does with a lab's daemons what systemd does with a site's: ours by the ExecStart of their units."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def obey(self, words: list[str], node: str | None) -> tuple[int, str]:
        match words:
            case ["systemctl", "daemon-reload"]:
                pass
            case ["systemctl", "restart", "slurmctld"]:
                self.lab.restart("slurmctld")
            case ["systemctl", "enable", "--now", unit]:
                self._start(unit, node)
                self.lab.run(["mkdir", "-p", WANTS])
                self.lab.run(["ln", "-s", self._file(unit, node), self._link(unit, node)])
            case ["systemctl", "disable", "--now", unit]:
                self.lab.run(["test", "-e", self._file(unit, node)])
                self.lab.run(["rm", self._link(unit, node)])
                self.lab.stop(unit if node is None else f"{unit}.{node}")
            case _:
                return 1, f"what is {words}?"
        return 0, ""

    def _file(self, unit: str, node: str | None) -> str:
        # Several nodes on one host have a unit each, powerd@NODE; a host that is a node has powerd.
        return f"{UNITS}/{unit}.service" if node is None else f"{UNITS}/{unit}@.service"

    def _link(self, unit: str, node: str | None) -> str:
        return f"{WANTS}/{unit}.service" if node is None else f"{WANTS}/{unit}@{node}.service"

    def _start(self, unit: str, node: str | None) -> None:
        text = self.lab.run(["cat", self._file(unit, node)]).stdout
        command = next(line.partition("=")[2] for line in text.splitlines() if line.startswith("ExecStart="))
        name = unit if node is None else f"{unit}.{node}"
        environment = {**base_environment(self.lab.layout), "PYTHONPATH": str(CHECKOUT)}
        if node is not None:
            environment["LD_LIBRARY_PATH"] = str(self.lab.run_directory / "lib")
            environment["PLANT_NVML_STATE"] = str(self.lab.run_directory / "nvml" / f"{node}.state")
        self.lab.spawn_command(name, shlex.split(command.replace("%i", node or "")), environment)
        self.lab.await_service(name)


def test_an_administrator_gets_there_and_back(bare: Bare) -> None:
    lab = bare.lab
    run_inside, systemd = shells(lab), Systemd(lab)
    folder = bare.run / "slurm-power-files"
    # What lies elsewhere in a lab, whose /etc is its own, but neither /run nor /var.
    elsewhere = {
        "/etc/slurm/": f"{bare.etc}/",
        "power.cluster": "127.0.0.1",
        "slurm-power init --dir slurm-power-files": (
            f"slurm-power init --dir slurm-power-files --run-directory {bare.run}/run"
            f" --state-directory {bare.run}/state --port {lab.layout.ports['powerctld']}"
        ),
    }
    text = (CHECKOUT / "docs/admins.md").read_text()
    for there, here in elsewhere.items():
        assert there in text
        text = text.replace(there, here)

    def run(who: str, command: str) -> tuple[int, str]:
        if who == "reader":
            assert command == "describes the site"
            bare.fill_site_toml(Path(f"{folder}/root/etc/slurm-power/site.toml"), watch=True)
            return 0, ""
        if command.startswith("systemctl "):
            nodes = lab.layout.nodes if who == "each node" else (None,)
            answers = [systemd.obey(shlex.split(command), node) for node in nodes]
            return max(answers)
        return run_inside(who, command)

    try:
        follow(text, run)
    finally:
        lab.run(["scancel", "--user=root"], check=False)
    assert bare.files() == bare.before
    job = lab.run(["sbatch", "--parsable", "--output=/dev/null", "--wrap=true"], user="alice").stdout.strip()
    lab.wait_until(lambda: lab.job(job).get("JobState") == "COMPLETED", f"job {job}", seconds=30)
    assert "drain" not in lab.run(["sinfo", "-h", "-o", "%T"]).stdout
