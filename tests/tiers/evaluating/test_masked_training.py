"""A training that looks both ways, from its data to its model card; and a generator's card, as measured."""

from pathlib import Path

import pytest
import torch

from slurm_power.tiers.building.build import Order
from slurm_power.tiers.building.fit import Recipe
from slurm_power.tiers.building.full import full
from slurm_power.tiers.building.rows import shared_rows
from slurm_power.tiers.card import model_card
from slurm_power.tiers.evaluating.evaluation import Evaluation, Plan, evaluate
from slurm_power.tiers.evaluating.record import measured_tier, new_family, with_tier
from slurm_power.tiers.examples.masked import GAP, LEFT_OUT, MaskedText, masked_text
from slurm_power.tiers.task import Split, Task
from tests.tiers.evaluating.conftest import Generators
from tests.tiers.evaluating.quick_text import quick_text

_EACH = 3


class QuickMasked(MaskedText):
    def split(self, name: str) -> Split:
        whole = super().split(name)
        if name != "train":
            return whole
        return Split(whole.inputs[::_EACH], whole.targets[::_EACH], whole.groups[::_EACH], whole.ids[::_EACH])


quick_masked = QuickMasked()


def card(evaluation: Evaluation) -> tuple[str, dict[str, float]]:
    """The card's text and its results by metric, as the Hub reads them."""
    hub = pytest.importorskip("huggingface_hub", reason="the extra tiers is not installed")
    tier = measured_tier("full", evaluation, None, gpus=0)
    text = model_card(with_tier(new_family("texts", evaluation), tier), tier)
    results = hub.ModelCard(text).data.eval_results
    return text, {one.metric_type: one.metric_value for one in results if one.metric_config is None}


def test_ten_of_each_64_tokens_are_hidden_and_the_same_text_in_the_same_way() -> None:
    one, again = masked_text.split("test"), MaskedText().split("test")
    assert torch.equal(one.inputs, again.inputs) and torch.equal(one.targets, again.targets)
    asked = one.targets != LEFT_OUT
    assert bool((asked.sum(1) == 10).all())
    assert bool((one.inputs[asked] == 0).all()) and bool((one.inputs[~asked] != 0).all())
    assert not shared_rows(one, masked_text.split("train"))
    assert masked_text.prepare(f"The{GAP}.").tolist().count(0) == 1


@pytest.mark.parametrize(("directions", "sees"), [(1, False), (2, True)])
def test_only_two_directions_see_what_stands_behind_a_gap(directions: int, sees: bool) -> None:
    torch.manual_seed(0)
    model = masked_text.new_model(width=8, directions=directions).eval()
    tokens = masked_text.prepare(f"The{GAP} is a mutable sequence.").unsqueeze(0)
    other = tokens.clone()
    other[0, -1] = ord("!")
    with torch.inference_mode():
        gap = int((tokens[0] == 0).nonzero())
        assert torch.equal(model(tokens)[0, gap], model(other)[0, gap]) is not sees


def test_what_is_not_hidden_counts_neither_in_the_loss_nor_in_the_score() -> None:
    task: Task = masked_text
    targets = torch.full((2, 64), LEFT_OUT)
    targets[:, :4] = 7
    outputs = torch.zeros(2, 64, 1024)
    outputs[0, :4, 7] = 50.0
    outputs[1, :2, 7] = 50.0
    outputs[:, 4:, 9] = 50.0
    assert task.score(outputs, targets).tolist() == [1.0, 0.5]
    assert float(task.loss(outputs[:1], targets[:1])) == pytest.approx(0.0, abs=1e-4)


def test_its_card_has_loss_and_accuracy_as_measured(tmp_path: Path) -> None:
    task = quick_masked
    full(
        Order(task_spec=f"{__name__}:quick_masked", task=task, tier="full", output=tmp_path / "full"),
        shape={"width": 32},
        recipe=Recipe(epochs=1, batch_size=8, learning_rate=2e-2),
    )
    found = evaluate(Plan(task=task, directory=tmp_path / "full", seconds=0.2))
    test = task.split("test")
    tokens = test.targets[test.targets != LEFT_OUT]
    commonest = float(torch.bincount(tokens).max()) / len(tokens)
    assert found.quality.metric.low is not None
    assert found.quality.metric.low > commonest, "it says more than always the commonest token"
    text, results = card(found)
    assert results == {"accuracy": found.quality.metric.value, "loss": found.quality.more["loss"]}
    assert "\n## Training\n" in text and "workload:training" in text


def test_a_generators_card_has_quality_diversity_and_consistency(generators: Generators) -> None:
    found = evaluate(Plan(task=quick_text, directory=generators.small, seconds=0.2))
    assert found.generation is not None
    text, results = card(found)
    assert "\n## Generation: quality, diversity, consistency\n" in text
    assert results["perplexity"] == found.quality.metric.value
    assert [results[f"distinct_{n}"] for n in (1, 2, 3)] == list(found.generation.distinct)
    assert results["repetition_4"] == found.generation.repetition_4
    assert results["consistency_same_seed"] == 1.0
    assert results["consistency_across_seeds"] == found.generation.seed_consistency
    assert results["time_per_output_token_seconds"] > 0.0
