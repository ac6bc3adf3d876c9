"""A tier on disk: the same model comes back, and what was changed on the way is refused with what to do."""

import io
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from slurm_power.tiers.building.artifact import ArtifactError, load_tier, read_description, save_tier
from slurm_power.tiers.building.build import Built, Parent
from slurm_power.tiers.building.prune import pruned
from slurm_power.tiers.building.quantizers import QuantizeError, quantized
from slurm_power.tiers.model_sum import file_sha256
from slurm_power.tiers.task import Task, load_task
from tests.tiers.building.conftest import BLOBS, DIGITS, HERE, SMALL


def save(
    folder: Path, model: nn.Module, spec: str = BLOBS, shape: dict[str, int] | None = None, **more: object
) -> None:
    said: dict[str, object] = {"method": "none", "parent": "", "seed": 1, "lineage": {}, **more}
    save_tier(folder, model, task_spec=spec, shape=shape or {}, **said)  # type: ignore[arg-type]  # as said


@pytest.fixture
def task() -> Task:
    return load_task(BLOBS)


@pytest.fixture
def copy(tmp_path: Path, blobs_full: Built) -> Path:
    """A tier that a test may spoil."""
    return Path(shutil.copytree(blobs_full.directory, tmp_path / "copy"))


def change(folder: Path, **fields: object) -> None:
    path = folder / "tier.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_float_model_comes_back(tmp_path: Path, task: Task) -> None:
    model = task.new_model(width=6).eval()
    save(tmp_path / "t", model, shape={"width": 6})
    rows = task.split("test").inputs
    back = load_tier(tmp_path / "t", task, sha256=file_sha256(tmp_path / "t"))
    assert torch.equal(back(rows), model(rows))
    assert not back.training
    assert sorted(file.name for file in (tmp_path / "t").iterdir()) == [
        "model.safetensors",
        "tier.json",
        "training.jsonl",
    ]


def test_int8_weights_come_back_as_they_were(tmp_path: Path, digits_parent: Parent) -> None:
    task = load_task(DIGITS)
    model = quantized(digits_parent.model, "int8")
    save(tmp_path / "t", model, DIGITS, SMALL, structure=[{"quantized": "int8"}])
    rows = task.split("test").inputs
    assert torch.equal(load_tier(tmp_path / "t", task)(rows), model(rows))
    assert not torch.equal(model(rows), digits_parent.model(rows))


@pytest.mark.parametrize("scheme", ["int8-weight-only", "int8-dynamic"])
@pytest.mark.slow
def test_weights_of_torchao_come_back_as_they_were(tmp_path: Path, parent: Parent, scheme: str) -> None:
    pytest.importorskip("torchao", reason="the extra tiers-gpu is not installed")
    task = load_task(BLOBS)
    model = quantized(parent.model, scheme)
    save(tmp_path / "t", model, structure=[{"quantized": scheme}])
    rows = task.split("test").inputs
    assert torch.equal(load_tier(tmp_path / "t", task)(rows), model(rows))
    with pytest.raises(QuantizeError, match="int4-weight-only"):
        quantized(parent.model, "int4-weight-only")


def test_a_pruned_and_quantized_model_comes_back(tmp_path: Path, digits_parent: Parent) -> None:
    task = load_task(DIGITS)
    rows = task.split("test").inputs
    lean = pruned(digits_parent.model, rows[:2], ratio=0.5)
    save(tmp_path / "lean", lean, DIGITS, SMALL)
    back = load_tier(tmp_path / "lean", task)
    assert torch.equal(back(rows), lean(rows))
    structure = [*read_description(tmp_path / "lean").structure, {"quantized": "int8"}]
    both = quantized(lean, "int8")
    save(tmp_path / "both", both, DIGITS, SMALL, structure=structure)
    assert torch.equal(load_tier(tmp_path / "both", task)(rows), both(rows))


def test_shared_layers_stay_shared(tmp_path: Path) -> None:
    spec = f"{HERE}/blobs.py:tied"
    task = load_task(spec)
    save(tmp_path / "t", task.new_model(), spec)
    back = load_tier(tmp_path / "t", task)
    assert back.get_parameter("extra.weight") is back.get_parameter("body.2.weight")


@pytest.mark.parametrize("at", [0, 20, -1])
def test_one_other_byte_in_the_weights_is_seen(copy: Path, task: Task, at: int) -> None:
    path = copy / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        ArtifactError, match=r"model.safetensors: its sha256 is .* damaged or of another tier"
    ):
        load_tier(copy, task)


@pytest.mark.parametrize("keep", [0, 5, 300])
def test_a_truncated_file_is_seen_even_with_its_own_sum(copy: Path, task: Task, keep: int) -> None:
    import hashlib

    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    change(copy, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ArtifactError, match="no safetensors file"):
        load_tier(copy, task)


def test_code_in_the_weights_is_never_run(copy: Path, task: Task, tmp_path: Path) -> None:
    import hashlib

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]  # a trap

    held = io.BytesIO()
    torch.save({"weights": Trap()}, held)
    for content in (held.getvalue(), pickle.dumps(Trap())):
        (copy / "model.safetensors").write_bytes(content)
        change(copy, weights_sha256=hashlib.sha256(content).hexdigest())
        with pytest.raises(ArtifactError, match="no safetensors file"):
            load_tier(copy, task)
    assert not (tmp_path / "ran").exists()


def test_swapped_weights_are_seen(copy: Path, task: Task, tmp_path: Path) -> None:
    save(tmp_path / "other", task.new_model())
    shutil.copy(tmp_path / "other" / "model.safetensors", copy)
    with pytest.raises(ArtifactError, match="of another tier"):
        load_tier(copy, task)


def test_a_sum_other_than_the_catalogs_is_seen_first(copy: Path, task: Task) -> None:
    right = file_sha256(copy)
    load_tier(copy, task, sha256=right)
    (copy / "tier.json").write_text("{")
    with pytest.raises(ArtifactError, match="the catalog has"):
        load_tier(copy, task, sha256=right)


def test_another_task_is_refused(copy: Path) -> None:
    with pytest.raises(ArtifactError, match="task is 'blobs', not 'other'"):
        load_tier(copy, load_task(f"{HERE}/blobs.py:other"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"version": 99}, r"version is 99, this slurm-power reads 1"),
        ({"format": "x"}, "no tier of slurm-power"),
        ({"shape": 3, "seed": "1"}, "seed is missing or no int; shape is missing or no dict"),
        ({"shape": {"height": 3}}, "shape has no height; it has depth, width"),
        ({"shape": {"width": 31, "depth": 2}}, r"the model has \(31, 8\)"),
        ({"structure": [{"resized": {"tail": {"width": 3}}, "tensors": {}}]}, "resizes tail"),
        ({"structure": [{"resized": {"head": {"speed": 3}}, "tensors": {}}]}, r"sets head\.speed"),
        ({"structure": [{"resized": {}, "tensors": {"head.bias": [10**9]}}]}, "resizes head.bias to"),
        ({"structure": [{"run": "this"}]}, "which this version does not know"),
        ({"structure": [{"quantized": "int7"}]}, "scheme 'int7' is not known"),
        ({"structure": ["x"]}, "structure is no list of tables"),
    ],
)
def test_a_description_that_cannot_be_is_refused(
    copy: Path, task: Task, fields: dict[str, object], words: str
) -> None:
    change(copy, **fields)
    with pytest.raises(ArtifactError, match=words):
        load_tier(copy, task)


def test_no_tier_there(tmp_path: Path, task: Task) -> None:
    with pytest.raises(ArtifactError, match="no folder"):
        load_tier(tmp_path / "nothing", task)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match=r"tier.json cannot be read: No such file"):
        load_tier(tmp_path / "empty", task)


def test_a_folder_that_is_there_is_replaced_only_when_said(copy: Path, task: Task) -> None:
    before = file_sha256(copy)
    with pytest.raises(ArtifactError, match="--replace"):
        save(copy, task.new_model())
    assert file_sha256(copy) == before
    save(copy, task.new_model(), replace=True)
    assert file_sha256(copy) != before
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_a_model_of_another_kind_is_not_written(tmp_path: Path, task: Task) -> None:
    with pytest.raises(ArtifactError, match="other modules than the task's model has"):
        save(tmp_path / "t", nn.Linear(8, 3))
    assert not list(tmp_path.iterdir())
