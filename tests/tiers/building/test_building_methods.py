"""Each method makes a tier that loads, says where it comes from, and is the same for the same seed."""

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from slurm_power.model.tier import TierMethod
from slurm_power.tiers.building.artifact import load_tier, read_description
from slurm_power.tiers.building.build import Built, Order, Parent, open_parent
from slurm_power.tiers.building.distill import Distillation, distill
from slurm_power.tiers.building.ending import BuildError, Stopped, StopWish
from slurm_power.tiers.building.fit import Recipe, validate
from slurm_power.tiers.building.full import full
from slurm_power.tiers.building.prune import prune
from slurm_power.tiers.building.quantize import quantize
from slurm_power.tiers.building.rows import fingerprint
from slurm_power.tiers.building.search import search
from slurm_power.tiers.model_sum import file_sha256
from slurm_power.tiers.task import load_task
from tests.tiers.building.conftest import BLOBS, DIGITS, HERE, QUICK, OrderMaker


def log_of(built: Built) -> list[dict[str, object]]:
    return [json.loads(line) for line in (built.directory / "training.jsonl").read_text().splitlines()]


def test_the_reference(blobs_full: Built) -> None:
    task = load_task(BLOBS)
    assert (blobs_full.method, blobs_full.parent) == (TierMethod.NONE, "")
    assert blobs_full.validation > 0.85
    assert blobs_full.sha256 == file_sha256(blobs_full.directory)
    assert blobs_full.parameters == 8 * 32 + 32 + 32 * 32 + 32 + 32 * 3 + 3
    assert blobs_full.multiply_adds == 8 * 32 + 32 * 32 + 32 * 3
    model = load_tier(blobs_full.directory, task)
    assert validate(model, task, task.split("validation")) == blobs_full.validation
    log = log_of(blobs_full)
    assert [line["epoch"] for line in log] == [1, 2, 3, 4, 5, 6]
    assert log[-1].keys() == {"epoch", "loss", "validation", "learning_rate", "cpu_seconds"}
    lineage = read_description(blobs_full.directory).lineage
    assert lineage["parent"] is None
    assert lineage["data"]["test"] == {"rows": 96, "sha256": fingerprint(task.split("test"))}
    assert lineage["versions"]["torch"] == torch.__version__
    assert lineage["recipe"]["epochs"] == 6


def test_the_same_seed_gives_the_same_weights(order: OrderMaker) -> None:
    sums = [
        read_description(
            full(order(name, seed=seed), recipe=Recipe(epochs=2, seed=seed)).directory
        ).weights_sha256
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    ]
    assert sums[0] == sums[1] != sums[2]


def test_a_smaller_shape_is_a_smaller_tier(order: OrderMaker) -> None:
    built = full(order("s", floor=1.1), shape={"width": 4}, recipe=QUICK)
    assert built.method is TierMethod.SMALLER
    assert "misses the floor of 1.1" in built.notes[0]


def test_quantizing(order: OrderMaker, digits_full: Built, digits_parent: Parent) -> None:
    built = quantize(order("int8", spec=DIGITS), parent=digits_parent)
    assert (built.method, built.parent) == (TierMethod.INT8, "full")
    assert built.model_bytes < digits_full.model_bytes
    assert built.multiply_adds == digits_full.multiply_adds
    assert abs(built.validation - digits_full.validation) < 0.03
    again = open_parent("int8", built.directory, load_task(DIGITS))
    assert again.description.lineage["parent"] == {"tier": "full", "sha256": digits_full.sha256}
    with pytest.raises(
        BuildError, match=r"quantized \(int8\) and cannot be trained: prune its own parent, full"
    ):
        prune(order("p", spec=DIGITS), parent=again)


def test_a_quantized_tier_that_is_no_smaller_is_said(order: OrderMaker) -> None:
    """Two layers with the same weights are packed each for itself."""
    spec = f"{HERE}/blobs.py:tied"
    tied = full(order("tied", spec=spec), shape={"width": 3}, recipe=Recipe(epochs=1))
    built = quantize(order("int8", spec=spec), parent=open_parent("tied", tied.directory, load_task(spec)))
    assert any(note.startswith("no smaller than its parent: ") for note in built.notes)


def test_pruning_and_tuning(order: OrderMaker, digits_full: Built, digits_parent: Parent) -> None:
    built = prune(order("pruned", spec=DIGITS), parent=digits_parent, recipe=Recipe(epochs=3))
    assert built.method is TierMethod.PRUNED
    assert built.multiply_adds is not None
    assert digits_full.multiply_adds is not None
    assert built.multiply_adds < 0.4 * digits_full.multiply_adds
    assert built.validation > 0.7
    task = load_task(DIGITS)
    model = load_tier(built.directory, task)
    assert validate(model, task, task.split("validation")) == built.validation


def test_kept_layers_keep_their_width(order: OrderMaker, parent: Parent) -> None:
    built = prune(order("p"), parent=parent, keep=["body.0"], recipe=QUICK)
    model = load_tier(built.directory, load_task(BLOBS))
    assert model.get_parameter("body.0.weight").shape == (32, 8)
    assert model.get_parameter("body.2.weight").shape == (16, 32)
    with pytest.raises(BuildError, match=r"keep: the model has no tail; it has body, body\.0"):
        prune(order("q"), parent=parent, keep=["tail"])


def test_distilling(order: OrderMaker, parent: Parent, blobs_full: Built) -> None:
    built = distill(
        order("d"), parent=parent, shape={"width": 8, "depth": 1}, recipe=replace(QUICK, epochs=8)
    )
    assert built.method is TierMethod.DISTILLED
    assert built.parameters < blobs_full.parameters / 5
    assert built.validation > 0.8


def test_distilling_features(order: OrderMaker, parent: Parent) -> None:
    shape = {"width": 6, "depth": 2}
    with_them = distill(order("d"), parent=parent, shape=shape, features="body.1=body.3", recipe=QUICK)
    without = distill(order("e"), parent=parent, shape=shape, recipe=QUICK)
    task = load_task(BLOBS)
    one, other = (load_tier(built.directory, task).state_dict() for built in (with_them, without))
    assert not torch.equal(one["body.0.weight"], other["body.0.weight"])
    assert one.keys() == other.keys()
    with pytest.raises(BuildError, match="features: the teacher has no layer 'tail'"):
        distill(order("f"), parent=parent, shape=shape, features="body.1=tail")


def test_a_student_is_measured_by_the_mixture(parent: Parent) -> None:
    """With the teacher's own weights the soft part is nothing, so only the share of the targets is left."""
    task = load_task(BLOBS)
    split = task.split("train")
    rows = torch.arange(32)
    losses = [
        Distillation(task, parent.model, split.inputs, temperature=4.0, mixture=mixture)(
            parent.model, rows, split.inputs[rows], split.targets[rows]
        )
        for mixture in (0.0, 0.7, 1.0)
    ]
    plain = task.loss(parent.model(split.inputs[rows]), split.targets[rows])
    assert losses[0].item() == pytest.approx(plain.item(), abs=1e-6)
    assert losses[1].item() == pytest.approx(0.3 * plain.item(), abs=1e-6)
    assert losses[2].item() == pytest.approx(0.0, abs=1e-6)


def test_a_student_larger_and_better_than_its_teacher_is_said(order: OrderMaker, tmp_path: Path) -> None:
    weak = full(order("weak"), shape={"width": 2, "depth": 1}, recipe=Recipe(epochs=1))
    teacher = open_parent("weak", weak.directory, load_task(BLOBS))
    built = distill(order("big"), parent=teacher, shape={"width": 16}, mixture=0.0, recipe=QUICK)
    assert built.notes[0].startswith("not smaller than its teacher: ")
    assert built.notes[1].startswith("better than its teacher on the validation rows")
    assert read_description(built.directory).lineage["notes"] == list(built.notes)


def searched(order: Order, parent: Parent) -> Built | None:
    return search(
        order,
        parent=parent,
        trials=6,
        trial_epochs=4,
        population=3,
        objectives=["multiply_adds"],
        recipe=replace(QUICK, epochs=8),
    )


def test_searching(order: OrderMaker, parent: Parent, blobs_full: Built) -> None:
    built = searched(order("nas", floor=0.8), parent)
    assert built is not None
    assert built.method is TierMethod.NAS
    assert built.validation >= 0.8
    assert built.multiply_adds is not None
    assert blobs_full.multiply_adds is not None
    assert built.multiply_adds < blobs_full.multiply_adds
    trials = [line for line in log_of(built) if "trial" in line]
    tried = {json.dumps(line["shape"], sort_keys=True) for line in trials}
    assert len(tried) == 6
    right = [line["values"] for line in trials if isinstance(line["values"], list)]
    assert built.multiply_adds <= min(values[1] for values in right if values[0] >= 0.8)


def test_a_search_by_quality_processor_time_and_latency(order: OrderMaker) -> None:
    objectives = ["latency_seconds", "cpu_seconds"]
    built = search(
        order("nas", floor=0.5),
        trials=4,
        trial_epochs=4,
        population=2,
        objectives=objectives,
        recipe=replace(QUICK, epochs=8),
    )
    assert built is not None
    done: list[Any] = [line["values"] for line in log_of(built) if line.get("state") == "complete"]
    assert done and all(len(values) == 3 and min(values[1:]) > 0.0 for values in done)
    chosen = read_description(built.directory).lineage["options"]["chosen"]
    assert chosen["costs"] == min(values[1:] for values in done if values[0] >= 0.5)


class StopAt(StopWish):
    """Stops once it has been asked so many times."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.left = call

    def check(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Stopped(signal.SIGTERM)


@pytest.mark.parametrize("call", [95, 345])
def test_a_search_that_was_stopped_ends_as_one_left_alone(
    order: OrderMaker, parent: Parent, call: int
) -> None:
    alone = searched(order("alone", floor=0.8), parent)
    with pytest.raises(Stopped):
        searched(order("stopped", floor=0.8, stop=StopAt(call)), parent)
    resumed = searched(order("stopped", floor=0.8), parent)
    assert alone is not None
    assert resumed is not None
    one, other = (read_description(built.directory) for built in (alone, resumed))
    assert one.weights_sha256 == other.weights_sha256
    done = [
        [line["shape"] for line in log_of(built) if line.get("state") in ("complete", "pruned")]
        for built in (alone, resumed)
    ]
    assert done[0] == done[1]


def test_a_search_never_ends_below_its_floor(order: OrderMaker, parent: Parent, tmp_path: Path) -> None:
    with pytest.raises(
        BuildError, match=r"no trial keeps to the floor of 1.5 in accuracy, .* are kept"
    ) as refused:
        search(order("nas", floor=1.5), parent=parent, trials=2, trial_epochs=1)
    assert refused.value.failed
    assert not (tmp_path / "nas").exists()
    assert (tmp_path / ".nas.building" / "study.journal").stat().st_size > 0
    with pytest.raises(BuildError, match="another floor: build with the same options"):
        search(order("nas", floor=0.2), parent=parent, trials=2, trial_epochs=1)


def test_a_search_asks_for_a_floor_and_a_space(order: OrderMaker) -> None:
    with pytest.raises(BuildError, match="a search needs a floor") as refused:
        search(order("nas"), trials=0, objectives=["beauty"], choose="any")
    for problem in ("trials and trial epochs", "objectives: beauty", "choose is 'any'"):
        assert problem in str(refused.value)
