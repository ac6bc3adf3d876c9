"""Another model tier for a job on a real Slurm: in place while it waits, and by way of the queue."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from slurm_power.model.job import JobState
from slurm_power.ports import NotRunningError, SchedulerError
from tests.slurm.bench import Bench, blocked, running
from tests.slurm.cluster import eventually

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(os.geteuid() != 0, reason="a real Slurm as plain processes needs root"),
]
TAGS = {"workload": "inference", "tier": "digits/full", "tiers_ok": ["int8"]}
REASON = "the grid is full"


def change(
    bench: Bench, job_id: str, gpu_count: int, tier: str = "digits/int8", start: float | None = None
) -> None:
    asyncio.run(bench.port().change_tier(job_id, tier, gpu_count, start, REASON))


def tag(bench: Bench, job_id: str, **more: object) -> None:
    comment = json.dumps({"power": {**TAGS, **more}})
    bench.cluster.run("scontrol", "update", f"job={job_id}", f"AdminComment={comment}")


def ended(bench: Bench, job_id: str) -> None:
    bench.until(job_id, lambda job: job.state is JobState.ENDED)


def script(bench: Bench, *options: str, ends: str) -> str:
    """A job that does ``ends`` at its first start, and stays at its second one."""
    wrap = f'[ -n "$SLURM_RESTART_COUNT" ] && sleep 60; {ends}'
    words = ("sbatch", "--parsable", "-n1", "-o", "/dev/null", "-D", "/tmp", *options, f"--wrap={wrap}")
    return bench.cluster.run(*words).strip()


def restarts(bench: Bench, job_id: str) -> int:
    return int(bench.shown(job_id).split(" Restarts=")[1].split()[0])


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        (["--gres=gpu:h100:4"], (2, 1)),
        (["--gpus=4"], (2, 1)),
        (["--gpus-per-node=2", "-N2"], (2, 2)),
        (["--gpus-per-node=4", "-N2"], (3, 1)),
    ],
)
def test_a_job_that_waits_has_the_tier_and_its_gpus(
    bench: Bench, asked: list[str], left: tuple[int, int]
) -> None:
    gpus, nodes = left
    job_id = bench.cluster.submit("-t10", "--begin=now+1hour", *asked)
    tag(bench, job_id)
    before = bench.job(job_id)
    change(bench, job_id, gpus)
    after = bench.job(job_id)
    assert (after.tier, after.gpu_count, after.node_count) == ("digits/int8", gpus, nodes)
    assert (after.tiers_ok, after.workload, after.begin) == (before.tiers_ok, before.workload, before.begin)
    power = json.loads(bench.comment(job_id))["power"]
    assert (power["tier_from"], power["tier_reason"]) == ("digits/full", REASON)
    change(bench, job_id, gpus, "digits/full")
    assert "tier_from" not in json.loads(bench.comment(job_id))["power"]
    bench.cluster.run("scontrol", "update", f"job={job_id}", "StartTime=now")
    bench.until(job_id, running)
    assert bench.job(job_id).gpu_count == gpus


def test_a_change_and_a_hold_of_ours_stand_side_by_side(bench: Bench) -> None:
    job_id = blocked(bench, "--gres=gpu:h100:4")
    tag(bench, job_id)
    begin = bench.job(job_id).begin
    bench.hold(job_id, 600)
    change(bench, job_id, 2)
    assert "hold" in json.loads(bench.comment(job_id))["power"]
    bench.release(job_id)
    job = bench.job(job_id)
    assert (job.tier, job.gpu_count, job.begin) == ("digits/int8", 2, begin)


@pytest.mark.parametrize(
    ("asked", "comment", "words"),
    [
        (["--gres=gpu:4"], "another tool's", "another tool's"),
        (["-n1", "--gpus-per-task=4"], "", "by task"),
        (["--gres=gpu:4", "--hold"], "", "held by its user"),
        ([], "", "one way alone"),
        (["--gres=gpu:4", ":", "-n1", "--gres=gpu:4"], "", "het job"),
    ],
)
def test_what_cannot_be_changed_stays_as_it_was(
    bench: Bench, asked: list[str], comment: str, words: str
) -> None:
    job_id = bench.cluster.submit("--begin=now+1hour", *asked)
    if comment:
        bench.cluster.run("scontrol", "update", f"job={job_id}", f"AdminComment={comment}")
    before = bench.own_fields(job_id)
    with pytest.raises(SchedulerError, match=words):
        change(bench, job_id, 2)
    assert bench.own_fields(job_id) == before


def test_what_slurm_refuses_leaves_nothing_half_changed(bench: Bench) -> None:
    job_id = bench.cluster.submit("--begin=now+1hour", "-n2", "-N2", "--gres=gpu:2")
    tag(bench, job_id)
    before = bench.own_fields(job_id)
    with pytest.raises(SchedulerError, match="given no more"):
        change(bench, job_id, 4_000)
    with bench.cluster.no_controller(), pytest.raises(SchedulerError):
        asyncio.run(bench.port(1.0).change_tier(job_id, "digits/int8", 1, None, REASON))
    assert bench.own_fields(job_id) == before


def test_a_running_job_is_not_changed_and_a_waiting_one_not_queued_again(bench: Bench) -> None:
    job_id = bench.cluster.submit("--gres=gpu:1")
    bench.until(job_id, running)
    with pytest.raises(SchedulerError, match="not pending"):
        change(bench, job_id, 2)
    waiting = bench.cluster.submit("--begin=now+1hour")
    with pytest.raises(NotRunningError):
        asyncio.run(bench.port().requeue(waiting))


def test_what_waits_of_an_array_is_changed_and_what_runs_of_it_stays(bench: Bench) -> None:
    first = bench.cluster.submit("-a1-3%1", "--gres=gpu:4")
    eventually(
        lambda: "R" in bench.cluster.run("squeue", "-h", "-j", first, "-o", "%t").split(), 20, "a task"
    )
    jobs = {job.state: job for job in asyncio.run(bench.port().jobs())}
    before = jobs[JobState.PENDING]
    change(bench, before.job_id, 2)
    jobs = {job.state: job for job in asyncio.run(bench.port().jobs())}
    assert (jobs[JobState.PENDING].gpu_count, jobs[JobState.PENDING].tier) == (2, "digits/int8")
    assert (jobs[JobState.RUNNING].gpu_count, jobs[JobState.RUNNING].tier) == (4, "")


def test_a_running_job_goes_by_the_queue_onto_fewer_gpus(bench: Bench) -> None:
    """It waits two minutes by Slurm's own word, so that it is changed before it starts, and starts alone."""
    job_id = bench.cluster.submit("--requeue", "--gres=gpu:h100:4")
    tag(bench, job_id)
    bench.until(job_id, running)
    asyncio.run(bench.port().requeue(job_id))
    bench.until(job_id, lambda job: job.state is JobState.PENDING)
    waits = bench.job(job_id)
    assert not waits.held_by_user
    change(bench, job_id, 2, start=3.0)
    bench.until(job_id, running)
    job = bench.job(job_id)
    assert (job.tier, job.gpu_count, restarts(bench, job_id)) == ("digits/int8", 2, 1)


def test_a_job_that_ends_with_the_word_that_it_has_saved_itself_is_queued_again(bench: Bench) -> None:
    job_id = script(bench, "--requeue", "--gres=gpu:h100:4", ends="exit 85")
    tag(bench, job_id)
    ended(bench, job_id)
    assert asyncio.run(bench.port().queue_saved(job_id))
    assert bench.job(job_id).state is JobState.PENDING
    assert not bench.job(job_id).held_by_user
    assert asyncio.run(bench.port().queue_saved(job_id)), "once more does nothing"
    change(bench, job_id, 2, start=3.0)
    bench.until(job_id, running)
    assert (bench.job(job_id).gpu_count, restarts(bench, job_id)) == (2, 1)


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        ("--requeue", "exit 1"),
        ("--requeue", "true"),
        ("--requeue", "kill -9 $$"),
        ("--no-requeue", "exit 85"),
    ],
)
def test_a_job_that_has_ended_otherwise_is_left_alone(bench: Bench, options: str, ends: str) -> None:
    job_id = script(bench, options, ends=ends)
    ended(bench, job_id)
    assert not asyncio.run(bench.port().queue_saved(job_id))
    assert bench.job(job_id).state is JobState.ENDED


def test_a_signal_would_end_what_runs_beside_in_a_step(bench: Bench, tmp_path: Path) -> None:
    """Why no move sends one: a process that a job starts for its data would be gone."""
    tmp_path.chmod(0o777)
    out = tmp_path / "out"
    inner = "trap : USR2; sleep 60 & beside=$!; echo up; while kill -0 $beside; do sleep 0.1; done;"
    inner += " wait $beside; echo gone $?"
    job_id = bench.cluster.run(
        "sbatch", "--parsable", "-n1", "-o", str(out), "-D", "/tmp", f"--wrap=srun bash -c '{inner}'"
    ).strip()
    eventually(lambda: out.exists() and "up" in out.read_text(), 20, "the step")
    bench.cluster.run("scancel", "--signal=USR2", job_id)
    eventually(lambda: "gone 140" in out.read_text(), 20, "the process beside to be ended by USR2")
