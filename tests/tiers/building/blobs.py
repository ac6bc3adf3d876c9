"""A task that trains in a blink: three clouds of points; and forms of it that are wrong."""

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from slurm_power.tiers.task import Split, Task

_ROWS = {"train": 192, "validation": 96, "test": 96}


class Net(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        widths = [8, *[width] * depth]
        self.body = nn.Sequential(
            *(layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU()))
        )
        self.head = nn.Linear(width, 3)

    def forward(self, points: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(points))
        return logits


class Blobs(Task):
    name = "blobs"
    spread = 1.3

    def split(self, name: str) -> Split:
        generator = torch.Generator().manual_seed(list(_ROWS).index(name))
        targets = torch.arange(_ROWS[name]) % 3
        centres = torch.eye(3, 8) * 3.0
        inputs = centres[targets] + self.spread * torch.randn(len(targets), 8, generator=generator)
        return Split(
            inputs=inputs, targets=targets, ids=tuple(f"{name}/{row}" for row in range(len(targets)))
        )

    def prepare(self, raw: object) -> Tensor:
        return torch.as_tensor(raw, dtype=torch.float32)

    def probe(self) -> Sequence[object]:
        return [[0.0] * 8, [1.0] * 8]

    def new_model(self, **shape: int | float) -> nn.Module:
        numbers = {**self.shape(), **shape}
        return Net(int(numbers["width"]), int(numbers["depth"]))

    def shape(self) -> dict[str, int | float]:
        return {"width": 32, "depth": 2}

    def space(self) -> Mapping[str, Sequence[int | float]]:
        return {"width": (4, 8, 12, 16), "depth": (1, 2)}


class Leaking(Blobs):
    """One row of train is in validation, too, with another target."""

    def split(self, name: str) -> Split:
        split = super().split(name)
        if name == "validation":
            split.inputs[7] = super().split("train").inputs[100]
        return split


class Wild(Blobs):
    """A target that no loss can take for finite."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        loss = super().loss(outputs, targets)
        return loss * float("nan") if float(loss.detach()) < 0.9 else loss


class Broken(Blobs):
    def split(self, name: str) -> Split:
        split = super().split(name)
        if name == "train":
            split.inputs[3, 3] = float("inf")
        return split


class Other(Blobs):
    name = "other"


class Tied(Blobs):
    """Two layers that are one."""

    def new_model(self, **shape: int | float) -> nn.Module:
        model = super().new_model(**shape)
        assert isinstance(model, Net)
        third = model.body[2]
        assert isinstance(third, nn.Linear)
        model.extra = nn.Linear(third.in_features, third.out_features)
        model.extra.weight = third.weight
        return model


blobs, leaking, wild, broken, other, tied = Blobs(), Leaking(), Wild(), Broken(), Other(), Tied()
number = 3
