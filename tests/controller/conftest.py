"""A munged of our own for the controller's tests, in a folder that every user may enter."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.faults.controller import Munged


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sp-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def munged(open_folder: Path) -> Iterator[Munged]:
    made = Munged(open_folder / "munge")
    yield made
    made.close()
