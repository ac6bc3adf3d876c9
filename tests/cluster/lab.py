"""Fixtures that hand a running lab to a test: ``lab`` for the session, ``fresh_lab`` to make others.

A lab made here ends with the test process, even when that is killed: it is never detached.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

from containers.cluster.lab import Lab
from containers.cluster.layout import Options
from containers.cluster.lifecycle import StartedLab, up

LabFactory: TypeAlias = Callable[..., Lab]
JOB_SECONDS = 30.0


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Four nodes with eight GPUs each, neither accounting nor power; shared by the session's tests."""
    started = up(Options())
    yield started.lab
    started.down()


@pytest.fixture
def fresh_lab() -> Iterator[LabFactory]:
    """A function that builds a lab from Options' fields and ends it after the test."""
    built: list[StartedLab] = []

    def build(**options: Any) -> Lab:
        built.append(up(Options(**options)))
        return built[-1].lab

    yield build
    for started in built:
        started.down()


def submit(lab: Lab, script: str, *arguments: str, user: str = "alice") -> str:
    """Submit a shell line with sbatch as ``user`` and return the job's number."""
    argv = ["sbatch", "--parsable", "--time=5", "--output=%j.out", *arguments, f"--wrap={script}"]
    return lab.run(argv, user=user).stdout.strip()


def await_job(
    lab: Lab, job: str, state: str = "COMPLETED", *, seconds: float = JOB_SECONDS
) -> dict[str, str]:
    """Poll a job until it is in ``state`` and return its fields; fails at once when it ended otherwise."""
    final = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}

    def reached() -> bool:
        now = lab.job(job).get("JobState", "")
        assert now == state or now not in final, f"job {job} is {now}, expected {state}"
        return now == state

    lab.wait_until(reached, f"job {job} to be {state}", seconds=seconds)
    return lab.job(job)


def output(lab: Lab, job: str, user: str = "alice") -> str:
    """Read what a job of ``submit`` printed."""
    return (lab.run_directory / "home" / user / f"{job}.out").read_text()
