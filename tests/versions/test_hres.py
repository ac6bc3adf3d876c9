"""The circuit tree as Slurm's own resource, where there is one: a rack's budget keeps a job off that rack."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.cluster.lab import Lab
from containers.cluster.layout import CHECKOUT, Options
from containers.cluster.lifecycle import up
from slurm_power.config import load_site
from slurm_power.plan.hres import HresTree, hres_tree
from slurm_power.slurm.hres_file import FIRST_VERSION, HresFile, parse_hres
from tests.cluster.lab import await_job
from tests.spank.stand_in import FILES, FOLDER, figures
from tests.versions.chosen import chosen_root

NODES = ("c1", "c2", "c3", "c4")
REST_WATTS = 1000.0
# Of a rack: 20 kW at its breaker, 6.4 % of them lost in power supplies.
RACK_WATTS = int(20_000 / 1.064)
RACK_FREE_WATTS = RACK_WATTS - 2 * int(REST_WATTS)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Four nodes in two racks, with the resource that the command makes of their site.toml."""
    started = up(Options(slurm_root=chosen_root()))
    try:
        if started.lab.layout.slurm_version < FIRST_VERSION:
            pytest.skip("hierarchical resources of mode 3 came with Slurm 25.11")
        # As a service runs it: in the foreground a reconfiguration that fails is its end.
        started.lab.stop("slurmctld")
        _with_job_submit(started.lab)
        started.lab.run(["slurmctld"])
        _await_answer(started.lab)
        written = command(started.lab, "--out", str(started.lab.layout.etc / "resources.yaml"))
        assert written.returncode == 0, written.stderr
        assert "scontrol reconfigure" in written.stdout
        reconfigure(started.lab)
        yield started.lab
    finally:
        started.down()


@pytest.fixture(autouse=True)
def _empty(lab: Lab) -> Iterator[None]:
    file = lab.layout.etc / "resources.yaml"
    before = file.read_text()
    yield
    lab.run(["scancel", "--user=alice"])
    lab.wait_until(lambda: not lab.run(["squeue", "-h"]).stdout.strip(), "an empty queue", seconds=20)
    if file.read_text() != before:
        file.write_text(before)
        reconfigure(lab)


def _with_job_submit(lab: Lab) -> None:
    """Our job_submit with the figures of a site that has the resource beside the flat licence."""
    etc, conf = lab.layout.etc, lab.layout.slurm_conf
    for name in FILES:
        shutil.copyfile(FOLDER / name, etc / name)
    (etc / "expected_watts").write_text(figures(hres="power"))
    (etc / "slurm-power.conf").write_text(f"admission_file={etc}/expected_watts\n")
    conf.write_text(conf.read_text().replace("GresTypes", "JobSubmitPlugins=lua\nGresTypes"))


def command(lab: Lab, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run `slurm-power hres` inside the lab, as an administrator would."""
    words = [sys.executable, "-m", "slurm_power.cli.slurm_power", "hres", "--node-standing-watts", "1kW"]
    environment = {"PYTHONPATH": str(CHECKOUT), "PATH": f"{lab.layout.clients}:/usr/bin:/bin"}
    words += ["--config", str(lab.layout.etc / "site.toml"), *options]
    return lab.run(words, on_host=True, environment=environment, check=False)


def reconfigure(lab: Lab) -> None:
    lab.run(["scontrol", "reconfigure"])
    _await_answer(lab)


def _await_answer(lab: Lab) -> None:
    """Wait for slurmctld and for its nodes: both are new to it after a reconfiguration."""

    def answers() -> bool:
        up_now = " UP" in lab.run(["timeout", "2", "scontrol", "ping"], check=False).stdout
        states = lab.run(["timeout", "2", "sinfo", "-h", "-o", "%T"], check=False).stdout.split()
        return up_now and bool(states) and not {"unknown", "down", "unk*"} & set(states)

    lab.wait_until(answers, "slurmctld and its nodes", seconds=20)


def counts(lab: Lab) -> dict[str, tuple[int, int]]:
    """Total and used watts of each layer, by its nodes."""
    found = {}
    for line in lab.run(["scontrol", "-o", "show", "licenses"]).stdout.splitlines():
        fields = dict(word.split("=", 1) for word in line.split())
        if fields["LicenseName"] == "power":
            found[fields["Nodes"]] = (int(fields["Total"]), int(fields["Used"]))
    return found


def submit(lab: Lab, watts: int, *options: str, seconds: int = 300) -> str:
    words = ["sbatch", "--parsable", "-t", "10", "-o", "/dev/null", "-n1", f"-Lpower:{watts}", *options]
    return lab.run([*words, f"--wrap=sleep {seconds}"], user="alice").stdout.strip()


def node_of(lab: Lab, job: str) -> str:
    return await_job(lab, job, "RUNNING", seconds=20)["NodeList"]


def tree_of(lab: Lab, **limits: float) -> HresTree:
    site = load_site(lab.layout.etc / "site.toml").site
    return hres_tree(
        site, NODES, resource="power", node_standing_watts=REST_WATTS, limits_watts=limits, clamp=True
    )


def test_a_plain_job_with_gpus_asks_for_its_watts_at_each_node(lab: Lab) -> None:
    """By job_submit: 800 W more for each GPU, and the flat licence with the losses on the way beside it."""
    words = ["sbatch", "--parsable", "-t", "10", "-o", "/dev/null", "-N2", "-n2", "--gres=gpu:h100:4"]
    job = lab.run([*words, "--wrap=sleep 300"], user="alice").stdout.strip()
    fields = await_job(lab, job, "RUNNING", seconds=20)
    assert set(fields["Licenses"].split(",")) == {"watts:8000", "power:3200"}
    root = counts(lab)["c[1-4]"]
    assert root[1] == 2 * 3200


def test_slurm_has_the_circuits_with_what_stands_taken_off(lab: Lab) -> None:
    shown = counts(lab)
    assert shown["c[1-2]"] == shown["c[3-4]"] == (RACK_FREE_WATTS, 0)
    grid = int(60_000 / (1.15 * 1.064))
    assert shown["c[1-4]"] == (grid - 4 * int(REST_WATTS), 0)


def test_a_racks_budget_keeps_a_job_off_that_rack_while_another_takes_it(lab: Lab) -> None:
    first = submit(lab, RACK_FREE_WATTS - 1000, "-w", "c1")
    assert node_of(lab, first) == "c1"
    # c2 is idle, and the first that Slurm would take; its rack has no room.
    second = submit(lab, 2000)
    assert node_of(lab, second) in ("c3", "c4")
    assert counts(lab)["c[1-2]"][1] == RACK_FREE_WATTS - 1000
    assert counts(lab)["c[3-4]"][1] == 2000
    # Whoever insists on the full rack waits, and starts there when there is room again.
    third = submit(lab, 2000, "-w", "c2")
    lab.wait_until(
        lambda: lab.job(third).get("Reason") in ("Resources", "Licenses"), "its reason", seconds=20
    )
    assert lab.job(third)["JobState"] == "PENDING"
    fourth = submit(lab, 500, "-w", "c2")
    assert node_of(lab, fourth) == "c2", "what fits still starts there"
    lab.run(["scancel", first])
    assert node_of(lab, third) == "c2"


def test_each_node_of_a_job_is_charged(lab: Lab) -> None:
    job = submit(lab, 3000, "-N3", "-n3", "-w", "c1,c2,c3")
    node_of(lab, job)
    assert {nodes: used for nodes, (_total, used) in counts(lab).items()} == {
        "c[1-4]": 9000, "c[1-2]": 6000, "c[3-4]": 3000,
    }  # fmt: skip


def test_more_than_any_layer_holds_is_refused_at_once(lab: Lab) -> None:
    words = ["sbatch", "-n1", "-o", "/dev/null", "-Lpower:1000000", "--wrap=true"]
    done = lab.run(words, user="alice", check=False)
    assert done.returncode != 0


def test_counts_lowered_live_below_use_leave_running_jobs_and_stop_new_ones(lab: Lab) -> None:
    running = submit(lab, 10_000, "-w", "c1")
    node_of(lab, running)
    file = HresFile(lab.layout.etc / "resources.yaml")
    assert not file.update(tree_of(lab), 0.0), "nothing has changed"
    assert file.update(tree_of(lab, rack1=9_000), 1.0)
    reconfigure(lab)
    total, used = counts(lab)["c[1-2]"]
    assert (total, used) == (int(9_000 / 1.064) - 2000, 10_000)
    assert lab.job(running)["JobState"] == "RUNNING"
    waits = submit(lab, 100, "-w", "c2")
    other = submit(lab, 100, "-w", "c3")
    assert node_of(lab, other) == "c3"
    assert lab.job(waits)["JobState"] == "PENDING"
    assert lab.job(running)["JobState"] == "RUNNING"
    # Up again only after a while; then the job starts.
    file.update(tree_of(lab), 2.0)
    assert parse_hres((lab.layout.etc / "resources.yaml").read_text())[1][1][1] == int(9_000 / 1.064)
    assert file.update(tree_of(lab), 1000.0)
    reconfigure(lab)
    assert node_of(lab, waits) == "c2"
    assert lab.job(running)["JobState"] == "RUNNING"


def test_a_requeued_job_asks_for_its_watts_again(lab: Lab) -> None:
    job = submit(lab, 5000, "-w", "c1", "--requeue")
    node_of(lab, job)
    lab.run(["scontrol", "requeue", job])
    lab.wait_until(lambda: lab.job(job).get("Restarts") == "1", "the requeue", seconds=20)
    lab.wait_until(lambda: lab.job(job).get("JobState") == "PENDING", "the end of the first run", seconds=20)
    lab.wait_until(lambda: counts(lab)["c[1-2]"][1] == 0, "what it had given back", seconds=20)
    lab.run(["scontrol", "update", f"job={job}", "StartTime=now"])
    node_of(lab, job)
    assert counts(lab)["c[1-2]"][1] == 5000


def test_an_array_and_a_running_jobs_smaller_request(lab: Lab) -> None:
    job = submit(lab, 2000, "--array=1-3", "-w", "c3")
    lab.wait_until(lambda: counts(lab)["c[3-4]"][1] == 6000, "three tasks", seconds=20)
    lab.run(["scontrol", "update", f"job={job}_1", "Licenses=power:500"])
    lab.wait_until(lambda: counts(lab)["c[3-4]"][1] == 4500, "what was given back", seconds=5)


UNEVEN = """[{"resource": "power", "mode": "MODE_3", "layers": [{"nodes": ["c[1-4]"], "count": 9000},
{"nodes": ["c[1-2]"], "count": 9000}, {"nodes": ["c3"], "count": 9000}, {"nodes": ["c1"], "count": 9000}]}]"""


@pytest.mark.parametrize("broken", ["", "{[", UNEVEN, UNEVEN.replace("c[1-2]", "c[1-4]")])
def test_a_broken_file_leaves_a_slurmctld_that_runs_as_a_service_as_it_is(lab: Lab, broken: str) -> None:
    running = submit(lab, 1000, "-w", "c1")
    node_of(lab, running)
    before = counts(lab)
    file = lab.layout.etc / "resources.yaml"
    good = file.read_text()
    file.write_text(broken)
    assert lab.run(["scontrol", "reconfigure"], check=False).returncode != 0
    # 26.05.5 counts what running jobs have once more now; that errs to the safe side until the next good one.
    assert {nodes: total for nodes, (total, _used) in counts(lab).items()} == {
        nodes: total for nodes, (total, _used) in before.items()
    }
    assert lab.job(running)["JobState"] == "RUNNING"
    file.write_text(good)
    reconfigure(lab)
    assert counts(lab) == before
    assert lab.job(running)["JobState"] == "RUNNING"


def test_branches_of_unequal_depth_are_taken(lab: Lab, tmp_path: Path) -> None:
    """A feeder with a rack beside nodes of its own, one node that no circuit lists, and Slurm takes it."""
    site = tmp_path / "site.toml"
    site.write_text(
        '[site]\nname = "s"\n[circuit.grid]\nrating_watts = 30_000\nlimit_kind = "safety"\n'
        '[circuit.feeder]\nparent = "grid"\nrating_watts = 20_000\nlimit_kind = "safety"\nnodes = ["c1"]\n'
        '[circuit.rack]\nparent = "feeder"\nrating_watts = 10_000\nlimit_kind = "safety"\n'
        'nodes = ["c2", "c3"]\n'
    )
    out = lab.layout.etc / "resources.yaml"
    done = command(lab, "--config", str(site), "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "c4: in no circuit" in done.stderr
    reconfigure(lab)
    job = submit(lab, 9_000, "-w", "c4")
    assert node_of(lab, job) == "c4"
    wide = submit(lab, 4_000, "-w", "c2,c3", "-N2", "-n2")
    node_of(lab, wide)
    assert max(used for _total, used in counts(lab).values()) == 17_000


def test_the_way_there_takes_so_long(lab: Lab) -> None:
    """A reconfiguration is a restart of slurmctld; jobs wait for it, so it must be short."""
    began = time.monotonic()
    reconfigure(lab)
    assert time.monotonic() - began < 10.0


def test_a_name_that_a_licence_has_is_refused(lab: Lab) -> None:
    conf = lab.layout.slurm_conf
    before = conf.read_text()
    conf.write_text(f"{before}\nLicenses=watts_test:100\n")
    try:
        reconfigure(lab)
        done = command(lab, "--resource", "watts_test")
        assert (done.returncode, "licence of this name" in done.stderr) == (2, True)
    finally:
        conf.write_text(before)
        reconfigure(lab)
