"""One lab with plant and daemons for what users do: templates, and the path of docs/users.md."""

from collections.abc import Iterator

import pytest

from containers.cluster.lab import Lab
from containers.cluster.layout import Options
from containers.cluster.lifecycle import up


@pytest.fixture(scope="package")
def power_lab() -> Iterator[Lab]:
    """Two nodes with eight GPUs each, and room for all of them."""
    started = up(Options(nodes=2, power=True))
    yield started.lab
    started.down()
