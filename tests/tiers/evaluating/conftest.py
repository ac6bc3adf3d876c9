"""Two sizes of a text generator, trained once for all tests of this folder, and small."""

from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra tiers is not installed")
pytest.importorskip("fairlearn", reason="the extra evaluation is not installed")

import torch

from slurm_power.tiers.building.build import Built, Order
from slurm_power.tiers.building.fit import Recipe
from slurm_power.tiers.building.full import full
from slurm_power.tiers.task import load_task

TEXT = "tests.tiers.evaluating.quick_text:quick_text"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@dataclass(frozen=True, slots=True)
class Generators:
    """Folders of the two, and what their training said."""

    large: Path
    small: Path
    built: dict[str, Built]


@pytest.fixture(scope="session")
def generators(tmp_path_factory: pytest.TempPathFactory) -> Generators:
    """A few processor-seconds for both: one time through a third of the text, by the building loop."""
    folder = tmp_path_factory.mktemp("text")
    task = load_task(TEXT)
    built = {}
    for name, width, rate in (("small", 16, 1e-2), ("large", 64, 1e-2)):
        order = Order(task_spec=TEXT, task=task, tier=name, output=folder / name)
        recipe = Recipe(epochs=1, batch_size=8, learning_rate=rate)
        built[name] = full(order, shape={"width": width}, recipe=recipe)
    return Generators(large=folder / "large", small=folder / "small", built=built)
