"""Who speaks: the blend, unless it was clearly worse than the best naive, and until it no longer is."""

import numpy as np
import pytest

from slurm_power.forecast.issues import Totals
from slurm_power.forecast.standing import Speaker, next_speaker, recent_score

NAIVE = [(0, "persistence"), (1, "day_naive")]


def totals(persistence: float, day_naive: float, blend: float, *, issues: int = 60) -> Totals:
    """So many issues of ten steps, each with these errors a step."""
    absolute = np.tile(10.0 * np.array([persistence, day_naive, 7.0, blend]), (issues, 1))
    said = np.tile(np.array([10.0 * blend, -5.0, 8.0]), (issues, 1))
    return Totals(steps=np.full(issues, 10.0), absolute=absolute, said=said)


@pytest.mark.parametrize(
    ("now", "blend", "issues", "speaks"),
    [
        ("", 2.0, 60, ""),
        ("", 2.09, 60, ""),
        ("", 2.11, 60, "day_naive"),
        ("", 9.0, 55, ""),
        ("day_naive", 2.01, 60, "day_naive"),
        ("day_naive", 2.0, 60, ""),
        ("persistence", 2.5, 60, "day_naive"),
    ],
)
def test_the_blend_has_to_be_clearly_worse_and_then_no_worse(
    now: str, blend: float, issues: int, speaks: str
) -> None:
    found = next_speaker(Speaker(now), totals(3.0, 2.0, blend, issues=issues), NAIVE, 56)
    assert found.naive == speaks
    assert bool(found.reason) == bool(speaks)


def test_why_is_told_in_figures() -> None:
    found = next_speaker(Speaker(), totals(3.0, 2.0, 2.5), NAIVE, 56)
    assert found.reason == "the blend was 25% worse than day_naive over the last 60 forecasts"
    exact = next_speaker(Speaker(), totals(3.0, 0.0, 2.5), NAIVE, 56)
    assert exact.reason == "the blend was worse than day_naive over the last 60 forecasts"


def test_a_naive_that_was_silent_once_is_not_compared() -> None:
    found = totals(3.0, 1.0, 2.5)
    found.absolute[0, 1] = np.nan
    assert next_speaker(Speaker(), found, NAIVE, 56).naive == ""
    score = recent_score(found, NAIVE)
    assert score is not None and (score.best_naive, score.best_naive_mae_watts) == ("persistence", 3.0)


def test_a_score_is_over_all_steps() -> None:
    score = recent_score(totals(3.0, 2.0, 1.5), NAIVE)
    assert score is not None
    assert (score.forecasts, score.mae_watts, score.bias_watts) == (60, 1.5, -0.5)
    assert score.coverage_ratio == pytest.approx(0.8)
    assert recent_score(totals(1.0, 1.0, 1.0, issues=0), NAIVE) is None
    alone = recent_score(totals(3.0, 2.0, 1.5), [])
    assert alone is not None and (alone.best_naive, alone.best_naive_mae_watts) == ("", 0.0)
