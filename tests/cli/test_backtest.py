"""`slurm-power backtest` as its users call it: good files, odd ones, and hopeless ones."""

import csv
import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main


def backtest(*words: str) -> Result:
    return CliRunner().invoke(main, ["backtest", *words])


def rows(count: int = 30 * 24, *, minutes: int = 60) -> list[tuple[str, str]]:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    chance = np.random.default_rng(1)
    return [
        (
            (start + timedelta(minutes=minutes * row)).isoformat(),
            f"{100 + 30 * np.sin(row * minutes / 1440 * 2 * np.pi) + chance.standard_normal():.3f}",
        )
        for row in range(count)
    ]


def written(path: Path, table: list[tuple[str, str]], heading: str = "ts,kw") -> Path:
    text = "\n".join([heading, *(",".join(row) for row in table)]) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def test_a_good_file_gets_figures_and_each_forecast(tmp_path: Path) -> None:
    series, out = written(tmp_path / "a.csv.gz", rows()), tmp_path / "out.csv"
    done = backtest(str(series), "--step", "1h", "--origins", "6", "--out", str(out), "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    (blend,) = found["models"]
    assert blend["mase"] < 1.0
    assert {"to_day_naive", "to_best_naive", "smape_ratio", "pinball", "coverage_ratio"} <= set(blend)
    assert {"mae_by_stretch", "milliseconds_per_forecast", "seconds"} <= set(blend)
    with out.open() as lines:
        table = list(csv.DictReader(lines))
    assert len(table) == 6 * 24
    by_time = dict(rows())
    for row in table:
        origin, time = (datetime.fromisoformat(row[name]) for name in ("origin", "time"))
        assert timedelta(0) < time - origin <= timedelta(hours=24)
        assert float(row["p10"]) <= float(row["p50"]) <= float(row["p90"])
        assert float(row["actual"]) == pytest.approx(float(by_time[time.isoformat()]), rel=1e-4)


def test_every_model_is_compared_when_asked(tmp_path: Path) -> None:
    series = written(tmp_path / "a.csv", rows())
    done = backtest(str(series), "--step", "1h", "--origins", "3", "--model", "all")
    assert done.exit_code == 0, done.output
    for name in ("blend", "persistence", "day_naive", "harmonic_day"):
        assert name in done.output


@pytest.mark.parametrize(
    "table",
    [
        pytest.param([(at, "5") for at, _ in rows()], id="constant"),
        pytest.param([(at, f"-{value}") for at, value in rows()], id="negative"),
        pytest.param(list(reversed(rows())), id="unsorted"),
        pytest.param([row for row in rows() for _ in range(3)], id="duplicated"),
        pytest.param(
            [(at, "nan" if index % 3 else value) for index, (at, value) in enumerate(rows())], id="holes"
        ),
        pytest.param([row for index, row in enumerate(rows()) if index % 100 > 30], id="gaps"),
        pytest.param([(at[:19], value) for at, value in rows()], id="naive times"),
        pytest.param(
            [(str(1.7e9 + 3600 * index), value) for index, (_, value) in enumerate(rows())], id="epoch"
        ),
        pytest.param(
            [
                ((datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=h)).astimezone().isoformat(), "3")
                for h in range(900)
            ],
            id="offsets",
        ),
        pytest.param([(at, "0") for at, _ in rows()], id="zero"),
    ],
)
def test_odd_series_get_a_forecast(tmp_path: Path, table: list[tuple[str, str]]) -> None:
    done = backtest(str(written(tmp_path / "a.csv", table)), "--step", "1h", "--origins", "3", "--json")
    assert done.exit_code == 0, done.output
    assert "NaN" not in done.stdout
    assert "Infinity" not in done.stdout


@pytest.mark.parametrize(
    ("table", "words", "said"),
    [
        ([], [], "it has no rows"),
        (rows(4), [], "are too few"),
        ([(at, "") for at, _ in rows()], [], "no value"),
        ([("yesterday", "1"), *rows(), ("2026-01-01", "x")], [], "row 2: time 'yesterday' is neither"),
        ([("yesterday", "1"), *rows(), ("2026-01-01", "x")], [], "row 723: value 'x' is no number"),
        ([(at, "inf") for at, _ in rows(3)], [], "row 2: value 'inf' is too large"),
        ([("1700000000000", "1")], [], "are those milliseconds?"),
        ([("2026-01-01",)], [], "row 2: has 1 columns, not 2"),
        (rows(), ["--column", "MW"], "has no column 'MW'; it has ts, kw"),
        (rows(), ["--step", "7m"], "--step: a day has to be a whole number of steps"),
        (rows(), ["--step", "1h", "--horizon", "100d"], "--horizon: has to be 1 to 2000 steps"),
        (rows(), ["--step", "1h", "--model", "oracle"], "there is no 'oracle'"),
        (rows(), ["--step", "1h", "--out", "/nowhere/at/all.csv"], "there is no folder /nowhere/at"),
        (rows(), ["--step", "15m"], "values come every 3600 s"),
    ],
)
def test_hopeless_ones_are_refused_with_the_row(
    tmp_path: Path, table: list[tuple[str, str]], words: list[str], said: str
) -> None:
    series = written(tmp_path / "a.csv", table)
    done = backtest(str(series), *(words or ["--step", "1h"]))
    assert done.exit_code == 2, done.output
    assert said in done.output
    assert "Traceback" not in done.output


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    assert "No such file" in backtest(str(tmp_path / "missing.csv")).output
    for name, content in (("a.csv", b"\xff\xfe\x00"), ("a.csv.gz", b"no gzip"), ("b.csv", b"")):
        (tmp_path / name).write_bytes(content)
        done = backtest(str(tmp_path / name))
        assert done.exit_code == 2, done.output
        assert name in done.output
    assert backtest(str(tmp_path)).exit_code == 2
