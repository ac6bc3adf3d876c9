"""One small site for all tests of powerweb; those that stop something make their own."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web.bed import Bed


@pytest.fixture(scope="session")
def bed() -> Iterator[Bed]:
    with tempfile.TemporaryDirectory(prefix="sp-web-", dir="/tmp") as folder:
        made = Bed(Path(folder))
        yield made
        made.close()


@pytest.fixture
def own_bed(tmp_path: Path) -> Iterator[Bed]:
    with tempfile.TemporaryDirectory(prefix="sp-web-", dir="/tmp") as folder:
        made = Bed(Path(folder))
        yield made
        made.close()
