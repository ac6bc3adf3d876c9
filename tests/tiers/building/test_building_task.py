"""What a task says by itself: splits, shapes, scores and the loss."""

import math

import pytest
import torch

from slurm_power.tiers.task import Split, TaskError, full_shape, load_task
from tests.tiers.building.conftest import BLOBS


def test_a_split_has_one_target_group_and_id_for_each_row() -> None:
    rows = torch.zeros(3, 2)
    assert len(Split(inputs=rows, targets=torch.zeros(3))) == 3
    with pytest.raises(TaskError, match="3 inputs but 2 targets and 1 ids"):
        Split(inputs=rows, targets=torch.zeros(2), groups=("a", "b", "c"), ids=("x",))


def test_a_shape_is_filled_up() -> None:
    assert full_shape(load_task(BLOBS), {"width": 4}) == {"width": 4, "depth": 2}
    with pytest.raises(TaskError, match="depth is True; it must be a number above 0"):
        full_shape(load_task(BLOBS), {"depth": True})


def test_scores_by_row() -> None:
    task = load_task(BLOBS)
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    targets = torch.tensor([0, 2])
    assert task.score(logits, targets).tolist() == [1.0, 0.0]
    tokens = torch.stack([logits, logits])
    assert task.score(tokens, torch.tensor([[0, 1], [0, 2]])).tolist() == [1.0, 0.5]
    assert task.loss(tokens, torch.tensor([[0, 1], [0, 2]])).dim() == 0


def test_perplexity_is_of_the_mean() -> None:
    class Perplexed(type(load_task(BLOBS))):  # type: ignore[misc]  # a class of a file
        metric, higher_is_better = "perplexity", False

    task = Perplexed()
    even = torch.zeros(2, 5, 4)
    scores = task.score(even, torch.zeros(2, 5, dtype=torch.long))
    assert scores.shape == (2,)
    assert task.of_mean(float(scores.mean())) == pytest.approx(4.0)
    assert math.isfinite(task.of_mean(1e9))
    task.metric = "beauty"
    with pytest.raises(TaskError, match=r"override score\(\): the metric beauty is not known here"):
        task.score(even, torch.zeros(2, 5, dtype=torch.long))
