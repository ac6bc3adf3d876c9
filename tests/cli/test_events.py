"""``slurm-power event``, ``events`` and ``event-report`` against a powerctld that answers by the book."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slurm_power import clock
from slurm_power.cli.slurm_power import main
from tests.cli.fake_powerctld import STATUS, Answer, fake_powerctld

REPORT: dict[str, Any] = {
    "event_id": "ev-4",
    "circuit": "grid",
    "state": "over",
    "reason": "the [utility] asks",
    "commitment": "must",
    "announced_at": "2026-01-02T16:00:00.123456+00:00",
    "starts_at": "2026-01-02T17:00:00+00:00",
    "ends_at": "2026-01-02T20:00:00+00:00",
    "ramp_seconds": 600.0,
    "recover_seconds": 900.0,
    "limit_watts": 15_000.0,
    "cut_ratio": 0.25,
    "cut_watts": None,
    "baseline_watts": 20_000.0,
    "baseline_method": "mean metered draw of 15 min before the notice",
    "baseline_seconds": 900.0,
    "soc_ratio": {"battery": {"before": 0.8, "after": 0.4}},
    "shortfalls_announced": [
        {
            "at": "2026-01-02T16:00:01+00:00",
            "watts": 800,
            "from_at": "2026-01-02T19:30:00+00:00",
            "reason": "the batteries carry it for 150 min",
        }
    ],
    "result": {
        "delivered_watts": 5_100.0,
        "promised_watts": 5_000.0,
        "delivered_kwh": 15.3,
        "delivered_ratio": 1.02,
        "over_curtailment_watts": 120.0,
        "over_curtailment_points": 0.6,
        "worst_over_curtailment_points": 1.2,
        "above_target_watts": 75.0,
        "above_target_ratio": 0.005,
        "minutes_above_target": 0,
        "time_to_target_seconds": 3.0,
        "rebound_watts": 0.0,
        "steepest_rise_watts": 400.0,
        "coverage_ratio": 1.0,
        "ess_discharged_kwh": 7.5,
        "ess_charged_kwh": 0.0,
        "lost_gpu_hours": 3.2,
        "held_gpu_hours": 1.0,
        "performance_ratio": 0.93,
    },
    "jobs": [
        {
            "job_id": "17",
            "user": "alice",
            "gpu_count": 8,
            "lost_gpu_hours": 3.2,
            "capped_seconds": 10_800.0,
            "held_seconds": 0.0,
            "worst_slowdown_ratio": 0.15,
        }
    ],
    "job_count": 1,
    "minutes": [],
}
TOLD = {
    "ok": True,
    "event_id": "ev-4",
    "limit_watts": 15_000.0,
    "baseline_watts": 20_000.0,
    "baseline_seconds": 900.0,
    "starts_in_seconds": 600.0,
    "ramp_seconds": 600.0,
    "shortfall": {"watts": 800.0, "from_seconds": 9000.0, "reason": "the batteries carry it for 150 min"},
}


def answer(request: dict[str, Any]) -> Answer:
    match request["op"]:
        case "event":
            return TOLD
        case "events":
            return {"ok": True, "events": [REPORT]}
        case "event_report":
            return {"ok": True, "report": REPORT}
        case _:
            return {"ok": True}


def run(*arguments: object, reply: Callable[[dict[str, Any]], Answer] = answer) -> tuple[Result, list[Any]]:
    with fake_powerctld(reply) as fake:
        words = [*map(str, arguments), "--socket", str(fake.path)]
        result = CliRunner().invoke(main, words, env={"COLUMNS": "200"})
    return result, fake.requests


def test_a_cut_is_told_with_its_level_its_baseline_and_what_will_be_missing() -> None:
    result, requests = run(
        *("event", "grid", "--cut", "25%", "--for", "3h", "--in", "10m", "--ramp", "10m"),
        *("--recover", "15m", "--must", "--baseline", "notice", "--reason", "the utility asks"),
    )
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "event ev-4: grid: at most 15.0 kW from in 10 min for 3.0 h",
        "  25 % below 20.0 kW, the mean metered load of the last 15 min",
        "  its level is reached in 10 min, after a ramp of 10 min",
        "  800 W will be missing, from in 2.5 h on: the batteries carry it for 150 min",
    ]
    assert requests == [
        {
            "op": "event",
            "circuit": "grid",
            "cut_ratio": 0.25,
            "start_in_seconds": 600.0,
            "duration_seconds": 10_800.0,
            "reason": "the utility asks",
            "ramp_seconds": 600.0,
            "recover_seconds": 900.0,
            "commitment": "must",
            "baseline": "notice",
        }
    ]


def test_an_event_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: datetime(2026, 1, 2, 16, 0, tzinfo=UTC))
    result, requests = run(
        *("event", "grid", "--cut", "40kW", "--at", "2026-01-02T18:00+01:00", "--until"),
        *("2026-01-02T20:00Z", "--best-effort", "--reason", "x"),
    )
    assert result.exit_code == 0
    found = {key: requests[0][key] for key in ("cut_watts", "start_in_seconds", "duration_seconds")}
    assert found == {"cut_watts": 40_000.0, "start_in_seconds": 3600.0, "duration_seconds": 10_800.0}
    assert requests[0]["commitment"] == "best-effort"


def test_all_that_is_wrong_is_said_at_once() -> None:
    result, requests = run(
        *(
            "event",
            "grid",
            "--limit-watts",
            "9 apples",
            "--cut",
            "130%",
            "--until",
            "teatime",
            "--in",
            "soon",
        ),
        *("--ramp", "-1", "--must", "--best-effort"),
    )
    assert (result.exit_code, requests) == (2, [])
    for words in (
        "--limit-watts: '9 apples' is no amount",
        "--cut: '130%' is no share",
        "--limit-watts or --cut: give one",
        "--in: 'soon' is no duration",
        "--until: 'teatime' is no time",
        "--ramp: '-1' is no duration",
        "--must and --best-effort: give one",
        "--reason: missing",
    ):
        assert words in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--limit-watts", "9kW", "--reason", "x"], "--for: missing; every event has an end"),
        (["--for", "1h", "--reason", "x"], "--limit-watts or --cut: give one"),
        (["--cut", "0%", "--for", "1h", "--reason", "x"], "is no share"),
        (["--cut", "x%", "--for", "1h", "--reason", "x"], "is no share"),
        (["--cut", "5%", "--for", "1h", "--until", "2999-01-01", "--reason", "x"], "--for and --until"),
        (["--cut", "5%", "--until", "2020-01-01", "--reason", "x"], "has passed"),
        (["--cut", "5%", "--at", "2999-01-02", "--until", "2999-01-01", "--reason", "x"], "before the start"),
    ],
)
def test_odd_options_are_refused(arguments: list[str], words: str) -> None:
    result, requests = run("event", "grid", *arguments)
    assert (result.exit_code, requests) == (2, [])
    assert words in result.output


def test_cancelling_with_a_recovery() -> None:
    _, requests = run("cancel-event", "ev-4", "--recover")
    assert requests == [{"op": "cancel_event", "event_id": "ev-4", "recover": True}]


def test_events_are_listed() -> None:
    result, _ = run("events")
    assert result.exit_code == 0
    for words in ("ev-4", "over", "2026-01-02 17:00  20:00", "5.1 kW of 5.0 kW", "the [utility] asks"):
        assert words in result.output
    assert run("events", reply=lambda _: {"ok": True, "events": []})[0].output == "no event is known\n"
    assert json.loads(run("events", "--json")[0].output)["events"] == [REPORT]


def test_the_report_says_what_was_delivered_and_what_it_cost() -> None:
    result, requests = run("event-report", "ev-4")
    assert result.exit_code == 0
    assert requests == [{"op": "event_report", "event_id": "ev-4"}]
    for words in (
        "at most 15.0 kW, 25 % below the baseline, must; notice at 2026-01-02 16:00:00+00:00",
        "20.0 kW: mean metered draw of 15 min before the notice",
        "5.1 kW of 5.0 kW (102 %), 15.30 kWh",
        "0.6 points of the baseline on the mean, 1.2 points in the worst minute",
        "75 W (0.5 %) in the worst minute, 0 minutes by more than 1 %",
        "at 2026-01-02 16:00:01+00:00: 800 W missing from 2026-01-02 19:30:00+00:00 on",
        "3.20 GPU-hours lost to caps, 1.00 held; performance left 93 %",
        "15 % slower",
    ):
        assert words in result.output, words
    assert json.loads(run("event-report", "ev-4", "--json")[0].output) == REPORT


def test_a_report_of_which_nothing_is_known_has_dashes() -> None:
    unknown: dict[str, Any] = {
        key: None if key not in ("minutes_above_target", "coverage_ratio") and "kwh" not in key else 0
        for key in REPORT["result"]
    }
    unknown |= {"lost_gpu_hours": 0.0, "held_gpu_hours": 0.0, "delivered_kwh": None}
    report = {
        **REPORT,
        "result": unknown,
        "baseline_watts": None,
        "announced_at": None,
        "cut_ratio": None,
        "jobs": [],
    }
    result, _ = run("event-report", "ev-4", reply=lambda _: {"ok": True, "report": report})
    assert result.exit_code == 0, result.output
    assert "\N{EN DASH} of \N{EN DASH}" in result.output
    assert "asked                  at most 15.0 kW, must; notice at unknown" in result.output


def test_status_shows_recoveries_and_what_will_be_missing() -> None:
    event = {**STATUS["events"][0], "ends_in_seconds": -5.0, "starts_in_seconds": -600.0}
    short = {"circuit": "grid", "watts": 800.0, "reason": "too little is left", "from_seconds": 9000.0}
    told = {**STATUS, "events": [event], "shortfalls": [short]}
    result, _ = run("status", reply=lambda _: told)
    assert "event ev-3: grid recovers from it: utility call" in result.output
    assert "grid will be 800 W above its limit in 2.5 h: too little is left" in result.output


def test_the_help_names_the_document() -> None:
    result = CliRunner().invoke(main, ["event", "--help"])
    assert "docs/events.md" in result.output
    assert (Path(__file__).parents[2] / "docs" / "events.md").is_file()


def test_the_list_of_events_fits_a_narrow_terminal_and_is_whole_in_a_pipe() -> None:
    def lines(columns: str | None) -> list[str]:
        with fake_powerctld(answer) as fake:
            words = ["events", "--socket", str(fake.path)]
            return CliRunner().invoke(main, words, env={"COLUMNS": columns}).output.splitlines()

    assert "2026-01-02 17:00  20:00" in lines("80")[1] and "5.1 kW of 5.0 kW" in lines("80")[1]
    assert all(len(line) <= 40 for line in lines("40")) and "15.0 kW" in lines("40")[1]
    assert len(lines(None)) == 2 and "…" not in lines(None)[1]
