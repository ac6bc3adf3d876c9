"""Which section of Debian a package is in, by its short description: 20 classes, a real pre-trained encoder.

The encoder's folder is in ``SECTIONS_ENCODER``, the descriptions (a line each: section, tab, text) in
``SECTIONS_DATA``; `containers.bench.sections_tiers` makes both. Shape ``static`` 1 is the encoder with a
head, 2 a table of embeddings by token with a head: one task, one pipeline, two kinds of models.
"""

import functools
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from slurm_power.tiers.task import Split, Task

_SECTIONS = 20
_ROWS = {"train": 3000, "validation": 400, "test": 1200}
_TOKENS = 64
_PADDING = 0


class Encoded(nn.Module):
    """The encoder, frozen, and a head on the mean of its last layer."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel  # noqa: PLC0415 - of this bench alone

        config = BertConfig.from_pretrained(_encoder_folder())
        self.encoder = BertModel(config, add_pooling_layer=False).requires_grad_(False)
        self.head = nn.Linear(config.hidden_size, _SECTIONS)

    def features(self, tokens: Tensor) -> Tensor:
        """Return a unit vector for each row, as the encoder's authors make it."""
        there = (tokens != _PADDING).long()
        most = max(1, int(there.sum(1).max()))  # what all rows lack need not be computed
        states = self.encoder(input_ids=tokens[:, :most], attention_mask=there[:, :most]).last_hidden_state
        weights = there[:, :most].unsqueeze(-1)
        return nn.functional.normalize((states * weights).sum(1) / weights.sum(1).clamp_min(1), dim=-1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits of the sections."""
        logits: Tensor = self.head(self.features(tokens))
        return logits


class Static(nn.Module):
    """The mean of an embedding by token, and a head; nothing looks at a token's neighbours."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(len(_tokenizer().get_vocab()), width, padding_idx=_PADDING)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(width, _SECTIONS)
        nn.init.normal_(self.table.weight, 0.0, 0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits of the sections."""
        there = (tokens != _PADDING).unsqueeze(-1)
        mean = (self.table(tokens) * there).sum(1) / there.sum(1).clamp_min(1)
        logits: Tensor = self.head(self.dropout(mean))
        return logits


class Sections(Task):
    """Which section is a package in."""

    name = "debian-sections"
    metric = "accuracy"
    group_by = "class"

    def split(self, name: str) -> Split:
        """Rows of one split; which one a text is in says its own sum."""
        rows, sections = _rows()[name], _sections()
        return Split(
            inputs=torch.stack([self.prepare(text) for _, text in rows]),
            targets=torch.tensor([sections.index(section) for section, _ in rows]),
            groups=tuple(section for section, _ in rows),
        )

    def prepare(self, raw: object) -> Tensor:
        """Turn a description into 64 of the encoder's tokens, padded."""
        tokens = _tokenizer().encode(str(raw), truncation=True, max_length=_TOKENS)
        return torch.tensor([*tokens, *[_PADDING] * (_TOKENS - len(tokens))])

    def probe(self) -> Sequence[object]:
        """A few descriptions."""
        return ["shared library for colour management", "Übersetzung (documentation)", "first-person shooter"]

    def new_model(self, **shape: int | float) -> nn.Module:
        """An untrained model of that kind."""
        said = {**self.shape(), **shape}
        return Encoded() if said["static"] == 1 else Static(int(said["width"]))

    def shape(self) -> dict[str, int | float]:
        """The encoder; ``width`` is of the table alone."""
        return {"static": 1, "width": 32}


@functools.cache
def _lines() -> list[tuple[str, str]]:
    """Section and text of each description once, in the order of the sums of the texts."""
    found: dict[str, str] = {}
    for line in Path(os.environ["SECTIONS_DATA"]).read_text(encoding="utf-8").splitlines():
        section, _, text = line.partition("\t")
        found.setdefault(text, section)
    return sorted(
        ((section, text) for text, section in found.items()),
        key=lambda pair: hashlib.sha256(pair[1].encode()).digest(),
    )


@functools.cache
def _sections() -> list[str]:
    counted = Counter(section for section, _ in _lines())
    return sorted(sorted(counted, key=lambda section: (-counted[section], section))[:_SECTIONS])


@functools.cache
def _rows() -> dict[str, list[tuple[str, str]]]:
    """Rows of each split; a text whose tokens are those of another one comes once."""
    known, seen, rows = set(_sections()), set(), []
    for section, text in _lines():
        tokens = (
            tuple(_tokenizer().encode(text, truncation=True, max_length=_TOKENS)) if section in known else ()
        )
        if section in known and tokens not in seen:
            seen.add(tokens)
            rows.append((section, text))
        if len(rows) == sum(_ROWS.values()):
            break
    parts, first = {}, 0
    for name, count in _ROWS.items():
        parts[name] = rows[first : first + count]
        first += count
    return parts


def _encoder_folder() -> str:
    return os.environ["SECTIONS_ENCODER"]


@functools.cache
def _tokenizer():  # type: ignore[no-untyped-def]  # transformers has no types
    from transformers import AutoTokenizer  # noqa: PLC0415 - of this bench alone

    return AutoTokenizer.from_pretrained(_encoder_folder(), local_files_only=True)


sections = Sections()
