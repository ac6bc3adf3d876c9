"""A training that looks both ways: hidden tokens of Python's manual, and GRUs of one or two directions.

As BERT is trained (Devlin et al. 2019, arXiv:1810.04805), small: ten of each 64 tokens are hidden, and the
model says what they were. Where is chosen by the text itself, so that the same text is the same row in every
split, and is found where it should not be. What is not hidden has the target -100, which torch leaves out.
"""

import random
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from slurm_power.tiers.examples.text import ManualText
from slurm_power.tiers.task import Split

_VOCABULARY = 1024
_HIDDEN = 10
GAP = "\0"
"""Stands in a text for one hidden token. It is token 0, which no text of the manual has."""
LEFT_OUT = -100


class MaskedNet(nn.Module):
    """Embedding, one GRU layer of one or two directions, and logits of what stood at each place."""

    def __init__(self, *, width: int, directions: int) -> None:
        super().__init__()
        if directions not in {1, 2}:
            raise ValueError(f"directions is {directions}; it is 1 (what stands before) or 2 (and after)")
        self.embedding = nn.Embedding(_VOCABULARY, width)
        self.recurrent = nn.GRU(width, width, batch_first=True, bidirectional=directions == 2)
        self.output = nn.Linear(directions * width, _VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return rows x tokens x vocabulary for rows x tokens."""
        logits: Tensor = self.output(self.recurrent(self.embedding(tokens))[0])
        return logits


class MaskedText(ManualText):
    """Which tokens were hidden in Python's manual."""

    name = "masked-text"
    workload = "training"
    metric = "accuracy"
    higher_is_better = True

    def split(self, name: str) -> Split:
        """Pieces of 64 tokens, ten of them hidden; targets at these places alone."""
        plain = super().split(name)
        inputs = plain.inputs.clone()
        targets = torch.full_like(inputs, LEFT_OUT)
        for row, tokens in enumerate(plain.inputs):
            hidden = random.Random(repr(tokens.tolist())).sample(range(len(tokens)), _HIDDEN)  # noqa: S311 - no secret
            targets[row, hidden] = tokens[hidden]
            inputs[row, hidden] = 0
        return Split(inputs=inputs, targets=targets, groups=plain.groups, ids=plain.ids)

    def probe(self) -> Sequence[object]:
        """Sentences with a gap and without."""
        return [*super().probe(), f"The{GAP} is a mutable sequence.\n"]

    def new_model(self, **shape: int | float) -> MaskedNet:  # type: ignore[override]  # another net than a generator's
        """A fresh net of that width, looking one way or both."""
        numbers = {name: int(number) for name, number in {**self.shape(), **shape}.items()}
        return MaskedNet(**numbers)

    def shape(self) -> dict[str, int | float]:
        """Width, and directions: 2 sees what stands behind a gap as well."""
        return {"width": 96, "directions": 2}

    def space(self) -> Mapping[str, Sequence[int | float]]:
        """Widths from a sixth of the full net's on."""
        return {"width": (16, 24, 32, 48, 64), "directions": (1, 2)}

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Share of the hidden tokens that were found, of each row."""
        asked = targets != LEFT_OUT
        right = (outputs.argmax(-1) == targets) & asked
        return right.sum(1).float() / asked.sum(1)


masked_text = MaskedText()
