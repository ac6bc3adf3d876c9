"""The bench's re-samplings: whole weeks, repeatable, and played by the machine's own scheduler."""

from containers.bench.jobs_level import machine, resampled
from slurm_power.plan.policy import Policy
from slurm_power.simulate.cluster import Hardware
from slurm_power.simulate.flex_mix import DEFAULT_MIX
from slurm_power.simulate.job_logs import JobLog, LoggedJob
from slurm_power.simulate.jobs_case import populate

WEEK = 7 * 86_400.0


def log() -> JobLog:
    """Ten weeks; each hour a user of the week submits a job."""
    return JobLog(
        jobs=tuple(
            LoggedJob(
                job_id=str(number),
                user=f"week{int(3600.0 * number // WEEK)}",
                gpus=8,
                submit_seconds=3600.0 * number,
                start_seconds=3600.0 * number,
                run_seconds=1800.0,
                watts_per_gpu=500.0,
            )
            for number in range(10 * 168)
        )
    )


def test_weeks_are_drawn_whole_and_the_first_never() -> None:
    one = resampled(log(), 3)
    assert one == resampled(log(), 3) != resampled(log(), 4)
    assert len(one.jobs) == 7 * 168
    assert "week0" not in {job.user for job in one.jobs}
    for place in range(7):
        inside = [job for job in one.jobs if place * WEEK <= job.submit_seconds < (place + 1) * WEEK]
        assert len(inside) == 168
        assert len({job.user for job in inside}) == 1


def test_the_machine_starts_them_itself() -> None:
    found = populate(resampled(log(), 3), machine(), Policy(), Hardware(), DEFAULT_MIX, 3)
    assert all(job.ready_seconds == job.submit_seconds for job in found.jobs)
    assert found.extra_gpus == 0
