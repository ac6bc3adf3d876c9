"""The whole product on the chosen Slurm, with hooks that also write down what they were told."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.cluster.lab import Lab
from containers.cluster.layout import Options
from containers.cluster.lifecycle import up
from tests.versions.chosen import VARIABLE, chosen_root, chosen_version

HOOKS = ("prolog", "epilog")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        item.add_marker(pytest.mark.versions)
        item.add_marker(pytest.mark.slurm)
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="root directories and a real Slurm need root"))
        elif chosen_version() is None:
            item.add_marker(
                pytest.mark.skip(reason=f"{VARIABLE} names no version; see make test-slurm-versions")
            )


@pytest.fixture(scope="session")
def site() -> Iterator[Lab]:
    """Four nodes with the simulated plant, powerd, powerctld, plugin, hooks and job_submit."""
    started = up(Options(power=True, slurm_root=chosen_root()))
    try:
        for hook in HOOKS:
            _also_record(started.lab, hook)
        yield started.lab
    finally:
        started.down()


def _also_record(lab: Lab, hook: str) -> None:
    """Put a script in the hook's place that writes its environment down and goes on as the hook itself."""
    place = lab.layout.etc / hook
    own = place.rename(place.with_name(f"{hook}.own"))
    fresh = place.with_name(f"{hook}.new")
    log = f"{lab.run_directory}/log/{hook}.$SLURM_JOB_ID"
    fresh.write_text(f"#!/bin/sh\n/usr/bin/env >{log}.new\nmv {log}.new {log}\nexec {own}\n")
    fresh.chmod(0o755)
    fresh.rename(place)
