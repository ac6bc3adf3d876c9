"""The level in powerctld: started, raised, kept over a restart, and a plain ratchet where it must be."""

import asyncio
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from slurm_power.controller.storage import ess_learned
from slurm_power.controller.storage.ess_book import LevelBook
from slurm_power.controller.storage.ess_desk import SUBJECT
from slurm_power.controller.storage.ess_learned import quarters_of
from slurm_power.plan.peak_level import Values
from slurm_power.store.places import SERIES_NAME
from slurm_power.store.series import SqliteSeries
from tests.controller.ess_bench import (
    DEMAND,
    NO_DEMAND,
    ON_PEAK,
    QUARTER,
    Bench,
    QuickPaths,
    history,
    is_start,
    quick,
)
from tests.plan.situations import AT, situation

__all__ = ["quick"]


def test_the_level_starts_where_the_weeks_before_could_have_been_held(tmp_path: Path) -> None:
    bench = Bench(tmp_path, read=history(35.0, imported_watts=14_000.0))
    asyncio.run(bench.moment())
    assert is_start(bench.level)
    assert bench.notes[0][0] == "level" and "in the weeks before" in bench.notes[0][1]
    assert bench.said.natural_most_watts == 20_000.0
    assert bench.said.trade_watts is None, "one price all day is no reason to trade"
    assert bench.faults == []


def test_what_is_paid_for_in_this_month_already_counts(tmp_path: Path) -> None:
    bench = Bench(tmp_path, read=history(35.0, imported_watts=19_000.0))
    asyncio.run(bench.moment())
    assert bench.level == 19_000.0 and "so far" in bench.notes[0][1]


def test_a_restart_neither_lowers_nor_raises_the_level(tmp_path: Path) -> None:
    bench = Bench(tmp_path, read=history(35.0, imported_watts=14_000.0))
    asyncio.run(bench.moment())
    before = bench.level
    for imported_watts in (5_000.0, 40_000.0):
        again = Bench(tmp_path, read=history(35.0, imported_watts=imported_watts), store=bench.store)
        again.now = bench.now + timedelta(minutes=5)

        async def check(again: Bench = again) -> None:
            await again.moment(38_000.0)
            assert again.level == before
            # The interval that the restart fell into was not seen whole.
            await again.to_quarter()
            assert again.level == before

        asyncio.run(check())
        assert again.kinds() == []


def test_a_level_rises_by_what_was_drawn_over_a_whole_interval(tmp_path: Path) -> None:
    bench = Bench(tmp_path, read=history(10.0, imported_watts=14_000.0))

    async def check() -> None:
        await bench.moment()
        before = bench.level
        await bench.to_quarter()
        for second in range(899):
            bench.now += timedelta(seconds=1)
            await bench.moment(90_000.0 if second == 400 else 15_000.0)
        bench.now += timedelta(seconds=1)
        await bench.moment()
        assert bench.level == before, "a second is no quarter of an hour"
        await bench.quarters(2, 19_500.0)
        assert bench.level == pytest.approx(19_500.0)

    asyncio.run(check())
    # The first of the two began with what was drawn before.
    assert bench.kinds() == ["level", "level raised", "level raised"]
    assert "could not hold was drawn" in bench.notes[1][1]
    assert "to 19.5 kW" in bench.notes[2][1]
    kept = LevelBook.from_json(bench.store["ess_level"])
    assert kept.levels_watts == {"peak": pytest.approx(19_500.0)}
    assert kept.peaks_watts == {"peak": pytest.approx(19_500.0)}


def test_a_new_month_starts_anew_and_remembers_the_peak_before(tmp_path: Path) -> None:
    at = datetime(2026, 1, 31, 23, 46, tzinfo=UTC)
    bench = Bench(tmp_path, read=history(60.0, imported_watts=25_000.0), at=at)

    async def check() -> None:
        await bench.moment()
        assert bench.level == 25_000.0
        await bench.quarters(2)
        assert bench.said.period == "2026-02"

    bench_read = bench.desk._learned.read_quarters
    bench.desk._learned.read_quarters = lambda name, since, until: (
        bench_read(name, since, until) if bench.now.month == 1 else np.empty(0)
    )
    asyncio.run(check())
    assert is_start(bench.level)
    assert bench.kinds() == ["level", "level"] and bench.notes[1][1].startswith("2026-02, peak")
    assert LevelBook.from_json(bench.store["ess_level"]).earlier_watts == {"peak": {"2026-01": 25_000.0}}


def test_months_are_those_of_the_sites_clock(tmp_path: Path) -> None:
    at = datetime(2026, 1, 31, 20, 0, tzinfo=UTC)
    bench = Bench(tmp_path, at=at, zone=ZoneInfo("Asia/Tokyo"))
    asyncio.run(bench.moment())
    assert bench.said.period == "2026-02"


def test_a_charge_outside_its_hours_has_no_level(tmp_path: Path) -> None:
    bench = Bench(tmp_path, tariff=ON_PEAK, read=history(35.0, imported_watts=14_000.0))

    async def check() -> None:
        await bench.moment()
        assert bench.said.level_watts is None
        assert bench.said.natural_most_watts == 20_000.0
        await bench.quarters(4, 30_000.0)
        bench.now = AT.replace(hour=12, minute=5)
        await bench.moment()

    asyncio.run(check())
    # Outside the hours that count it recharges as it likes, and 30 kW at night raise nothing.
    assert 14_300.0 < bench.level < 15_000.0


def test_with_days_of_history_it_is_the_plain_ratchet(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path, read=history(3.0, imported_watts=14_000.0), price=lambda hour: 0.01 if hour < 12 else 0.9
    )

    async def check() -> None:
        await bench.moment()
        assert bench.level == 14_000.0
        assert bench.said.trade_watts is None
        await bench.to_quarter()
        await bench.quarters(2, 17_000.0)

    asyncio.run(check())
    assert bench.level == pytest.approx(17_000.0)
    assert "3.0 days of load are known; before 14" in bench.notes[0][1]
    assert bench.faults == []


def test_with_nothing_stored_it_starts_at_the_first_interval(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def check() -> None:
        await bench.moment()
        assert bench.said.level_watts is None
        assert bench.said.natural_most_watts == 0.0, "nothing is known, so nothing is charged"
        await bench.to_quarter()
        await bench.quarters(2, 16_000.0)

    asyncio.run(check())
    assert bench.level == pytest.approx(16_000.0) and bench.kinds() == ["level", "level raised"]


def test_it_trades_by_price_above_the_reserve(tmp_path: Path) -> None:
    night = AT.replace(hour=3)
    bench = Bench(
        tmp_path,
        read=history(35.0, imported_watts=18_500.0),
        at=night,
        price=lambda hour: 0.02 if hour == 3 else 0.50 if hour == 19 else 0.20,
    )

    async def check() -> None:
        await bench.moment(soc_ratio=0.4)
        assert (bench.said.trade_watts or 0.0) < -500.0
        assert "energy costs 0.02 per kWh now, 0.2 in the middle" in bench.said.trade_reason
        bench.now = night.replace(hour=19, minute=44)
        await bench.moment(soc_ratio=0.8)
        await bench.quarters(1, soc_ratio=0.8)
        assert (bench.said.trade_watts or 0.0) > 500.0
        assert 0.0 <= bench.said.reserve_ratio < 1.0

    asyncio.run(check())


def test_advice_that_is_late_is_not_followed(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path,
        read=history(35.0, imported_watts=18_500.0),
        at=AT.replace(hour=3),
        price=lambda hour: 0.02 if hour == 3 else 0.50,
    )

    async def check() -> None:
        await bench.moment(soc_ratio=0.4)
        assert bench.said.trade_watts
        bench.desk._think = lambda *_: None  # type: ignore[method-assign]  # the thread hangs
        await bench.quarters(3)
        assert not bench.said.trade_watts
        assert bench.said.reserve_ratio == 1.0 and bench.level == 18_500.0

    asyncio.run(check())


def test_a_desk_that_fails_is_a_plain_ratchet_and_says_so_once(tmp_path: Path) -> None:
    works = history(35.0, imported_watts=14_000.0)
    faults = ["disk gone"]

    def read(name: str, since: float, until: float) -> Values:
        if faults:
            raise OSError(faults[0])
        return works(name, since, until)

    bench = Bench(tmp_path, read=read)

    async def check() -> None:
        await bench.moment()
        await bench.to_quarter()
        await bench.quarters(3, 14_500.0)
        assert bench.level == pytest.approx(14_500.0, rel=0.02)
        faults.clear()
        await bench.quarters(1, 14_500.0)
        assert is_start(bench.level)

    asyncio.run(check())
    assert [subject for subject, _ in bench.faults] == [SUBJECT, SUBJECT]
    assert "disk gone; meanwhile the level only follows what is drawn" in bench.faults[0][1]
    assert bench.faults[1][1] == ""


def test_a_broken_tariff_is_said_and_what_it_said_before_still_holds(tmp_path: Path) -> None:
    bench = Bench(tmp_path, tariff="[[season]]\nprice = 1\n", read=history(35.0, imported_watts=14_000.0))

    async def check() -> None:
        await bench.moment()
        assert bench.desk.outlook is None and "tariff.toml" in bench.faults[0][1]
        bench.file.write_text(DEMAND)
        await bench.to_quarter()
        level = bench.level
        bench.file.write_text("nonsense")
        await bench.quarters(2)
        assert bench.level == level
        bench.file.write_text(DEMAND)
        await bench.quarters(1)
        assert bench.level == level

    asyncio.run(check())
    assert [bool(text) for _, text in bench.faults] == [True, False, True, False]
    # What came while the tariff was broken was learned all the same.
    assert bench.desk._learned.days * 96 == pytest.approx(35 * 96 + 4, abs=1.0)


@pytest.mark.parametrize("tariff", [None, NO_DEMAND])
def test_without_a_demand_charge_all_is_as_it_was(tmp_path: Path, tariff: str | None) -> None:
    bench = Bench(tmp_path, tariff=tariff, read=history(35.0))
    asyncio.run(bench.moment())
    assert bench.desk.outlook is None and bench.notes == [] and bench.faults == []
    snapshot = situation()
    assert bench.desk.onto(snapshot) is snapshot


def test_the_cycle_never_waits(tmp_path: Path) -> None:
    go_on = threading.Event()

    def read(_name: str, _since: float, _until: float) -> Values:
        assert go_on.wait(10.0)
        return np.empty(0)

    bench = Bench(tmp_path, read=read)

    async def check() -> None:
        for _ in range(5):
            bench.desk.observe(replace(situation(import_watts=15_000.0), at=bench.now))
            bench.now += QUARTER
            await asyncio.sleep(0.01)
        assert bench.desk._at_work is not None
        go_on.set()
        await bench.desk.stop()

    asyncio.run(check())
    assert bench.faults == []


def test_stopping_does_not_wait_for_the_past_to_be_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(QuickPaths):
        def extend(self, watts: float) -> None:
            time.sleep(0.01)
            super().extend(watts)

    monkeypatch.setattr(ess_learned, "LoadPaths", Slow)
    bench = Bench(tmp_path, read=history(35.0))

    async def check() -> None:
        bench.desk.observe(replace(situation(), at=bench.now))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(2.0):
            await bench.desk.stop()

    asyncio.run(check())
    assert bench.faults == []


def test_a_battery_that_nobody_may_command_starts_no_level(tmp_path: Path) -> None:
    bench = Bench(tmp_path, read=history(35.0))
    asyncio.run(bench.moment(remote=False))
    assert bench.desk.outlook is None


@pytest.mark.parametrize(
    "kept",
    [None, [], {"period": 3}, {"period": "2026-01", "levels_watts": {"peak": "x"}, "earlier_watts": [1]}],
)
def test_what_is_no_book_is_an_empty_one(kept: object) -> None:
    book = LevelBook.from_json(kept)
    assert book.levels_watts == {} and book.earlier_watts == {}
    assert LevelBook.from_json(book.to_json()) == book


def test_quarters_are_read_from_the_stored_series(tmp_path: Path) -> None:
    start = datetime(2026, 1, 2, tzinfo=UTC)
    series = SqliteSeries(tmp_path / SERIES_NAME)
    for second in range(3_720):
        if not 900 <= second < 1_620:
            series.add(start + timedelta(seconds=second), {"circuit.grid.watts": 1_000.0 + second // 900})
    series.close()
    read = quarters_of(tmp_path)
    values = read("circuit.grid.watts", start.timestamp() - 86_400.0, start.timestamp() + 3_600.0)
    assert [None if np.isnan(value) else round(value) for value in values] == [1_000, None, 1_002, 1_003]
    assert not len(read("circuit.other.watts", start.timestamp() - 86_400.0, start.timestamp() + 3_600.0))
