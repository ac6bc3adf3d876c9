"""Watts per GPU at submission: from whom they are learned, how soon, and what is said before."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.forecast.backtest_job_power import SubmittedJob, judge_power
from slurm_power.forecast.job_power import JobPowers, Submission, batch_in, name_stem
from slurm_power.model.expected_power import PowerShape

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


SHAPE = PowerShape(
    mean_watts=420.0, p95_watts=520.0, start_step_watts=500.0, ramp_seconds=30.0, swing_watts=250.0
)


def taught(jobs: int = 8, shape: PowerShape = SHAPE) -> JobPowers:
    known = JobPowers(CLASSES, 500.0, idle_watts=75.0)
    for _ in range(jobs):
        known.ended(JOB, shape.mean_watts, shape)
    return known


def test_the_whole_shape_is_expected() -> None:
    found = taught().expect(JOB)
    assert found.mean_watts == pytest.approx(420.0, abs=2.0)
    assert found.p95_watts == pytest.approx(520.0, abs=8.0)
    assert found.start_step_watts == pytest.approx(500.0, abs=2.0)
    assert found.ramp_seconds == pytest.approx(30.0, abs=0.5)
    assert found.swing_watts == pytest.approx(250.0, abs=2.0)
    new = JobPowers(CLASSES, 500.0, idle_watts=75.0).expect(JOB)
    assert (new.start_step_watts, new.ramp_seconds, new.swing_watts) == (525.0, 0.0, 0.0)


def test_what_a_job_draws_itself_counts_the_more_the_longer_it_runs() -> None:
    other = PowerShape(
        mean_watts=620.0, p95_watts=660.0, start_step_watts=560.0, ramp_seconds=5.0, swing_watts=40.0
    )
    known = taught()
    means = [known.expect(JOB, other, seconds).mean_watts for seconds in (0.0, 30.0, 120.0, 3600.0)]
    assert means[0] == pytest.approx(420.0, abs=2.0)
    assert means == sorted(means)
    assert means[2] == pytest.approx(520.0, abs=3.0)
    late = known.expect(JOB, other, 3600.0)
    assert late.mean_watts == pytest.approx(620.0, abs=10.0)
    assert late.p95_watts == pytest.approx(660.0, abs=15.0)
    assert (late.own_seconds, late.jobs) == (3600.0, 8)


def test_an_account_tells_of_a_user_nobody_knows() -> None:
    known = powers()
    for run in range(6):
        known.ended(Submission(user="alice", account="physics", name=f"a{run}", workload="training"), 300.0)
    found = known.expect(Submission(user="zoe", account="physics", name="b", workload="training"))
    assert found.known_from == "jobs of this account"
    assert found.mean_watts == pytest.approx(300.0, abs=10.0)


def test_the_batch_in_the_name_tells_runs_apart() -> None:
    assert [
        batch_in(name) for name in ("llama-7b-bs32", "x_batch-64_3", "y.batch16.a1", "mbs8", "job 12")
    ] == [
        "32",
        "64",
        "16",
        "8",
        "",
    ]
    known = powers()
    for run in range(8):
        for batch, watts in ((32, 300.0), (256, 500.0)):
            known.ended(Submission(user="a", name=f"chat-bs{batch}-{run}", workload="inference"), watts)
    small = known.expect(Submission(user="a", name="chat-bs32-99", workload="inference"))
    large = known.expect(Submission(user="a", name="chat-bs256-99", workload="inference"))
    assert small.mean_watts < 320.0 and large.mean_watts > 480.0


def test_a_job_that_broke_off_says_less() -> None:
    known = taught(3)
    known.ended(JOB, 100.0, weight=0.1)
    assert known.expect(JOB).mean_watts > 400.0


def test_what_was_learned_survives_as_json_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    known = taught()
    second_life = JobPowers(CLASSES, 500.0, idle_watts=75.0)
    second_life.take_json(json.loads(json.dumps(known.to_json())))
    assert second_life.expect(JOB).mean_watts == pytest.approx(known.expect(JOB).mean_watts, abs=0.01)
    assert second_life.expect(JOB).known_from == known.expect(JOB).known_from
    monkeypatch.setattr("slurm_power.forecast.job_power.MOST_LEVELS", 50)
    for user in range(200):
        known.ended(Submission(user=f"u{user}", name="x" * 5_000, workload="training"), 400.0)
    assert len(known) == 50
    assert known.expect(Submission(user="u199", name="x" * 5_000, workload="training")).known_from.endswith(
        "size"
    )
    assert known.expect(JOB).known_from == "jobs of this account", "alice was used longest ago"
    assert len(json.dumps(known.to_json())) < 50 * 500


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: {**state, "version": 7},
        lambda state: {**state, "fields": ["weight"]},
        lambda state: {**state, "levels": [1]},
        lambda state: {**state, "levels": {**state["levels"], "x": [1.0]}},
        lambda state: {**state, "levels": {**state["levels"], "x": ["a"] * 9}},
        lambda state: {**state, "levels": {**state["levels"], "x": [math.nan] * 9}},
        lambda state: {**state, "levels": {**state["levels"], "x": [0.0] * 9}},
        lambda _: [],
        lambda _: "x",
    ],
)
def test_a_damaged_state_is_refused_as_a_whole(spoil: Any) -> None:
    known = powers()
    with pytest.raises(ValueError, match="job power"):
        known.take_json(spoil(taught().to_json()))
    assert len(known) == 0


def test_what_can_be_told_by_few_words() -> None:
    """Class, user and kind of name, each with what lies around it; sizes, accounts and tiers are left out."""
    known = powers()
    for run in range(30):
        for gpu_type in ("h100", ""):
            job = Submission(user="alice", name=f"bert-run{run}", workload="training", gpu_type=gpu_type)
            known.ended(job, 420.0)
    known.ended(Submission(user="bob", name="odd", workload="training", tier="small"), 100.0)
    told = {(level.kind, *level.words): level.watts for level in known.learned()}
    assert set(told) == {
        ("class", "training", "h100"),
        ("class", "training", ""),
        ("user", "alice", "training", "h100"),
        ("user", "alice", "training", ""),
        ("name", "alice", "training", "h100", "bert-run#"),
        ("name", "alice", "training", "", "bert-run#"),
    }
    expected = known.expect(JOB).mean_watts
    assert told["name", "alice", "training", "", "bert-run#"] == pytest.approx(expected, rel=0.01)
    assert told["class", "training", ""] > told["name", "alice", "training", "", "bert-run#"]
