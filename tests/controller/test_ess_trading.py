"""Trading without a demand charge, cycles that are counted, temperatures, and what was billed before."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from slurm_power.controller.storage.ess_book import LevelBook, earlier_peaks, labels_before
from slurm_power.controller.storage.ess_desk import SUBJECT
from slurm_power.model.grid_event import Commitment
from slurm_power.model.power_table import PowerTable
from slurm_power.model.snapshot import LimitEvent
from slurm_power.plan.peak_level import Values
from slurm_power.plan.planner import guard_cycle
from slurm_power.plan.policy import Policy
from tests.controller.ess_bench import DEMAND, NO_DEMAND, Bench, QuickPaths, history, quick
from tests.plan.situations import AT

__all__ = ["quick"]

NIGHT = AT.replace(hour=3)


def two_prices(hour: int) -> float:
    return 0.02 if hour == 3 else 0.50 if hour == 19 else 0.20


def setpoint(bench: Bench, import_watts: float = 15_000.0, **ess: Any) -> float:
    """What the guard asks of the battery now."""
    plan = guard_cycle(bench.desk.onto(bench.seen(import_watts, **ess)), Policy())
    return next(
        (action.discharge_watts for action in plan.actions if hasattr(action, "discharge_watts")), 0.0
    )


@pytest.mark.parametrize("days", [35.0, 2.0])
def test_prices_alone_are_enough_to_trade(tmp_path: Path, days: float) -> None:
    """A price file and no tariff; with weeks of load as with days."""
    bench = Bench(
        tmp_path,
        tariff=None,
        price_file=tmp_path / "p.csv",
        read=history(days),
        at=NIGHT,
        price=two_prices,
    )

    async def check() -> None:
        await bench.moment(soc_ratio=0.4)
        assert bench.said.level_watts is None
        assert (bench.said.trade_watts or 0.0) < -500.0
        # Never above the 20 kW that the site drew by itself on the last day.
        assert -5_000.0 <= setpoint(bench, soc_ratio=0.4) < -500.0
        bench.now = NIGHT.replace(hour=18, minute=59)
        await bench.moment(soc_ratio=0.8)
        bench.now = NIGHT.replace(hour=19, minute=1)
        await bench.moment(soc_ratio=0.8)
        assert (bench.said.trade_watts or 0.0) > 500.0
        assert setpoint(bench, soc_ratio=0.8) > 500.0
        assert setpoint(bench, soc_ratio=0.21) == 0.0, "the outage reserve, and what bridges a limit, stay"

    asyncio.run(check())
    assert bench.faults == [] and bench.notes == []


def test_a_time_of_use_tariff_without_a_demand_charge_trades_as_well(tmp_path: Path) -> None:
    bench = Bench(tmp_path, tariff=NO_DEMAND, read=history(35.0), at=NIGHT, price=two_prices)

    async def check() -> None:
        await bench.moment(soc_ratio=0.4)
        assert (bench.said.trade_watts or 0.0) < 0.0

    asyncio.run(check())


def test_where_prices_do_not_pay_nothing_is_even_learned(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path, tariff=NO_DEMAND, read=history(35.0), at=NIGHT, price=lambda hour: 0.1 + 0.001 * hour
    )
    asyncio.run(bench.moment(soc_ratio=0.4))
    assert bench.desk.outlook is None and bench.desk._learned.days == 0.0


def test_energy_that_is_paid_for_being_taken_is_taken(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path,
        tariff=None,
        price_file=tmp_path / "p.csv",
        read=history(35.0),
        at=NIGHT,
        price=lambda hour: -0.1 if hour < 6 else 0.05,
    )

    async def check() -> None:
        await bench.moment(soc_ratio=0.4)
        assert (bench.said.trade_watts or 0.0) < -500.0
        assert setpoint(bench, soc_ratio=0.4) < 0.0

    asyncio.run(check())


def test_limits_and_events_come_before_trading(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path, tariff=None, price_file=tmp_path / "p.csv", read=history(35.0), at=NIGHT, price=two_prices
    )

    async def check() -> None:
        await bench.moment(soc_ratio=0.6)
        # It would like to buy; the load is above the limit of 30 kW.
        assert setpoint(bench, import_watts=33_000.0, soc_ratio=0.6) > 2_900.0
        bench.now = NIGHT.replace(hour=19, minute=1)
        await bench.moment(soc_ratio=0.6)
        await bench.quarters(1, soc_ratio=0.6)
        assert (bench.said.trade_watts or 0.0) > 0.0
        event = LimitEvent(
            event_id="e",
            circuit="grid",
            limit_watts=14_000.0,
            starts_in_seconds=7_200.0,
            ends_in_seconds=10_800.0,
            reason="asked by the utility",
            commitment=Commitment.MUST,
        )
        seen = bench.desk.onto(replace(bench.seen(soc_ratio=0.6), events=(event,)))
        (action,) = [each for each in guard_cycle(seen, Policy()).actions if hasattr(each, "discharge_watts")]
        assert action.discharge_watts < 0.0, "before an event it fills up"

    asyncio.run(check())


def test_used_cycles_stop_selling_and_nothing_else(tmp_path: Path) -> None:
    # 0.35 full cycles of 10 kWh are 3.5 kWh a day, more than can be sold at 3 kW in the dear hour.
    bench = Bench(
        tmp_path,
        tariff=None,
        price_file=tmp_path / "p.csv",
        read=history(35.0),
        at=NIGHT.replace(hour=19),
        price=two_prices,
        full_cycles_per_day=0.35,
    )

    async def check() -> None:
        await bench.moment(soc_ratio=0.8, max_watts=3_000.0)
        assert setpoint(bench, soc_ratio=0.8, max_watts=3_000.0) > 500.0
        for _ in range(25 * 60):
            bench.now += timedelta(seconds=1)
            await bench.moment(10_000.0, soc_ratio=0.75, discharge_watts=8_000.0, max_watts=3_000.0)
        # 3.3 kWh came out, and took more than 3.5 kWh from the store.
        assert bench.said.saleable_kwh["battery"] == 0.0
        assert setpoint(bench, soc_ratio=0.75) == 0.0
        # Above the limit of 30 kW it carries what it always carries.
        assert setpoint(bench, import_watts=34_000.0, soc_ratio=0.75) > 4_000.0
        again = Bench(
            tmp_path,
            tariff=None,
            price_file=tmp_path / "p.csv",
            read=history(35.0),
            store=bench.store,
            at=bench.now + timedelta(minutes=2),
            price=two_prices,
            full_cycles_per_day=0.35,
        )
        await again.moment(soc_ratio=0.75)
        assert again.said.saleable_kwh["battery"] < 0.1, "kept over a restart"
        again.now += timedelta(hours=5)
        await again.moment(soc_ratio=0.75)
        assert again.desk._cycles.saleable_kwh(again.seen())["battery"] == pytest.approx(3.5 * 0.88**0.5)

    asyncio.run(check())
    assert bench.kinds() == ["cycles used"]
    assert "0.35 full cycles today" in bench.notes[0][1] and "not sold before tomorrow" in bench.notes[0][1]


def test_a_level_is_held_when_the_cycles_are_used_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path, read=history(35.0, imported_watts=14_000.0), full_cycles_per_year=0.0)
    asyncio.run(bench.moment())
    assert bench.said.saleable_kwh == {"battery": 0.0}
    assert setpoint(bench, import_watts=bench.level + 3_000.0, soc_ratio=0.8) == pytest.approx(3_000.0)


def test_a_gap_between_readings_counts_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, tariff=None, full_cycles_per_day=1.0)

    async def check() -> None:
        for minutes in (0, 10, 20):
            bench.now = NIGHT + timedelta(minutes=minutes)
            await bench.moment(discharge_watts=8_000.0)
        assert bench.desk._cycles._books["battery"].day_kwh == 0.0

    asyncio.run(check())


def test_a_hot_battery_does_less_then_nothing_and_says_so_once(tmp_path: Path) -> None:
    fade = PowerTable(((40.0, 1.0), (50.0, 0.0)))
    bench = Bench(tmp_path, tariff=None, discharge_power_by_celsius=fade)

    def above(celsius: float | None) -> float:
        return setpoint(bench, import_watts=40_000.0, soc_ratio=0.8, celsius=celsius)

    assert above(30.0) == pytest.approx(8_000.0)
    assert above(45.0) == pytest.approx(4_000.0)
    assert above(51.0) == 0.0 and above(48.0) == 0.0 and above(None) == 0.0
    assert above(46.0) == pytest.approx(3_200.0)
    assert above(None) == pytest.approx(4_000.0), "half of the power while nobody knows"
    assert bench.kinds() == ["battery temperature"] * 2
    assert bench.notes[0][1].endswith("discharging stops") and bench.notes[1][1].endswith("may go on")


def test_a_new_installation_starts_at_what_was_billed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, billed_kw={"peak": {"2026-01": 17.5}})

    async def check() -> None:
        await bench.moment()
        assert bench.level == 17_500.0
        assert "billed in this month already" in bench.said.level_reason
        kept = Bench(tmp_path, store=bench.store, billed_kw={"peak": {"2026-01": 18.0}})
        await kept.moment()
        assert kept.level == 18_000.0, "written down later, it counts as well"

    asyncio.run(check())
    assert bench.faults == []


def test_a_ratchet_knows_the_months_before(tmp_path: Path) -> None:
    ratchet = f"{DEMAND}ratchet_ratio = 0.8\nratchet_months = 11\n"
    bench = Bench(tmp_path, tariff=ratchet, billed_kw={"peak": {"2025-07": 30.0, "2024-12": 90.0}})
    asyncio.run(bench.moment())
    # 2024-12 is longer ago than eleven months.
    assert bench.desk._period is not None and bench.desk._period.charges[0].floor_watts == pytest.approx(
        24_000.0
    )


def test_a_charge_that_the_tariff_does_not_have_is_a_fault(tmp_path: Path) -> None:
    bench = Bench(tmp_path, billed_kw={"peek": {"2026-01": 17.5}})
    asyncio.run(bench.moment())
    assert bench.faults == [
        (SUBJECT, "supply.billed_peaks_kw: the tariff has no demand charge named peek; it has peak")
    ]


def test_measured_and_billed_peaks_are_one_row_of_months() -> None:
    assert labels_before("2026-02", 3) == ["2025-11", "2025-12", "2026-01"] and labels_before("x", 3) == []
    old = LevelBook.from_json({"period": "2026-02", "earlier_watts": {"peak": [1.0, 20_000.0]}})
    assert old.earlier_watts == {"peak": {"2025-12": 1.0, "2026-01": 20_000.0}}
    row = earlier_peaks(old, {"peak": {"2025-12": 15.0, "2026-01": 15.0}, "other": {}}, "2026-03")
    assert row["peak"][-3:] == [15_000.0, 20_000.0, 0.0]
    assert set(row["other"]) == {0.0} and len(row["other"]) == 24


def test_a_long_excess_raises_the_level_within_its_quarter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quarters before were low: only the one that runs shows what comes."""
    whole = QuickPaths.paths

    def lasting(self: QuickPaths, now_watts: float | None = None) -> Values | None:
        found = whole(self, now_watts)
        if found is not None and now_watts is not None:
            found[:8] = now_watts
        return found

    monkeypatch.setattr(QuickPaths, "paths", lasting)
    bench = Bench(tmp_path, read=history(35.0, imported_watts=14_000.0))

    async def check() -> None:
        await bench.moment(soc_ratio=0.5)
        await bench.to_quarter()
        before, levels, looked = bench.level, [], []
        for _ in range(12):
            bench.now += timedelta(minutes=1)
            await bench.moment(22_000.0, soc_ratio=0.5)
            levels.append(bench.level)
            looked.append(bench.desk._thought_at)
        assert len(set(looked)) == 3, "looked at again after 5 and after 10 minutes, and not oftener"
        # The quarter's mean is some 20 kW by then: 3 kWh do not hold that at 15 kW for two hours.
        assert set(levels[:4]) == {before}
        assert 18_000.0 < levels[4] < 20_000.0

    asyncio.run(check())
    assert bench.kinds()[:2] == ["level", "level raised"] and len(bench.kinds()) <= 3
    assert "would have run empty" in bench.notes[1][1] and bench.faults == []
