"""Quality of a tier on rows that it was not trained on: the task's metric, and further ones."""

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from slurm_power.tiers.building.rows import shared_rows
from slurm_power.tiers.evaluating.groups import Groups, measure_groups
from slurm_power.tiers.evaluating.intervals import Estimate, Scores, estimate
from slurm_power.tiers.evaluating.refusal import EvaluateError
from slurm_power.tiers.task import SPLITS, Split, Task, TaskError

_ROWS_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The metric over all rows, by subgroup where the task has some, and further metrics by name."""

    metric: Estimate
    groups: Groups | None
    more: Mapping[str, float]


def held_out(task: Task, name: str) -> Split:
    """Return the rows of a split; raises EvaluateError where they cannot judge a tier.

    That is: no such split, no rows, inputs that are no finite numbers, or rows that are also trained on.
    """
    if name not in SPLITS or name == "train":
        raise EvaluateError(f"split {name!r}: evaluate on test or validation, which no tier is trained on")
    try:
        split, train = task.split(name), task.split("train")
    except TaskError as error:
        raise EvaluateError(f"task {task.name}: {error}") from error
    problems = []
    if not len(split):
        raise EvaluateError(f"task {task.name}: the {name} split has no rows")
    if split.inputs.is_floating_point() and not bool(torch.isfinite(split.inputs).all()):
        problems.append(f"task {task.name}: the {name} split has inputs that are no finite numbers")
    same = shared_rows(split, train) if len(train) else []
    if same:
        row, there = same[0]
        called = f" ({split.ids[row]})" if split.ids else ""
        problems.append(
            f"task {task.name}: {len(same)} of {len(split)} {name} rows are in the train split, too, the"
            f" first of them row {row}{called}, there row {there}: a model knows these answers; take them out"
        )
    named = sorted(set(split.ids) & set(train.ids))
    if named and not same:
        problems.append(
            f"task {task.name}: {len(named)} ids are in both {name} and train, such as {named[0]}"
        )
    if problems:
        raise EvaluateError(*problems)
    return split


def measure_quality(model: nn.Module, task: Task, split: Split, *, device: str = "cpu") -> Measured:
    """Score every row of a split; raises EvaluateError for outputs or scores that are no finite numbers."""
    scores, losses, predicted = _scored(model, task, split, device)
    groups = None
    if split.groups:
        groups = measure_groups(
            scores,
            split.groups,
            task.of_mean,
            by=task.group_by or "group",
            metric="recall" if task.metric == "accuracy" and task.group_by == "class" else task.metric,
            higher_is_better=task.higher_is_better,
        )
    more = {"loss": losses}
    if predicted is not None:
        more |= _of_predictions(predicted, split.targets, task.metric)
    return Measured(metric=estimate(scores, task.of_mean), groups=groups, more=more)


def _scored(model: nn.Module, task: Task, split: Split, device: str) -> tuple[Scores, float, Tensor | None]:
    """Scores of all rows, the mean loss, and the chosen classes where outputs are logits of classes."""
    model.eval()
    scores: list[Tensor] = []
    chosen: list[Tensor] = []
    loss = 0.0
    with torch.inference_mode():
        for first in range(0, len(split), _ROWS_AT_ONCE):
            inputs = split.inputs[first : first + _ROWS_AT_ONCE].to(device)
            targets = split.targets[first : first + _ROWS_AT_ONCE].to(device)
            outputs = model(inputs)
            _check_finite(outputs, split, first)
            scores.append(_scores_of(task, outputs, targets))
            loss += float(task.loss(outputs, targets)) * len(inputs)
            if _are_classes(outputs, targets):
                chosen.append(outputs.argmax(-1).cpu())
    return torch.cat(scores).numpy(), loss / len(split), torch.cat(chosen) if chosen else None


def _scores_of(task: Task, outputs: Tensor, targets: Tensor) -> Tensor:
    try:
        scores = task.score(outputs, targets)
    except TaskError as error:
        raise EvaluateError(str(error)) from error
    if scores.shape != (len(targets),):
        raise EvaluateError(
            f"task {task.name}: score() gave {tuple(scores.shape)} for {len(targets)} rows: it must give one"
            " value for each row"
        )
    if not bool(torch.isfinite(scores).all()):
        raise EvaluateError(f"task {task.name}: score() gave values that are no finite numbers")
    return scores.detach().cpu().double()


def _check_finite(outputs: Tensor, split: Split, first: int) -> None:
    wrong = ~torch.isfinite(outputs).flatten(1).all(1) if outputs.dim() > 1 else ~torch.isfinite(outputs)
    if bool(wrong.any()):
        row = first + int(wrong.int().argmax())
        called = f" ({split.ids[row]})" if split.ids else ""
        raise EvaluateError(
            f"outputs: row {row}{called} gives numbers that are not finite: this tier must not be used;"
            " build it again, with a lower learning rate or another scheme"
        )


def _are_classes(outputs: Tensor, targets: Tensor) -> bool:
    return targets.dim() == 1 and not targets.is_floating_point() and outputs.dim() == 2


def _of_predictions(predicted: Tensor, targets: Tensor, metric: str) -> dict[str, float]:
    """Accuracy, where it is not the metric itself, and the mean of the classes' F1."""
    right, said = targets.numpy(), predicted.numpy()
    scored = importlib.import_module("sklearn.metrics")
    more = {"macro_f1": float(scored.f1_score(right, said, average="macro", zero_division=0.0))}
    if metric != "accuracy":
        more["accuracy"] = float(np.mean(right == said))
    return {name: value for name, value in more.items() if name != metric and math.isfinite(value)}
