"""What answering and writing down cost with many jobs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm_power import clock
from slurm_power.controller.answers.status_answer import status
from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.controller.levers.levers import CapRecord
from slurm_power.model.job import Job
from slurm_power.model.site import LimitKind
from tests.controller.test_user_socket import STRANGER, Queue, Site, folder, tried

__all__ = ["folder"]


class Counted(dict[str, Job]):
    """Jobs that count how often they are gone through."""

    times = 0

    def __iter__(self) -> Iterator[str]:
        self.times += 1
        return super().__iter__()


def test_many_jobs_cost_their_number_and_not_its_square(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = []

    def getpwuid(uid: int) -> None:
        looked_up.append(uid)
        raise KeyError(uid)

    async def check(site: Site) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("slurm_power.controller.answers.user_socket.pwd.getpwuid", getpwuid)
            status(site.controller, {}, Caller(STRANGER))
        assert looked_up == [STRANGER]
        jobs = Counted({job.job_id: job for job in await Queue().jobs()})
        site.controller._books.shadow.seen = {("HoldJob", str(number)) for number in range(100)}
        site.controller._record(site.controller.snapshot(), jobs, [], clock.monotonic())
        assert jobs.times < 10
        assert site.controller._books.shadow.seen == {("HoldJob", number) for number in "123"}

    tried(folder, check)


def told(site: Site, caller: int = 0, **words: object) -> tuple[list[str], int]:
    """The jobs in a status, and how many were left off."""
    found: dict[str, Any] = status(site.controller, words, Caller(caller))
    return [row["job_id"] for row in found["jobs"]], found["jobs_left_off"]


def test_of_many_jobs_those_come_first_that_something_is_done_about(folder: Path) -> None:
    """An operator who looks at a site of 50,000 jobs must not hold up its control."""

    async def check(site: Site) -> None:
        assert told(site) == (["1", "2", "3"], 0)
        at = site.controller.now()
        site.controller.levers.caps["2"] = CapRecord(
            cap_watts=400.0,
            kind=LimitKind.ECONOMIC,
            uncapped_watts=650.0,
            lowered_watts=250.0,
            slowdown_ratio=0.1,
            reason="less",
            changed_at=at,
            renewed_at=at,
        )
        assert told(site, most_jobs=0) == ([], 3)
        assert told(site, most_jobs=1) == (["2"], 2)
        assert told(site, most_jobs=2) == (["1", "2"], 1), "in Slurm's order"
        assert told(site, job_ids=["3", "3", "99"]) == (["3"], 2)
        assert told(site, STRANGER, job_ids=["2"])[0] == [], "alice's"

    tried(folder, check)


@pytest.mark.parametrize(
    "wrong", [{"most_jobs": True, "job_ids": "1"}, {"most_jobs": -1}, {"most_jobs": 1001}]
)
def test_what_cannot_be_asked_is_named(folder: Path, wrong: dict[str, object]) -> None:
    async def check(site: Site) -> None:
        with pytest.raises(RefusedError) as refused:
            status(site.controller, wrong, Caller(0))
        assert all(key in str(refused.value) for key in wrong)

    tried(folder, check)
