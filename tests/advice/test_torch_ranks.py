"""Two ranks of torch.distributed act at the same step or not at all, and none waits for ever."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CASES = ("signal", "micro", "pause", "start", "lone", "death", "requeue")


class Trials:
    """What became of all cases; they have run at the same time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ends: dict[str, int] = json.loads((folder / "ends.json").read_text())

    def seen(self, case: str) -> list[dict[str, Any]]:
        return [json.loads((self.folder / f"{case}-{rank}.seen").read_text()) for rank in range(2)]

    def log(self, case: str, rank: int) -> str:
        file = self.folder / f"{case}-{rank}.log"
        return file.read_text() if file.exists() else ""

    def ended(self, case: str) -> tuple[int, int]:
        return self.ends[f"{case}-0"], self.ends[f"{case}-1"]


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for name in ("SLURM_POWER_SOCKET", "SLURM_JOB_ID"):
        environment.pop(name, None)
    subprocess.run(
        [sys.executable, "-m", "tests.advice.ranks_on_trial", str(folder), *CASES],
        env=environment,
        cwd=ROOT,
        timeout=100,
        check=True,
    )
    return Trials(folder)


def test_a_signal_to_one_stops_both_at_the_same_step(trials: Trials) -> None:
    first, second = trials.seen("signal")
    assert first["stopped_at"] == second["stopped_at"]
    assert 20 <= first["stopped_at"] <= 20 + 2 * 33  # the most steps between two agreements, and one to read
    assert trials.ended("signal") == (0, 0)


def test_a_micro_batch_for_one_is_taken_by_both_at_the_same_step(trials: Trials) -> None:
    first, second = trials.seen("micro")
    assert first["micros"] == second["micros"]
    assert set(first["micros"]) == {32, 8}
    assert len(first["micros"]) == 150


def test_a_pause_for_one_is_a_pause_for_both(trials: Trials) -> None:
    for seen in trials.seen("pause"):
        assert seen["paused_seconds"] > 0.1
        assert len(seen["micros"]) == 150


def test_advice_from_before_the_start_is_agreed_before_the_first_step(trials: Trials) -> None:
    first, second = trials.seen("start")
    assert first["micros"] == second["micros"]
    assert first["micros"][0] == 16


def test_where_only_one_of_them_uses_advice_it_follows_nothing_and_holds_nobody(trials: Trials) -> None:
    assert trials.ended("lone") == (0, 0)
    assert trials.seen("lone")[0]["stopped_at"] is None
    assert "not all 2 ranks use Advice" in trials.log("lone", 0)


def test_a_rank_that_dies_takes_the_agreement_with_it_and_nothing_else(trials: Trials) -> None:
    assert trials.ended("death") == (0, 3)
    seen = json.loads((trials.folder / "death-0.seen").read_text())
    assert (len(seen["micros"]), seen["stopped_at"]) == (150, None)
    assert trials.log("death", 0).count("the ranks do not agree any more") == 1


def test_none_leaves_before_all_have_saved(trials: Trials) -> None:
    first, second = trials.seen("requeue")
    assert trials.ended("requeue") == (85, 85)
    assert first["stopped_at"] == second["stopped_at"]
    assert second["left_at"] >= first["saved_at"] > second["saved_at"]
