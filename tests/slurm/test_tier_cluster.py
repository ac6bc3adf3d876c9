"""A job's tier and GPUs changed while it waits, on a real Slurm: in one request, whole or not at all."""

import asyncio
import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.cluster.lab import Lab
from containers.cluster.layout import CHECKOUT, Options
from containers.cluster.lifecycle import up
from containers.cluster.slurm_root import outside_path
from slurm_power.model.job import Job, JobState
from slurm_power.ports import NotRunningError, SchedulerError
from tests.slurm.bench import Bench, begin_text, blocked, running, soon
from tests.slurm.cluster import Cluster, eventually
from tests.spank.building import PLUGIN_FLAGS, SOURCES
from tests.versions.chosen import chosen_root

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(os.geteuid() != 0, reason="a real Slurm as plain processes needs root"),
]
LATER = "--begin=now+1hour"
WISHES = '{"site":7,"power":{"tier":"digits/full","tiers_ok":["int8"]}}'
SCRIPT = "printenv SLURM_GPUS_PER_NODE SLURM_GPUS; srun printenv CUDA_VISIBLE_DEVICES"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Our plugin and our TaskProlog lie there; each is used where a test says so. There is no powerd."""
    started = up(Options(nodes=2, slurm_root=chosen_root()))
    etc = started.lab.layout.etc
    sources = [str(source) for source in SOURCES]
    built = ["cc", *PLUGIN_FLAGS, "-o", str(etc / "slurm_power.so"), *sources]
    started.lab.run(built, timeout_seconds=60.0)
    shutil.copy(CHECKOUT / "prolog_epilog/task_prolog", etc / "our_task_prolog")
    started.lab.run(["mv", str(etc / "task_prolog"), str(etc / "labs_task_prolog")])
    chosen = f"#!/bin/sh\n[ -e {etc}/no_ours ] || SLURM_SCRIPT_CONTEXT=prolog_task {etc}/our_task_prolog\n"
    (etc / "task_prolog").write_text(f"{chosen}exec {etc}/labs_task_prolog\n")
    (etc / "task_prolog").chmod(0o755)
    yield started.lab
    started.down()


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", outside_path(lab))
        yield Cluster(lab)


def change(bench: Bench, job_id: str, gpu_count: int, start_in_seconds: float | None = None) -> None:
    words = (job_id, "digits/int8", gpu_count, start_in_seconds, "the grid is short")
    asyncio.run(bench.port().change_tier(*words))


def with_wishes(bench: Bench, *options: str) -> str:
    job_id = bench.cluster.submit(LATER, *options)
    bench.cluster.run("scontrol", "update", f"job={job_id}", f"AdminComment={WISHES}")
    return job_id


def test_tier_gpus_and_start_at_once(bench: Bench) -> None:
    job_id = with_wishes(bench, "--gres=gpu:4", "--requeue")
    change(bench, job_id, 2, 2.0)
    assert bench.job(job_id).tier == "digits/int8"
    bench.until(job_id, running)
    assert (bench.job(job_id).gpu_count, bench.job(job_id).tiers_ok) == (2, ("int8",))
    power = {"tier": "digits/int8", "tier_from": "digits/full", "tier_reason": "the grid is short"}
    assert json.loads(bench.comment(job_id)) == {"site": 7, "power": {"tiers_ok": ["int8"], **power}}


@pytest.mark.parametrize(
    "asked",
    [
        ["--gpus=4"],
        ["--gpus-per-node=4"],
        ["--gres=gpu:h100:4"],
        ["-N2", "--gres=gpu:2"],
        ["-N2", "--ntasks-per-node=1", "--gpus-per-node=2"],
    ],
    ids=" ".join,
)
def test_each_way_to_ask_for_gpus(bench: Bench, asked: list[str]) -> None:
    job_id = with_wishes(bench, *asked)
    before = bench.own_fields(job_id)
    change(bench, job_id, 2)
    assert bench.job(job_id).gpu_count == 2
    after = bench.own_fields(job_id)
    changed = {key for key in after if after[key] != before[key]}
    assert changed <= {"AdminComment", "TRES"}, "neither its start nor anything else"


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (["--gpus-per-task=4", "-n1"], "cannot be changed|in one way alone"),
        (["-N2", "--gpus=4"], None),
        (["-N2", "--gres=gpu:4"], None),
        ([], "in one way alone"),
        (["--gpus=4", ":", "-n1", LATER], "het job"),
        (["--gres=gpu:4", "--hold"], "held by its user"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_refusal_leaves_a_job_as_it_was(bench: Bench, asked: list[str], why: str | None) -> None:
    job_id = with_wishes(bench, *asked)
    before = bench.own_fields(job_id)
    with pytest.raises(SchedulerError, match=why or "1 GPUs cannot be divided among its 2 nodes"):
        change(bench, job_id, 1 if why is None else 2, 1.0)
    assert bench.own_fields(job_id) == before


def test_another_tool_s_comment_is_left_alone(bench: Bench) -> None:
    job_id = bench.cluster.submit("-n1", LATER, "--gres=gpu:4")
    bench.cluster.run("scontrol", "update", f"job={job_id}", "AdminComment=of another tool")
    for refused in (change, lambda *_: asyncio.run(bench.port().check_tier(job_id, 2))):
        with pytest.raises(SchedulerError, match="another tool's"):
            refused(bench, job_id, 2)
    assert bench.comment(job_id) == "of another tool"


def test_what_waits_of_an_array_is_changed_as_one(bench: Bench) -> None:
    job_id = with_wishes(bench, "--gres=gpu:8", "--array=1-3")
    bench.cluster.run("scontrol", "update", f"job={job_id}_1", "StartTime=now")

    def waits() -> list[Job]:
        jobs = asyncio.run(bench.port().jobs())
        return [job for job in jobs if job.state is JobState.PENDING]

    eventually(lambda: [job.task_count for job in waits()] == [2], 20, "two tasks that wait")
    (left,) = waits()
    change(bench, left.job_id, 4)
    (left,) = waits()
    assert (left.tier, left.gpu_count, left.task_count) == ("digits/int8", 4, 2)
    started = [job for job in asyncio.run(bench.port().jobs()) if running(job)]
    assert [(job.tier, job.gpu_count) for job in started] == [("digits/full", 8)]


def test_a_running_job_is_checked_first_and_told_then(bench: Bench, tmp_path: Path) -> None:
    """What could not be changed afterwards is not asked to save itself for nothing."""
    port, seen = bench.port(), tmp_path / "seen"
    # The steps get the signal, the script does not.
    step = f"trap 'touch {seen}; exit 85' USR2; touch {tmp_path}/ready; while :; do sleep 0.1; done"
    script = tmp_path / "script"
    script.write_text(f'#!/bin/bash\ntrap "touch {tmp_path}/wrong" USR2\nsrun bash -c "{step}"\n')
    words = ["-o", "/dev/null", "-D", "/tmp", "-N2", "-n2", "--gres=gpu:2", "--requeue", str(script)]
    job_id = bench.cluster.run("sbatch", "--parsable", *words).strip()
    eventually((tmp_path / "ready").exists, 20, "the step")
    asyncio.run(port.check_tier(job_id, 2))
    with pytest.raises(SchedulerError, match="3 GPUs cannot be divided among its 2 nodes"):
        asyncio.run(port.check_tier(job_id, 3))
    with pytest.raises(SchedulerError, match="not pending"):
        change(bench, job_id, 2)
    asyncio.run(port.ask_to_save(job_id))
    eventually(seen.exists, 20, "the signal")
    assert not (tmp_path / "wrong").exists()


def test_one_task_of_an_array_alone_is_asked_queued_again_or_stopped(bench: Bench) -> None:
    """The last one has the array's own number, which for Slurm's commands means all tasks."""
    words = ["-o", "/dev/null", "-D", "/tmp", "--array=1-2", "--requeue", "--wrap", "srun sleep 60"]
    array = bench.cluster.run("sbatch", "--parsable", *words).strip()
    eventually(lambda: sum(running(job) for job in asyncio.run(bench.port().jobs())) == 2, 20, "both tasks")

    def states() -> set[tuple[str, JobState]]:
        shown = asyncio.run(bench.port().jobs())
        return {(job.job_id, job.state) for job in shown if job.state is not JobState.ENDED}

    (other,) = {job_id for job_id, _ in states()} - {array}
    asyncio.run(bench.port().pause(array, 60.0, "short"))
    bench.until(array, lambda job: job.state is JobState.SUSPENDED)
    assert states() == {(array, JobState.SUSPENDED), (other, JobState.RUNNING)}
    asyncio.run(bench.port().resume(array))
    bench.until(array, running)
    asyncio.run(bench.port().requeue(array))
    bench.until(array, lambda job: job.state is JobState.PENDING)
    assert states() == {(array, JobState.PENDING), (other, JobState.RUNNING)}
    bench.cluster.run("scontrol", "update", f"job={array}_2", "StartTime=now+3")
    bench.until(array, running, 40)

    def ended() -> bool:
        with contextlib.suppress(NotRunningError):  # its step may not be there yet to be told
            asyncio.run(bench.port().ask_to_save(array))
        return bench.job(array).state is JobState.ENDED

    eventually(ended, 20, "the end of the step that got the signal")
    assert states() == {(other, JobState.RUNNING)}


def test_queued_again_it_waits_and_starts_by_itself(bench: Bench) -> None:
    job_id = with_wishes(bench, "--gres=gpu:4", "--requeue")
    bench.cluster.run("scontrol", "update", f"job={job_id}", "StartTime=now")
    bench.until(job_id, running)
    asyncio.run(bench.port().requeue(job_id))
    bench.until(job_id, lambda job: job.state is JobState.PENDING)
    begin = bench.job(job_id).begin
    assert begin is not None
    assert 60.0 < begin.timestamp() - time.time() < 180.0, "long enough to be changed, and no hold"
    change(bench, job_id, 2, 3.0)
    bench.until(job_id, running, 40)
    assert bench.job(job_id).gpu_count == 2


def test_only_who_runs_can_be_asked_or_queued_again(bench: Bench) -> None:
    waits = blocked(bench)
    for job_id in (waits, "99999"):
        with pytest.raises(NotRunningError):
            asyncio.run(bench.port().ask_to_save(job_id))
        with pytest.raises(NotRunningError):
            asyncio.run(bench.port().requeue(job_id))
    with pytest.raises(SchedulerError):
        change(bench, "99999", 2)
    with pytest.raises(SchedulerError, match="gone"):
        asyncio.run(bench.port().check_tier("99999", 2))


@pytest.mark.parametrize("by", ["plugin", "task_prolog"])
@pytest.mark.parametrize(
    ("asked", "printed"),
    [
        (["--gpus-per-node=h100:4"], ["h100:2", "0,1"]),
        (["--gpus=4"], ["2", "0,1"]),
        (["--gpus-per-node=4", "--ntasks-per-node=1"], ["2", "0,1"]),
        (["--gres=gpu:4"], ["0,1"]),
    ],
    ids=" ".join,
)
def test_the_script_of_a_changed_job_finds_its_gpus_and_its_steps_start(
    bench: Bench, lab: Lab, by: str, asked: list[str], printed: list[str]
) -> None:
    etc = lab.layout.etc
    (etc / "plugstack.conf").write_text(f"optional {etc}/slurm_power.so\n" if by == "plugin" else "")
    (etc / "no_ours").touch() if by == "plugin" else (etc / "no_ours").unlink(missing_ok=True)
    out = lab.run_directory / f"home/alice/{by}-{'-'.join(asked)}.out"
    out.unlink(missing_ok=True)
    words = ["sbatch", "--parsable", f"--begin={begin_text(soon(3600))}", f"--output={out}", *asked]
    done = lab.run(
        [*words, f"--wrap={SCRIPT}"], user="alice", environment={"SLURM_POWER_TIER": "digits/full"}
    )
    job_id = done.stdout.strip()
    change(bench, job_id, 2, 0.0)
    bench.until(job_id, lambda job: job.state is JobState.ENDED, 30)
    assert out.read_text().splitlines() == printed
