"""What users are told of the energy of jobs: their own alone, page by page, the newest first."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slurm_power.config.supply import SupplyConfig
from slurm_power.controller.answers import jobs_answer
from slurm_power.controller.answers.jobs_answer import MOST_IDS, jobs
from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.store.sqlite import SqliteStore
from tests.plan.situations import AT

ROOT, NOBODY = Caller(uid=0), Caller(uid=65534)


@dataclass
class Site:
    """Of the controller what the answer needs: its store, records of listed jobs, the time."""

    store: SqliteStore
    listed: dict[str, dict[str, Any]] = field(default_factory=dict)
    config: Any = field(default_factory=lambda: SimpleNamespace(supply=SupplyConfig(currency="EUR")))

    @property
    def recorder(self) -> "Site":
        return self

    def job_record(self, job_id: str) -> dict[str, Any]:
        return self.listed.get(job_id, {})

    def now(self) -> Any:
        return AT


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(SqliteStore(tmp_path / "store.sqlite"))
    yield found
    found.store.close()


def record(job_id: str, user: str = "nobody", ended_hours_ago: float = 1.0, **more: Any) -> dict[str, Any]:
    end = AT - timedelta(hours=ended_hours_ago)
    return {
        "job_id": job_id,
        "user": user,
        "state": "ended",
        "started": (end - timedelta(hours=1)).isoformat(),
        "ended": end.isoformat(),
        "receipt": {"v": 1, "energy_joules": int(job_id)},
        **more,
    }


def ask(site: Site, caller: Caller, **request: Any) -> tuple[list[str], int | None]:
    answer: Any = jobs(site, {"op": "jobs", **request}, caller)  # type: ignore[arg-type]  # all it needs of one
    assert answer["currency"] == "EUR"
    return [row["job_id"] for row in answer["jobs"]], answer["cursor"]


@pytest.mark.skipif(os.getuid() != 0, reason="only for root another user's uid is no operator's")
def test_others_jobs_are_not_shown(site: Site) -> None:
    site.store.put_jobs({"1": record("1"), "2": record("2", "alice")})
    assert ask(site, NOBODY, job_ids=["1", "2", "3"]) == (["1"], None)
    assert ask(site, ROOT, job_ids=["1", "2", "3"]) == (["1", "2"], None)
    assert ask(site, NOBODY, since_seconds=86_400) == (["1"], None)
    assert ask(site, ROOT, since_seconds=86_400) == (["2", "1"], None)


def test_old_ones_and_those_that_never_started_are_left_out(site: Site) -> None:
    site.store.put_jobs({
        "1": record("1", ended_hours_ago=30),
        "2": record("2"),
        "3": record("3", started=None),
        "4": {**record("4", ended_hours_ago=30), "ended": None, "state": "running"},
    })  # fmt: skip
    assert ask(site, ROOT, since_seconds=86_400) == (["4", "2"], None)


def test_page_by_page(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_answer, "_MOST_LOOKED_AT", 10)
    site.store.put_jobs({str(job): record(str(job), ended_hours_ago=90 - job) for job in range(40, 90)})
    found: list[str] = []
    cursor, answers = None, 0
    while answers == 0 or cursor is not None:
        more, cursor = ask(site, ROOT, since_seconds=24 * 3600.0, cursor=cursor)
        found, answers = found + more, answers + 1
    assert found == [str(job) for job in range(89, 65, -1)]
    assert answers == 4, "what is older is not looked through"


def test_an_answer_that_would_be_too_long_goes_on_with_the_next(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_answer, "_MOST_ANSWER_BYTES", 700)
    site.store.put_jobs({str(job): record(str(job)) for job in range(1, 9)})
    found: list[str] = []
    cursor, answers = None, 0
    while answers == 0 or cursor is not None:
        more, cursor = ask(site, ROOT, since_seconds=86_400, cursor=cursor)
        found, answers = found + more, answers + 1
    assert found == ["8", "7", "6", "5", "4", "3", "2", "1"]
    assert answers > 2


def test_a_job_that_runs_is_told_as_it_is_now(site: Site) -> None:
    site.store.put_jobs({"1": {"job_id": "1", "user": "nobody", "state": "running", "energy_joules": 5.0}})
    site.listed["1"] = {"job_id": "1", "user": "nobody", "state": "running", "energy_joules": 50.0}
    answer: Any = jobs(site, {"job_ids": ["1"]}, ROOT)  # type: ignore[arg-type]  # all it needs of one
    (row,) = answer["jobs"]
    assert (row["receipt"]["energy_joules"], row["final"]) == (50, False)


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"since_seconds": -1},
        {"since_seconds": "x"},
        {"job_ids": "17"},
        {"job_ids": ["1"] * (MOST_IDS + 1)},
    ],
)
def test_what_makes_no_sense_is_refused(site: Site, request_: dict[str, Any]) -> None:
    with pytest.raises(RefusedError):
        jobs(site, request_, ROOT)  # type: ignore[arg-type]  # all it needs of one
