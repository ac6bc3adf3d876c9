"""What answering and writing down cost with many jobs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_power import clock
from slurm_power.controller.answers import status
from slurm_power.controller.user_socket import Caller
from slurm_power.model.job import Job
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
            patch.setattr("slurm_power.controller.user_socket.pwd.getpwuid", getpwuid)
            status(site.controller, Caller(STRANGER))
        assert looked_up == [STRANGER]
        jobs = Counted({job.job_id: job for job in await Queue().jobs()})
        site.controller._books.shadow.seen = {("HoldJob", str(number)) for number in range(100)}
        site.controller._record(site.controller.snapshot(), jobs, [], clock.monotonic())
        assert jobs.times < 10
        assert site.controller._books.shadow.seen == {("HoldJob", number) for number in "123"}

    tried(folder, check)
