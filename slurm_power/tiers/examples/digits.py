"""Handwritten digits of 8x8 pixels, ten classes: the data that scikit-learn ships, and a small conv net.

1,797 images: the first 30 % of each class in a fixed shuffle are the test rows, 539 in all.
"""

import functools
import importlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from slurm_power.tiers.task import Split, Task

_TEST_RATIO, _VALIDATION_RATIO = 0.30, 0.12
_SHUFFLE_SEED = 20_260_101
_MOST_GREY = 16.0


class DigitNet(nn.Module):
    """Three 3x3 convolutions, the pixels halved before and after the third, then two dense layers."""

    def __init__(self, *, first: int, second: int, third: int, dense: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_block(1, first),
            *_block(first, second),
            nn.MaxPool2d(2),
            *_block(second, third),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.hidden = nn.Linear(third * 4, dense)
        self.output = nn.Linear(dense, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of the ten digits for images of the shape rows x 1 x 8 x 8."""
        logits: Tensor = self.output(torch.relu(self.hidden(self.features(images))))
        return logits


def _block(before: int, after: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()


class Digits(Task):
    """Which digit is it."""

    name = "digits"
    workload = "inference"
    metric = "accuracy"
    group_by = "class"

    def split(self, name: str) -> Split:
        """Rows of one split, in the order of the data set."""
        images, labels = _data()
        rows = torch.tensor(_rows()[name])
        return Split(
            inputs=torch.stack([self.prepare(images[row]) for row in rows.tolist()]),
            targets=labels[rows],
            groups=tuple(str(label) for label in labels[rows].tolist()),
            ids=tuple(f"digits/{row}" for row in rows.tolist()),
        )

    def prepare(self, raw: object) -> Tensor:
        """Turn 8x8 greys of 0 to 16 into 1 x 8 x 8 numbers of -1 to 1."""
        return torch.as_tensor(raw, dtype=torch.float32).reshape(1, 8, 8) / (_MOST_GREY / 2.0) - 1.0

    def probe(self) -> Sequence[object]:
        """The first digits of the data set."""
        return [_data()[0][row].tolist() for row in range(8)]

    def new_model(self, **shape: int | float) -> DigitNet:
        """A fresh net of so many channels and dense units."""
        numbers = {name: int(number) for name, number in {**self.shape(), **shape}.items()}
        return DigitNet(**numbers)

    def shape(self) -> dict[str, int | float]:
        """Channels of the three convolutions and units of the dense layer, of the full net."""
        return {"first": 64, "second": 128, "third": 256, "dense": 64}

    def space(self) -> Mapping[str, Sequence[int | float]]:
        """From an eighth of the full net's width up to half of it, each layer by itself."""
        return {
            "first": (8, 12, 16, 24, 32),
            "second": (16, 24, 32, 48, 64),
            "third": (16, 32, 48, 64, 96, 128),
            "dense": (16, 32, 64),
        }


@functools.cache
def _data() -> tuple[Tensor, Tensor]:
    bunch = importlib.import_module(
        "sklearn.datasets"
    ).load_digits()  # two seconds: only where data is needed
    return torch.tensor(bunch.images), torch.tensor(bunch.target, dtype=torch.long)


@functools.cache
def _rows() -> dict[str, list[int]]:
    """Row numbers of each split: of each class the same shares, chosen once for all."""
    _, labels = _data()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(_SHUFFLE_SEED)).tolist()
    parts: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for digit in range(10):
        rows = [row for row in order if int(labels[row]) == digit]
        test = round(_TEST_RATIO * len(rows))
        validation = test + round(_VALIDATION_RATIO * len(rows))
        parts["test"] += rows[:test]
        parts["validation"] += rows[test:validation]
        parts["train"] += rows[validation:]
    return {name: sorted(rows) for name, rows in parts.items()}


digits = Digits()
