"""Each reason not to evaluate a tier, and what stands out without refusing it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from slurm_power.tiers.building.artifact import ArtifactError
from slurm_power.tiers.evaluating.evaluation import Plan, check_device, evaluate
from slurm_power.tiers.evaluating.quality import held_out, measure_quality
from slurm_power.tiers.evaluating.refusal import EvaluateError
from slurm_power.tiers.task import Task
from tests.tiers.evaluating import tasks
from tests.tiers.evaluating.tasks import signs, tier_of, weigh


def plan(task: Task, directory: Path, **more: object) -> Plan:
    return Plan(task=task, directory=directory, seconds=0.2, **more)  # type: ignore[arg-type]  # tests say what they mean


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (tasks.scaled, "training-serving skew.*probe item 1: other numbers"),
        (tasks.leaky, "64 of 64 test rows are in the train split, too, the first of them row 0"),
        (tasks.leaky_ids, "64 ids are in both test and train, such as 0"),
        (tasks.empty, "the test split has no rows"),
        (tasks.one_group, "all 200 rows are of the side 'all'"),
        (tasks.no_metric, "override score.*brilliance is not known"),
        (tasks.wrong_scores, r"score\(\) gave \(\) for 64 rows"),
        (tasks.infinite, "inputs that are no finite numbers"),
        (tasks.no_texts, "it has no context, decode, prompts"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Task) else "",
)
def test_refused(task: Task, said: str, tmp_path: Path) -> None:
    tier_of(signs, tmp_path / "full")
    with pytest.raises(EvaluateError, match=said):
        evaluate(plan(task, tmp_path / "full"))
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_train_rows_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("train", "tset"):
        with pytest.raises(EvaluateError, match="evaluate on test or validation"):
            held_out(signs, name)


def test_a_tier_of_another_task_or_with_damaged_weights(tmp_path: Path) -> None:
    folder = tier_of(signs, tmp_path / "full")
    with pytest.raises(ArtifactError, match="task is 'signs', not 'others'"):
        evaluate(plan(tasks.other, folder))
    with pytest.raises(ArtifactError, match="the catalog has 000000000000"):
        evaluate(plan(signs, folder, sha256="0" * 64))
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ArtifactError, match="the file is damaged or of another tier"):
        evaluate(plan(signs, folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_no_numbers(value: float, tmp_path: Path) -> None:
    model = weigh(signs.new_model())
    with torch.no_grad():
        model.weight[0, 5] = value  # type: ignore[operator]  # a parameter of a dense layer
    with pytest.raises(EvaluateError, match=r"outputs: row 0 \(test/0\) gives numbers that are not finite"):
        measure_quality(model, signs, signs.split("test"))


def test_a_metric_that_is_no_share(tmp_path: Path) -> None:
    folder = tier_of(tasks.recalled, tmp_path / "full", noise=0.5)
    found = evaluate(plan(tasks.recalled, folder)).quality
    assert found.metric.low is not None and found.metric.high is not None
    assert 0.0 < found.metric.low < found.metric.value < found.metric.high < 1.0
    assert found.groups is not None and found.groups.metric == "squared_error"
    assert found.groups.worst.judged == max(group.judged for group in found.groups.groups)
    assert 0.5 < found.more["accuracy"] <= 1.0


def test_rows_that_have_changed_since_are_noted(tmp_path: Path) -> None:
    class More(tasks.Signs):
        rows: Mapping[str, int] = {"train": 65, "validation": 32, "test": 201}

    folder = tier_of(signs, tmp_path / "full")
    assert evaluate(plan(signs, folder)).notes == ()
    trained, tested = evaluate(plan(More(), folder)).notes
    assert "trained on other rows than the task's train split has now" in trained
    assert "the test rows are others than when it was built" in tested


def test_a_device_that_is_not_there() -> None:
    check_device("cpu")
    for device in ("cuda:77", "moon"):
        with pytest.raises(EvaluateError, match=f"--device {device}: torch cannot use it here"):
            check_device(device)


def test_workloads_have_metrics_of_their_own(tmp_path: Path) -> None:
    class Training(tasks.Signs):
        workload = "training"

    folder = tier_of(signs, tmp_path / "full")
    named: Callable[[Task], set[str]] = lambda task: set(evaluate(plan(task, folder)).more())  # noqa: E731 - said twice
    assert named(signs) == {"loss", "macro_f1", "items_per_cpu_second", "cpu_seconds_per_item"}
    assert named(Training()) == {"loss", "macro_f1"}
