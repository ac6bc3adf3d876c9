"""The version of Slurm that the tests run on: the host's, unless the environment names another."""

import os

import pytest

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
