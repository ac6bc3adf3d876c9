"""Forecasts against truth: the step that was forecast so long before, errors, and announced starts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slurm_power.cli.commands.reports.stored import report_data
from slurm_power.model.forecast import CircuitForecast, Reach
from slurm_power.model.ledger import LedgerEntry
from slurm_power.report.frame.html import render
from slurm_power.report.live.trace import (
    AnnouncedStart,
    ForecastTrace,
    TruePoint,
    announced_starts,
    forecast_trace,
)
from slurm_power.report.live.trace_figure import trace_words
from slurm_power.store.places import LEDGER_NAME, SERIES_NAME, open_series_reader
from slurm_power.store.series import SqliteSeries
from slurm_power.store.sqlite import SqliteStore
from tests.report.examples import STARTED, job, report
from tests.report.test_report import Page

BEGAN = STARTED.timestamp()
STEP = 5.0
JUMP_AT, JUMP_WATTS = 90.0, 14_000.0
ANNOUNCED_AT = 48.0


def true_watts(second: float) -> float:
    return 20_000.0 + (JUMP_WATTS if second >= JUMP_AT else 0.0)


def truth(seconds: int = 150) -> list[TruePoint]:
    return [(BEGAN + second, true_watts(second)) for second in range(seconds)]


def forecast(issued: float, *, circuit: str = "grid", bias_watts: float = 100.0) -> CircuitForecast:
    """Sees the jump from its announcement on, and is a little too high."""
    known = issued >= ANNOUNCED_AT
    steps = [issued + index * STEP for index in range(24)]
    watts = tuple((true_watts(at) if known else true_watts(issued)) + bias_watts for at in steps)
    return CircuitForecast(
        circuit=circuit,
        reach=Reach.NEAR,
        issued_seconds=BEGAN + issued,
        step_seconds=STEP,
        p10_watts=tuple(value - 500.0 for value in watts),
        p50_watts=watts,
        p90_watts=tuple(value + 500.0 for value in watts),
        source="blend",
    )


def given() -> list[CircuitForecast]:
    return [forecast(float(issued)) for issued in range(5, 150, 5)]


def announced(**changes: object) -> AnnouncedStart:
    start = AnnouncedStart(
        job_id="17",
        announced_seconds=BEGAN + ANNOUNCED_AT,
        step_watts=14_200.0,
        came_seconds=BEGAN + JUMP_AT,
    )
    return replace(start, **changes)  # type: ignore[arg-type]  # fields given by name


def trace(**changes: object) -> ForecastTrace:
    found = forecast_trace("grid", given(), truth(), [announced()])
    return replace(found, **changes)  # type: ignore[arg-type]  # fields given by name


def test_each_row_is_the_step_that_was_forecast_so_long_before() -> None:
    found = trace()
    assert found.lead_seconds == 10.0
    assert all(row.at_seconds - row.issued_seconds == 10.0 for row in found.rows)
    (early,) = (row for row in found.rows if row.at_seconds == BEGAN + 90.0)
    assert (early.p50_watts, early.true_watts, early.naive_watts) == (34_100.0, 34_000.0, 20_000.0)
    # The jump is forecast by all who know of it; "as it was" misses it in the two steps after.
    assert found.mae_watts == pytest.approx(100.0)
    assert found.naive_mae_watts == pytest.approx(3 * JUMP_WATTS / len(found.judged))
    assert found.coverage_ratio == 1.0


def test_forecasts_before_the_announcement_miss_it() -> None:
    found = forecast_trace("grid", given(), truth(), lead_seconds=60.0)
    missed = [row for row in found.rows if BEGAN + JUMP_AT <= row.at_seconds < BEGAN + ANNOUNCED_AT + 60.0]
    assert len(missed) == 4
    assert all(row.true_watts is not None and row.true_watts - row.p50_watts == 13_900.0 for row in missed)
    assert found.coverage_ratio is not None
    assert found.coverage_ratio < 1.0


def test_what_is_not_known_is_not_judged() -> None:
    points = [(at, None if 20.0 <= at - BEGAN < 40.0 else watts) for at, watts in truth()]
    found = forecast_trace("grid", [*given(), forecast(60.0, circuit="rack1")], points)
    assert len(found.rows) == len(given())
    unknown = [row.at_seconds - BEGAN for row in found.rows if row.true_watts is None]
    # In the gap, and beyond the end of the truth.
    assert unknown == [20.0, 25.0, 30.0, 35.0, 150.0, 155.0]
    nothing = forecast_trace("grid", [], [])
    assert (nothing.mae_watts, nothing.naive_mae_watts, nothing.coverage_ratio) == (None, None, None)
    assert list(trace_words(nothing, {})) == []


@pytest.mark.parametrize(("length", "lead"), [(150, 10.0), (600, 30.0), (7_000, 300.0), (86_400, 3_600.0)])
def test_the_lead_fits_the_length(length: int, lead: float) -> None:
    points = [(BEGAN, 1.0), (BEGAN + length, 1.0)]
    assert forecast_trace("grid", [], points).lead_seconds == lead


def test_a_start_is_followed_from_its_announcement_to_its_coming() -> None:
    (start,) = trace().starts
    assert start.seen_seconds == BEGAN + 50.0
    assert start.came_watts == JUMP_WATTS
    judged, came = trace_words(trace(), {"17": "pretrain"})
    assert judged == (
        "Forecasts of 10 s before: mean error 100 W, 94 % less than that of “as it was” (1.6 kW);"
        f" 100 % of {len(trace().judged)} outcomes inside the 80 % band."
    )
    assert came == (
        "Massive start of job 17 (pretrain): announced 42 s before, in the forecast 40 s before;"
        " expected +14.2 kW, came +14.0 kW."
    )


def test_starts_that_did_not_go_as_announced() -> None:
    blind = [forecast(float(issued)) for issued in range(5, 48, 5)]
    (start,) = forecast_trace("grid", blind, truth(100), [announced()]).starts
    assert (start.seen_seconds, start.came_watts) == (None, None)
    never = replace(trace(), starts=(announced(came_seconds=None),))
    text = " ".join(trace_words(replace(trace(), starts=(start, *never.starts)), {}))
    assert "in no forecast before it came; expected +14.2 kW, what came is not known." in text
    assert "announced with +14.2 kW; not judged by the end of this report." in text


def entry(second: float, kind: str, job_id: str | None = "17", **details: object) -> LedgerEntry:
    return LedgerEntry(
        at=STARTED + timedelta(seconds=second),
        actor="forecast",
        kind=kind,
        subject=f"job:{job_id}",
        reason="",
        job_id=job_id,
        details=details,
    )


def entries() -> list[LedgerEntry]:
    return [
        entry(20.0, "massive start ahead", step_watts={"grid": 9_000, "rack1": 8_000}, lead_seconds=70.0),
        entry(48.0, "massive start ahead", step_watts={"grid": 14_200}, lead_seconds=42.0),
        entry(60.0, "massive start ahead", "18", step_watts={"rack1": 5_000}),
        entry(61.0, "massive start", None),
        entry(110.0, "massive start", expected_watts=14_200, came_watts=14_000, announced_seconds=42.0),
    ]


def test_starts_are_read_from_the_ledger() -> None:
    assert announced_starts(entries(), "grid") == (announced(),)
    assert [start.job_id for start in announced_starts(entries(), "rack1")] == ["17", "18"]
    assert announced_starts(entries(), "rack2") == ()


def test_the_report_has_the_section_only_where_there_is_something() -> None:
    assert "Forecast against truth" not in render(report())
    text = render(report(forecast=trace(), jobs=(job("17", name="<pretrain>"),)))
    page = Page(text)
    assert page.tags.count("svg") == 3
    for words in ("Forecast against truth", "announced 42 s before", "expected +14.2 kW, came +14.0 kW"):
        assert words in page.text
    assert "<pretrain>" in page.text
    assert "<pretrain>" not in text
    assert len(page.ids) == len(set(page.ids))
    assert render(report(forecast=trace())) == render(report(forecast=trace()))
    assert "Forecast against truth" in render(report(forecast=forecast_trace("grid", [], [])))


def test_a_stored_report_finds_starts_and_takes_forecasts(tmp_path: Path) -> None:
    series = SqliteSeries(tmp_path / SERIES_NAME)
    for at, watts in truth():
        series.add(datetime.fromtimestamp(at, UTC), {"circuit.grid.watts": watts})
    series.close()
    store = SqliteStore(tmp_path / LEDGER_NAME)
    for each in entries():
        store.append(each)
    recorded = open_series_reader(tmp_path)
    data = report_data(store, recorded, circuit="grid", forecasts=given())
    alone = report_data(store, recorded, circuit="grid")
    recorded.close()
    store.close()
    assert data.forecast is not None
    assert data.forecast.starts == trace().starts
    assert data.forecast.mae_watts == pytest.approx(100.0)
    assert alone.forecast is not None
    assert alone.forecast.rows == ()
    assert "announced 42 s before, in no forecast" in Page(render(alone)).text
