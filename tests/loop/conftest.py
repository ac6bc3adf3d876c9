"""One lab for the whole folder, at rest before each test."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.bench.steady import steady_plant, without_recharging
from containers.cluster.layout import Options
from containers.cluster.lifecycle import StartedLab, up
from containers.plant.__main__ import PLANT_FILE
from tests.loop.bed import Bed
from tests.versions.chosen import chosen_root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.loop)
            item.add_marker(pytest.mark.slurm)


@pytest.fixture(scope="session")
def steady_file() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sp-", dir="/tmp"))
    folder.chmod(0o755)
    yield steady_plant(PLANT_FILE, folder / "plant.toml")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def started(steady_file: Path) -> Iterator[StartedLab]:
    lab = up(Options(power=True, plant=str(steady_file), slurm_root=chosen_root()))
    site = lab.lab.layout.etc / "site.toml"
    site.write_text(without_recharging(site.read_text()))
    lab.lab.restart("powerctld")
    yield lab
    lab.down()


@pytest.fixture
def bed(started: StartedLab, request: pytest.FixtureRequest) -> Iterator[Bed]:
    """The lab at rest; brought back to rest afterwards, so that what a test leaves fails that test."""
    own = Bed(started.lab)
    own.tidy()
    yield own
    own.tidy()
