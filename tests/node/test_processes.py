"""From a PID to its Slurm job, on trees that look like /proc of machines with and without cgroups."""

from pathlib import Path

import pytest

from slurm_power.node.processes import JobStep, Processes, step_of_cgroup, step_of_stepd

V1 = """\
12:cpuset:/slurm/uid_20001/job_17/step_0
11:memory:/slurm/uid_20001/job_17/step_0/task_0
10:devices:/slurm/uid_20001/job_17/step_0
1:name=systemd:/system.slice/slurmd.service
0::/
"""
V1_NODE = "9:freezer:/slurm_c1/uid_20001/job_17/step_batch\n"
V2 = "0::/system.slice/slurmstepd.scope/job_17/step_batch/user/task_0\n"
V2_JOB_ONLY = "0::/system.slice/c1_slurmstepd.scope/job_17\n"
LOGIN = "0::/user.slice/user-1000.slice/session-3.scope\n"
A_USER_S_OWN = "0::/user.slice/user-1000.slice/job_99/step_0\n"


@pytest.mark.parametrize(
    ("text", "step"),
    [
        (V1, JobStep(job_id="17", step="0")),
        (V1_NODE, JobStep(job_id="17", step="batch")),
        (V2, JobStep(job_id="17", step="batch")),
        (V2_JOB_ONLY, JobStep(job_id="17")),
        (LOGIN, None),
        (A_USER_S_OWN, None),
        ("", None),
        ("nonsense", None),
    ],
)
def test_the_cgroup_names_the_step(text: str, step: JobStep | None) -> None:
    assert step_of_cgroup(text) == step


@pytest.mark.parametrize(
    ("line", "step"),
    [
        (b"slurmstepd: [17.batch]\0", JobStep(job_id="17", step="batch")),
        (b"slurmstepd: [17.0]", JobStep(job_id="17", step="0")),
        (b"slurmstepd: [18.1+2]", JobStep(job_id="18", step="1+2")),
        (b"/usr/sbin/slurmd\0-D", None),
        (b"", None),
    ],
)
def test_a_slurmstepd_names_its_step(line: bytes, step: JobStep | None) -> None:
    assert step_of_stepd(line) == step


class Tree:
    """A folder that looks like /proc."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, pid: int, name: str, *, parent: int, uid: int, cgroup: str = LOGIN, line: str = "") -> None:
        folder = self.root / str(pid)
        folder.mkdir()
        status = f"Name:\t{name}\nState:\tS (sleeping)\nPPid:\t{parent}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"
        (folder / "status").write_text(status)
        (folder / "cgroup").write_text(cgroup)
        (folder / "cmdline").write_bytes(line.encode() + b"\0")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_cgroups_come_first(tree: Tree) -> None:
    tree.add(300, "python3", parent=1, uid=20001, cgroup=V2)
    (found,) = Processes(tree.root).found([300])
    assert (found.name, found.uid, found.job) == ("python3", 20001, JobStep(job_id="17", step="batch"))


def test_without_cgroups_the_slurmstepd_above_tells(tree: Tree) -> None:
    tree.add(100, "slurmstepd", parent=1, uid=0, line="slurmstepd: [17.0]")
    tree.add(200, "bash", parent=100, uid=20001)
    tree.add(300, "python3", parent=200, uid=20001)
    (found,) = Processes(tree.root).found([300])
    assert found.job == JobStep(job_id="17", step="0")


def test_a_user_who_calls_a_process_slurmstepd_is_not_believed(tree: Tree) -> None:
    tree.add(100, "bash", parent=1, uid=20001, line="slurmstepd: [99.0]")
    tree.add(300, "python3", parent=100, uid=20001)
    (found,) = Processes(tree.root).found([300])
    assert found.job is None


def test_one_that_has_ended_is_left_out_and_a_loop_of_parents_ends(tree: Tree) -> None:
    tree.add(300, "a", parent=301, uid=5)
    tree.add(301, "b", parent=300, uid=5)
    (found,) = Processes(tree.root).found([300, 999])
    assert (found.pid, found.job) == (300, None)
    (tree.root / "301" / "status").write_text("garbage")
    assert Processes(tree.root).found([301]) == ()
