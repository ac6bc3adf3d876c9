"""Which runs a job was made of: one for each start, with its tier, its GPUs, its energy and why."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from slurm_power.controller.jobs.lineage import Lineage, runs_of
from slurm_power.model.job import Job, JobState
from tests.plan.tier_situations import consenting

JOB = consenting()


class Records:
    """The records of listed jobs."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.joules: dict[str, float] = {}

    def job_record(self, job_id: str) -> Mapping[str, Any]:
        return self.kept.get(job_id, {})

    def job_energy(self, job_id: str, figures: Mapping[str, object]) -> None:
        self.kept.setdefault(job_id, {}).update(figures)

    def runs(self, job_id: str = "1") -> list[dict[str, Any]]:
        return runs_of(self.job_record(job_id))


def lineage(records: Records) -> Lineage:
    return Lineage(records, lambda: records.joules)


def starts(of: Lineage, number: int, told: str = "", tier: str = "digits/full") -> None:
    of.started({"job_id": "1", "restart_count": number, "tier": tier, "told_tier": told})


def look(of: Lineage, job: Job = JOB, **more: Any) -> None:
    of.follow({"1": replace(job, **more)})


def test_two_runs_each_with_its_own_tier_gpus_and_energy() -> None:
    records = Records()
    runs = lineage(records)
    starts(runs, 0)
    look(runs, state=JobState.STARTING)
    assert records.runs() == [], "it does not run yet"
    starts(runs, 0, "digits/full")
    records.joules["1"] = 5_000.0
    look(runs)
    records.joules["1"] = 9_000.0
    look(runs)
    look(runs, state=JobState.PENDING)
    starts(runs, 1, "digits/half")
    runs.moved("1", "the grid is short")
    look(runs, gpu_count=4)
    records.joules["1"] = 10_500.0
    look(runs, gpu_count=4, state=JobState.ENDED)
    first, second = records.runs()
    assert (first["tier"], first["gpu_count"], first["joules"]) == ("digits/full", 8, 4_000.0)
    assert (second["tier"], second["gpu_count"], second["joules"]) == ("digits/half", 4, 1_500.0)
    assert "why" not in first
    assert second["why"] == "the grid is short"
    assert second["start"] == 1


def test_why_may_be_known_after_the_run_has_begun() -> None:
    records = Records()
    runs = lineage(records)
    starts(runs, 1, "digits/half")
    look(runs)
    runs.moved("1", "x" * 500)
    look(runs)
    assert records.runs()[0]["why"] == "x" * 200


def test_another_controller_goes_on_with_the_same_run() -> None:
    records = Records()
    records.joules["1"] = 1_000.0
    before = lineage(records)
    starts(before, 0, "digits/full")
    look(before)
    after = lineage(records)
    starts(after, 0, "digits/full")
    records.joules["1"] = 3_000.0
    look(after)
    (run,) = records.runs()
    assert run["joules"] == 2_000.0


def test_what_ran_once_is_not_lost_with_many_starts() -> None:
    records = Records()
    runs = lineage(records)
    for number in range(150):
        starts(runs, number, "digits/full")
        look(runs)
    assert [run["start"] for run in records.runs()] == list(range(50, 150))


@pytest.mark.parametrize(
    "message",
    [
        {"restart_count": 0, "tier": ""},
        {"restart_count": None, "tier": "digits/full"},
        {"restart_count": "0", "told_tier": "digits/full"},
        {"restart_count": 0, "told_tier": "Not A Tier"},
    ],
)
def test_jobs_without_a_tier_have_no_runs(message: dict[str, Any]) -> None:
    records = Records()
    runs = lineage(records)
    runs.started({"job_id": "1", **message})
    look(runs)
    assert records.kept == {}


def test_what_a_record_holds_is_read_or_left_out() -> None:
    assert runs_of({}) == []
    assert runs_of({"runs": "x"}) == []
    assert runs_of({"runs": [1, {"start": 0}, None]}) == [{"start": 0}]
