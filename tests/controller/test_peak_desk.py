"""The level that jobs serve: found once a day by the shared rule, kept over restarts, shadow by default."""

import asyncio
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from slurm_power.config.supply import SupplyConfig
from slurm_power.controller.planning.peak_book import PeakBook
from slurm_power.controller.planning.peak_desk import PeakDesk
from slurm_power.model.action import SetCap, SetDischarge
from slurm_power.model.job import Flex
from slurm_power.model.outlook import EssOutlook
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.class_problem import HOURS, DayPrices
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import PeakJobs, Policy
from tests.controller.ess_bench import DEMAND, NO_DEMAND, ON_PEAK
from tests.controller.test_fairness_desk import Memory
from tests.plan.situations import AT, ess_reading, running, site, situation

HOUR = 3600.0


def rows(days: float, peak_watts: float = 24_000.0) -> list[list[float]]:
    """Until the hour of ``AT``: 18 kW, from noon for two hours ``peak_watts``, of which caps could take 4."""
    count = round(24 * days)
    first = int(AT.timestamp() // HOUR) - count
    found = []
    for number in range(first, first + count):
        load = peak_watts if number % 24 in (12, 13) else 18_000.0
        found.append([load, 4_000.0, 3.0, 32.0, 0.5, 5_000.0])
    return found


def book(days: float = 20.0, **more: Any) -> dict[str, Any]:
    kept = PeakBook(
        hours=rows(days), end_seconds=AT.timestamp() // HOUR * HOUR, period="2026-01", is_whole=True
    )
    return {**kept.to_json(), **more}


class Bench:
    def __init__(
        self,
        folder: Path,
        *,
        mode: PeakJobs = PeakJobs.ON,
        kept: dict[str, Any] | None = None,
        tariff: str | None = DEMAND,
        policy: Policy | None = None,
        at: datetime = AT,
    ) -> None:
        self.file = folder / "tariff.toml"
        if tariff is not None:
            self.file.write_text(tariff)
        self.store = Memory()
        if kept is not None:
            self.store["peak_level"] = kept
        self.notes: list[tuple[str, str]] = []
        self.faults: list[tuple[str, str]] = []
        self.policy = replace(policy or Policy(), peak_jobs=mode)
        self.config: Any = SimpleNamespace(
            site=site(),
            supply=SupplyConfig(tariff_file=None if tariff is None else self.file),
            zone=UTC,
            policy=self.policy,
        )
        self.now = at
        self.desk = self.another()

    def another(self) -> PeakDesk:
        return PeakDesk(
            self.config,
            self.store,
            note=self.note,
            fault=lambda subject, text: self.faults.append((subject, text)),
        )

    def note(self, actor: str, kind: str, subject: str, reason: str, **_more: Any) -> None:
        assert (actor, subject) == ("controller", "circuit:grid")
        self.notes.append((kind, reason))

    async def moment(self, import_watts: float | None = 18_000.0, **more: Any) -> Snapshot:
        """One cycle; what it begins beside itself is waited for. Returns the snapshot planned on."""
        more.setdefault("ess", ess_reading())
        seen = replace(situation(import_watts=import_watts, **more), at=self.now)
        planned = self.desk.onto(seen)
        self.desk.observe(seen)
        if self.desk._at_work is not None:
            await self.desk._at_work
            self.desk.observe(seen)
        return planned

    async def minutes(self, count: int, import_watts: float = 18_000.0, **more: Any) -> None:
        for _ in range(count):
            self.now += timedelta(minutes=1)
            await self.moment(import_watts, **more)

    @property
    def level(self) -> float:
        assert self.desk.level is not None
        return self.desk.level.level_watts


def run(bench: Bench, *steps: Any) -> None:
    async def all_steps() -> None:
        await bench.moment()
        for step in steps:
            await step()
        await bench.desk.stop()

    asyncio.run(all_steps())


def is_joint(watts: float) -> bool:
    """Caps take 4 of 24 kW, and 8 kW / 6 kWh of battery a part of the rest."""
    return 18_000.0 <= watts < 20_000.0


def test_the_level_is_the_shared_rules_and_is_told_with_what_it_costs(tmp_path: Path) -> None:
    bench = Bench(tmp_path, kept=book())
    run(bench)
    assert is_joint(bench.level)
    assert bench.desk.level is not None and bench.desk.level.most_price_per_kwh is not None
    (note,) = bench.notes
    assert note[0] == "peak level" and "jobs help the batteries to hold" in note[1]
    assert "20 days before that would have cost" in note[1] and "GPU-hours" in note[1]


def test_shadow_says_what_could_be_and_changes_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, mode=PeakJobs.SHADOW, kept=book())
    run(bench)
    assert is_joint(bench.level), "for status and ledger"
    assert bench.notes[0][0] == "peak level (shadow)" and "could help" in bench.notes[0][1]
    seen = replace(situation(import_watts=30_000.0), at=bench.now)
    assert bench.desk.onto(seen) is seen


def test_off_says_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, mode=PeakJobs.OFF, kept=book())
    run(bench)
    assert bench.notes == []
    seen = replace(situation(import_watts=30_000.0), at=bench.now)
    assert bench.desk.onto(seen) is seen


@pytest.mark.parametrize(
    "lacking",
    [{"kept": book(13.0)}, {"kept": book(is_whole=False)}, {"kept": book(), "tariff": NO_DEMAND}, {}],
    ids=["13 days", "a month seen in part", "no demand charge", "nothing known"],
)
def test_without_what_it_takes_there_is_no_level(tmp_path: Path, lacking: dict[str, Any]) -> None:
    bench = Bench(tmp_path, **lacking)
    run(bench)
    assert bench.desk.level is None and bench.notes == [] and bench.faults == []


def test_without_a_tariff_nothing_is_kept_either(tmp_path: Path) -> None:
    bench = Bench(tmp_path, tariff=None)
    run(bench)
    assert bench.desk.level is None and bench.store == {}


def test_work_that_is_dear_lifts_the_level(tmp_path: Path) -> None:
    usual, dear = Bench(tmp_path, kept=book()), Bench(tmp_path, kept=book())
    # What an hour's caps cost is kept with the hours.
    dear.store["peak_level"] = book(
        hours=[[load, room, lost, used, 400.0, base] for load, room, lost, used, _, base in rows(20.0)]
    )
    dear.desk = dear.another()
    run(usual)
    run(dear)
    assert dear.level > usual.level + 1_000.0


def test_what_was_drawn_is_paid_for_and_no_level_is_below_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, kept=book())

    async def peak() -> None:
        await bench.minutes(15, 18_000.0)
        await bench.minutes(31, 26_000.0)

    run(bench, peak)
    assert bench.level == pytest.approx(26_000.0)
    kept: Any = bench.store["peak_level"]
    assert kept["reached_watts"] == {"peak": pytest.approx(26_000.0)}


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    bench = Bench(tmp_path, kept=book())
    run(bench)
    before, told = bench.level, len(bench.notes)
    bench.desk = bench.another()
    run(bench)
    assert bench.level == before and len(bench.notes) == told, "it was looked at today already"


def test_a_new_month_begins_anew_and_remembers_the_last_peak(tmp_path: Path) -> None:
    bench = Bench(tmp_path, kept=book(reached_watts={"peak": 26_000.0}))
    run(bench)
    assert bench.level == 26_000.0

    async def later() -> None:
        bench.now = AT + timedelta(days=30)
        await bench.moment()

    run(bench, later)
    kept: Any = bench.store["peak_level"]
    assert kept["period"] == "2026-02" and kept["is_whole"] is True
    assert kept["reached_watts"] == {} and kept["earlier_watts"] == {"peak": [26_000.0]}


def test_hours_that_cost_nothing_know_no_level(tmp_path: Path) -> None:
    night = Bench(tmp_path, kept=book(), tariff=ON_PEAK)
    run(night)
    assert night.desk.level is None

    async def noon() -> None:
        night.now = AT.replace(hour=12)
        await night.moment()

    run(night, noon)
    assert is_joint(night.level)


def test_a_broken_tariff_is_told_once_and_over_when_it_is_well(tmp_path: Path) -> None:
    bench = Bench(tmp_path, kept=book(), tariff="season = 3\n")

    async def hours() -> None:
        await bench.minutes(70)
        bench.file.write_text(DEMAND)
        await bench.minutes(60)

    run(bench, hours)
    assert [bool(text) for _, text in bench.faults] == [True, False]
    assert is_joint(bench.level)


def test_hours_are_measured_and_gaps_stay_gaps(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    jobs = (running("1", ("c1",), flex=Flex.FLEX3),)

    async def hours() -> None:
        await bench.minutes(120, 20_000.0, jobs=jobs)
        bench.now += timedelta(hours=3)
        await bench.minutes(120, 20_000.0, jobs=jobs)

    run(bench, hours)
    table = bench.desk._book.table()
    whole = table[~np.isnan(table[:, 0])]
    assert len(whole) >= 2 and np.isnan(table[:, 0]).sum() >= 3
    load, room, lost, used, money, base = whole[1].tolist()
    assert (load, used) == (20_000.0, 8.0)
    assert room == pytest.approx(0.4 * 650.0 * 8.0)
    assert money == pytest.approx(lost * 2.0 * bench.policy.flex3_weight)
    assert base == pytest.approx(20_000.0 - 8 * (650.0 - 75.0 + 225.0))


@pytest.mark.parametrize(
    "kept", [None, [], {"hours": 3}, {**book(), "hours": [[1.0]]}, {**book(), "end_seconds": "x"}]
)
def test_what_is_no_book_is_an_empty_one(kept: object) -> None:
    assert PeakBook.from_json(kept).known_days == 0.0


def test_a_book_survives_its_json() -> None:
    made = PeakBook.from_json(book(2.0, reached_watts={"peak": 3.0}, earlier_watts={"peak": [1.0, 2.0]}))
    made.hours[3] = [math.nan] * 6
    again = PeakBook.from_json(made.to_json())
    assert again.to_json() == made.to_json() and again.known_days == pytest.approx(47.0 / 24.0)


def test_the_day_plan_gets_the_charge_above_what_stands_and_the_base_load(tmp_path: Path) -> None:
    bench = Bench(tmp_path, kept=book(reached_watts={"peak": 26_000.0}), tariff=ON_PEAK)
    assert bench.desk.day_prices(DayPrices(), AT.timestamp()) == DayPrices(), "before the tariff was read"
    run(bench)
    prices = bench.desk.day_prices(DayPrices(energy_per_kwh=[0.3]), AT.timestamp())
    assert (prices.demand_per_kw, prices.peak_watts) == (12.0, 26_000.0)
    # From three o'clock on: those of noon to six count.
    assert [hour for hour, counts in enumerate(prices.demand_counts) if counts] == [9, 10, 11, 12, 13, 14]
    assert prices.energy_per_kwh == [0.3]
    seen = replace(situation(import_watts=5_000.0), at=bench.now)
    assert bench.desk.base_watts(seen) == [5_000.0] * HOURS
    assert bench.desk.base_watts(replace(seen, at=AT + timedelta(hours=5))) == []


def test_the_loop_is_closed_jobs_and_battery_hold_the_desks_level(tmp_path: Path) -> None:
    """Desk, guard and a plant: a peak as in the weeks before is held where the desk said, within promises."""
    bench = Bench(tmp_path, kept=book(), policy=Policy(value_per_gpu_hour=0.2))
    nodes = ("c1", "c2", "c3", "c4")
    jobs = tuple(running(str(n), (node,), flex=Flex.FLEX3) for n, node in enumerate(nodes))
    run(bench)
    level = bench.level
    caps: dict[str, float] = {}
    imports = []

    async def peak() -> None:
        nonlocal caps
        discharge = 0.0
        for _ in range(20):
            draws = {job.job_id: min(650.0, caps.get(job.job_id, 650.0)) for job in jobs}
            load = 2_000.0 + 8.0 * sum(draws.values())
            bench.now += timedelta(seconds=10)
            seen = situation(
                of=site(grid_limit_watts=90_000.0),
                import_watts=load - discharge,
                jobs=jobs,
                gpu_watts=draws,
                ess=ess_reading(discharge_watts=discharge),
                setpoint_watts=discharge,
            )
            outlook = EssOutlook(
                made_at=bench.now, valid_seconds=60.0, period="2026-01", level_watts=22_000.0
            )
            seen = bench.desk.onto(replace(seen, at=bench.now, outlook=outlook))
            bench.desk.observe(seen)
            assert seen.outlook is not None and seen.outlook.level_watts == level
            for action in plan_cycle(seen, bench.policy, hold_seconds=60.0).actions:
                if isinstance(action, SetCap) and action.cap_watts is not None:
                    caps[action.job_id] = action.cap_watts
                    assert action.slowdown_ratio <= Flex.FLEX3.max_slowdown_ratio
                elif isinstance(action, SetDischarge):
                    discharge = action.discharge_watts
            after = 2_000.0 + 8.0 * sum(min(650.0, caps.get(job.job_id, 650.0)) for job in jobs)
            imports.append(after - discharge)

    run(bench, peak)
    assert caps, "the jobs took their part"
    assert max(imports) <= level + 1.0
