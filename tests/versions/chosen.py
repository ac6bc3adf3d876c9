"""The version of Slurm that the tests run on: the host's, unless the environment names another."""

import contextlib
import os
from collections.abc import Iterator
from importlib import import_module

import pytest

from containers.cluster.layout import Options
from containers.cluster.lifecycle import up
from containers.versions.roots import MovedOnError, root_of

VARIABLE = "SLURM_POWER_TEST_VERSION"


def chosen_version() -> str | None:
    """Return the version that the environment names, None for the host's own."""
    return os.environ.get(VARIABLE) or None


def chosen_root() -> str | None:
    """Return the root directory for ``Options.slurm_root``; skips the test where Debian has moved on."""
    version = chosen_version()
    if version is None:
        return None
    try:
        return str(root_of(version))
    except MovedOnError as error:
        pytest.skip(str(error))


@contextlib.contextmanager
def slurm() -> Iterator[object]:
    """The cluster of ``tests/compat`` with the chosen Slurm: SLURM_POWER_TEST_SLURM names this function."""
    started = up(Options(nodes=2, accounting=True, power=True, slurm_root=chosen_root()))
    try:
        yield import_module("tests.compat.slurm").LabSlurm(started.lab)
    finally:
        started.down()
