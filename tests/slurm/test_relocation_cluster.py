"""Relocation on a real Slurm: a job starts where nodes are left to it, and its user's words stay."""

import asyncio
import json
import os

import pytest

from slurm_power.model.job import JobState
from slurm_power.ports import SchedulerError
from tests.slurm.bench import Bench, begin_text, blocked, running, soon
from tests.slurm.cluster import Cluster, eventually

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(os.geteuid() != 0, reason="a real Slurm as plain processes needs root"),
]


@pytest.fixture(scope="module", autouse=True)
def halves(cluster: Cluster) -> None:
    """Two partitions, each with half of the nodes, beside the one over all.

    Made once: a slurmd that is told to read its configuration twice within a blink may stop responding.
    """
    with cluster.conf.open("a") as conf:
        conf.write("PartitionName=left Nodes=c[1-2]\nPartitionName=right Nodes=c[3-4] AllowGroups=nogroup\n")
    cluster.run("scontrol", "reconfigure")
    # From 23.11 on slurmctld starts anew here, and knows no node's state until that node has answered.
    eventually(lambda: states(cluster) == {"left idle", "right idle"}, 30, "the partitions")


def states(cluster: Cluster) -> set[str]:
    return set(cluster.run("sinfo", "-h", "-p", "left,right", "-o", "%R %T", check=False).splitlines())


def relocate(bench: Bench, job_id: str, *avoid: str) -> None:
    asyncio.run(bench.port().relocate(job_id, avoid, "rack1 is full"))


def excluded(bench: Bench, job_id: str) -> str:
    return bench.cluster.run("squeue", "-h", "-t", "PD", "-j", job_id, "-o", "%x").strip()


def node_of(bench: Bench, job_id: str) -> tuple[str, ...]:
    bench.until(job_id, running)
    return bench.job(job_id).nodes


def test_pools_are_the_partitions_with_nodes_that_take_jobs(bench: Bench) -> None:
    def seen() -> dict[str, tuple[tuple[tuple[str, ...], int, str], ...]]:
        return {
            pool.name: tuple((group.nodes, group.gpus_per_node, group.gpu_type) for group in pool.groups)
            for pool in asyncio.run(bench.port().pools())
        }

    eventually(lambda: seen()["left"] == ((("c1", "c2"), 8, "h100"),), 20, "both nodes to take jobs")
    assert seen()["main"] == ((("c1", "c2", "c3", "c4"), 8, "h100"),)
    bench.cluster.run("scontrol", "update", "node=c2", "state=drain", "reason=test")
    try:
        assert seen()["left"] == ((("c1",), 8, "h100"),)
    finally:
        bench.cluster.run("scontrol", "update", "node=c2", "state=resume")


def test_a_job_of_two_partitions_starts_in_the_one_that_is_left(bench: Bench) -> None:
    job_id = blocked(bench, "-p", "left,right", "--gres=gpu:h100:8")
    assert set(bench.job(job_id).pools) == {"left", "right"}
    relocate(bench, job_id, "c1", "c2")
    assert bench.job(job_id).avoids == {"c1", "c2"}
    assert excluded(bench, job_id) == "c[1-2]"
    assert set(bench.job(job_id).pools) == {"left", "right"}, "the user's list of partitions stays"
    bench.cluster.run("scontrol", "update", f"job={job_id}", "StartTime=now")
    assert node_of(bench, job_id) == ("c3",)


def test_hold_and_relocation_stand_side_by_side_and_end_one_by_one(bench: Bench) -> None:
    job_id = blocked(bench)
    bench.hold(job_id, 600)
    relocate(bench, job_id, "c1", "c2", "c3")
    bench.hold(job_id, 900)
    assert set(json.loads(bench.comment(job_id))["power"]) == {"hold", "avoid"}
    bench.release(job_id)
    assert node_of(bench, job_id) == ("c4",)


def test_what_the_user_excludes_comes_back_after_ours(bench: Bench) -> None:
    job_id = blocked(bench, "-x", "c4")
    relocate(bench, job_id, "c1")
    relocate(bench, job_id, "c1", "c2")
    assert excluded(bench, job_id) == "c[1-2,4]"
    relocate(bench, job_id)
    assert excluded(bench, job_id) == "c4"
    assert bench.comment(job_id) in ("", "(null)")
    assert bench.job(job_id).avoids == set()


def test_what_the_user_excludes_after_us_wins(bench: Bench) -> None:
    job_id = blocked(bench)
    relocate(bench, job_id, "c1")
    bench.cluster.run("scontrol", "update", f"job={job_id}", "ExcNodeList=c3")
    relocate(bench, job_id)
    assert excluded(bench, job_id) == "c3"
    assert bench.job(job_id).avoids == set()


def test_a_job_that_names_nodes_or_is_held_is_left_alone(bench: Bench) -> None:
    named, held = blocked(bench, "-w", "c1"), bench.cluster.submit("-n1", "--hold")
    assert bench.job(named).pinned
    for job_id in (named, held):
        before = bench.job(job_id)
        with pytest.raises(SchedulerError, match="left alone"):
            relocate(bench, job_id, "c2")
        relocate(bench, job_id)
        assert (excluded(bench, job_id), bench.comment(job_id)) in (("", ""), ("", "(null)"))
        assert bench.job(job_id).avoids == before.avoids == set()


def test_a_foreign_comment_or_a_started_job_refuses_and_stays(bench: Bench) -> None:
    foreign, started = blocked(bench), bench.cluster.submit("-n1")
    bench.cluster.run("scontrol", "update", f"job={foreign}", "AdminComment=ticket 4711")
    with pytest.raises(SchedulerError, match="another tool"):
        relocate(bench, foreign, "c1")
    assert excluded(bench, foreign) == ""
    bench.until(started, running)
    with pytest.raises(SchedulerError, match="not pending"):
        relocate(bench, started, "c1")
    relocate(bench, started)
    relocate(bench, "999999")
    with pytest.raises(SchedulerError, match="Invalid node name"):
        relocate(bench, blocked(bench), "nowhere")


def test_a_job_that_cannot_start_on_what_is_left_comes_back_whole(bench: Bench) -> None:
    """Slurm gives such a job priority 0, as if somebody held it; giving the nodes back heals that."""
    job_id = blocked(bench, "-N2", "-n2", "--gres=gpu:h100:8")
    relocate(bench, job_id, "c1", "c2", "c3")
    bench.cluster.run("scontrol", "update", f"job={job_id}", "StartTime=now")
    bench.until(job_id, lambda job: job.pending_reason == "BadConstraints")
    assert bench.job(job_id).held_by_user
    relocate(bench, job_id)
    assert len(node_of(bench, job_id)) == 2, "on c4 alone there was no place for it"


def test_the_waiting_tasks_of_an_array_are_sent_elsewhere_together(bench: Bench) -> None:
    job_id = bench.cluster.submit("--array=1-5%2", "-n1", "--gres=gpu:1", f"--begin={begin_text(soon(600))}")
    relocate(bench, job_id, "c1", "c2", "c3")
    assert bench.job(job_id).task_count == 5
    assert bench.job(job_id).avoids == {"c1", "c2", "c3"}
    bench.cluster.run("scontrol", "update", f"job={job_id}", "StartTime=now")
    bench.until(job_id, lambda job: job.task_count == 3)
    assert {job.nodes for job in asyncio.run(bench.port().jobs()) if running(job)} == {("c4",)}
    relocate(bench, job_id)
    assert excluded(bench, job_id) == ""


def test_a_requeued_job_still_tells_what_it_avoids(bench: Bench) -> None:
    job_id = blocked(bench, "--requeue")
    relocate(bench, job_id, "c1", "c2")
    bench.cluster.run("scontrol", "update", f"job={job_id}", "StartTime=now")
    bench.until(job_id, running)
    assert bench.job(job_id).avoids == set()
    bench.cluster.run("scontrol", "requeue", job_id)
    bench.until(job_id, lambda job: job.state is JobState.PENDING)
    assert bench.job(job_id).avoids == {"c1", "c2"}
    relocate(bench, job_id)
    assert excluded(bench, job_id) == ""
