"""One cluster for a file of tests, with an empty queue after each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.cluster.layout import Options
from containers.cluster.lifecycle import up
from tests.slurm.bench import Bench, adapters
from tests.slurm.cluster import Cluster, eventually


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    started = up(Options())
    yield Cluster(started.lab)
    started.down()


@pytest.fixture(params=adapters())
def bench(cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    found = Bench(cluster, tmp_path, request.param)
    yield found
    found.close()
    cluster.run("scancel", "--user=root", "--full", check=False)
    eventually(lambda: not cluster.run("squeue", "-h").strip(), 20, "an empty queue")
