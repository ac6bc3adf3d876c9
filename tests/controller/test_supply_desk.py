"""The supply's files in powerctld: read beside the loop, their limit held, their faults said once."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slurm_power.config.supply import LimitUnit, SupplyConfig
from slurm_power.controller.sensing import supply_desk
from slurm_power.controller.sensing.supply_desk import SupplyDesk
from slurm_power.model.reading import Quality
from tests.plan.situations import AT, site, situation

NOW = AT.timestamp()


class Bench:
    def __init__(self, file: Path, state: Path = Path("state")) -> None:
        self.faults: list[tuple[str, str]] = []
        supply = SupplyConfig(limit_file=file, limit_unit=LimitUnit.KILOWATTS)
        controller = SimpleNamespace(state_directory=state)
        config: Any = SimpleNamespace(site=site(), supply=supply, zone=UTC, controller=controller)
        self.desk = SupplyDesk(config, fault=lambda subject, text: self.faults.append((subject, text)))

    async def until(self, happened: Callable[[], object]) -> None:
        async with asyncio.timeout(5.0):
            while not happened():  # noqa: ASYNC110  # polls what has no event
                await asyncio.sleep(0.01)


def tried(bench: Bench, check: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        task = asyncio.create_task(bench.desk.run())
        try:
            await check()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    asyncio.run(run())


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply_desk, "_READ_SECONDS", 0.02)


def rows(*limits: tuple[float, float | None]) -> str:
    lines = [f"{NOW + at:.0f},{'' if watts is None else watts}" for at, watts in limits]
    return "\n".join(["time,limit", *lines]) + "\n"


def test_the_supplys_limit_holds_where_it_is_tighter_than_the_sites_own(tmp_path: Path) -> None:
    file = tmp_path / "limit.csv"
    file.write_text(rows((-60.0, 99.0), (600.0, 12.0), (1_200.0, 40.0)))
    bench = Bench(file)

    async def check() -> None:
        await bench.until(lambda: bench.desk.supply.limit_watts is not None)
        snapshot = bench.desk.onto(situation())
        (event,) = snapshot.events
        assert (event.limit_watts, event.starts_in_seconds, event.ends_in_seconds) == (12e3, 600.0, 1_200.0)
        assert snapshot.limit_watts("grid") == 30e3
        assert snapshot.limit_watts("grid", lead_seconds=600.0) == 12e3
        assert snapshot.limit_watts("rack1") == 40e3

    tried(bench, check)
    assert bench.faults == []


def test_it_is_on_the_forecasts_grid(tmp_path: Path) -> None:
    file = tmp_path / "limit.csv"
    file.write_text(rows((600.0, 12.0), (1_200.0, 40.0)))
    bench = Bench(file)

    async def check() -> None:
        await bench.until(lambda: bench.desk.supply.limit_watts is not None)
        found = bench.desk.ahead(
            bench.desk.onto(situation()), "grid", start_seconds=NOW, step_seconds=300.0, steps=6
        )
        assert found.limit_watts == (30e3, 30e3, 12e3, 12e3, 30e3, 30e3)

    tried(bench, check)


def test_a_file_that_goes_bad_is_told_once_and_what_it_said_still_holds(tmp_path: Path) -> None:
    file = tmp_path / "limit.csv"
    file.write_text(rows((-60.0, 12.0)))
    bench = Bench(file)

    async def check() -> None:
        await bench.until(lambda: bench.desk.supply.limit_watts is not None)
        file.write_text("time,limit\nyesterday,much\n")
        await bench.until(lambda: bench.faults)
        await asyncio.sleep(0.1)
        ((subject, text),) = bench.faults
        assert subject == "supply" and "row 2" in text
        assert bench.desk.onto(situation()).limit_watts("grid") == 12e3
        file.unlink()
        await bench.until(lambda: len(bench.faults) == 2)
        file.write_text(rows((-60.0, 14.0)))
        await bench.until(lambda: len(bench.faults) == 3)
        assert bench.faults[-1] == ("supply", "")
        assert bench.desk.onto(situation()).limit_watts("grid") == 14e3

    tried(bench, check)


def test_without_files_nothing_changes() -> None:
    config: Any = SimpleNamespace(site=site(), supply=SupplyConfig(), zone=UTC)
    desk = SupplyDesk(config, fault=lambda *_: None)
    snapshot = situation()
    assert desk.onto(snapshot) is snapshot


def test_files_are_sources_with_their_quality(tmp_path: Path) -> None:
    file = tmp_path / "limit.csv"
    file.write_text(rows((-600.0, 12.0), (600.0, None)))
    bench = Bench(file)
    told: list[tuple[Quality, str]] = []

    def now() -> tuple[Quality, str]:
        (row,) = bench.desk.rows(AT)
        assert (row.source, row.measures) == ("supply:limit_file", "import limit")
        return row.quality, row.reason

    async def check() -> None:
        await bench.until(lambda: bench.desk.supply.limit_watts is not None)
        told.append(now())
        assert bench.desk.rows(AT)[0].age_seconds == pytest.approx(600.0)
        file.write_text(rows((-600.0, -12.0)))
        await bench.until(lambda: bench.faults)
        told.append(now())
        file.write_text(rows((-600.0, None)))
        await bench.until(lambda: now()[0] is Quality.INVALID)
        told.append(now())

    tried(bench, check)
    assert [quality for quality, _ in told] == [Quality.GOOD, Quality.QUESTIONABLE, Quality.INVALID]
    assert told[0][1] == "" and "is negative" in told[1][1]


def test_what_powerbridge_writes_is_shown_by_its_signal(tmp_path: Path) -> None:
    assert Bench(tmp_path / "feeds" / "day.price.csv", tmp_path).desk.rows(AT) == []
