"""One cluster for the folder; a group of cases runs when the first of its tests asks."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.compat.background import Background
from tests.compat.case import Case
from tests.compat.runner import Pair, run_group
from tests.compat.slurm import Slurm, chosen


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slurm)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """The cluster that SLURM_POWER_TEST_SLURM names, else a local one."""
    with chosen()() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def background(slurm: Slurm) -> Background:
    """What takes Slurm's own time, started before the groups so that it goes on beside them."""
    return Background(slurm)


@pytest.fixture(scope="session")
def pairs(
    slurm: Slurm, background: Background, request: pytest.FixtureRequest
) -> Callable[[str], dict[str, Pair]]:
    """A function that runs what was selected of a group, once, and remembers what came of it."""
    selected: dict[str, list[Case]] = {}
    for item in request.session.items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if "group" in parameters:
            selected.setdefault(parameters["group"], []).append(parameters["case"])

    @cache
    def ran(group: str) -> dict[str, Pair]:
        return run_group(slurm, group, selected[group])

    return ran
