"""Intervals against published numbers, scipy's own, and simulated coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.tiers.evaluating.intervals import Estimate, bootstrap, estimate, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(trials=st.integers(1, 5000), share=st.floats(0.0, 1.0))
def test_wilson_stays_a_share_and_holds_its_value(trials: int, share: float) -> None:
    successes = round(share * trials)
    low, high = wilson(successes, trials)
    assert 0.0 <= low <= successes / trials <= high <= 1.0
    assert low < high


def test_bootstrap_covers_the_true_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        low, high = bootstrap(generator.exponential(2.0, size=80), resamples=400)
        covered += low <= 2.0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_bootstrap_is_the_same_each_time_and_narrows() -> None:
    scores = np.random.default_rng(1).normal(size=400)
    assert bootstrap(scores) == bootstrap(scores)
    few, many = bootstrap(scores[:50]), bootstrap(scores)
    assert many[1] - many[0] < few[1] - few[0]


def test_of_shares_wilson_of_other_scores_the_bootstrap() -> None:
    share = estimate(np.asarray([1.0] * 20), lambda mean: mean)
    assert (share.value, share.high) == (1.0, 1.0)
    assert share.low == pytest.approx(0.8389, abs=5e-4)
    assert share.half_width == pytest.approx(0.1611, abs=5e-4)
    perplexity = estimate(np.asarray([1.0, 2.0, 3.0] * 40), math.exp)
    assert perplexity.value == pytest.approx(math.exp(2.0))
    assert perplexity.low is not None and perplexity.high is not None
    assert math.exp(1.8) < perplexity.low < math.exp(2.0) < perplexity.high < math.exp(2.2)


def test_scores_of_0_and_1_are_no_share_where_the_metric_is_not_their_mean() -> None:
    found = estimate(np.asarray([0.0, 1.0] * 30), math.exp)
    assert found.low is not None and found.low > 1.0


def test_one_row_has_no_interval() -> None:
    alone = estimate(np.asarray([0.5]), lambda mean: mean)
    assert alone == Estimate(value=0.5, low=None, high=None, count=1)
    assert alone.half_width is None
    assert alone.kind_end(higher_is_better=True) == 0.5
