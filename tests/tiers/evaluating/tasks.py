"""Small tasks, and what can be wrong with one. Models are made here and not trained: `weigh` sets them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from slurm_power.tiers.building.artifact import save_tier
from slurm_power.tiers.building.rows import fingerprint
from slurm_power.tiers.task import Split, Task

SPEC = "tests.tiers.evaluating.tasks:signs"
_WIDTH = 6


class Signs(Task):
    """Whether the first number of a row is above 0; groups are by the second."""

    name = "signs"
    metric = "accuracy"
    group_by = "side"
    rows: Mapping[str, int] = {"train": 64, "validation": 32, "test": 200}
    scale = 1.0
    small_group = 0

    def split(self, name: str) -> Split:
        seed = {"train": 1, "validation": 2, "test": 3}[name]
        raw = torch.randn(self.rows[name], _WIDTH, generator=torch.Generator().manual_seed(seed))
        return Split(
            inputs=torch.stack([self.prepare(row) for row in raw]) if len(raw) else raw,
            targets=(raw[:, 0] > 0).long(),
            groups=self.groups(raw),
            ids=tuple(f"{name}/{row}" for row in range(len(raw))),
        )

    def groups(self, raw: Tensor) -> tuple[str, ...]:
        names = ["left" if row[1] < 0 else "right" for row in raw]
        return tuple(["rare"] * self.small_group + names[self.small_group :])

    def prepare(self, raw: object) -> Tensor:
        return torch.as_tensor(raw, dtype=torch.float32) * self.scale

    def probe(self) -> Sequence[object]:
        return [[1.0, -2.0, 3.0, 0.0, 0.5, -0.25], [0.1] * _WIDTH]

    def new_model(self, **shape: int | float) -> nn.Module:  # noqa: ARG002 - it has one shape alone
        return nn.Linear(_WIDTH, 2)

    def shape(self) -> dict[str, int | float]:
        return {"width": _WIDTH}


def weigh(model: nn.Module, *, noise: float = 0.0) -> nn.Module:
    """Make a model right about all rows, or wrong about some by noise of the third number."""
    assert isinstance(model, nn.Linear)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
        model.weight[1, 0], model.weight[0, 0] = 1.0, -1.0
        model.weight[1, 2] = noise
    return model


def tier_of(
    task: Task,
    directory: Path,
    *,
    noise: float = 0.0,
    method: str = "none",
    parent: str = "",
    spec: str = SPEC,
    model: nn.Module | None = None,
) -> Path:
    """Write a tier as a build does, without one."""
    data = {name: {"sha256": fingerprint(task.split(name))} for name in ("train", "test")}
    save_tier(
        directory,
        weigh(task.new_model(), noise=noise) if model is None else model,
        task_spec=spec,
        shape=task.shape(),
        method=method,
        parent=parent,
        seed=0,
        lineage={"data": data},
        replace=True,
    )
    return directory


class Scaled(Signs):
    """Another pipeline by the same name: skew."""

    scale = 2.0


class Leaky(Signs):
    """Every test row is a train row."""

    def split(self, name: str) -> Split:
        return super().split("train" if name == "test" else name)


class LeakyIds(Signs):
    """Other numbers, same names."""

    def split(self, name: str) -> Split:
        split = super().split(name)
        return Split(split.inputs, split.targets, split.groups, tuple(str(row) for row in range(len(split))))


class Empty(Signs):
    rows: Mapping[str, int] = {"train": 64, "validation": 32, "test": 0}


class OneGroup(Signs):
    def groups(self, raw: Tensor) -> tuple[str, ...]:
        return ("all",) * len(raw)


class NoMetric(Signs):
    metric = "brilliance"


class WrongScores(Signs):
    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().score(outputs, targets).mean()


class Infinite(Signs):
    def split(self, name: str) -> Split:
        split = super().split(name)
        split.inputs[3, 0] = float("inf")
        return split


class RareGroup(Signs):
    """Twelve rows of a third group."""

    small_group = 12


class Other(Signs):
    name = "others"


class NoTexts(Signs):
    workload = "generation"


class Recalled(Signs):
    """A metric that is no share: squared distance, smaller is better."""

    metric = "squared_error"
    higher_is_better = False

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.softmax(-1)[:, 1] - targets).square()


signs, scaled, leaky, leaky_ids, empty = Signs(), Scaled(), Leaky(), LeakyIds(), Empty()
one_group, no_metric, wrong_scores, infinite = OneGroup(), NoMetric(), WrongScores(), Infinite()
rare_group, other, no_texts, recalled = RareGroup(), Other(), NoTexts(), Recalled()
