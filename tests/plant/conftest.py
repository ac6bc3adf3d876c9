"""Fixtures of the plant's tests."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.plant.nvml_control import build_library
from tests.plant.nvml_bench import Bench, open_bench


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, as a cluster's run directory is."""
    folder = Path(tempfile.mkdtemp(prefix="sp-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def nvml_library(open_folder: Path) -> Path:
    return build_library(open_folder / "lib")


@pytest.fixture
def bench(nvml_library: Path, open_folder: Path) -> Iterator[Bench]:
    """A simulated node of two H100 whose clock stands still."""
    folder = Path(tempfile.mkdtemp(dir=open_folder))
    folder.chmod(0o755)
    made = open_bench(nvml_library, folder)
    yield made
    made.gpus.close()
