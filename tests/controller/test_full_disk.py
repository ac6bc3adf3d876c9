"""What powerctld does while its ledger cannot be written, and when a task overhears its end."""

import asyncio
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm_power.controller import daemon
from slurm_power.controller.sensing.pollers import every_poller
from slurm_power.ports import StoreError
from slurm_power.store.patient import PatientStore
from slurm_power.store.sqlite import SqliteStore
from slurm_power.tasks import end_all
from tests.controller.test_user_socket import Site, tried
from tests.store.contract_ledger import entry


@pytest.fixture
def folder(open_folder: Path) -> Iterator[Path]:
    yield Path(tempfile.mkdtemp(dir=open_folder))


class FullDisk(SqliteStore):
    """A store on a disk that is full whenever the test says so."""

    full = False

    def _transaction(self) -> Any:
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")
        return super()._transaction()


def test_what_cannot_be_written_waits_and_comes_in_order(tmp_path: Path) -> None:
    disk = FullDisk(tmp_path / "s.sqlite")
    store = PatientStore(disk)
    store.append(entry(0))
    disk.full = True
    store.append(entry(1))
    store.put_jobs({"17": {"user": "alice"}})
    store.put_state("levers", {"caps": {}})
    assert "disk is full" in store.problem
    assert list(store.entries()) == [entry(0)]
    assert store.job("17") == {"user": "alice"}
    assert store.state("levers") == {"caps": {}}
    with pytest.raises(StoreError, match=r"node_keys.*disk is full"):
        store.put_state_at_once("node_keys", {})
    disk.full = False
    store.append(entry(2))
    assert not store.problem
    assert list(store.entries()) == [entry(0), entry(1), entry(2)]
    assert store.broken_at_sequence() is None
    store.close()
    again = SqliteStore(tmp_path / "s.sqlite")
    assert (again.job("17"), again.state("levers")) == ({"user": "alice"}, {"caps": {}})
    again.close()


def test_what_waits_is_written_at_the_end_or_lost_after_too_many(tmp_path: Path) -> None:
    disk = FullDisk(tmp_path / "s.sqlite")
    store = PatientStore(disk)
    disk.full = True
    for number in range(10_003):
        store.append(entry(number))
    assert store.lost_entries == 3
    disk.full = False
    store.close()
    again = SqliteStore(tmp_path / "s.sqlite")
    assert next(again.rows(9_999, most=1))[1] == entry(9_999)
    again.close()


def test_control_goes_on_without_a_ledger_and_the_ledger_catches_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.controller.test_user_socket.SqliteStore", FullDisk)

    async def check(site: Site) -> None:
        figures = site.controller.cycle_figures
        FullDisk.full = True
        try:
            done = figures.done
            event = {"op": "event", "circuit": "grid", "limit_watts": 9e3, "duration_seconds": 600}
            assert (await site.ask({**event, "reason": "the utility asks"}))["ok"]
            async with asyncio.timeout(10.0):
                while figures.done < done + 3:  # noqa: ASYNC110  # polls what has no event
                    await asyncio.sleep(0.1)
            assert figures.failed == 0
            assert [found["event_id"] for found in (await site.ask({"op": "status"}))["events"]] == ["ev-1"]
        finally:
            FullDisk.full = False
        async with asyncio.timeout(10.0):
            while site.controller.store.problem:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.1)
            kinds: list[str] = []
            while "fault over" not in kinds:
                await asyncio.sleep(0.1)
                kinds = [found.kind for found in site.controller.store.entries()]
        wanted = {"start", "event", "fault", "fault over", "failed"}
        assert [kind for kind in kinds if kind in wanted] == ["start", "event", "fault", "fault over"]

    tried(folder, check)


def test_a_task_that_overhears_its_end_is_told_again() -> None:
    async def stubborn(times: int) -> None:
        while True:
            try:
                await asyncio.sleep(60.0)
            except asyncio.CancelledError:
                times -= 1
                if times < 0:
                    raise

    async def run() -> None:
        tasks = [asyncio.create_task(stubborn(times)) for times in (0, 1)]
        await asyncio.sleep(0)
        async with asyncio.timeout(5.0):
            await end_all(tasks)
        assert all(task.cancelled() for task in tasks)

    asyncio.run(run())


def test_powerctld_ends_although_a_driver_swallows_the_cancellation(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As asyncio.wait_for does when its result comes at the same moment."""

    async def swallowing() -> None:
        while True:
            try:
                await asyncio.sleep(60.0)
            except asyncio.CancelledError:
                if swallowed:
                    raise
                swallowed.append(True)

    swallowed: list[bool] = []
    monkeypatch.setattr(
        daemon, "every_poller", lambda *args, **named: [*every_poller(*args, **named), swallowing()]
    )

    async def check(site: Site) -> None:
        site.controller.stop()

    async def bounded() -> None:
        async with asyncio.timeout(10.0):
            await asyncio.to_thread(tried, folder, check)

    asyncio.run(bounded())
    assert swallowed
