"""`slurm-power backtest` as its users call it: good files, odd ones, and hopeless ones."""

import csv
import gzip
import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

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


def in_berlin(count: int, *, is_told: bool) -> list[tuple[str, str]]:
    """Hours over the night in which clocks go back, with or without saying which of the two is meant."""
    start = datetime(2026, 10, 1, tzinfo=UTC)
    zone = ZoneInfo("Europe/Berlin")
    times = [(start + timedelta(hours=hour)).astimezone(zone).isoformat() for hour in range(count)]
    return [(time if is_told else time[:19], f"{5 + (row % 24) / 10:.1f}") for row, time in enumerate(times)]


ODD = {
    "constant": [(at, "5") for at, _ in rows()],
    "zero": [(at, "0") for at, _ in rows()],
    "negative": [(at, f"-{value}") for at, value in rows()],
    "unsorted": list(reversed(rows())),
    "duplicated": [row for row in rows() for _ in range(3)],
    "holes": [(at, "nan" if index % 3 else value) for index, (at, value) in enumerate(rows())],
    "gaps": [row for index, row in enumerate(rows()) if index % 100 > 30],
    "naive times": [(at[:19], value) for at, value in rows()],
    "epoch": [(str(1.7e9 + 3600 * index), value) for index, (_, value) in enumerate(rows())],
    "clocks put back": in_berlin(900, is_told=True),
    "clocks put back, untold": in_berlin(900, is_told=False),
    "spikes": [(at, "1e14" if index % 200 == 150 else value) for index, (at, value) in enumerate(rows())],
    "tiny": [(at, f"{float(value) * 1e-12}") for at, value in rows()],
    "one value": [(rows()[0][0], "5"), *((at, "") for at, _ in rows()[1:])],
    "late": [(at, "" if index < 500 else value) for index, (at, value) in enumerate(rows())],
    "flat, then not": [(at, "5" if index < 600 else value) for index, (at, value) in enumerate(rows())],
    "two days": rows(49),
}


def finite(found: object) -> bool:
    """Whether all numbers are numbers, however deep they lie."""
    if isinstance(found, dict):
        return all(finite(each) for each in found.values())
    if isinstance(found, list):
        return all(finite(each) for each in found)
    return not isinstance(found, float) or math.isfinite(found)


def judged(tmp_path: Path, table: list[tuple[str, str]], *words: str) -> bool:
    """Whether there is a forecast, with finite numbers; if not, a refusal in one line."""
    out = tmp_path / "out.csv"
    series = written(tmp_path / "a.csv", table)
    done = backtest(str(series), "--step", "1h", "--origins", "2", "--json", "--out", str(out), *words)
    assert "Traceback" not in done.output
    if done.exit_code == 2:
        assert done.output.count("\n") == 1 and str(series) in done.output, done.output
        return False
    assert done.exit_code == 0, done.output
    assert finite(json.loads(done.stdout))
    with out.open() as lines:
        for row in csv.DictReader(lines):
            low, middle, high = (float(row[name]) for name in ("p10", "p50", "p90"))
            assert math.isfinite(low) and math.isfinite(high) and low <= middle <= high
    return True


@pytest.mark.parametrize("kind", ODD)
def test_odd_series_get_a_forecast(tmp_path: Path, kind: str) -> None:
    # The state-space model is one of the blend's experts, where it can be fitted.
    is_judged = judged(tmp_path, ODD[kind])
    assert is_judged or kind == "one value"


@pytest.mark.parametrize("kind", ["constant", "spikes", "late", "one value"])
def test_odd_series_never_break_an_expert(tmp_path: Path, kind: str) -> None:
    judged(tmp_path, ODD[kind], "--model", "all")


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", ["peer_mstl", "peer_autoarima"])
def test_odd_series_never_break_a_peer(tmp_path: Path, name: str, kind: str) -> None:
    pytest.importorskip("statsforecast")
    judged(tmp_path, ODD[kind], "--model", name)


def test_minutes_for_the_next_hour_may_be_odd_as_well(tmp_path: Path) -> None:
    for kind in ("constant", "negative", "holes", "spikes"):
        table = [(str(60 * index), value) for index, (_, value) in enumerate(ODD[kind])]
        judged(tmp_path, table, "--step", "1m", "--horizon", "30m", "--model", "all")


def test_an_hour_is_too_short_for_a_day_and_enough_for_minutes(tmp_path: Path) -> None:
    hour = [(str(60 * minute), str(5 + minute % 3)) for minute in range(60)]
    series = str(written(tmp_path / "a.csv", hour))
    refused = backtest(series)
    assert refused.exit_code == 2
    assert f"{series}: 4 steps are too few" in refused.output
    assert backtest(series, "--step", "1m", "--horizon", "10m", "--origins", "3").exit_code == 0


@pytest.mark.parametrize("step", ["24h", "12h", "8h", "6h"])
def test_steps_may_be_as_long_as_a_day(tmp_path: Path, step: str) -> None:
    series = str(written(tmp_path / "a.csv", rows(60 * 24)))
    words = ("--step", step, "--horizon", "48h", "--origins", "3", "--model", "all", "--json")
    done = backtest(series, *words)
    assert done.exit_code == 0, done.output
    named = {row["model"] for row in json.loads(done.stdout)["models"]}
    assert {"blend", "persistence", "day_naive"} <= named
    told = [line for line in done.stderr.splitlines() if "has nothing to say at any of the origins" in line]
    assert len(told) == len([name for name in ("smoothed_days", "state_space") if name not in named])


def test_a_million_rows_are_no_trouble(tmp_path: Path) -> None:
    values = 5 + np.sin(np.arange(1_000_000) * (2 * np.pi / 1440))
    text = "\n".join(["ts,kw", *(f"{60 * row},{value:.3f}" for row, value in enumerate(values))])
    (tmp_path / "a.csv").write_text(text)
    done = backtest(str(tmp_path / "a.csv"), "--step", "1h", "--origins", "2", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert finite(found) and found["days"] > 690
    assert found["models"][0]["mae"] < 0.05


def test_what_is_not_installed_is_told_with_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slurm_power.cli.commands.simulations.backtest.find_spec", lambda _name: None)
    series = str(written(tmp_path / "a.csv", rows()))
    for name, told in (
        ("peer_mstl", "peer_mstl needs statsforecast: pip install 'slurm-power[peers]'"),
        ("state_space", "state_space needs statsmodels: pip install 'slurm-power[forecast]'"),
    ):
        done = backtest(series, "--step", "1h", "--model", name)
        assert (done.exit_code, done.output) == (2, f"--model: {told}\n")


def test_fits_are_counted_and_timed(tmp_path: Path) -> None:
    pytest.importorskip("statsmodels")
    series = str(written(tmp_path / "a.csv", rows()))
    found = json.loads(backtest(series, "--step", "1h", "--origins", "3", "--model", "all", "--json").stdout)
    by_name = {row["model"]: row for row in found["models"]}
    for name in ("blend", "state_space"):
        assert by_name[name]["refits"] >= 1 and 0.0 < by_name[name]["refit_seconds"] < 10.0
    assert (by_name["persistence"]["refits"], by_name["persistence"]["refit_seconds"]) == (0, None)


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
