"""One cluster for a file of tests, with an empty queue after each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.cluster.layout import Options
from containers.cluster.lifecycle import up
from containers.cluster.slurm_root import outside_path
from tests.slurm.bench import Bench, adapters
from tests.slurm.cluster import Cluster, eventually
from tests.versions.chosen import chosen_root


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    started = up(Options(slurm_root=chosen_root()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", outside_path(started.lab))
        yield Cluster(started.lab)
    started.down()


@pytest.fixture(params=adapters())
def bench(cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    found = Bench(cluster, tmp_path, request.param)
    yield found
    found.close()
    cluster.run("scancel", "--user=root", "--full", check=False)
    eventually(lambda: not cluster.run("squeue", "-h").strip(), 20, "an empty queue")
