"""Tokens one by one: seeds, contexts, characters of several bytes; and the metrics of texts on known ones."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from slurm_power.tiers.building.artifact import load_tier
from slurm_power.tiers.building.rows import read_data
from slurm_power.tiers.evaluating.evaluation import Evaluation, Plan, evaluate
from slurm_power.tiers.evaluating.generation import (
    Sampling,
    generating,
    measure_generation,
    text_pieces,
    tokens_of,
)
from slurm_power.tiers.evaluating.quality import measure_quality
from slurm_power.tiers.evaluating.record import quality_of
from slurm_power.tiers.evaluating.refusal import EvaluateError
from slurm_power.tiers.examples.text import ManualText, TextNet, encode, manual_text
from slurm_power.tiers.task import Split
from tests.tiers.evaluating.conftest import Generators
from tests.tiers.evaluating.quick_text import quick_text


class Says(nn.Module):
    """Always goes on with the same tokens, and then from the beginning again; keeps what it was given."""

    def __init__(self, tokens: Sequence[int]) -> None:
        super().__init__()
        self.tokens = list(tokens)
        self.seen: list[list[int]] = []

    def forward(self, tokens: Tensor) -> Tensor:
        self.seen.append(tokens[0].tolist())
        logits = torch.full((1, tokens.shape[1], 1024), -50.0)
        logits[0, -1, self.tokens[(len(self.seen) - 1) % len(self.tokens)]] = 50.0
        return logits


class Coin(nn.Module):
    """Two tokens, each as likely."""

    def forward(self, tokens: Tensor) -> Tensor:
        logits = torch.full((*tokens.shape, 1024), -50.0)
        logits[..., 65:67] = 0.0
        return logits


def test_text_and_tokens_go_both_ways() -> None:
    for text in ("The list is", "def f(x):\n    return x ** 2", "Zażółć gęślą jaźń", "", " a  b\t\n\n"):
        assert manual_text.decode(encode(text)) == text
    assert len(encode("The list is")) < len("The list is")


def test_splits_share_no_row_and_no_paragraph_of_text() -> None:
    data = read_data(manual_text)
    assert min(data.rows.values()) > 100
    texts = {
        name: manual_text.decode(manual_text.split(name).inputs.flatten().tolist()) for name in data.rows
    }
    test_paragraphs = [part for part in texts["test"].split("\n\n") if len(part) > 80]
    assert len(test_paragraphs) > 50
    assert not [part for part in test_paragraphs if part in texts["train"]]


def test_the_same_seed_says_the_same_and_another_something_else() -> None:
    def drawn(seed: int, temperature: float = 1.0) -> list[int]:
        words = Sampling(tokens=40, seed=seed, temperature=temperature)
        return list(tokens_of(Coin(), manual_text, "The", words))

    assert drawn(1) == drawn(1) != drawn(2)
    assert set(drawn(1)) == {65, 66}
    assert drawn(1, 0.0) == drawn(2, 0.0) == [65] * 40


def test_a_model_sees_its_context_and_no_more() -> None:
    model = Says([65])
    list(tokens_of(model, manual_text, "x" * 200, Sampling(tokens=3)))
    assert [len(seen) for seen in model.seen] == [64, 64, 64]
    assert model.seen[2][-2:] == [65, 65]


def test_a_model_that_advances_gives_what_it_gives_without() -> None:
    torch.manual_seed(3)
    net = TextNet(width=16, layers=2).eval()

    class Whole(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            logits: Tensor = net(tokens)
            return logits

    words = Sampling(tokens=30, temperature=0.0)
    by_state, by_context = (
        list(tokens_of(model, manual_text, "The list", words)) for model in (net, Whole())
    )
    assert by_state == by_context


def test_a_character_of_two_bytes_comes_whole() -> None:
    pieces = list(
        text_pieces(manual_text, tokens_of(Says(list("aż!".encode())), manual_text, "x", Sampling(tokens=8)))
    )
    assert pieces == ["a", "", "ż", "!", "a", "", "ż", "!"]


def test_an_empty_prompt_and_numbers_that_are_none() -> None:
    with pytest.raises(EvaluateError, match="prompt: is empty"):
        list(tokens_of(Coin(), manual_text, "", Sampling()))

    class Broken(Coin):
        def forward(self, tokens: Tensor) -> Tensor:
            return super().forward(tokens) * float("nan")

    with pytest.raises(EvaluateError, match="not finite"):
        list(tokens_of(Broken(), manual_text, "The", Sampling()))


class OnePrompt(ManualText):
    def prompts(self) -> Sequence[str]:
        return ["The"]


def test_metrics_of_one_who_repeats_himself() -> None:
    words = encode(" a b c d")
    found = measure_generation(Says(words), generating(OnePrompt()), tokens=len(words) * 5)
    assert found.samples == 3
    assert found.distinct[0] == pytest.approx(4 / 60)
    assert found.distinct[1] == pytest.approx(4 / 57)
    assert found.repetition_4 == pytest.approx(1 - 4 / 17)
    assert (found.same_seed_agreement, found.seed_consistency) == (1.0, 1.0)
    assert 0.0 < found.time_per_output_token_seconds <= found.time_per_output_token_p99_seconds


def test_metrics_of_one_who_throws_dice() -> None:
    texts = {token: manual_text.decode([token]) for token in range(256, 1024)}
    words = [token for token, text in texts.items() if text[0] == " " and text[1:].isalpha()]

    class Dice(nn.Module):
        """Any of some hundred words, each as likely."""

        def forward(self, tokens: Tensor) -> Tensor:
            logits = torch.full((*tokens.shape, 1024), -50.0)
            logits[..., words] = torch.rand(len(words)) * 1e-3
            return logits

    found = measure_generation(Dice(), generating(OnePrompt()), tokens=24)
    assert found.distinct[1] > 0.9
    assert found.repetition_4 < 0.1
    assert found.same_seed_agreement == 0.0  # its dice are not the seeded ones: that is what this metric sees
    assert found.seed_consistency < 0.5


def test_no_prompts_is_refused() -> None:
    class Mute(ManualText):
        def prompts(self) -> Sequence[str]:
            return []

    with pytest.raises(EvaluateError, match=r"prompts\(\) gives none"):
        measure_generation(Coin(), generating(Mute()))


def test_perplexity_is_that_of_all_tokens() -> None:
    class Even(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            return torch.zeros(*tokens.shape, 1024)

    class Few(ManualText):
        def split(self, name: str) -> Split:
            whole = super().split(name)
            return Split(whole.inputs[:64], whole.targets[:64])

    found = measure_quality(Even(), Few(), Few().split("test"))
    assert found.metric.value == pytest.approx(1024.0)
    assert found.more["loss"] == pytest.approx(math.log(1024.0))


@pytest.fixture(scope="module")
def evaluated(generators: Generators) -> dict[str, Evaluation]:
    return {
        folder.name: evaluate(Plan(task=quick_text, directory=folder, seconds=0.4))
        for folder in (generators.large, generators.small)
    }


def test_the_larger_generator_is_the_better_one_and_costs_more(evaluated: dict[str, Evaluation]) -> None:
    large, small = evaluated["large"], evaluated["small"]
    assert large.quality.metric.high is not None and small.quality.metric.low is not None
    assert large.quality.metric.high < small.quality.metric.low < 1024.0
    assert large.multiply_adds is not None and small.multiply_adds is not None
    assert large.multiply_adds > 4 * small.multiply_adds
    assert large.model_bytes > 4 * small.model_bytes


def test_a_generators_metrics_go_into_the_catalog(evaluated: dict[str, Evaluation]) -> None:
    quality = quality_of(evaluated["large"])
    assert quality.more.keys() >= {
        "loss",
        "distinct_1",
        "distinct_2",
        "distinct_3",
        "repetition_4",
        "consistency_same_seed",
        "consistency_across_seeds",
        "time_to_first_token_seconds",
        "time_per_output_token_seconds",
        "cpu_seconds_per_token",
        "cpu_seconds_per_item",
    }
    assert quality.more["consistency_same_seed"] == 1.0
    assert quality.worst_group_name in ("code", "prose")
    assert all(np.isfinite(value) for value in quality.more.values())


def test_what_was_trained_is_what_is_read_back(generators: Generators) -> None:
    model = load_tier(Path(generators.large), manual_text)
    said = measure_quality(model, manual_text, manual_text.split("validation")).metric.value
    assert said == pytest.approx(generators.built["large"].validation, rel=1e-4)
