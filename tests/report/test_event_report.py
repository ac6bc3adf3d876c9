"""The report on a grid event: baselines of days with known truth, intervals, what the utility sees."""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner

from slurm_power.cli.commands.reports.report_event import event
from slurm_power.controller.events.event_record import EventRecord
from slurm_power.controller.events.followed_event import FollowedEvent
from slurm_power.model.grid_event import Phase
from slurm_power.model.ledger import LedgerEntry
from slurm_power.model.series import Point, Resolution
from slurm_power.plan.event_account import EventAccount
from slurm_power.report.event.day_baseline import METHODS, DayLoad, DayMethod, day_baseline
from slurm_power.report.event.event_reading import EventTimes, event_days, mean_between
from slurm_power.report.site_facts import site_facts
from slurm_power.store.places import open_series_reader
from slurm_power.store.series import SqliteSeries
from slurm_power.store.sqlite import SqliteStore
from tests.cli.fake_powerctld import fake_powerctld
from tests.report.plant_days import SITE, write_quarter

# A Thursday.
DAY = datetime(2026, 11, 26, tzinfo=UTC)
START = (DAY + timedelta(hours=17)).timestamp()
END = START + 2 * 3600.0
EVIL = "=1+1<script>alert(1)</script>"


def load(back: int, watts: float, before: float = 100.0, **more: bool | float) -> DayLoad:
    """A day so many days before the event's, flat in both windows."""
    found = DAY.date() - timedelta(days=back)
    coverage = float(more.pop("coverage_ratio", 1.0))
    return DayLoad(day=found, watts=[watts] * 8, before_watts=[before] * 12, coverage_ratio=coverage,
                   had_event=bool(more.pop("had_event", False)))  # fmt: skip


def weekdays(count: int, watts: Callable[[int], float]) -> list[DayLoad]:
    """The last weekdays before the event, the latest first."""
    found: list[DayLoad] = []
    back = 1
    while len(found) < count:
        if (DAY.date() - timedelta(days=back)).weekday() < 5:
            found.append(load(back, watts(len(found))))
        back += 1
    return found


def test_10_of_10_is_the_mean_of_the_last_ten_weekdays() -> None:
    days = weekdays(12, lambda number: 100.0 + 10.0 * number)
    found = day_baseline(METHODS[0], load(0, 50.0), days)
    assert found.watts == pytest.approx([145.0] * 8)
    assert found.days == tuple(sorted(day.day for day in days[:10]))
    assert found.adjust_factor == 1.0


def test_5_of_10_takes_the_highest_of_the_last_ten() -> None:
    days = weekdays(12, lambda number: 100.0 + 10.0 * number)
    assert day_baseline(METHODS[1], load(0, 50.0), days).mean_watts == pytest.approx(170.0)
    assert day_baseline(METHODS[2], load(0, 50.0), days).mean_watts == pytest.approx(125.0)


def test_weekends_events_and_days_without_data_are_passed_over() -> None:
    days = weekdays(12, lambda _: 100.0)
    noise = [load(4, 900.0), load(5, 900.0)]
    assert {day.day.weekday() for day in noise} == {5, 6}
    noise += [load(1, 900.0, had_event=True), load(2, 900.0, coverage_ratio=0.9), load(-1, 900.0)]
    kept = [day for day in days if day.day not in {one.day for one in noise}]
    found = day_baseline(METHODS[0], load(0, 50.0), [*kept, *noise])
    assert found.mean_watts == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("before", "bound", "factor"),
    [(110.0, 0.2, 1.1), (150.0, 0.2, 1.2), (10.0, 0.2, 0.8), (150.0, None, 1.5), (0.0, 0.2, 1.0)],
)
def test_the_adjustment_moves_it_to_the_level_of_the_day(
    before: float, bound: float | None, factor: float
) -> None:
    method = DayMethod(name="x", highest_days=10, of_days=10, most_adjust_ratio=bound)
    found = day_baseline(method, load(0, 50.0, before), weekdays(10, lambda _: 200.0))
    assert found.adjust_factor == pytest.approx(factor)
    assert found.mean_watts == pytest.approx(200.0 * factor)
    assert found.unadjusted_watts == pytest.approx(200.0)


def test_too_few_days_are_told() -> None:
    found = day_baseline(METHODS[0], load(0, 50.0), weekdays(4, lambda _: 100.0))
    assert found.watts is None and found.mean_watts is None
    assert found.problem == "only 4 weekdays before it without an event are known, 10 are needed"


def test_means_weigh_what_was_read() -> None:
    points = [
        Point(0.0, 10.0, 10.0, 10.0, 1.0),
        Point(60.0, 40.0, 40.0, 40.0, 0.5),
        Point(120.0, None, None, None, 0),
    ]
    assert mean_between(points, 60, 0.0, 120.0) == (20.0, 0.75)
    assert mean_between(points, 60, 30.0, 60.0) == (10.0, 1.0)
    assert mean_between(points, 60, 120.0, 180.0) == (None, 0.0)


def true_watts(at: float) -> float:
    """By the hour of day, 2 kW more on weekdays; 30 kW at most in the event."""
    moment = datetime.fromtimestamp(at, UTC)
    usual = 40_000.0 + 500.0 * moment.hour + (2_000.0 if moment.weekday() < 5 else 0.0)
    return 30_000.0 if START <= at < END else usual


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("state")
    series = SqliteSeries(directory / "series.sqlite")
    first = (DAY - timedelta(days=20)).timestamp()
    with series._transaction():
        for at in (first + 900.0 * n for n in range(21 * 96)):
            write_quarter(series, at, {"circuit.grid.watts": (round(true_watts(at), 1), 1.0)})
        for at in (DAY.timestamp() + 12 * 3600.0 + 60.0 * n for n in range(10 * 60)):
            quiet = dict.fromkeys(("circuit.grid.estimated_ratio", "ess.battery.discharge_watts"), (0.0, 1.0))
            values = {"circuit.grid.watts": (round(true_watts(at), 1), 1.0), **quiet}
            write_quarter(series, at, values, Resolution.MINUTE)
    series.close()
    store = SqliteStore(directory / "powerctld.sqlite")
    store.put_state("site", SITE)
    notice = (DAY + timedelta(hours=16)).isoformat()
    result = dict.fromkeys(("delivered_watts", "promised_watts"), 20_000.0)
    result |= dict.fromkeys(("delivered_ratio", "coverage_ratio"), 1.0)
    result |= {"delivered_kwh": 40.0, "minutes_above_target": 0.0, "time_to_target_seconds": 0.0}
    report = {
        "event_id": "ev-3", "circuit": "grid", "state": "over", "reason": EVIL, "commitment": "must",
        "announced_at": notice, "starts_at": (DAY + timedelta(hours=17)).isoformat(),
        "ends_at": (DAY + timedelta(hours=19)).isoformat(), "ramp_seconds": 600.0, "recover_seconds": 900.0,
        "limit_watts": 30_000.0, "cut_ratio": 0.4, "cut_watts": None, "baseline_watts": 50_000.0,
        "baseline_method": "mean metered draw of 15 min before the notice", "baseline_seconds": 900.0,
        "shortfalls_announced": [], "result": result,
        "jobs": [{"job_id": "17", "user": "alice", "gpu_count": 8, "lost_gpu_hours": 1.5,
                  "capped_seconds": 3600.0, "held_seconds": 0.0, "worst_slowdown_ratio": 0.2}],
    }  # fmt: skip
    store.put_state("event_report.ev-3", report)
    store.put_state("events_past", [{**report, "jobs": []}])
    noticed, about = DAY + timedelta(hours=16), {"event_id": "ev-3"}
    store.append(
        LedgerEntry(
            at=noticed,
            actor="operator:mallory",
            kind="event",
            subject="circuit:grid",
            reason=EVIL,
            details=about,
        )
    )
    store.close()
    return directory


def run(state: Path, *words: str) -> str:
    found = CliRunner().invoke(event, ["ev-3", "--state", str(state), *words])
    assert found.exit_code == 0, found.output
    return found.output


def table(text: str, name: str) -> list[list[object]]:
    blocks = [block for section in json.loads(text)["sections"] for block in section["blocks"]]
    return next(list(block["rows"]) for block in blocks if block.get("table") == name)


def test_all_baselines_are_named_and_say_what_was_delivered(state: Path) -> None:
    rows = {str(row[0]): row for row in table(run(state, "--json"), "baselines")}
    assert rows["as it was announced"][1] is True
    assert rows["as it was announced"][2:5] == [50.0, 20.0, 100.0]
    # Before the notice it was 15:xx, before the ramp 16:xx: 500 W more an hour.
    assert rows["15 min before the notice"][2] == pytest.approx(40.0 + 7.5 + 2.0)
    assert rows["15 min before the ramp"][2] == pytest.approx(40.0 + 8.0 + 2.0)
    usual = 40.0 + 0.5 * 17.5 + 2.0
    for name in ("10 of 10 days", "5 of 10 days", "4 of 5 days"):
        assert rows[name][2] == pytest.approx(usual), rows[name]
        assert rows[name][3] == pytest.approx(usual - 30.0)
        assert "adjusted by 1.000" in str(rows[name][5])


def test_metered_intervals_hold_the_energy_of_the_meter(state: Path) -> None:
    for minutes, count in (("15", 8), ("5", 24)):
        rows = [
            row
            for row in table(run(state, "--json", "--interval", minutes), "intervals")
            if row[2] == "event"
        ]
        assert len(rows) == count
        assert sum(float(str(row[4])) for row in rows) == pytest.approx(60.0)
        assert {row[7] for row in rows} == {20.0}
        assert {row[8] for row in rows} == {100.0}


def test_the_utility_sees_no_user_and_the_site_sees_all(state: Path, tmp_path: Path) -> None:
    page, own = tmp_path / "utility.html", tmp_path / "site.html"
    run(state, "--out", str(page))
    run(state, "--for", "site", "--out", str(own))
    for name in ("alice", "mallory", "GPU-hours"):
        assert name not in page.read_text() and name in own.read_text()
    assert "<script>" not in page.read_text()
    assert "SHA-256 of the metered intervals" in page.read_text()
    assert "The ledger is whole: 1 entries" in page.read_text()


def test_the_digest_is_that_of_the_file_that_is_handed_over(state: Path, tmp_path: Path) -> None:
    folder = tmp_path / "csv"
    folder.mkdir()
    run(state, "--out", str(folder))
    digest = hashlib.sha256((folder / "intervals.csv").read_bytes()).hexdigest()
    assert digest in run(state, "--json")
    assert "'=1+1" in (folder / "ledger.csv").read_text()


def test_an_unknown_event_is_told_with_those_there_are(state: Path) -> None:
    found = CliRunner().invoke(event, ["ev-9", "--state", str(state)])
    assert found.exit_code == 2
    assert "nothing is known of an event 'ev-9'; the last that are over: ev-3" in " ".join(
        found.output.split()
    )


def test_the_same_hour_of_the_clock_counts_over_a_change_of_the_clock(tmp_path: Path) -> None:
    """Clocks went back on 2026-10-25: 17:00 in Berlin was 15:00 UTC before, 16:00 after."""
    zone = ZoneInfo("Europe/Berlin")
    series = SqliteSeries(tmp_path / "series.sqlite")
    first = datetime(2026, 10, 20, tzinfo=UTC).timestamp()
    with series._transaction():
        for at in (first + 900.0 * n for n in range(8 * 96)):
            watts = 1_000.0 * datetime.fromtimestamp(at, zone).hour
            write_quarter(series, at, {"circuit.grid.watts": (watts, 1.0)})
    series.close()
    site = site_facts({**SITE, "timezone": "Europe/Berlin"})
    assert site is not None
    start = datetime(2026, 10, 27, 17, tzinfo=zone).timestamp()
    times = EventTimes(announced=None, ramp=start, start=start, end=start + 3600.0, recovered=start + 3600.0)
    reader = open_series_reader(tmp_path)
    own, days = event_days(reader, site, "grid", times, [])
    reader.close()
    assert own.watts == [17_000.0] * 4
    known = {day.day: day.watts for day in days if day.coverage_ratio == 1.0}
    assert known.keys() >= {date(2026, 10, 23), date(2026, 10, 26)}
    assert all(watts == [17_000.0] * 4 for watts in known.values())


def test_a_record_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        EventTimes.of({"event_id": "ev-1", "starts_at": "then"})


def test_a_tampered_ledger_is_told_on_the_page(state: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(state, tmp_path / "copy"))
    with closing(sqlite3.connect(copy / "powerctld.sqlite")) as connection:
        connection.execute("UPDATE ledger SET reason = 'nothing to see'")
        connection.commit()
    checks = {check["text"]: check["good"] for check in json.loads(run(copy, "--json"))["checks"]}
    assert checks["The ledger is not whole"] is False
    assert "entry 1 was altered" in " ".join(run(copy).split())


def test_an_event_that_still_runs_is_reported_as_far_as_it_has_come(state: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(state, tmp_path / "copy"))
    record = EventRecord(event_id="ev-4", circuit="grid", limit_watts=30_000.0, reason="now",
                         starts_at=DAY + timedelta(hours=17), ends_at=DAY + timedelta(hours=19),
                         announced_at=DAY + timedelta(hours=16), baseline_watts=50_000.0)  # fmt: skip
    followed = FollowedEvent(record, EventAccount(7200.0), phase=Phase.RUNNING)
    store = SqliteStore(copy / "powerctld.sqlite")
    store.put_state("events_open", {"ev-4": followed.to_json()})
    store.close()
    found = CliRunner().invoke(event, ["ev-4", "--state", str(copy), "--json"])
    document = json.loads(found.output)
    assert document["labels"]["State"] == "running"
    assert {check["text"] for check in document["checks"]} >= {"What was delivered is not known"}
    assert len(table(found.output, "intervals")) > 8


def test_without_the_state_directory_powerctld_is_asked(state: Path, tmp_path: Path) -> None:
    """Everybody may: of jobs it tells only what the caller may see. No table or proof is made up."""
    store = SqliteStore(state / "powerctld.sqlite", read_only=True)
    told = store.state("event_report.ev-3")
    assert isinstance(told, dict)
    store.close()
    answers: dict[str, dict[str, Any]] = {
        "event_report": {"report": {**told, "jobs": [], "job_count": 1}},
        "status": {"site": "lab"},
    }
    with fake_powerctld(lambda request: {"ok": True, **answers[request["op"]]}) as fake:
        found = CliRunner().invoke(event, ["ev-3", "--socket", str(fake.path), "--json"])
    assert found.exit_code == 0, found.output
    assert [request["op"] for request in fake.requests] == ["event_report", "status"]
    whole = json.loads(run(state, "--json"))
    short = json.loads(found.output)
    assert short["tiles"] == whole["tiles"] and short["title"] == whole["title"]
    assert table(found.output, "delivered") == table(run(state, "--json"), "delivered")
    assert [row[:2] for row in table(found.output, "baselines")] == [["as it was announced", True]]
    names = {block.get("table") for section in short["sections"] for block in section["blocks"]}
    assert names.isdisjoint({"intervals", "ledger"})
    assert "neither stored series nor ledger were read" in short["proof"][0]
    both = CliRunner().invoke(event, ["ev-3", "--socket", "/x", "--state", str(state)])
    assert (both.exit_code, "instead of --state" in both.output) == (2, True)
    nobody = CliRunner().invoke(event, ["ev-3", "--socket", str(tmp_path / "none")])
    assert nobody.exit_code == 1 and "does not answer" in nobody.output
