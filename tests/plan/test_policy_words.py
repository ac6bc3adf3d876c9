"""The policy in words: each number that is told is the one in force, and changing one changes the words."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.job import Flex, Job, Workload
from slurm_power.model.site import LimitKind
from slurm_power.plan.job_table import longest_hold_seconds
from slurm_power.plan.policy import PeakJobs, Policy
from slurm_power.plan.policy_words import PolicyLine, policy_lines
from slurm_power.plan.weights import WEIGHT_KEYS, WeightsError, weights_of, with_weights
from tests.plan.situations import pending, site


def texts(policy: Policy, **more: Any) -> str:
    return "\n".join(line.text for line in policy_lines(policy, site(), **more))


def test_the_promise_told_is_the_promise_kept() -> None:
    for flex in Flex:
        (line,) = [
            one for one in policy_lines(Policy(), site()) if one.topic == "promise" and one.flexes == (flex,)
        ]
        job = replace(pending("1", 8), flex=flex, time_limit_seconds=1000.0)
        assert line.values["max_slowdown_ratio"] * 1000.0 == longest_hold_seconds(job)  # type: ignore[operator]  # a number
        if flex is Flex.FLEX0:
            assert "never" in line.text
        else:
            assert f"{100 * flex.max_slowdown_ratio:g} %" in line.text


@pytest.mark.parametrize(
    ("changes", "before", "after"),
    [
        ({"cap_floor_ratio": 0.6}, "45 % of the GPU's default", "60 % of the GPU's default"),
        ({"pause_flex": "flex2"}, "Running jobs are not paused", "Running jobs of flex2 and flex3 may"),
        ({"tier_moves": False}, "only if its user has said", "No job is moved"),
        ({"peak_jobs": PeakJobs.ON}, "is only told", "for the month's peak, within"),
        ({"peak_jobs": PeakJobs.OFF}, "is only told", "is no reason to touch jobs."),
        ({"max_user_share_ratio": 0.25}, "more than 50 %", "more than 25 %"),
        ({"fairness_ratio": 0.0}, "up to 2 times", "does not spare"),
        ({"fairness_half_life_seconds": 3600.0}, "after 7 days", "after 60 min"),
        ({"control": False}, "are capped, held", "Shadow mode"),
        ({"flex3_weight": 0.25}, "flex3 0.5", "flex3 0.25"),
        ({"event_margin_ratio": 0.05}, "1 % of its limit", "5 % of its limit"),
    ],
)
def test_another_value_is_told_otherwise(changes: dict[str, Any], before: str, after: str) -> None:
    usual, other = texts(Policy()), texts(replace(Policy(), **changes))
    assert before in usual and after not in usual
    assert after in other and before not in other


def test_what_is_off_is_not_told() -> None:
    assert "prolog" not in texts(Policy())
    ramp = replace(Policy(), start_ramp_watts_per_second=500.0, prolog_wait_seconds=30.0)
    assert "wait in its prolog, at most 30 s" in texts(ramp)
    assert "Slurm itself starts" not in texts(Policy())
    assert "Slurm itself starts" in texts(Policy(), admission=True)
    assert "Accounts count: physics 2; all others 1." in texts(
        replace(Policy(), account_weights=("physics=2",))
    )


def test_limits_are_told_with_what_they_are_for() -> None:
    lines = [line for line in policy_lines(Policy(), site()) if line.topic == "limits"]
    assert lines[0].text == "grid may draw 30.0 kW (for money)."
    assert [line.text for line in policy_lines(Policy(), site(grid_kind=LimitKind.SAFETY))][-1] == (
        "grid may draw 30.0 kW (a breaker's)."
    )


@given(st.sampled_from(Flex), st.sampled_from(Workload), st.booleans())
def test_a_job_is_told_its_own_class_and_no_other(flex: Flex, workload: Workload, with_tier: bool) -> None:
    job: Job = replace(pending("1", 8), flex=flex, workload=workload, tier="digits/full" if with_tier else "")
    policy = replace(Policy(), pause_flex="flex2")
    lines: list[PolicyLine] = [line for line in policy_lines(policy, site()) if line.concerns(job)]
    told = {word for line in lines if line.topic == "promise" for word in line.text.split(":")[:1]}
    assert flex.value in told and not told & {one.value for one in Flex if one is not flex}
    paused = [line for line in lines if line.topic == "pauses"]
    assert bool(paused) == (flex in (Flex.FLEX2, Flex.FLEX3) and workload is not Workload.INFERENCE)
    assert any(line.topic == "tiers" for line in lines) == with_tier
    assert any(line.topic == "safety" for line in lines)


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=5),
    st.floats(),
    st.integers(),
    st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@given(st.dictionaries(st.one_of(st.sampled_from(WEIGHT_KEYS), st.text(max_size=8)), ODD, max_size=5))
def test_weights_are_all_taken_or_every_problem_is_said(weights: dict[str, Any]) -> None:
    try:
        found = with_weights(Policy(), weights)
    except WeightsError as error:
        assert error.problems
        assert all(problem.startswith("weights.") for problem in error.problems)
        unknown = [key for key in weights if key not in WEIGHT_KEYS]
        assert sum("no weight" in problem for problem in error.problems) >= bool(unknown)
        return
    assert found.problems() == []
    assert set(weights) <= set(WEIGHT_KEYS)
    same = {key: value for key, value in weights_of(Policy()).items() if key not in weights}
    assert {key: weights_of(found)[key] for key in same} == same
    assert with_weights(Policy(), weights_of(found)) == found
