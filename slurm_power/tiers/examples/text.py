"""A generator of English text: Python's own reference manual, which its standard library ships, and a GRU.

358,000 characters in Python 3.11; other versions have others. Its chapters repeat each other: a paragraph
counts where it comes first, in the longest chapter. Whole chapters are set aside for validation and test. A
token is a frequent word of the train chapters with the space before it, or one byte of anything else: every
text has tokens, and models of all sizes have the same, so that their perplexities compare.
"""

import functools
import importlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from slurm_power.tiers.task import Split, Task

_BYTES = 256
_WORDS = 768
_CONTEXT = 64
_PIECE = re.compile(r" ?[A-Za-z_]+| ?[0-9]+| ?[^\sA-Za-z_0-9]+|\n[ \n]*|\s+")
_CODE = re.compile(
    r">>>|::=|^ {3,}(?:def|class|for|if|while|try|with|import|from|print)\b|[=!<>]=|\w\(", re.MULTILINE
)
_CODE_MATCHES = 3
_LEAST_CHARACTERS = 1000
_TEST = ("execmodel", "import", "operator-summary", "typesseq")
_VALIDATION = ("binary", "calls", "objects", "strings")


class TextNet(nn.Module):
    """Embedding, one or more GRU layers, and logits by the same embedding (Press and Wolf 2017)."""

    def __init__(self, *, width: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(_BYTES + _WORDS, width)
        self.recurrent = nn.GRU(width, width, layers, batch_first=True)
        self.dropout = nn.Dropout(0.1)
        self.output = nn.Linear(width, _BYTES + _WORDS)
        nn.init.normal_(self.embedding.weight, 0.0, 0.05)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits of the next token at each place: rows x tokens x vocabulary."""
        return self.advance(tokens, None)[0]

    def advance(self, tokens: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Go on from a state, None at the beginning, by new tokens only; returns logits and the new state."""
        outputs, after = self.recurrent(self.dropout(self.embedding(tokens)), state)
        logits: Tensor = self.output(self.dropout(outputs))
        return logits, after


class ManualText(Task):
    """Which token comes next in Python's manual."""

    name = "manual-text"
    workload = "generation"
    metric = "perplexity"
    higher_is_better = False
    group_by = "kind"
    context = _CONTEXT

    def split(self, name: str) -> Split:
        """Pieces of 64 tokens, each with the tokens one place later as targets."""
        rows: dict[tuple[int, ...], str] = {}
        for chapter in _chapters()[name]:
            tokens = encode(_texts()[chapter])
            for first in range(0, len(tokens) - _CONTEXT, _CONTEXT):
                rows.setdefault(tuple(tokens[first : first + _CONTEXT + 1]), f"{chapter}/{first}")
        pieces = torch.tensor(list(rows), dtype=torch.long).reshape(-1, _CONTEXT + 1)
        return Split(
            inputs=pieces[:, :-1],
            targets=pieces[:, 1:],
            groups=tuple(_kind(self.decode(piece)) for piece in rows),
            ids=tuple(rows.values()),
        )

    def prepare(self, raw: object) -> Tensor:
        """Turn a text into its tokens, one axis; longer ones than the context too."""
        return torch.tensor(encode(str(raw)), dtype=torch.long)

    def probe(self) -> Sequence[object]:
        """A few sentences, with words of the vocabulary and without."""
        return ["The list is a mutable sequence.\n", "def f(x):\n    return x ** 2", "Zażółć gęślą jaźń 1234"]

    def decode(self, tokens: Sequence[int]) -> str:
        """Turn tokens into text; bytes that are no UTF-8 become question marks in diamonds."""
        words = _words()
        parts = (words[token - _BYTES].encode() if token >= _BYTES else bytes((token,)) for token in tokens)
        return b"".join(parts).decode("utf-8", "replace")

    def prompts(self) -> Sequence[str]:
        """How three paragraphs of each test chapter begin."""
        beginnings = [
            paragraph.split()[:8] for name in _chapters()["test"] for paragraph in _prose(name)[1:4]
        ]
        return [" ".join(words) for words in beginnings]

    def new_model(self, **shape: int | float) -> TextNet:
        """A fresh net of that width and depth."""
        numbers = {name: int(number) for name, number in {**self.shape(), **shape}.items()}
        return TextNet(**numbers)

    def shape(self) -> dict[str, int | float]:
        """Width of embedding and GRU, and layers of it, of the large net."""
        return {"width": 192, "layers": 1}

    def space(self) -> Mapping[str, Sequence[int | float]]:
        """Widths from a sixth of the large net's on."""
        return {"width": (32, 48, 64, 96, 128), "layers": (1, 2)}


def encode(text: str) -> list[int]:
    """Turn a text into tokens: frequent words whole, everything else byte by byte."""
    tokens: list[int] = []
    numbers = _numbers()
    for piece in _PIECE.findall(text):
        number = numbers.get(piece)
        tokens.extend(piece.encode() if number is None else (number,))
    return tokens


def _kind(text: str) -> str:
    return "code" if len(_CODE.findall(text)) >= _CODE_MATCHES else "prose"


def _prose(chapter: str) -> list[str]:
    return [one for one in _texts()[chapter].split("\n\n") if one[:1].isupper() and len(one.split()) > 16]


@functools.cache
def _texts() -> dict[str, str]:
    """Chapters by name, without paragraphs that a longer one has; some are then too short to keep."""
    chapters: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    seen: set[str] = set()
    texts = {}
    for name in sorted(chapters, key=lambda name: (-len(chapters[name]), name)):
        kept = []
        for paragraph in chapters[name].split("\n\n"):
            words = " ".join(paragraph.split())
            if words not in seen:
                seen.add(words)
                kept.append(paragraph.rstrip())
        text = "\n\n".join(kept)
        if len(text) >= _LEAST_CHARACTERS:
            texts[name] = text
    return texts


@functools.cache
def _chapters() -> dict[str, list[str]]:
    """Names of the chapters of each split."""
    names = sorted(_texts())
    return {
        "train": [name for name in names if name not in _TEST + _VALIDATION],
        "validation": [name for name in names if name in _VALIDATION],
        "test": [name for name in names if name in _TEST],
    }


@functools.cache
def _words() -> list[str]:
    """The most frequent words of the train chapters, longer than a byte; ties by the alphabet."""
    counted = Counter(
        piece
        for chapter in _chapters()["train"]
        for piece in _PIECE.findall(_texts()[chapter])
        if len(piece.encode()) > 1
    )
    return sorted(counted, key=lambda piece: (-counted[piece], piece))[:_WORDS]


@functools.cache
def _numbers() -> dict[str, int]:
    return {word: _BYTES + number for number, word in enumerate(_words())}


manual_text = ManualText()
