"""slurm-power forecast: the chart and the sentences on any terminal, the picture, the page, and bad days."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main
from slurm_power.config import SupplyConfig
from slurm_power.controller.answers.forecast_answer import forecast as controller_answer
from slurm_power.controller.sensing.supply_desk import SupplyDesk
from tests.cli import forecast_answer as made
from tests.cli.fake_powerctld import fake_powerctld
from tests.controller.test_forecasting import Bench
from tests.plan.situations import site, situation
from tests.report.test_report import Page

EVIL = "\x1b[31m<b>$x$</b>"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def run(answer: dict[str, Any], *arguments: object, columns: int = 80) -> Result:
    with fake_powerctld(lambda _: answer) as fake:
        words = ["forecast", "--socket", str(fake.path), *map(str, arguments)]
        return CliRunner().invoke(main, words, env={"COLUMNS": str(columns)})


def text(answer: dict[str, Any], *arguments: object, columns: int = 200) -> str:
    result = run(answer, *arguments, columns=columns)
    assert result.exit_code == 0, result.output
    assert result.exception is None
    return result.output


def test_the_hour_before_a_massive_start() -> None:
    shown = text(made.answer())
    for words in (
        "lab, grid: the next hour",
        "grid draws 21.5 kW (standard load); its limit is 32.0 kW.",
        "Highest until 15:00: 31.6 kW at 14:47 (80 % band 29.4 kW to 33.8 kW).",
        "The band reaches above the limit, first at 14:14, by up to 1.9 kW.",
        "▼ job 17 +9.2 kW",
        "Experts at first: persistence 60 %, day_naive 25 %, ew_ar 13 %; at the end: ew_ar 58 %",
        "Massive start: job 17 (alice, llama-pretrain, 64 GPUs) +9.2 kW at grid in 14 min (Slurm's plan)",
        "Mean error 410 W over the last 96 forecasts, 18 % less than the best naive forecast, persistence",
        "81 % of outcomes inside the 80 % band.",
        "It rests on 34 days of history.",
        "Other circuits: rack1",
    ):
        assert words in shown, words
    for clock in ("13:30", "14:00", "14:30"):
        assert any(clock in line and "kW" not in line for line in shown.splitlines()), clock


def test_the_picture_is_true_to_the_numbers() -> None:
    """In plain characters each level stands in the row of its own mark, on its own side."""
    watts = [10_000.0] * 30 + [20_000.0] * 30
    near = made.made("near", 60.0, watts, p10_watts=watts, p90_watts=watts)
    answer = made.answer(
        forecasts={"near": near, "far": None},
        history={"near": made.history(60.0, [20_000.0] * 30), "far": None},
        starts=[],
        limit_watts=15_000.0,
    )
    parted = (line.partition("|") for line in text(answer, "--ascii", columns=80).splitlines())
    rows = {head.strip(): tail for head, _, tail in parted}
    upper, middle, lower = rows["20"], rows["15"], rows["10"]
    now = middle.index("-")
    assert set(upper[:now]) == {"*"}
    assert set(upper[now + 1 :]) == {" ", "o"}
    assert set(lower[now:].rstrip()) == {"o"}
    # The step is half way between now and the end, where the upper level begins.
    assert abs(upper.index("o") - (now + 76) // 2) <= 2
    assert lower.rindex("o") <= upper.index("o")
    assert set(middle[now:]) <= {"-", "o"}


def test_the_days_when_nothing_massive_comes() -> None:
    shown = text(made.answer(starts=[made.start(massive=False)]))
    for words in (
        "lab, grid: the next days",
        "Above the limit, first at Sat 22:15, by up to 1.0 kW.",
        "Sat 03",
        "Supply: price 0.056 (14:00) to 0.267 per kWh (Sat 00:00); carbon 210 g/kWh.",
        "  job 17 (alice",
    ):
        assert words in shown, words
    assert "▼" not in shown
    assert "the next hour" in text(made.answer(starts=[]), "--reach", "near")


def test_another_users_job_has_no_name_and_an_unplanned_one_no_time() -> None:
    hidden = made.start(job_id="", user="", name="", placed=False, earliest=None, lead_seconds=None)
    shown = text(made.answer(starts=[hidden, made.start(step_watts={"rack2": 5.0}, job_id="18")]))
    assert (
        "another user's job (64 GPUs) +9.2 kW at grid at most, wherever it runs, nobody knows when" in shown
    )
    assert "job 18" not in shown
    late = made.start(lead_seconds=8_000.0, earliest="2026-01-03T01:00:00+00:00")
    assert "in 2.2 h, at Sat 01:00 (Slurm's plan)" in text(made.answer(starts=[late]))


def test_a_dead_worker_is_named() -> None:
    reason = "the forecast worker is away: killed by signal 9"
    told = f"fall-back: {reason}"
    near = made.made("near", 60.0, [20_000.0] * 60, source="day_naive", reason=told, drivers={}, score=None)
    away = {"state": "away", "reason": reason, "age_seconds": 12.3}
    away["words"] = {"circuit:rack1": "not for here", "circuit:grid": "learned anew", "run times": "lost"}
    shown = text(made.answer(forecasts={"near": near, "far": None}, worker=away))
    assert f"Fall-back: {reason}, so this is the naive forecast day_naive." in shown
    assert "The forecast worker is away: killed by signal 9 (last forecast 12 s ago)." in shown
    assert "The worker says: learned anew." in shown
    assert "The worker says: lost." in shown
    assert "not for here" not in shown
    assert "No forecast has been judged yet" in shown


def test_a_young_old_or_doubtful_forecast_says_so() -> None:
    far = made.made(
        "far",
        900.0,
        [2e4] * 96,
        history_days=0.5,
        reason="a level shift",
        issued_seconds=made.ISSUED_SECONDS - 7_200.0,
    )
    shown = text(made.answer(forecasts={"near": None, "far": far}, starts=[]))
    young = made.made("near", 60.0, [2e4] * 60, history_days=0.5)
    assert "the next hour" in text(made.answer(forecasts={"near": young, "far": far}, starts=[]))
    assert "It rests on 12.0 h of history, less than two weeks: it will get better." in shown
    assert "By the blend of experts, to be taken with care: a level shift." in shown
    assert "It is 2.0 h old." in shown
    worse = {**made.made("far", 900.0, [1.0])["score"], "mae_watts": 600.0, "bias_watts": -400.0}
    shown = text(made.answer(forecasts={"near": None, "far": {**far, "score": worse}}))
    assert "20 % more than the best naive forecast" in shown
    assert "On average it came 400 W lower." in shown


@pytest.mark.parametrize(
    ("worker", "words"),
    [
        ({"state": "running", "reason": ""}, "Too little has been recorded of it so far."),
        ({"state": "starting", "reason": ""}, "The forecast worker is starting."),
        ({"state": "off", "reason": ""}, "Forecasts are switched off."),
        (
            {"state": "away", "reason": "killed by signal 9"},
            "The forecast worker is away: killed by signal 9",
        ),
    ],
)
def test_no_forecast_yet(worker: dict[str, Any], words: str) -> None:
    answer = made.answer(forecasts={"near": None, "far": None}, worker={"age_seconds": None, **worker})
    shown = text(answer)
    assert "There is no forecast of grid yet." in shown
    assert words in shown
    nothing = {**answer, "history": {"near": None, "far": None}, "limit_watts": None}
    assert "grid draws nobody knows what (standard load); it has no limit." in text(nothing)


def test_json_is_the_answer_and_the_circuit_is_asked_for() -> None:
    with fake_powerctld(lambda _: made.answer()) as fake:
        words = ["forecast", "--json", "--circuit", "rack1", "--socket", str(fake.path)]
        assert json.loads(CliRunner().invoke(main, words).output) == made.answer()
        CliRunner().invoke(main, ["forecast", "--socket", str(fake.path)])
    assert fake.requests == [{"op": "forecast", "circuit": "rack1"}, {"op": "forecast", "circuit": None}]


def test_what_powerctld_answers_is_understood() -> None:
    """Its own code makes the answer, from a controller without a worker that has seen a few minutes."""
    bench = Bench(enabled=False)
    for minute in range(8):
        bench.second(60.0, 20_000.0 + 100.0 * minute)
    config: Any = SimpleNamespace(site=site(), supply=SupplyConfig(), zone=UTC)
    controller: Any = SimpleNamespace(
        config=config,
        supply=SupplyDesk(config, fault=lambda *_: None),
        forecasts=bench.desk,
        now=lambda: bench.now,
        planned_on=None,
        snapshot=lambda: situation(import_watts=20_700.0),
    )
    caller: Any = SimpleNamespace(user="root", operator=True)
    answer = {"ok": True, **controller_answer(controller, {"op": "forecast"}, caller)}
    shown = text(json.loads(json.dumps(answer)))
    assert "grid draws 20.6 kW (standard load)" in shown
    assert "test, grid: the next hour" in shown
    assert "Fall-back: forecast.enabled is false, " in shown
    assert "Forecasts are switched off" in shown
    assert any(0x2800 <= ord(letter) < 0x2900 for letter in shown)


def test_refused_and_away(tmp_path: Path) -> None:
    refused = run({"ok": False, "error": "there is no circuit 'gird'"})
    assert (refused.exit_code, refused.output) == (2, "Error: there is no circuit 'gird'\n")
    away = CliRunner().invoke(main, ["forecast", "--socket", str(tmp_path / "none.sock")])
    assert away.exit_code == 1
    assert "does not answer" in away.output
    assert away.output.count("\n") == 1


@pytest.mark.parametrize("columns", [12, 31, 32, 40, 80, 300])
@pytest.mark.parametrize("option", ["--ascii", "--reach=far"])
def test_no_line_is_wider_than_the_terminal(columns: int, option: str) -> None:
    shown = text(made.answer(), option, columns=columns)
    assert max(map(len, shown.splitlines())) <= columns
    assert "\x1b" not in shown
    assert (sum("|" in line or "│" in line for line in shown.splitlines()) > 10) is (columns >= 32)
    if option == "--ascii":
        assert shown.isascii()


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e-3, 1.0, 1e6])
@pytest.mark.parametrize("past", [[None] * 30, [], [1.0] * 30, [1.0, None] * 15])
def test_any_size_of_site_and_any_past(scale: float, past: list[float | None]) -> None:
    watts = [scale * 1_000.0] * 60
    near = made.made("near", 60.0, watts, p10_watts=watts, p90_watts=watts)
    known: list[float | None] = [None if value is None else 1_000.0 * scale * value for value in past]
    answer = made.answer(
        forecasts={"near": near, "far": None}, history={"near": made.history(60.0, known), "far": None}
    )
    shown = text(answer, columns=80)
    assert "Steady at " in shown
    assert any(0x2800 <= ord(letter) < 0x2900 for letter in shown)
    assert "nan" not in shown


def test_names_do_not_steer_the_terminal() -> None:
    near = made.made("near", 60.0, [2e4] * 60, source=EVIL, reason=EVIL, drivers={EVIL: [1.0, 1.0]})
    evil = made.start(name=EVIL, user=EVIL, job_id=EVIL, known_from=EVIL)
    shown = text(made.answer(forecasts={"near": near, "far": None}, starts=[evil], circuits=["grid", EVIL]))
    assert "\x1b" not in shown
    assert "<b>" in shown


def test_a_terminal_without_unicode_gets_plain_signs() -> None:
    with fake_powerctld(lambda _: made.answer()) as fake:
        code = "from slurm_power.cli.slurm_power import run; run()"
        words = [sys.executable, "-c", code, "forecast", "--socket", str(fake.path)]
        environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
        shown = subprocess.run(words, env=environment, capture_output=True, timeout=60, check=True).stdout
    assert b"v job 17" in shown
    assert b"?" not in shown


def test_the_terminal_needs_neither_numpy_nor_matplotlib(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nfor name in ('numpy', 'matplotlib'):\n    sys.modules[name] = None\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "80"}

    def forecast(*more: str) -> subprocess.CompletedProcess[str]:
        with fake_powerctld(lambda _: made.answer()) as fake:
            words = [
                sys.executable,
                "-m",
                "slurm_power.cli.slurm_power",
                "forecast",
                "--socket",
                str(fake.path),
            ]
            return subprocess.run(
                [*words, *more], env=environment, capture_output=True, text=True, timeout=60, check=False
            )

    assert forecast().returncode == 0
    refused = forecast("--png", str(tmp_path / "f.png"))
    assert refused.returncode == 1
    assert refused.stderr == (
        "Error: pictures need matplotlib, which is not installed: pip install 'slurm-power[report]'\n"
    )


def test_picture_and_page(tmp_path: Path) -> None:
    png, html = tmp_path / "f.png", tmp_path / "f.html"
    assert text(made.answer(), "--png", png, "--html", html) == f"wrote {png}\nwrote {html}\n"
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert png.stat().st_size > 20_000
    page = Page(html.read_text())
    in_terminal = text(made.answer(), columns=300)
    for words in (
        "The band reaches above the limit, first at 14:14, by up to 1.9 kW.",
        "Massive start: job 17 (alice, llama-pretrain, 64 GPUs) +9.2 kW at grid in 14 min (Slurm's plan)",
        "81 % of outcomes inside the 80 % band.",
        "By the blend of experts.",
    ):
        assert words in page.text
        assert words in in_terminal
    assert page.tags.count("svg") == 1
    assert {"title", "desc", "table"} <= set(page.tags)
    assert page.tags.count("tr") == 61
    assert len(page.ids) == len(set(page.ids))
    assert "://" not in html.read_text()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["f.html", "f.png"]


def test_a_page_without_a_forecast_and_with_evil_names(tmp_path: Path) -> None:
    html = tmp_path / "f.html"
    nothing = made.answer(
        forecasts={"near": None, "far": None}, history={"near": None, "far": None}, site="<script>"
    )
    text(nothing, "--html", html)
    assert "There is no forecast of grid yet." in html.read_text()
    refused = run(nothing, "--png", tmp_path / "f.png")
    assert (refused.exit_code, refused.output) == (1, "Error: there is nothing to draw of grid yet\n")
    text(
        made.answer(site="<script>", starts=[made.start(name="<script>", job_id="<script>$\\frac$")]),
        "--html",
        html,
    )
    assert "<script" not in html.read_text()


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    for option in ("--png", "--html"):
        refused = run(made.answer(), option, tmp_path / "none" / "f")
        assert refused.exit_code == 1
        assert "No such file or directory" in refused.output
