"""``slurm-power jobs --lineage``: the runs of a job in words, and whose its result is."""

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main
from tests.cli.fake_powerctld import fake_powerctld

JOB = {"job_id": "17", "user": "alice", "name": "[red]ask", "state": "ended"}
RUNS: list[dict[str, Any]] = [
    {"start": 0, "tier": "digits/full", "gpu_count": 8, "joules": 3.6e6, "from": "2026-01-02T03:00:00+00:00"},
    {
        "start": 1,
        "tier": "digits/int8",
        "gpu_count": 4,
        "joules": 0.0,
        "from": "?",
        "why": "the grid is short",
    },
]


def shown(*words: str, job: dict[str, Any] | None = JOB, runs: list[dict[str, Any]] = RUNS) -> Result:
    with fake_powerctld(lambda _: {"ok": True, "job": job, "runs": runs}) as fake:
        return CliRunner().invoke(main, ["jobs", "--lineage", *words, "--socket", str(fake.path)])


def test_each_run_and_whose_the_result_is() -> None:
    lines = shown("17").output.splitlines()
    assert lines[0] == "Job 17 ([red]ask, alice) has started 2 times."
    assert "start 0: digits/full on 8 GPUs" in lines[1]
    assert "1.000 kWh" in lines[1]
    assert lines[2].endswith("moved because the grid is short")
    assert lines[3] == "Its result is of digits/int8."
    assert shown("17", job={**JOB, "state": "running"}).output.endswith("It is on digits/int8 now.\n")
    assert "no run of it has named a model tier" in shown("17", runs=[]).output


def test_json_has_all_of_it() -> None:
    assert json.loads(shown("17", "--json").output) == {"job": JOB, "runs": RUNS}


@pytest.mark.parametrize(("words", "status"), [((), 2), (("x",), 2), (("17_1",), 2)])
def test_a_job_has_to_be_named_by_its_number(words: tuple[str, ...], status: int) -> None:
    done = shown(*words)
    assert done.exit_code == status
    assert "--lineage" in done.output


def test_a_job_that_nobody_knows() -> None:
    done = shown("18", job=None, runs=[])
    assert done.exit_code == 1
    assert "nothing is known of a job 18" in done.output
