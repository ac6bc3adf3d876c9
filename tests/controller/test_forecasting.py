"""The controller's forecast: the worker's while it speaks, a naive one that is named while it does not."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slurm_power.config.forecast import ForecastConfig
from slurm_power.controller.planning.forecasting import Course, ForecastDesk
from slurm_power.model.forecast import CircuitForecast, Reach
from slurm_power.plan.policy import Policy
from tests.plan.situations import AT, site, situation

# A worker that forecasts 100 W more than the last step had, at once.
SCRIPT = """
import json, sys
for line in sys.stdin:
    told = json.loads(line)
    if told["type"] != "step":
        continue
    watts = told["loads"]["grid"] + 100.0
    print(json.dumps({"type": "forecast", "circuit": "grid", "reach": "near",
        "issued_seconds": told["end_seconds"], "step_seconds": 60.0, "p10_watts": [watts] * 60,
        "p50_watts": [watts] * 60, "p90_watts": [watts] * 60, "source": "blend", "reason": "",
        "history_days": 1.0, "drivers": {}, "score": None}), flush=True)
"""


def config(**settings: Any) -> Any:
    """What of a site's configuration the desk looks at."""
    return SimpleNamespace(
        controller=SimpleNamespace(state_directory=Path("/nowhere")),
        store=SimpleNamespace(series_url=None),
        site=site(),
        policy=Policy(),
        forecast=ForecastConfig(**settings),
    )


class Bench:
    def __init__(self, script: str = SCRIPT, **settings: Any) -> None:
        self.notes: list[dict[str, Any]] = []
        self.faults: list[tuple[str, str]] = []
        self.desk = ForecastDesk(
            config(**settings),
            note=self.note,
            fault=lambda subject, text: self.faults.append((subject, text)),
            command=(sys.executable, "-c", script),
        )
        self.now = AT

    def note(self, actor: str, kind: str, subject: str, reason: str, **more: Any) -> None:
        self.notes.append({"actor": actor, "kind": kind, "subject": subject, "reason": reason, **more})

    def second(self, seconds: float, watts: float = 20_000.0) -> datetime:
        self.now += timedelta(seconds=seconds)
        self.desk.observe(replace(situation(import_watts=watts), at=self.now))
        return self.now

    def near(self) -> CircuitForecast:
        found = self.desk.forecast("grid", Reach.NEAR, self.now.timestamp())
        assert found is not None
        return found

    async def until(self, happened: Callable[[], object]) -> None:
        async with asyncio.timeout(10.0):
            while not happened():  # noqa: ASYNC110  # polls what has no event
                await asyncio.sleep(0.01)


def tried(bench: Bench, check: Callable[[], Any]) -> None:
    async def run() -> None:
        task = asyncio.create_task(bench.desk.run())
        try:
            await check()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    asyncio.run(run())


def test_the_worker_speaks_and_when_it_is_killed_a_naive_forecast_does_and_says_so(tmp_path: Path) -> None:
    once = f"import os; os.mkdir({str(tmp_path / 'lived')!r})\n"
    bench = Bench(once + SCRIPT)

    async def check() -> None:
        await bench.until(lambda: bench.desk.worker(0.0)["process_id"])
        bench.second(0.0)
        bench.second(60.0)
        await bench.until(lambda: bench.desk.worker(bench.now.timestamp())["state"] == "running")
        assert bench.near().source == "blend" and bench.near().p50_watts[0] == pytest.approx(20_100.0)
        assert bench.faults == []
        # No other worker comes, since it only starts once. The next word is overdue after two steps more.
        os.kill(bench.desk.worker(0.0)["process_id"], signal.SIGKILL)
        await bench.until(lambda: "SIGKILL" in bench.desk._ending)
        bench.second(60.0)
        assert bench.near().source == "blend", "its last word still holds"
        bench.second(131.0)
        found = bench.near()
        assert found.source == "persistence"
        assert found.reason.startswith("fall-back: the forecast worker is away: it ")
        ((subject, text),) = bench.faults
        assert subject == "forecast" and text.endswith("; meanwhile persistence speaks")
        assert bench.desk.worker(bench.now.timestamp())["state"] == "away"

    tried(bench, check)


def test_when_it_is_back_that_is_said_too() -> None:
    bench = Bench()

    async def check() -> None:
        await bench.until(lambda: bench.desk.worker(0.0)["process_id"])
        bench.desk._worker_ended("it ended with status 1")
        bench.second(0.0)
        bench.desk._process._process, kept = None, bench.desk._process._process
        bench.second(60.0)
        bench.desk._process._process = kept
        bench.second(60.0)
        await bench.until(lambda: bench.desk.worker(bench.now.timestamp())["state"] == "running")
        bench.second(1.0)
        assert [bool(text) for _, text in bench.faults] == [True, False]

    tried(bench, check)


def test_before_any_word_it_is_starting_and_not_at_fault() -> None:
    bench = Bench("import time; time.sleep(60)")

    async def check() -> None:
        await bench.until(lambda: bench.desk.worker(0.0)["process_id"])
        bench.second(0.0)
        bench.second(60.0)
        assert bench.desk.worker(bench.now.timestamp())["state"] == "starting"
        assert bench.near().source == "persistence"
        assert bench.faults == []

    tried(bench, check)


def test_without_a_worker_the_naive_forecast_says_why() -> None:
    bench = Bench(enabled=False)
    bench.second(0.0)
    assert bench.desk.forecast("grid", Reach.NEAR, bench.now.timestamp()) is None, "no step is over yet"
    bench.second(60.0)
    assert bench.near().reason == "fall-back: forecast.enabled is false"
    assert bench.desk.worker(bench.now.timestamp())["state"] == "off"


def test_residual_paths_are_kept_and_checked() -> None:
    desk = Bench(enabled=False).desk
    assert desk.residual_paths("grid").shape == (0, 192)
    desk._take({"type": "paths", "circuit": "grid", "watts": [[1.0] * 192, [2.0] * 192]})
    assert desk.residual_paths("grid").shape == (2, 192)
    desk._take({"type": "paths", "circuit": "grid", "watts": []})
    assert desk.residual_paths("grid").shape == (0, 192)
    for circuit, watts in (
        ("grid", [[1.0] * 191]),
        ("grid", [[float("nan")] * 192]),
        ("moon", [[1.0] * 192]),
    ):
        with pytest.raises(ValueError, match=r"reshape|cannot be"):
            desk._take({"type": "paths", "circuit": circuit, "watts": watts})


def test_nonsense_from_the_worker_ends_it() -> None:
    bench = Bench('print(\'{"type": "forecast"}\', flush=True); import time; time.sleep(60)')

    async def check() -> None:
        await bench.until(lambda: "nonsense" in bench.desk._ending)
        assert bench.desk._ending.startswith("the forecast worker is away: it sent nonsense: no forecast: ")

    tried(bench, check)


def test_a_course_has_gaps_where_steps_were_missed() -> None:
    bench = Bench(enabled=False)
    bench.second(0.0, 1_000.0)
    bench.second(60.0, 2_000.0)
    bench.second(180.0, 3_000.0)
    course: Course = bench.desk.course("grid", Reach.NEAR)
    assert list(course.values) == [pytest.approx(1_000.0), pytest.approx(2_000.0)]
    bench.second(60.0, 4_000.0)
    assert list(course.values)[1:] == [pytest.approx(2_000.0), None, None, pytest.approx(3_000.0)]
