"""One full model of each kind for all tests of this folder, and orders for lighter ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from slurm_power.tiers.building.build import Built, Order, Parent, open_parent
from slurm_power.tiers.building.fit import Recipe
from slurm_power.tiers.building.full import full
from slurm_power.tiers.task import load_task

HERE = Path(__file__).parent
BLOBS = f"{HERE}/blobs.py:blobs"
DIGITS = "slurm_power.tiers.examples.digits:digits"
QUICK = Recipe(epochs=4, batch_size=16, learning_rate=1e-2)
SMALL = {"first": 8, "second": 16, "third": 16, "dense": 16}

OrderMaker = Callable[..., Order]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def order_in(folder: Path, tier: str, spec: str = BLOBS, **more: object) -> Order:
    said: dict[str, object] = {
        "task_spec": spec,
        "task": load_task(spec),
        "tier": tier,
        "output": folder / tier,
    }
    return Order(**{**said, **more})  # type: ignore[arg-type]  # tests say what they mean


@pytest.fixture
def order(tmp_path: Path) -> OrderMaker:
    return lambda tier, **more: order_in(tmp_path, tier, **more)


@pytest.fixture(scope="session")
def blobs_full(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return full(order_in(tmp_path_factory.mktemp("blobs"), "full"), recipe=replace(QUICK, epochs=6))


@pytest.fixture(scope="session")
def digits_full(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A small net on the real digits."""
    order = order_in(tmp_path_factory.mktemp("digits"), "full", DIGITS)
    return full(order, shape=SMALL, recipe=Recipe(epochs=8, learning_rate=4e-3))


@pytest.fixture
def parent(blobs_full: Built) -> Parent:
    return open_parent("full", blobs_full.directory, load_task(BLOBS))


@pytest.fixture
def digits_parent(digits_full: Built) -> Parent:
    return open_parent("full", digits_full.directory, load_task(DIGITS))
