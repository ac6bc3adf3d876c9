"""Fits in a process of their own: on time, one at a time, and whatever becomes of them harms nobody."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from slurm_power.forecast.days import STATE_SPACE
from slurm_power.forecast.experts import Seasons
from slurm_power.forecast.fit_state_space import fit, is_installed
from slurm_power.forecaster import refit
from slurm_power.forecaster.refit import Fitted, Refits
from slurm_power.model.forecast import Reach
from tests.forecaster.bench import BEGAN, STEP, InProcess, load, step

DAY = 96
needs_statsmodels = pytest.mark.skipif(not is_installed(), reason="needs statsmodels")


def series(days: int) -> np.ndarray:
    return np.array([load(BEGAN + 900.0 * at) for at in range(days * DAY)])


def outcome(refits: Refits, seconds: float = 60.0) -> Fitted:
    deadline = time.monotonic() + seconds
    while (found := refits.ended(0.0)) is None:
        assert time.monotonic() < deadline, "it does not end"
        time.sleep(0.02)
    return found


def started(script: str) -> Refits:
    refits = Refits(("grid", "rack1"), (sys.executable, "-c", script))
    assert refits.due(0.0) == "grid"
    refits.start("grid", series(4), DAY, None, now_seconds=0.0)
    return refits


@needs_statsmodels
def test_a_fit_in_its_own_process_is_the_fit() -> None:
    refits = Refits(("grid",))
    refits.start("grid", series(5), DAY, None, now_seconds=0.0)
    found = outcome(refits)
    assert found.parameters is not None and found.reason == ""
    assert found.parameters == fit(series(5), Seasons(DAY, 1)).parameters
    assert refits.due(refit.EVERY_SECONDS - 1.0) is None and refits.due(refit.EVERY_SECONDS) == "grid"
    refits.close()


def test_one_at_a_time_and_each_in_its_turn() -> None:
    refits = started("import time; time.sleep(60)")
    assert refits.running and refits.due(1e9) is None
    refits.close()
    assert refits.due(0.0) == "rack1"
    assert refits.due(refit.AGAIN_SECONDS) == "grid", "it has not been fitted"


def test_before_there_is_enough_to_learn_from_nothing_is_started() -> None:
    refits = Refits(("grid",))
    refits.start("grid", series(2), DAY, None, now_seconds=0.0)
    assert not refits.running and refits.due(1.0) is None


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise SystemExit(3)", "it ended with status 3"),
        ("print('what')", "it said nonsense"),
        ("print('{}')", "it said nonsense"),
        ('print(\'{"parameters": {"waves": [96, 6]}, "reason": ""}\')', "it said nonsense"),
        ('print(\'{"parameters": null, "reason": "flat"}\')', "flat"),
        ("import os; os.kill(os.getpid(), 9)", "it ended with status -9"),
    ],
)
def test_what_goes_wrong_is_named(script: str, reason: str) -> None:
    found = outcome(started(script))
    assert found.circuit == "grid" and found.parameters is None
    assert found.reason.startswith(reason)


def test_one_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refit, "MOST_SECONDS", 0.2)
    assert outcome(started("import time; time.sleep(60)")).reason == "it took longer than 0.2 s"


@needs_statsmodels
def test_in_the_worker_it_joins_the_blend(tmp_path: Path) -> None:
    bench = InProcess(tmp_path, circuits=("grid",), fitted=["grid"])
    bench.worker.take(step(BEGAN + STEP))
    bench.worker.learn_next()
    bench.worker._models["grid"].learn_far(BEGAN + 900.0, series(6))
    bench.worker.refit()
    deadline = time.monotonic() + 60.0
    while not any("was fitted" in words for words in bench.words()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
        bench.worker.refit()
    assert bench.words()[-1].endswith("and is used at once")
    end = BEGAN + 6 * 86_400.0
    bench.steps(end + STEP, 15)
    assert STATE_SPACE in bench.last("grid", Reach.FAR).drivers
