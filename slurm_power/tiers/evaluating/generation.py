"""Generation token by token, and how good, how varied, how consistent and how fast it is."""

import itertools
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from slurm_power import clock
from slurm_power.tiers.evaluating.intervals import bootstrap
from slurm_power.tiers.evaluating.refusal import EvaluateError
from slurm_power.tiers.task import Task

_WORD = re.compile(r"\w+|[^\w\s]")
_REPEATED = 4
_SEEDS = (11, 12, 13)


class Generates(Protocol):
    """What a task has so that its models can generate; the last three beside those of ``Task``.

    ``prepare`` turns a text into whole numbers, one axis; a model turns rows x tokens into rows x tokens x
    vocabulary. ``context`` is how many tokens it looks back at most. A model may have ``advance(tokens,
    state) -> (logits, state)``: only the new tokens go in; otherwise it sees the whole context each time.
    """

    name: str
    context: int

    def prepare(self, raw: object) -> Tensor:
        """Turn a text into tokens, as ``Task.prepare``."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Turn tokens into text."""

    def prompts(self) -> Sequence[str]:
        """Beginnings of texts to judge generation by, none of them trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn: from the ``top`` likeliest at a temperature, 0 for always the likeliest one."""

    tokens: int = 48
    temperature: float = 0.8
    top: int = 40
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationQuality:
    """How texts of a generator are, as means over all samples, and how long they took.

    ``distinct``: different n-grams of words over all of them, for n = 1, 2, 3 (Li et al. 2016,
    arXiv:1510.03055). ``repetition_4``: share of 4-grams that came before in the same text (Welleck et al.
    2019, arXiv:1908.04319). ``same_seed_agreement``: share of repeated samples that gave the same tokens
    again. ``seed_consistency``: overlap of the words of samples of other seeds for the same beginning
    (Jaccard). Times are of one stream alone.
    """

    samples: int
    distinct: tuple[float, float, float]
    distinct_2_ci95: float
    repetition_4: float
    same_seed_agreement: float
    seed_consistency: float
    time_to_first_token_seconds: float
    time_per_output_token_seconds: float
    time_per_output_token_p99_seconds: float
    cpu_seconds_per_token: float

    def more(self) -> dict[str, float]:
        """As a catalog keeps them beside the metric."""
        return {
            **{f"distinct_{n}": value for n, value in enumerate(self.distinct, start=1)},
            "repetition_4": self.repetition_4,
            "consistency_same_seed": self.same_seed_agreement,
            "consistency_across_seeds": self.seed_consistency,
            "time_to_first_token_seconds": self.time_to_first_token_seconds,
            "time_per_output_token_seconds": self.time_per_output_token_seconds,
            "cpu_seconds_per_token": self.cpu_seconds_per_token,
        }


def generating(task: Task) -> Generates:
    """Return the task as one that generates; raises EvaluateError naming what it lacks."""
    lacks = [name for name in ("context", "decode", "prompts") if not hasattr(task, name)]
    if lacks:
        raise EvaluateError(
            f"task {task.name}: its workload is generation, but it has no {', '.join(lacks)}: see"
            " slurm_power.tiers.evaluating.generation.Generates"
        )
    return cast(Generates, task)


def tokens_of(
    model: nn.Module, task: Generates, prompt: str, sampling: Sampling, *, device: str = "cpu"
) -> Iterator[int]:
    """Yield tokens that go on from ``prompt``; the same seed gives the same ones on the same machine.

    Raises EvaluateError for a prompt without any token and for outputs that are no finite numbers.
    """
    seen = [int(token) for token in task.prepare(prompt).tolist()]
    if not seen:
        raise EvaluateError("prompt: is empty; say how the text is to begin")
    generator = torch.Generator().manual_seed(sampling.seed)
    advance = getattr(model, "advance", None)
    state, new = None, seen[-task.context :]
    for _ in range(sampling.tokens):
        with torch.inference_mode():
            if advance is None:
                logits = model(torch.tensor([seen[-task.context :]], device=device))
            else:
                logits, state = advance(torch.tensor([new], device=device), state)
        token = _drawn(logits[0, -1].float().cpu(), sampling, generator)
        seen.append(token)
        new = [token]
        yield token


def text_pieces(task: Generates, tokens: Iterator[int]) -> Iterator[str]:
    """Turn tokens into text as they come, a piece for each; a character of several tokens comes whole."""
    all_tokens: list[int] = []
    done = 0
    for token in tokens:
        all_tokens.append(token)
        text = task.decode(all_tokens)
        if text.endswith("\ufffd"):
            yield ""
            continue
        yield text[done:]
        done = len(text)


def _drawn(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    if not bool(torch.isfinite(logits).all()):
        raise EvaluateError("outputs: the next token's numbers are not finite: this tier must not be used")
    if sampling.temperature == 0.0:
        return int(logits.argmax())
    values, tokens = logits.topk(min(sampling.top, len(logits)))
    chances = (values / sampling.temperature).softmax(-1)
    return int(tokens[torch.multinomial(chances, 1, generator=generator)])


def measure_generation(
    model: nn.Module, task: Generates, *, tokens: int = 48, device: str = "cpu"
) -> GenerationQuality:
    """Generate from each of the task's prompts with three seeds, one of them twice; raises EvaluateError."""
    prompts = task.prompts()
    if not prompts:
        raise EvaluateError(f"task {task.name}: prompts() gives none: name some beginnings of texts")
    words: dict[str, list[list[str]]] = {}
    first_seconds: list[float] = []
    token_seconds: list[float] = []
    agreed = []
    cpu_began, made = time.process_time(), 0
    for prompt in prompts:
        words[prompt] = []
        for seed in _SEEDS:
            drawn, times = _timed(model, task, prompt, Sampling(tokens=tokens, seed=seed), device)
            first_seconds.append(times[0])
            token_seconds += times[1:]
            words[prompt].append(_WORD.findall(task.decode(drawn)))
            made += len(drawn)
        again, _ = _timed(model, task, prompt, Sampling(tokens=tokens, seed=_SEEDS[-1]), device)
        agreed.append(again == drawn)
        made += len(again)
    samples = [sample for of_prompt in words.values() for sample in of_prompt]
    low, high = bootstrap(np.asarray([_distinct([sample], 2) for sample in samples]), resamples=500)
    return GenerationQuality(
        samples=len(samples),
        distinct=(_distinct(samples, 1), _distinct(samples, 2), _distinct(samples, 3)),
        distinct_2_ci95=(high - low) / 2.0,
        repetition_4=float(np.mean([_repetition(sample) for sample in samples])),
        same_seed_agreement=float(np.mean(agreed)),
        seed_consistency=float(np.mean([_overlap(of_prompt) for of_prompt in words.values()])),
        time_to_first_token_seconds=float(np.median(first_seconds)),
        time_per_output_token_seconds=float(np.median(token_seconds)),
        time_per_output_token_p99_seconds=float(np.percentile(token_seconds, 99)),
        cpu_seconds_per_token=(time.process_time() - cpu_began) / made,
    )


def _timed(
    model: nn.Module, task: Generates, prompt: str, sampling: Sampling, device: str
) -> tuple[list[int], list[float]]:
    """The tokens, and how long each was waited for."""
    drawn, times = [], []
    at = clock.monotonic()
    for token in tokens_of(model, task, prompt, sampling, device=device):
        drawn.append(token)
        now = clock.monotonic()
        times.append(now - at)
        at = now
    return drawn, times


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]


def _distinct(samples: Sequence[Sequence[str]], n: int) -> float:
    grams = [gram for sample in samples for gram in _ngrams(sample, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _repetition(words: Sequence[str]) -> float:
    grams = _ngrams(words, _REPEATED)
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


def _overlap(samples: Sequence[Sequence[str]]) -> float:
    """Mean Jaccard overlap of the words of all pairs of samples, with how often each came."""
    shares = []
    for one, other in itertools.combinations(map(Counter, samples), 2):
        union = (one | other).total()
        shares.append((one & other).total() / union if union else 1.0)
    return float(np.mean(shares))
