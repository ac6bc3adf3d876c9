"""Fixtures of the node daemon's tests."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.faults.controller import FakeController, Munged
from containers.faults.node import NodeBench
from containers.plant.nvml_control import build_library


@pytest.fixture(scope="session")
def node_folder() -> Iterator[Path]:
    """A short folder that every user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="sp-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def nvml_library(node_folder: Path) -> Path:
    return build_library(node_folder / "lib")


@pytest.fixture(scope="session")
def munge(node_folder: Path) -> Iterator[Munged]:
    munged = Munged(node_folder / "munge")
    yield munged
    munged.close()


@pytest.fixture
def bench(node_folder: Path, nvml_library: Path) -> Iterator[NodeBench]:
    folder = Path(tempfile.mkdtemp(dir=node_folder))
    folder.chmod(0o755)
    made = NodeBench(folder, nvml_library)
    yield made
    made.close()


@pytest.fixture
def controller(munge: Munged, bench: NodeBench) -> Iterator[FakeController]:
    """A controller that ``bench`` is told about before it starts powerd."""
    made = FakeController(str(munge.socket))
    bench.settings |= {
        "controller": made.address,
        "ca_file": str(made.ca_file),
        "munge_socket": str(munge.socket),
    }
    yield made
    made.discard()
