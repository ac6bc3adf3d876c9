"""The scheduler port on a real Slurm: what is read, and that a hold takes nothing from the user."""

import asyncio
import json
import os
import time
from datetime import UTC, datetime

import pytest

from slurm_power.model.job import Flex, Job, JobState, Workload
from slurm_power.ports import NotRunningError, SchedulerError
from tests.slurm.bench import Bench, begin_text, blocked, running, soon

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(os.geteuid() != 0, reason="a real Slurm as plain processes needs root"),
]


def test_jobs(bench: Bench) -> None:
    job_id = bench.cluster.submit("-N2", "-n2", "--gres=gpu:h100:3", "-t", "10", "-J", "a b=c", "-A", "lab")
    tags = '{"power":{"workload":"inference","flex":"flex2"}}'
    bench.cluster.run("scontrol", "update", f"job={job_id}", f"AdminComment={tags}")
    bench.until(job_id, running)
    job = bench.job(job_id)
    assert (job.user, job.account, job.name, job.gpu_count) == ("root", "lab", "a b=c", 6)
    assert (job.workload, job.flex, job.nodes) == (Workload.INFERENCE, Flex.FLEX2, ("c1", "c2"))
    assert job.time_limit_seconds == 600
    assert job.started is not None
    assert abs((datetime.now(UTC) - job.started).total_seconds()) < 20


def test_what_a_user_asks_for(bench: Bench) -> None:
    deadline = soon(7200)
    job_id = bench.cluster.submit(
        "-n1", "-t", "10", "--begin=now+1hour", f"--deadline={begin_text(deadline)}"
    )
    power = {"flex": "flex3", "max_hold_seconds": 900, "finish_by": 1_893_456_000, "cap_watts": 400}
    power |= {"tier": "digits/full", "tiers_ok": ["int8", "small"], "min_quality": 0.95}
    wishes = json.dumps({"power": power})
    bench.cluster.run("scontrol", "update", f"job={job_id}", f"AdminComment={wishes}")
    job = bench.job(job_id)
    assert job.deadline == deadline == job.ends_by
    assert (job.max_hold_seconds, job.own_cap_watts) == (900.0, 400.0)
    assert job.finish_by == datetime(2030, 1, 1, tzinfo=UTC)
    assert (job.tier, job.tiers_ok, job.min_quality) == ("digits/full", ("int8", "small"), 0.95)
    bench.hold(job_id, 5000)
    held = bench.job(job_id)
    assert (held.deadline, held.finish_by, held.own_cap_watts) == (deadline, job.finish_by, 400.0)
    bench.release(job_id)
    assert json.loads(bench.comment(job_id)) == json.loads(wishes)


def test_which_jobs_slurm_may_queue_again(bench: Bench) -> None:
    """Batch jobs, and each task of an array, where the user has not said otherwise; no het job."""
    later = "--begin=now+1hour"
    plain, never, tasks = (
        bench.cluster.submit("-n1", later, *more) for more in (["--requeue"], ["--no-requeue"], ["-a1-2"])
    )
    het = bench.cluster.submit("-n1", later, "--requeue", ":", "-n1", later)
    found = {job_id: bench.job(job_id).requeues for job_id in (plain, never, tasks, het)}
    assert found == {plain: True, never: False, tasks: True, het: False}


def test_a_hold_expires_by_itself(bench: Bench) -> None:
    job_id = bench.cluster.submit("-n1", "--begin", "now+1hour")
    bench.cluster.run("scontrol", "update", f"job={job_id}", "StartTime=now+3")
    bench.hold(job_id, 4)
    written = time.monotonic()
    assert bench.job(job_id).state is JobState.PENDING
    bench.until(job_id, running)
    assert time.monotonic() - written > 3


def test_release_ends_the_hold_now(bench: Bench) -> None:
    job_id = blocked(bench)
    bench.cluster.run("scontrol", "update", f"job={job_id}", "StartTime=now+2")
    bench.hold(job_id, 600)
    note = json.loads(bench.comment(job_id))["power"]["hold"]
    assert note["by"] == "slurm-power"
    assert note["reason"] == "the grid is full"
    bench.release(job_id)
    assert bench.comment(job_id) in ("", "(null)")
    bench.until(job_id, running)


def test_a_later_begin_of_the_user_is_left_alone(bench: Bench) -> None:
    own = soon(1800)
    job_id = bench.cluster.submit("-n1", "--begin", begin_text(own))
    before = bench.own_fields(job_id)
    bench.hold(job_id, 60)
    assert bench.job(job_id).begin == own
    assert bench.own_fields(job_id) == before


def test_the_users_begin_comes_back_after_renewals_and_a_release(bench: Bench) -> None:
    own = soon(900)
    job_id = bench.cluster.submit("-n1", "--begin", begin_text(own))
    for seconds in (1800, 2400, 3600):
        bench.hold(job_id, seconds)
        assert (bench.job(job_id).begin or own) > own
    bench.release(job_id)
    assert bench.job(job_id).begin == own


def test_a_hold_that_shrinks_below_the_users_begin_gives_it_back(bench: Bench) -> None:
    own = soon(900)
    job_id = bench.cluster.submit("-n1", "--begin", begin_text(own))
    bench.hold(job_id, 1800)
    bench.hold(job_id, 60)
    assert bench.job(job_id).begin == own
    assert bench.comment(job_id) in ("", "(null)")


def test_a_begin_set_by_the_user_during_our_hold_wins(bench: Bench) -> None:
    job_id = bench.cluster.submit("-n1", "--begin", begin_text(soon(900)))
    bench.hold(job_id, 1800)
    own = soon(7200)
    bench.cluster.run("scontrol", "update", f"job={job_id}", f"StartTime={begin_text(own)}")
    bench.release(job_id)
    assert bench.job(job_id).begin == own


def test_a_foreign_comment_stays_and_the_begin_still_comes_back(bench: Bench) -> None:
    own = soon(900)
    job_id = bench.cluster.submit("-n1", "--begin", begin_text(own))
    bench.cluster.run("scontrol", "update", f"job={job_id}", "AdminComment=ticket 4711, do not touch")
    bench.hold(job_id, 1800)
    assert (bench.job(job_id).begin or own) > own
    assert bench.comment(job_id) == "ticket 4711, do not touch"
    bench.release(job_id)
    assert bench.job(job_id).begin == own
    assert bench.comment(job_id) == "ticket 4711, do not touch"


def test_tags_outlive_a_hold(bench: Bench) -> None:
    job_id = blocked(bench)
    tags = '{"site":{"ticket":7},"power":{"workload":"generation","flex":"flex3"}}'
    bench.cluster.run("scontrol", "update", f"job={job_id}", f"AdminComment={tags}")
    bench.hold(job_id, 600)
    held = bench.job(job_id)
    assert (held.workload, held.flex) == (Workload.GENERATION, Flex.FLEX3)
    bench.release(job_id)
    assert json.loads(bench.comment(job_id)) == json.loads(tags)


def test_a_job_held_by_its_user_is_never_touched(bench: Bench) -> None:
    job_id = bench.cluster.submit("-n1", "--hold")
    before = bench.own_fields(job_id)
    assert bench.job(job_id).held_by_user
    with pytest.raises(SchedulerError, match="left alone"):
        bench.hold(job_id, 60)
    bench.release(job_id)
    assert bench.own_fields(job_id) == before


def test_release_touches_no_job_that_we_do_not_hold(bench: Bench) -> None:
    own = soon(900)
    job_id = bench.cluster.submit("-n1", "--begin", begin_text(own))
    before = bench.own_fields(job_id)
    bench.release(job_id)
    assert bench.own_fields(job_id) == before


def test_a_user_hold_placed_during_ours_survives_our_release(bench: Bench) -> None:
    job_id = blocked(bench)
    bench.hold(job_id, 600)
    bench.cluster.run("scontrol", "hold", job_id)
    bench.release(job_id)
    job = bench.job(job_id)
    assert job.held_by_user
    assert job.state is JobState.PENDING


def test_the_pending_tasks_of_an_array_move_together_and_stay_one(bench: Bench) -> None:
    job_id = bench.cluster.submit("--array=1-21:2%2", "-n1", "--gres=gpu:1", seconds=120)
    bench.until(job_id, lambda job: job.task_count == 9)
    bench.hold(job_id, 600)
    held = bench.job(job_id)
    assert held.task_count == 9
    assert held.begin is not None
    assert held.begin > soon(500)
    others = [job for job in asyncio.run(bench.port().jobs()) if running(job)]
    assert len(others) == 2
    bench.release(job_id)
    freed = bench.job(job_id)
    assert freed.task_count == 9
    assert freed.begin is None or freed.begin <= soon(1)


def test_a_het_job_is_held_as_a_whole(bench: Bench) -> None:
    leader = bench.cluster.run(
        *("sbatch", "--parsable", "-o", "/dev/null", "-D", "/tmp", "-n1", f"--begin={begin_text(soon(6))}"),
        *("--wrap", "sleep 60", ":", "-n1"),
    ).strip()
    component = str(int(leader) + 1)
    bench.hold(component, 600)
    for job_id in (leader, component):
        assert (bench.job(job_id).begin or soon(0)) > soon(500)
    bench.release(component)
    bench.until(leader, lambda job: job.begin is None or job.begin <= datetime.now(UTC))
    # Slurm starts het jobs from its backfill cycle alone, and that runs only when something has happened.
    bench.cluster.submit("-n1", seconds=0)
    bench.until(leader, running)
    bench.until(component, running)


def test_a_running_job_cannot_be_held(bench: Bench) -> None:
    job_id = bench.cluster.submit("-n1")
    bench.until(job_id, running)
    with pytest.raises(SchedulerError, match="not pending"):
        bench.hold(job_id, 60)


def test_a_job_nobody_knows(bench: Bench) -> None:
    with pytest.raises(SchedulerError, match="not pending"):
        bench.hold("999999", 60)
    bench.release("999999")


def test_times_do_not_depend_on_our_time_zone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    own = soon(900)
    job_id = bench.cluster.submit("-n1", "--begin", begin_text(own))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        bench.hold(job_id, 1800)
        assert abs(((bench.job(job_id).begin or own) - soon(1800)).total_seconds()) < 10
        bench.release(job_id)
        assert bench.job(job_id).begin == own
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("way", ["silent_controller", "no_controller"])
def test_no_slurmctld_is_an_error_within_the_time_out(bench: Bench, way: str) -> None:
    job_id = bench.cluster.submit("-n1", "--begin", begin_text(soon(900)))
    scheduler = bench.port(timeout_seconds=1.5)
    with getattr(bench.cluster, way)():
        for call in (
            scheduler.jobs,
            lambda: scheduler.hold(job_id, 1800, "full"),
            lambda: scheduler.release(job_id),
        ):
            started = time.monotonic()
            with pytest.raises(SchedulerError, match=r"(squeue|pyslurm): "):
                asyncio.run(call())
            assert time.monotonic() - started < 2.5
    assert bench.job(job_id).state is JobState.PENDING


def suspended(job: Job) -> bool:
    return job.state is JobState.SUSPENDED


def test_a_paused_job_keeps_its_gpus_and_its_time_and_goes_on(bench: Bench) -> None:
    job_id = bench.cluster.submit("-N1", "--gres=gpu:h100:8", "-t", "10", "-w", "c1")
    bench.until(job_id, running)
    asyncio.run(bench.port().pause(job_id, 60.0, "below the cliff"))
    bench.until(job_id, suspended)
    wanted = bench.cluster.submit("-N1", "--gres=gpu:h100:1", "-t", "1", "-w", "c1")
    time.sleep(3)
    assert bench.job(wanted).state is JobState.PENDING
    ends_at = [field for field in bench.shown(job_id).split() if field.startswith("EndTime=")]
    asyncio.run(bench.port().resume(job_id))
    bench.until(job_id, running)
    assert [field for field in bench.shown(job_id).split() if field.startswith("EndTime=")] > ends_at


def test_only_a_running_job_is_paused_and_only_a_stopped_one_resumed(bench: Bench) -> None:
    job_id = bench.cluster.submit("-N1", "-n1", "-t", "10")
    bench.until(job_id, running)
    asyncio.run(bench.port().resume(job_id))
    assert running(bench.job(job_id))
    bench.cluster.run("scontrol", "suspend", job_id)
    bench.until(job_id, suspended)
    with pytest.raises(NotRunningError):
        asyncio.run(bench.port().pause(job_id, 60.0, "below the cliff"))
    bench.cluster.run("scontrol", "resume", job_id)
    asyncio.run(bench.port().resume("999999"))
    with pytest.raises(NotRunningError):
        asyncio.run(bench.port().pause("999999", 60.0, "below the cliff"))
