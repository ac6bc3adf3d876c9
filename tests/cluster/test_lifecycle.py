"""A lab comes up, goes down and leaves nothing, however its starter ends."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.cluster.lab import find, running_labs
from containers.cluster.layout import Options
from containers.cluster.lifecycle import up
from tests.cluster.lab import LabFactory, await_job, submit
from tests.cluster.traces import assert_gone, namespaces_of, port_claims, traces

pytestmark = pytest.mark.slurm


@pytest.fixture
def place() -> Iterator[Path]:
    """A short path that users can enter, where nothing is yet; a lab left there is ended."""
    parent = Path(tempfile.mkdtemp(prefix="sp-"))
    parent.chmod(0o755)
    run = parent / "lab"
    yield run
    cluster("down", "--dir", str(run))
    parent.rmdir()


def cluster(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "containers.cluster", *arguments]
    return subprocess.run(argv, check=False, capture_output=True, text=True, input=stdin, timeout=60)


def test_up_and_down_leave_nothing(place: Path) -> None:
    system_files = {name: Path("/etc", name).read_bytes() for name in ("passwd", "group", "hosts")}
    mounts = set(Path("/proc/self/mountinfo").read_text().splitlines())
    made = cluster("up", "--nodes=2", "--dir", str(place))
    assert made.returncode == 0, made.stderr
    first, conf, path = made.stdout.splitlines()
    assert (first, conf) == (str(place), f"export SLURM_CONF={place}/etc/slurm.conf")
    assert path.startswith("export PATH=")
    assert path.endswith(f"{Path(sys.executable).parent}:$PATH")
    lab = find(place)
    spaces = namespaces_of(lab)
    assert any("namespace" in trace for trace in traces(place, spaces))  # the check below can fail
    assert lab.idle_nodes() == 2
    await_job(lab, submit(lab, "sleep 300"), "RUNNING")
    assert str(place) in cluster("list").stdout.splitlines()
    assert cluster("down", "--dir", str(place)).returncode == 0
    assert_gone(place, spaces)
    assert not set(Path("/proc/self/mountinfo").read_text().splitlines()) - mounts
    assert {name: Path("/etc", name).read_bytes() for name in system_files} == system_files
    assert cluster("down", "--dir", str(place)).returncode == 0  # once more is no error


def test_keep_leaves_only_files(place: Path) -> None:
    assert cluster("up", "--nodes=1", "--dir", str(place)).returncode == 0
    spaces = namespaces_of(find(place))
    assert cluster("down", "--keep", "--dir", str(place)).returncode == 0
    assert place not in running_labs()
    assert all(trace.startswith("directory") for trace in traces(place, spaces))
    assert "munged: process" in (place / "log" / "supervisor.log").read_text()


def test_two_labs_at_once(fresh_lab: LabFactory) -> None:
    first, second = fresh_lab(nodes=1), fresh_lab(nodes=1)
    jobs = [
        (lab, submit(lab, "hostname", "--comment", str(number))) for number, lab in enumerate((first, second))
    ]
    for number, (lab, job) in enumerate(jobs):
        assert await_job(lab, job)["Comment"] == str(number)
    assert len(port_claims()) >= 2


@pytest.mark.parametrize("moment", ["starting munged", "starting slurmctld", "starting slurmd.c1"])
def test_starter_killed(place: Path, moment: str) -> None:
    argv = [sys.executable, "-m", "containers.cluster", "up", "--nodes=1", "--dir", str(place)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as starter:
        assert starter.stderr is not None
        for line in starter.stderr:
            if line.startswith(moment):
                break
        starter.send_signal(signal.SIGKILL)
        assert starter.wait() == -signal.SIGKILL
    assert_gone(place, set())


def test_lab_of_a_test_ends_when_it_is_discarded() -> None:
    started = up(Options(nodes=1))
    spaces = namespaces_of(started.lab)
    started.discard()
    assert_gone(started.lab.run_directory, spaces)


def test_dead_supervisor_takes_all_with_it(place: Path) -> None:
    assert cluster("up", "--nodes=1", "--dir", str(place)).returncode == 0
    lab = find(place)
    spaces = namespaces_of(lab)
    os.kill(lab.supervisor_pid, signal.SIGKILL)
    lab.wait_until(lambda: place not in running_labs(), "the lab's end", seconds=10)
    assert cluster("down", "--dir", str(place)).returncode == 0
    assert_gone(place, spaces)


def test_users_stay_when_the_host_replaces_its_files(place: Path) -> None:
    """Linux drops a mount over a file that is replaced; installing a package does that to passwd."""
    assert cluster("up", "--nodes=1", "--dir", str(place)).returncode == 0
    lab = find(place)
    mounted = lab.run(["cat", "/proc/self/mountinfo"]).stdout
    assert not [line for line in mounted.splitlines() if " /etc/" in line]
    assert [line for line in mounted.splitlines() if " /etc " in line]
    assert "20001" in lab.run(["getent", "passwd", "alice"]).stdout
    assert "alice" not in Path("/etc/passwd").read_text()
    original = Path("/etc/shadow").stat()
    copied = lab.run(["stat", "-c", "%a %u %g", "/etc/shadow"]).stdout.split()
    assert copied == [f"{original.st_mode & 0o777:o}", str(original.st_uid), str(original.st_gid)]


def test_users_reach_a_checkout_behind_a_closed_door(place: Path) -> None:
    private = Path(tempfile.mkdtemp(prefix="sp-", dir=place.parent))
    try:
        clone = private / "clone"
        shutil.copytree("containers/cluster", clone / "containers" / "cluster")
        clone.chmod(0o755)
        argv = [sys.executable, "-m", "containers.cluster", "up", "--nodes=1", "--yes", "--dir", str(place)]
        script = clone / "containers" / "install-packages.sh"
        script.write_text("exit 0\n")
        made = subprocess.run(argv, check=False, cwd=clone, capture_output=True, text=True, timeout=60)
        assert made.returncode == 0, made.stderr
        lab = find(place)
        assert private.stat().st_mode & 0o777 == 0o700
        lab.run(["test", "-r", str(script)], user="alice")
        assert cluster("down", "--dir", str(place)).returncode == 0
        assert script.exists()
    finally:
        cluster("down", "--dir", str(place))
        shutil.rmtree(private)


def test_exec_passes_status_input_and_user(place: Path) -> None:
    assert cluster("up", "--nodes=1", "--dir", str(place)).returncode == 0
    where = ("--dir", str(place))
    assert cluster("exec", *where, "--", "sh", "-c", "exit 7").returncode == 7
    assert cluster("exec", *where, "cat", stdin="words\n").stdout == "words\n"
    said = cluster(
        "exec", *where, "--user", "alice", "--", "sh", "-c", "id -un; id -u; pwd; echo $HOME $SLURM_CONF"
    )
    home = f"{place}/home/alice"
    assert said.stdout.split() == ["alice", "20001", home, home, f"{place}/etc/slurm.conf"]
    assert cluster("exec", *where, "--user", "carol", "--", "true").returncode == 1
    assert cluster("exec", *where).returncode == 2


def test_control_commands(place: Path) -> None:
    assert cluster("up", "--nodes=1", "--dir", str(place)).returncode == 0
    where = ("--dir", str(place))
    assert cluster("kill", *where, "slurmd.c1").returncode == 0
    assert "slurmd.c1    ended with status -9" in cluster("status", *where).stdout
    assert cluster("start", *where, "slurmd.c1").returncode == 0
    assert cluster("restart", *where, "slurmctld").returncode == 0
    status = cluster("status", *where).stdout
    assert status.count("start 2") == 2
    assert cluster("stop", *where, "slurmd.c1").returncode == 0
    assert "slurmd.c1    ended with status 0" in cluster("status", *where).stdout
    wrong = cluster("kill", *where, "slurmd.c9")
    assert wrong.returncode == 1
    assert "there are munged, slurmctld, slurmd.c1" in wrong.stderr
