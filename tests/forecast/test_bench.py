"""``make bench-forecast`` tells the truth with its exit status."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


def bench(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "containers.bench.forecast", "--data", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def written(path: Path, values: "np.typing.NDArray[np.float64]", step_seconds: int) -> None:
    rows = [
        f"{1_700_000_000 // 86_400 * 86_400 + row * step_seconds},{value}" for row, value in enumerate(values)
    ]
    path.write_text("\n".join(["ts,kw", *rows]) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "series").mkdir()
    chance = np.random.default_rng(1)
    minutes = 500.0 + 20.0 * chance.standard_normal(1_500)
    written(tmp_path / "series" / "noise_1min.csv", minutes, 60)
    return tmp_path


def test_noise_is_forecast_better_than_as_now(folder: Path) -> None:
    done = bench(folder)
    assert done.returncode == 0, done.stderr
    assert "| noise | 30 min |" in done.stdout
    told = re.search(r"ok     30 min, noise: MAE / persistence: (0\.\d+)", done.stdout)
    assert told is not None, done.stdout
    assert 0.65 < float(told[1]) < 0.80, "the mean has 1 / sqrt(2) of the error of the last value"


def test_a_missed_figure_is_named_and_ends_with_1(folder: Path) -> None:
    # A walk that repeats nothing, 24 h ahead: no band from two weeks holds, and no pattern is there to find.
    walk = 1e6 + np.cumsum(np.random.default_rng(3).standard_normal(96 * 8))
    written(folder / "series" / "walk_15min.csv", walk, 900)
    done = bench(folder, "--origins", "4", "--peer-origins", "0")
    assert done.returncode == 1, done.stderr
    assert "MISSED" in done.stdout


def test_peers_are_run_beside_ours_and_their_time_is_compared(folder: Path) -> None:
    pytest.importorskip("statsforecast")
    chance = np.random.default_rng(3)
    steps = np.arange(96 * 8)
    written(
        folder / "series" / "day_15min.csv",
        100.0 + 20.0 * np.sin(2 * np.pi * steps / 96) + chance.standard_normal(len(steps)),
        900,
    )
    done = bench(folder, "--origins", "4", "--peer-origins", "2")
    for model in ("blend", "state_space", "peer_mstl", "peer_autoarima"):
        assert f"| day | 2 | {model} |" in done.stdout, done.stdout + done.stderr
    assert re.search(
        r"ok     24 h, time of a forecast / peer_\w+'s, the most accurate peer: 0\.0", done.stdout
    )


def test_a_folder_without_series_is_refused(tmp_path: Path) -> None:
    done = bench(tmp_path)
    assert done.returncode == 2
    assert "has no *_15min.csv" in done.stderr


@pytest.mark.parametrize(
    ("text", "told"), [("ts,kw\nnever,1\n", "row 2"), ("ts,kw\n0,1\n900,2\n", "2 steps are too few")]
)
def test_a_series_of_no_use_is_named(folder: Path, text: str, told: str) -> None:
    (folder / "series" / "bad_15min.csv").write_text(text)
    done = bench(folder)
    assert done.returncode == 2
    assert "bad_15min.csv: " in done.stderr and told in done.stderr
    assert "Traceback" not in done.stderr
