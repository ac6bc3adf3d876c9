"""Subgroups: the worst one, and those with too few rows to say."""

import numpy as np
import pytest

from slurm_power.tiers.evaluating.groups import ENOUGH_ROWS, Groups, measure_groups
from slurm_power.tiers.evaluating.refusal import EvaluateError


def measured(groups: dict[str, tuple[int, int]], *, higher_is_better: bool = True) -> Groups:
    """Groups of so many rows right out of so many."""
    scores = [1.0 if row < right else 0.0 for right, rows in groups.values() for row in range(rows)]
    names = [name for name, (_, rows) in groups.items() for _ in range(rows)]
    return measure_groups(
        np.asarray(scores),
        names,
        lambda mean: mean,
        by="class",
        metric="recall",
        higher_is_better=higher_is_better,
    )


def test_the_worst_comes_first() -> None:
    groups = measured({"a": (95, 100), "b": (60, 100), "c": (100, 100)})
    assert [group.name for group in groups.groups] == ["b", "a", "c"]
    assert groups.worst.judged == 0.6
    assert groups.worst.estimate.low == pytest.approx(0.502, abs=1e-3)


def test_where_less_is_better_the_highest_is_the_worst() -> None:
    assert measured({"a": (95, 100), "b": (60, 100)}, higher_is_better=False).worst.name == "a"


def test_few_unlucky_rows_are_not_the_worst_group() -> None:
    groups = measured({"many": (90, 100), "few": (16, ENOUGH_ROWS - 1)})
    assert groups.worst.name == "many"
    few = groups.groups[1]
    assert not few.enough
    assert few.estimate.value == pytest.approx(16 / 19)
    assert few.judged == few.estimate.high
    assert few.catalog_name == "few (at best, of 19 rows)"


def test_a_group_that_is_lost_altogether_is_seen_though_small() -> None:
    groups = measured({"many": (90, 100), "few": (0, 12)})
    assert groups.worst.name == "few"
    assert groups.worst.judged == pytest.approx(0.2425, abs=1e-3)


def test_at_twenty_rows_the_value_itself_counts() -> None:
    groups = measured({"many": (90, 100), "enough": (10, ENOUGH_ROWS)})
    assert groups.worst.name == groups.worst.catalog_name == "enough"
    assert groups.worst.judged == 0.5


def test_one_group_is_none() -> None:
    with pytest.raises(EvaluateError, match="there must be two or more"):
        measured({"a": (5, 10)})
