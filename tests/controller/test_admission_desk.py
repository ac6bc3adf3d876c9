"""Admission in powerctld: windows for limits, the licence looked at, the file, and what fails."""

import asyncio
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from slurm_power.controller.admission import admission_desk
from slurm_power.forecast.job_power import Submission
from slurm_power.model.admission import LaidWindow
from slurm_power.model.job import Flex
from slurm_power.ports import SchedulerError
from slurm_power.store.sqlite import SqliteStore
from tests.controller.admission_bench import (
    NOW,
    TOTAL,
    Bench,
    FakeSlurm,
    event,
    opened,
    rounded,
    scene,
    until,
)
from tests.plan.situations import AT, pending, site


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield from opened(tmp_path)


def test_a_window_for_an_event_and_its_end(bench: Bench) -> None:
    bench.step(scene())
    assert not bench.slurm.windows
    bench.step(scene(event()))
    assert bench.kept == rounded(TOTAL - (39_600 - 5_000))
    (one,) = bench.slurm.windows.values()
    assert (one.start, one.end) == (math.floor(NOW), math.ceil(NOW + 900.0))
    assert one.name.startswith("slurmpower_")
    bench.step(scene(event(), at=100.0))
    assert [call[0] for call in bench.slurm.calls] == ["lay"], "what is right is left alone"
    bench.step(scene(at=200.0))
    assert not bench.slurm.windows
    assert bench.kinds() == ["window", "window over"]
    assert "short" in bench.notes[0][2]


def test_a_lease_is_renewed_and_runs_out(bench: Bench) -> None:
    """10.2 kW are drawn beside licences, 5.2 kW more than stand: kept free as long as somebody looks."""
    bench.step(scene(watts=10_200.0))
    (one,) = bench.slurm.windows.values()
    first_end = one.end
    assert one.end - one.start == 600
    bench.step(scene(watts=10_200.0, at=100.0))
    assert bench.slurm.windows[one.name].end == first_end
    bench.step(scene(watts=10_200.0, at=300.0))
    assert bench.slurm.windows[one.name].end == first_end + 300
    assert bench.kinds() == ["window"], "a renewal is no news"


def test_a_restart_takes_windows_over(bench: Bench, tmp_path: Path) -> None:
    bench.step(scene(event()))
    bench.slurm.windows["slurmpower_old"] = LaidWindow(
        name="slurmpower_old", start=int(NOW), end=int(NOW + 90), licences={"watts": 7}, ours=True
    )
    store = SqliteStore(tmp_path / "other.sqlite")
    again = Bench(store, bench.file, bench.slurm)
    again.step(scene(event(), at=10.0))
    store.close()
    assert [call[0] for call in bench.slurm.calls] == ["lay", "end"]
    assert bench.kept == rounded(TOTAL - (39_600 - 5_000))


def test_others_windows_are_left_alone_and_left_room(bench: Bench) -> None:
    others = LaidWindow(
        name="maintenance", start=int(NOW), end=int(NOW + 90), licences={"watts": 50_000}, ours=False
    )
    bench.slurm.windows["maintenance"] = others
    bench.step(scene(event()))
    assert bench.slurm.windows["maintenance"] == others
    during = [one for one in bench.slurm.windows.values() if one.ours and one.start <= NOW]
    assert sum(one.licences["watts"] for one in during) == TOTAL - 50_000
    assert "less than needed" in bench.faults["admission:reserved"]
    del bench.slurm.windows["maintenance"]
    bench.step(scene(event(), at=100.0))
    assert bench.kept == rounded(TOTAL - (39_600 - 5_000))
    assert bench.faults["admission:reserved"] == ""


def test_levels_change_within_the_total(bench: Bench) -> None:
    """A deep event in a shallow one's place: what grows is refused for a moment, and made after the rest."""
    bench.step(scene(event(watts=20_000.0), event(900.0, 1800.0, 60_000.0)))
    before = bench.kept
    bench.step(scene(event(watts=60_000.0), event(900.0, 1800.0, 20_000.0), at=10.0))
    total_at = [
        sum(one.licences["watts"] for one in bench.slurm.windows.values() if one.start <= at < one.end)
        for at in (NOW + 20, NOW + 1000)
    ]
    assert total_at == [rounded(TOTAL - (59_400 - 5_000)), rounded(TOTAL - (19_800 - 5_000))]
    assert before == rounded(TOTAL - (19_800 - 5_000))


def test_slurm_away_and_back(bench: Bench) -> None:
    bench.step(scene(event()))
    bench.slurm.away = True
    with pytest.raises(SchedulerError):
        bench.step(scene(at=20.0))
    bench.slurm.away = False
    bench.step(scene(at=30.0))
    assert not bench.slurm.windows


def test_a_refusal_is_said_once_and_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_BEAT_SECONDS", "_FIRST_SECONDS"):
        monkeypatch.setattr(admission_desk, name, 0.01)
    monkeypatch.setattr(admission_desk, "_MOST_BACKOFF_SECONDS", 0.05)
    bench.slurm.away = True

    async def run() -> None:
        bench.see(scene(event()))
        task = asyncio.create_task(bench.desk.run())
        async with asyncio.timeout(5.0):
            await until(lambda: bench.faults.get("admission:slurm"))
            bench.slurm.away = False
            await until(lambda: not bench.faults["admission:slurm"])
            bench.see(scene(event()))
            await until(lambda: bench.slurm.windows)
        task.cancel()

    asyncio.run(run())


def test_nothing_is_renewed_while_no_cycle_works(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_desk, "_STALE_SECONDS", -1.0)
    bench.step(scene(event()))
    assert not bench.slurm.windows


def test_only_looking_lays_nothing_and_takes_back(bench: Bench) -> None:
    bench.step(scene(event()))
    bench.step(scene(event(), at=10.0), controls=False)
    assert not bench.slurm.windows
    row = bench.desk.row()
    assert row is not None
    assert row["laid"] is False


def test_the_end_gives_all_back(bench: Bench) -> None:
    bench.step(scene(event()))
    asyncio.run(bench.desk.let_go())
    assert not bench.slurm.windows


def test_a_lost_meter_counts_as_it_was(bench: Bench) -> None:
    """A meter that stays broken must not keep all jobs waiting; the licences' total holds the breaker."""
    bench.step(scene(watts=10_000.0))
    kept = bench.kept
    assert kept == rounded(TOTAL - 90_000)
    blind = replace(scene(at=10.0), circuits={})
    bench.step(blind)
    bench.step(replace(blind, at=scene(at=60.0).at))
    assert bench.kept == kept
    assert "no usable reading" in bench.faults["admission:meter"]
    bench.step(scene(watts=10_000.0, at=70.0))
    assert bench.faults["admission:meter"] == ""


def test_a_start_without_a_meter_counts_on_what_stands(bench: Bench) -> None:
    blind = replace(scene(), circuits={})
    bench.step(blind)
    assert not bench.slurm.windows
    bench.step(replace(blind, at=scene(at=60.0).at, events=(event(),)))
    assert bench.kept == rounded(TOTAL - (39_600 - 5_000))


def test_a_job_larger_than_a_lasting_room_gets_it_in_the_end(bench: Bench) -> None:
    """A contract has no end: a job that asks for more than it leaves would wait for ever."""
    large = pending("9", 128, flex=Flex.FLEX1, submitted_seconds_ago=60.0)
    large = replace(large, pending_reason="Licenses")
    bench.slurm.pending["9"] = "watts:94000"
    contract = site(grid_limit_watts=60_000.0, with_ess=False)
    bench.desk._circuit = contract.circuits["grid"]
    young = replace(scene(jobs=(large,)), site=contract)
    bench.step(young)
    assert bench.kept == rounded(TOTAL - (58_800 - 5_000)), "it may be held for 360 s"
    old = replace(large, submitted=AT - timedelta(seconds=400.0))
    bench.step(replace(young, jobs=(replace(old, pending_reason="Priority"),)))
    assert bench.kept == rounded(TOTAL - (58_800 - 5_000)), "others come first"
    bench.step(replace(young, jobs=(old,)))
    assert bench.kept == rounded(TOTAL - 94_000)


@pytest.mark.parametrize(
    ("totals", "words"),
    [
        ({}, "has no licence watts"),
        ({"watts": 120_000}, "more than grid may draw for jobs (95000 W)"),
        ({"watts": 95_000}, ""),
        ({"watts": 90_000}, ""),
    ],
)
def test_the_total_is_looked_at_and_never_changed(bench: Bench, totals: dict[str, int], words: str) -> None:
    bench.slurm.totals = totals
    bench.step(scene())
    assert words in bench.faults.get("admission:licence", "")
    assert bool(bench.faults.get("admission:licence")) is bool(words)
    assert ("licence\twatts" in bench.file.read_text()) is bool(totals)


def test_a_total_below_the_largest_job_is_said(bench: Bench) -> None:
    bench.slurm.totals = {"watts": 20_000}
    bench.step(scene(jobs=(pending("9", 32),)))
    assert "may add 25600 W: it counts as 20000 W" in bench.faults["admission:licence"]


# --- the file, and off ------------------------------------------------------------------------------------


def test_the_file_has_what_was_learned(bench: Bench) -> None:
    told = Submission(user="alice", name="bert-7b_run1", workload="training", gpus=8.0)
    for _ in range(20):
        bench.expectations._powers.ended(told, 400.0)
    bench.step(scene())
    lines = bench.file.read_text().splitlines()
    assert lines[0].startswith("slurm-power-expected-watts 1 ")
    rows = [line.split("\t") for line in lines]
    assert ["licence", "watts"] in rows
    assert ["total", str(TOTAL)] in rows
    assert ["class", "training", "650"] in rows
    name = next(row for row in rows if row[0] == "name")
    assert name[1:5] == ["alice", "training", "", "bert-7b_run#"]
    assert 400 <= int(name[5]) < 405
    before = bench.file.stat().st_mtime_ns
    bench.step(scene(at=10.0))
    assert bench.file.stat().st_mtime_ns == before, "written only when it changes"


@pytest.mark.parametrize("het_parts", [True, False])
def test_the_file_says_whether_all_parts_of_het_jobs_may_ask(bench: Bench, het_parts: bool) -> None:
    bench.slurm.het_parts = het_parts
    bench.step(scene())
    assert ("het_parts\t1" in bench.file.read_text()) is het_parts


def test_a_file_that_cannot_be_written_is_a_fault(bench: Bench) -> None:
    bench.file.parent.parent.joinpath("admission").write_text("in the way")
    bench.step(scene(event()))
    assert "cannot be written" in bench.faults["admission:file"]
    assert bench.slurm.windows, "and nothing else"


def test_switched_off_jobs_ask_for_no_watts(bench: Bench, tmp_path: Path) -> None:
    bench.step(scene(event()))
    store = SqliteStore(tmp_path / "other.sqlite")
    off = Bench(store, bench.file, bench.slurm, enabled=False)

    async def run() -> None:
        task = asyncio.create_task(off.desk.run())
        async with asyncio.timeout(5.0):
            await until(lambda: not bench.slurm.windows)
        task.cancel()

    asyncio.run(run())
    store.close()
    assert not bench.file.exists()
    assert off.desk.row() is None
    assert off.desk.onto(scene()).licensed is False


def test_off_and_never_on_touches_nothing(tmp_path: Path) -> None:
    slurm = FakeSlurm()
    store = SqliteStore(tmp_path / "s.sqlite")
    file = tmp_path / "somebody's"
    file.write_text("not ours\n")
    off = Bench(store, file, slurm, enabled=False)
    off.see(scene(event()))
    asyncio.run(off.desk._retire())
    asyncio.run(off.desk.let_go())
    store.close()
    assert file.read_text() == "not ours\n"
    assert not slurm.calls
