"""A job's tier and GPUs changed while it waits, on a real Slurm: in one request, whole or not at all."""

import asyncio
import json
import os
import shutil
from collections.abc import Iterator

import pytest

from containers.cluster.lab import Lab
from containers.cluster.layout import CHECKOUT, Options
from containers.cluster.lifecycle import up
from containers.cluster.slurm_root import outside_path
from slurm_power.model.job import JobState
from slurm_power.ports import SchedulerError
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.scheduler_cli import CliScheduler
from tests.slurm.bench import Bench, begin_text, running, soon
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


def test_a_running_job_is_checked_first(bench: Bench) -> None:
    """What could not be changed afterwards is not asked to save itself for nothing."""
    job_id = bench.cluster.submit("-N2", "-n2", "--gres=gpu:2", "--requeue")
    bench.until(job_id, running)
    before = bench.own_fields(job_id)
    asyncio.run(bench.port().check_tier(job_id, 2))
    with pytest.raises(SchedulerError, match="3 GPUs cannot be divided among its 2 nodes"):
        asyncio.run(bench.port().check_tier(job_id, 3))
    with pytest.raises(SchedulerError, match="gone"):
        asyncio.run(bench.port().check_tier("99999", 2))
    assert bench.own_fields(job_id) == before


def test_one_task_of_an_array_alone_is_stopped_and_queued_again(bench: Bench) -> None:
    """The last one has the array's own number, which for Slurm's commands means all tasks."""
    ends = '[ "$SLURM_ARRAY_TASK_ID$SLURM_RESTART_COUNT" != 21 ] || exit 85; sleep 60'
    words = ["-o", "/dev/null", "-D", "/tmp", "--array=1-2", "--requeue", f"--wrap={ends}"]
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
    bench.until(array, lambda job: job.state is JobState.ENDED, 40)
    assert asyncio.run(bench.port().queue_saved(array))
    assert states() == {(array, JobState.PENDING), (other, JobState.RUNNING)}


def test_the_licence_of_watts_follows_the_gpus(bench: Bench) -> None:
    """Else the job would wait for power that it no longer needs."""
    job_id = with_wishes(bench, "--gres=gpu:4", "--licenses=watts:4000")
    commands = CommandRunner(bench.cluster.conf)
    holds = bench.cluster.conf.parent / "holds.json"
    scheduler = CliScheduler(commands, hold_file=holds, licence="watts")
    asyncio.run(scheduler.change_tier(job_id, "digits/int8", 2, None, "short"))
    assert bench.own_fields(job_id)["Licenses"] == "watts:2000"
    assert bench.job(job_id).gpu_count == 2


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
