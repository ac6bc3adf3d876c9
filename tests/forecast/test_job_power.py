"""Watts per GPU at submission: from whom they are learned, how soon, and what is said before."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.forecast.backtest_job_power import SubmittedJob, judge_power
from slurm_power.forecast.job_power import JobPowers, Submission, name_stem

CLASSES = {"training": 600.0, "inference": 350.0}
JOB = Submission(user="alice", name="bert-run1", workload="training", gpus=8.0)


def powers() -> JobPowers:
    return JobPowers(CLASSES, 500.0)


def test_before_any_job_the_class_says_it() -> None:
    expected = powers().expect(JOB)
    assert (expected.mean_watts, expected.known_from, expected.jobs) == (600.0, "class default", 0)
    assert expected.p95_watts == pytest.approx(750.0)
    assert powers().expect(Submission(user="bob")).mean_watts == 500.0


def test_the_same_code_of_the_same_user_says_it_best() -> None:
    known = powers()
    for run in range(5):
        known.ended(Submission(user="alice", name=f"bert-run{run}", workload="training", gpus=8.0), 420.0)
        known.ended(Submission(user="alice", name=f"gnn_{run}", workload="training", gpus=8.0), 250.0)
        known.ended(Submission(user="bob", name=f"bert-run{run}", workload="training", gpus=8.0), 690.0)
    bert, gnn = (
        known.expect(JOB),
        known.expect(Submission(user="alice", name="gnn_9", workload="training", gpus=8.0)),
    )
    assert bert.mean_watts == pytest.approx(420.0, abs=12.0)
    assert gnn.mean_watts == pytest.approx(250.0, abs=12.0)
    assert (bert.known_from, bert.jobs) == ("your jobs of this name and size", 5)
    new = known.expect(Submission(user="alice", name="other", workload="training", gpus=8.0))
    assert 250.0 < new.mean_watts < 690.0
    assert new.known_from == "your jobs"
    assert new.p95_watts - new.mean_watts > 3.0 * (bert.p95_watts - bert.mean_watts), "less is known of it"


def test_code_that_has_changed_is_followed() -> None:
    known = powers()
    for _ in range(60):
        known.ended(JOB, 300.0)
    for _ in range(40):
        known.ended(JOB, 500.0)
    assert known.expect(JOB).mean_watts > 430.0


def test_names_of_runs_of_the_same_thing() -> None:
    assert name_stem("BERT-run12") == name_stem("bert-run3")
    assert name_stem("llama-7b-run1") == name_stem("llama-7b-run2") != name_stem("llama-70b-run1")
    assert name_stem("sweep_4f3a9bc01") == name_stem("sweep_77abce012")
    assert name_stem("train_2026-11-27") == name_stem("train_2026-11-28")


@pytest.mark.parametrize("seed", range(4))
def test_after_twenty_jobs_it_is_far_better_than_the_users_mean(seed: int) -> None:
    """Each user has some codes of their own, with a draw each, and runs that differ."""
    draws = np.random.default_rng(seed)
    codes = {(user, code): draws.uniform(200.0, 690.0) for user in range(8) for code in range(4)}
    known, ours, mean_of_user = powers(), [], []
    seen: dict[int, list[float]] = {user: [] for user in range(8)}
    for number in range(600):
        user, code = int(draws.integers(8)), int(draws.integers(4))
        job = Submission(user=f"u{user}", name=f"code{'abcd'[code]}-{number}", workload="training", gpus=8.0)
        watts = float(codes[user, code] * draws.normal(1.0, 0.05))
        if len(seen[user]) >= 20:
            ours.append(abs(known.expect(job).mean_watts - watts))
            mean_of_user.append(abs(float(np.mean(seen[user])) - watts))
        known.ended(job, watts)
        seen[user].append(watts)
    assert np.mean(ours) < 0.4 * np.mean(mean_of_user)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["x1", "y"]), st.floats(0.0, 1e5))))
def test_it_stays_within_what_was_seen(runs: list[tuple[str, str, float]]) -> None:
    known = powers()
    for user, name, watts in runs:
        known.ended(Submission(user=user, name=name, workload="training"), watts)
    expected = known.expect(Submission(user="a", name="x2", workload="training"))
    seen = [600.0, *(watts for _, _, watts in runs)]
    assert min(seen) - 1e-6 <= expected.mean_watts <= max(seen) + 1e-6
    assert math.isfinite(expected.p95_watts) and expected.p95_watts >= expected.mean_watts


@pytest.mark.parametrize("watts", [-1.0, math.nan, math.inf])
def test_what_is_no_power_is_refused(watts: float) -> None:
    known = powers()
    with pytest.raises(ValueError, match="is no power"):
        known.ended(JOB, watts)
    assert known.expect(JOB).known_from == "class default"


def submitted(watts: list[float], *, ends_after: float = 1.0) -> list[SubmittedJob]:
    return [
        SubmittedJob(Submission(user="alice", name="x"), each, 10.0 * number, 10.0 * number + ends_after)
        for number, each in enumerate(watts)
    ]


def test_nothing_is_learned_from_a_job_before_it_has_ended() -> None:
    (only,) = judge_power(submitted([200.0] * 40, ends_after=1e6))
    assert (only.from_jobs, only.jobs, only.mae_watts) == (0, 40, 300.0), "all are told what the first was"
    curve = judge_power(submitted([200.0] * 40))
    assert [score.from_jobs for score in curve] == [0, 1, 5, 20]
    assert curve[-1].mae_watts < curve[1].mae_watts < curve[0].mae_watts
    assert curve[-1].ratio is None, "the user's mean is exact"
