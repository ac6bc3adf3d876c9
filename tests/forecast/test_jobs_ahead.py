"""Who may end and who starts: run times, paths that need room, and what a log shows of it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.forecast.backtest_jobs import JobsScore, LoggedJob, judge
from slurm_power.forecast.jobs_ahead import ChangePaths, PlannedStart, RunningJob, change_paths
from slurm_power.forecast.run_times import JobKind, RunTimes

KIND = JobKind("alice", 8.0, 7_200.0)
STEPS = np.arange(1.0, 31.0) * 60.0


def chance() -> np.random.Generator:
    return np.random.default_rng(1)


def learned(*minutes: float, kind: JobKind = KIND) -> RunTimes:
    times = RunTimes()
    for each in minutes:
        times.ended(kind, 60.0 * each)
    return times


def ahead(
    running: list[RunningJob], planned: list[PlannedStart], times: RunTimes, free: float
) -> ChangePaths:
    return change_paths(
        running, planned, times, steps_seconds=STEPS, free_gpus=free, total_gpus=64.0, chance=chance()
    )


def test_without_any_record_a_job_runs_to_its_limit() -> None:
    assert set(RunTimes().remaining(KIND, 600.0, chance(), 50)) == {6_600.0}


def test_the_users_own_runs_weigh_more_than_others() -> None:
    times = learned(*[10.0] * 30)
    for _ in range(300):
        times.ended(JobKind("bob", 8.0, 7_200.0), 6_000.0)
    drawn = times.remaining(KIND, 0.0, chance(), 1_000)
    assert np.mean(drawn == 600.0) > 0.6
    assert np.mean(times.remaining(JobKind("bob", 8.0, 7_200.0), 0.0, chance(), 1_000) == 6_000.0) > 0.8


def test_who_was_ended_by_a_limit_is_ended_by_the_next() -> None:
    times = learned(*[60.0] * 30, kind=replace(KIND, limit_seconds=3_600.0))
    assert np.mean(times.remaining(KIND, 0.0, chance(), 1_000) == KIND.limit_seconds) > 0.95


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.0, 1e6), st.floats(1.0, 1e6), st.floats(0.5, 1e4)), max_size=30),
    st.floats(0.0, 1e6),
)
def test_what_remains_is_more_than_nothing(runs: list[tuple[float, float, float]], elapsed: float) -> None:
    times = RunTimes()
    for seconds, limit, gpus in runs:
        times.ended(JobKind("alice", gpus, limit), seconds)
    drawn = times.remaining(KIND, elapsed, chance(), 20)
    assert np.isfinite(drawn).all() and (drawn > 0.0).all()


def test_a_planned_start_is_a_step_at_its_time() -> None:
    seen = ahead([], [PlannedStart(KIND, 5_000.0, 600.0)], learned(100.0), free=8.0)
    assert list(seen.quantile(0.5)) == [0.0] * 9 + [5_000.0] * 21


def test_a_start_that_needs_room_tells_that_somebody_ends() -> None:
    # Runs last 10 to 120 minutes: that this one ends within the next few is unlikely by itself.
    times = learned(*range(10, 121, 2))
    running = [RunningJob(KIND, 4_000.0, 0.0)]
    start = [PlannedStart(JobKind("bob", 8.0, 7_200.0), 5_000.0, 1_200.0)]
    roomy, tight = ahead(running, start, times, free=8.0), ahead(running, start, times, free=0.0)
    assert roomy.quantile(0.5)[19] == 5_000.0
    assert tight.quantile(0.5)[19] == 1_000.0


def test_nothing_running_and_nothing_planned_is_no_change() -> None:
    seen = ahead([], [], RunTimes(), free=64.0)
    assert not seen.quantile(0.1).any() and not seen.quantile(0.9).any()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.0, 7_000.0), min_size=1, max_size=6), st.floats(0.0, 1_800.0))
def test_quantiles_keep_their_order(elapsed: list[float], at: float) -> None:
    running = [RunningJob(KIND, 100.0 * (row + 1), seconds) for row, seconds in enumerate(elapsed)]
    seen = ahead(running, [PlannedStart(KIND, 900.0, at)], learned(*range(1, 120)), free=0.0)
    low, middle, high = (seen.quantile(ratio) for ratio in (0.1, 0.5, 0.9))
    assert (low <= middle).all() and (middle <= high).all()
    assert (low >= -sum(job.watts for job in running)).all() and (high <= 900.0).all()


def log(count: int = 300, *, seed: int = 1) -> list[LoggedJob]:
    """Up to four jobs of 16 GPUs at a time, each queued long before it starts, and pauses between them."""
    draws = np.random.default_rng(seed)
    free_at = [0.0] * 4
    jobs = []
    for number in range(count):
        lane = int(np.argmin(free_at))
        start, seconds = free_at[lane], float(draws.choice([1_200.0, 5_400.0]))
        kind = JobKind(f"user{number % 3}", 16.0, 7_200.0)
        watts = float(draws.uniform(4_000.0, 10_000.0))
        jobs.append(LoggedJob(kind, watts, max(0.0, start - 7_000.0), start, start + seconds))
        free_at[lane] = start + seconds + float(draws.uniform(0.0, 3_600.0))
    return jobs


def judged(jobs: list[LoggedJob], horizon_seconds: float = 1_800.0) -> JobsScore:
    return judge(jobs, horizon_seconds=horizon_seconds, origins=60, total_gpus=64.0, clock=lambda: 0.0)


def test_known_starts_pay_and_true_ends_are_a_bound() -> None:
    found = judged(log())
    assert found.true_ends is not None and found.planned is not None and found.nothing_planned is not None
    assert found.true_ends < 0.01, "all starts were queued long before"
    assert found.planned < 0.8 * found.nothing_planned
    assert found.nothing_planned < 1.05
    assert found.coverage_ratio > 0.7


def test_a_job_submitted_after_the_origin_is_never_visible() -> None:
    early, late = log(), log()
    late = [replace(job, submit_seconds=job.start_seconds) for job in late]
    assert judged(late).planned == pytest.approx(judged(late).nothing_planned), "no start is known"
    assert judged(early).planned != judged(late).planned


def test_what_ends_after_the_origin_changes_nothing_that_was_said() -> None:
    jobs = log()
    at = jobs[200].start_seconds + 60.0
    spoilt = [
        replace(job, end_seconds=job.end_seconds + 50_000.0) if job.end_seconds > at else job for job in jobs
    ]
    from slurm_power.forecast.backtest_jobs import _Log

    times = learned(*range(10, 121, 2))
    said = [
        _Log(each).ahead(at, times, STEPS, None, with_starts=True).change_watts for each in (jobs, spoilt)
    ]
    assert np.array_equal(said[0], said[1])
    assert said[0].any()


def test_jobs_that_follow_each_other_at_once_need_no_more_gpus() -> None:
    from slurm_power.forecast.backtest_jobs import _Log

    first = LoggedJob(KIND, 1_000.0, 0.0, 0.0, 3_600.0)
    second = LoggedJob(KIND, 4_000.0, 0.0, 3_600.0, 7_200.0)
    seen = _Log([first, second]).ahead(2_400.0, learned(*range(41, 121)), STEPS, None, with_starts=True)
    assert seen.quantile(0.5)[-1] == 3_000.0, "8 GPUs at once: the second needs those of the first"
    late = _Log([first, second]).ahead(3_600.0, learned(*range(41, 121)), STEPS, None, with_starts=True)
    assert late.weights.tolist() == [1.0] * len(late.weights)
    assert _Log([first, second]).most_used_gpus(7_000.0) == 8.0


@pytest.mark.parametrize("jobs", [[], log(1)])
def test_a_log_too_short_is_refused(jobs: list[LoggedJob]) -> None:
    with pytest.raises(ValueError, match="too short"):
        judged(jobs, 86_400.0)


def test_a_log_in_which_nothing_changes_has_no_ratio() -> None:
    job = LoggedJob(KIND, 100.0, 0.0, 0.0, 1_000_000.0)
    found = judged([job, replace(job, watts=0.0)])
    assert (found.planned, found.at_end, found.persistence_watts) == (None, None, 0.0)
