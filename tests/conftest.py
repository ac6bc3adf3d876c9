"""Fixtures that several folders share, how far hypothesis goes in every run, and what runs side by side."""

from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["tests.cluster.lab"]

# A slow machine or coverage's tracing is no failure; how long things take is for the benchmarks.
settings.register_profile("checks", deadline=None)
settings.load_profile("checks")

_LOOP = Path(__file__).parent / "loop"


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers: all of tests/loop to one, which shares a lab, and that first; others by file."""
    items.sort(key=lambda item: _LOOP not in item.path.parents)
    for item in items:
        name = "loop" if _LOOP in item.path.parents else str(item.path)
        item.add_marker(pytest.mark.xdist_group(name))
