"""The runs of a job: their tiers, GPUs and energies, whether its nodes count on or begin a new account."""

from collections.abc import Mapping
from typing import Any

import pytest

from slurm_power.controller.jobs.lineage import KEY, Lineage
from slurm_power.model.job import Job, JobState


class Pen:
    """Records in memory."""

    def __init__(self) -> None:
        self.record: dict[str, Any] = {}

    def job_record(self, job_id: str) -> Mapping[str, Any]:
        assert job_id == "7"
        return self.record

    def job_energy(self, job_id: str, figures: Mapping[str, object]) -> None:
        assert job_id == "7"
        self.record.update(figures)


@pytest.mark.parametrize(
    ("seen", "second"),
    [
        ([1000.0, 1500.0], 500.0),  # counted on
        ([0.0, 700.0], 700.0),  # a new account from the start
        ([1000.0, 20.0, 700.0], 700.0),  # a new account, seen after the start
        ([1000.0, 20.0, 1400.0], 1400.0),
    ],
)
def test_each_run_has_its_own_energy(seen: list[float], second: float) -> None:
    pen, joules = Pen(), {"7": 0.0}
    lineage = Lineage(pen, lambda: joules)

    def look(start: int, tier: str, gpu_count: int, used: float) -> None:
        lineage.started({"job_id": "7", "restart_count": start, "told_tier": tier})
        joules["7"] = used
        job = Job(
            job_id="7",
            user="alice",
            account="physics",
            name="answers",
            state=JobState.RUNNING,
            gpu_count=gpu_count,
            nodes=("c1",),
        )
        lineage.follow({"7": job})

    look(0, "digits/full", 8, 0.0)
    look(0, "digits/full", 8, 1000.0)
    lineage.moved("7", "power is short")
    for used in seen:
        look(1, "digits/small", 4, used)
    first, last = pen.record[KEY]
    assert (first["tier"], first["gpu_count"], first["joules"]) == ("digits/full", 8, 1000.0)
    assert (last["tier"], last["gpu_count"], last["joules"]) == ("digits/small", 4, second)
    assert (last["why"], "why" in first) == ("power is short", False)
