"""The learned loss between two levels: what it expects, when it says that somebody is wrong."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.loss import LEAST_LEARNED_SECONDS, RELEARN_SECONDS, Loss


def taught(
    offset_watts: float, ratio: float, *, seconds: int = 600, seed: int = 1, noise_watts: float = 30.0
) -> tuple[Loss, float]:
    """A loss that has seen a load that wanders between 1 and 6 kW; and the time it is then."""
    chance = random.Random(seed)
    loss = Loss(prior_ratio=1.05)
    below = 3_000.0
    for second in range(seconds):
        if second % 40 == 0:
            below = chance.uniform(1_000.0, 6_000.0)
        measured = offset_watts + ratio * below + chance.gauss(0.0, noise_watts)
        loss.compare(below, measured, float(second), learn=True)
    return loss, float(seconds)


@pytest.mark.parametrize(("offset_watts", "ratio"), [(1_500.0, 1.02), (0.0, 1.3), (4_000.0, 1.5)])
def test_offset_and_ratio_are_found(offset_watts: float, ratio: float) -> None:
    loss, _ = taught(offset_watts, ratio, seconds=1_200)
    for below in (1_500.0, 3_500.0, 5_500.0):
        assert loss.expected_watts(below) == pytest.approx(offset_watts + ratio * below, rel=0.03)


def test_a_steady_load_teaches_the_level_and_leaves_the_ratio_alone() -> None:
    loss = Loss(prior_ratio=1.05)
    for second in range(120):
        loss.compare(3_000.0, 4_650.0, float(second), learn=True)
    assert loss.ratio == pytest.approx(1.05)
    assert loss.expected_watts(3_000.0) == pytest.approx(4_650.0)


@pytest.mark.parametrize("factor", [0.5, 1.5, 2.0])
def test_a_meter_that_is_off_by_a_factor_disagrees_and_teaches_nothing(factor: float) -> None:
    loss, now = taught(1_500.0, 1.05)
    expected = loss.expected_watts(4_000.0)
    for second in range(60):
        loss.compare(4_000.0, factor * 5_700.0, now + second, learn=True)
    assert loss.disagrees(now + 60.0, 12.0)
    assert loss.expected_watts(4_000.0) == pytest.approx(expected, rel=0.1)
    for second in range(60):
        loss.compare(4_000.0, 5_700.0, now + 60.0 + second, learn=True)
    assert not loss.disagrees(now + 120.0, 0.0)


def test_a_step_that_both_see_within_seconds_is_no_disagreement() -> None:
    loss, now = taught(1_500.0, 1.05)
    worst = 0.0
    for second in range(120):
        below = 1_000.0 if second < 60 else 6_000.0
        above = 1_500.0 + 1.05 * (1_000.0 if second < 63 else 6_000.0)
        loss.compare(below, above, now + second, learn=True)
        since = loss.disagrees_since_seconds
        worst = max(worst, 0.0 if since is None else now + second - since)
    assert worst < 12.0


def test_nothing_is_said_before_enough_is_known() -> None:
    loss = Loss(prior_ratio=1.05)
    for second in range(int(LEAST_LEARNED_SECONDS) - 5):
        loss.compare(3_000.0, 4_000.0, float(second), learn=True)
    assert not loss.known
    loss.compare(3_000.0, 40_000.0, LEAST_LEARNED_SECONDS, learn=True)
    assert loss.disagrees_since_seconds is None


def test_a_disagreement_that_stays_becomes_the_new_normal() -> None:
    loss, now = taught(1_500.0, 1.05)
    for second in range(int(RELEARN_SECONDS) + 120):
        loss.compare(3_000.0, 9_000.0, now + second, learn=True)
    assert not loss.disagrees(now + RELEARN_SECONDS + 120.0, 0.0)
    assert loss.expected_watts(3_000.0) == pytest.approx(9_000.0, rel=0.02)


def test_a_meter_that_reads_too_little_is_never_believed_for_its_patience() -> None:
    loss, now = taught(1_500.0, 1.05)
    for second in range(3 * int(RELEARN_SECONDS)):
        loss.compare(4_000.0, 2_500.0, now + second, learn=True)
    assert loss.disagrees(now + 3 * RELEARN_SECONDS, 12.0)
    assert loss.expected_watts(4_000.0) == pytest.approx(5_700.0, rel=0.05)
    for second in range(int(RELEARN_SECONDS) + 60):
        loss.compare(4_000.0, 4_300.0, now + 3 * RELEARN_SECONDS + second, learn=True, vouched=True)
    assert loss.expected_watts(4_000.0) == pytest.approx(4_300.0, rel=0.05)


def test_what_was_learned_survives_and_nonsense_does_not() -> None:
    loss, _ = taught(1_500.0, 1.2)
    again = Loss(prior_ratio=1.05)
    again.take_json(loss.to_json())
    assert again.expected_watts(4_000.0) == loss.expected_watts(4_000.0)
    fresh = Loss(prior_ratio=1.05)
    for nonsense in (None, 7, {}, {**loss.to_json(), "sum_x": "x"}, {**loss.to_json(), "weight": math.nan}):
        fresh.take_json(nonsense)
        assert not fresh.known


@given(st.lists(st.tuples(st.floats(0.0, 1e6), st.floats(-1e6, 1e6)), min_size=2, max_size=60))
def test_whatever_is_fed_the_ratio_stays_within_what_can_be(pairs: list[tuple[float, float]]) -> None:
    loss = Loss(prior_ratio=1.05)
    for second, (below, above) in enumerate(pairs):
        loss.compare(below, above, float(second), learn=True)
    assert 1.0 <= loss.ratio <= 1.8
    assert loss.offset_watts >= 0.0


def test_what_was_learned_at_rest_is_doubted_under_load() -> None:
    resting = Loss(prior_ratio=1.05)
    for second in range(300):
        resting.compare(1_000.0, 2_500.0, float(second), learn=True)
    assert resting.doubt_watts(1_000.0) < 1e-6
    assert resting.doubt_watts(5_000.0) > 1_000.0
    moved, _ = taught(1_500.0, 1.3, seconds=1_200)
    assert moved.doubt_watts(5_000.0) < 300.0
