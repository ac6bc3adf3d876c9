"""``slurm-power simulate ess`` as its users type it; its rows recomputed by other means."""

import csv
import gzip
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main
from slurm_power.plan.billing import bill
from slurm_power.signals.billing_file import read_billing_rules

START = datetime(2026, 1, 20, tzinfo=UTC)
FEBRUARY, HOURS = datetime(2026, 2, 1, tzinfo=UTC), 34 * 24
SIZE = ("--ess-power-ratio", "0.15", "--ess-hours", "2")
# Too short for paths and trading by forecasts, but quick.
SHORT = ("--history", "5d")
TARIFF = """
name = "test"
[[season]]
name = "all year"
from = "01-01"
to = "12-31"
[[season.period]]
from = "12:00"
to = "18:00"
price_per_kwh = 0.30
[[season.period]]
to = "12:00"
price_per_kwh = 0.08
[[season.period]]
from = "18:00"
price_per_kwh = 0.08
[[demand]]
name = "all hours"
price_per_kw = 9.5
[[demand]]
name = "afternoon"
from = "12:00"
to = "18:00"
price_per_kw = 12.0
"""
DEMAND_ONLY = 'name = "demand"\n[[demand]]\nname = "all hours"\nprice_per_kw = 9.5\n'


def kilowatts(steps: int, minutes: int, seed: int = 1) -> list[float]:
    """A day's shape and jobs of some hours on it."""
    chance = np.random.default_rng(seed)
    at = np.arange(steps) * minutes / 60.0
    hold = max(1, round(180 / minutes))
    jobs = np.repeat(chance.uniform(0.0, 60.0, steps // hold + 1), hold)[:steps]
    values: list[float] = (100.0 + 30.0 * np.sin((at - 8.0) * 2 * np.pi / 24) + jobs).round(3).tolist()
    return values


def write(path: Path, values: list[object], *, minutes: int = 15, start: datetime = START) -> Path:
    lines = ["time,load_kw"]
    for row, value in enumerate(values):
        lines.append(f"{(start + timedelta(minutes=minutes * row)).isoformat()},{value}")
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def write_prices(path: Path, values: list[float], *, start: datetime = START) -> Path:
    lines = ["time,usd_per_kwh"]
    for row, value in enumerate(values):
        lines.append(f"{(start + timedelta(hours=row)).isoformat()},{value}")
    path.write_text("\n".join(lines) + "\n")
    return path


def simulate(*words: object) -> Result:
    return CliRunner().invoke(main, ["simulate", "ess", *(str(word) for word in words)])


def answer(*words: object) -> Any:
    done = simulate(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@dataclass(kw_only=True)
class Rows:
    """The file of steps."""

    times: list[datetime]
    load: np.ndarray
    discharge: np.ndarray
    imported: np.ndarray
    soc: np.ndarray


def read_rows(path: Path) -> Rows:
    with path.open() as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == ["time", "load_watts", "ess_discharge_watts", "grid_import_watts", "soc_ratio"]

    def column(name: str) -> np.ndarray:
        return np.array([float(row[name]) for row in rows])

    return Rows(
        times=[datetime.fromisoformat(row["time"]) for row in rows],
        load=column("load_watts"),
        discharge=column("ess_discharge_watts"),
        imported=column("grid_import_watts"),
        soc=column("soc_ratio"),
    )


def check(found: Any, rows: Rows, *, tariff: Path | None = None, price: np.ndarray | None = None) -> None:
    """Import, charge and peaks follow from the rows; bills from the rows and the tariff."""
    summary, inputs = found["summary"], found["inputs"]
    power, energy = summary["ess_power_watts"], summary["ess_energy_kwh"]
    losses, hours = math.sqrt(inputs["round_trip_ratio"]), summary["step_seconds"] / 3600.0
    assert rows.imported == pytest.approx(rows.load - rows.discharge, abs=0.01)
    assert power == pytest.approx(inputs["ess_power_ratio"] * rows.load.max())
    assert energy == pytest.approx(power * inputs["ess_hours"] / 1000.0)
    assert np.abs(rows.discharge).max() <= power + 0.01
    assert rows.soc.min() >= 0.0 and rows.soc.max() <= 1.0
    out_kwh = rows.discharge * hours / 1000.0
    taken = np.where(out_kwh > 0.0, out_kwh / losses, out_kwh * losses)
    before = np.concatenate([[0.5], rows.soc[:-1]])
    if energy:
        assert before - rows.soc == pytest.approx(taken / energy, abs=1e-5)
    for month in found["months"]:
        at = np.array([time.strftime("%Y-%m") == month["month"] for time in rows.times])
        assert month["steps"] == at.sum()
        assert month["peak_without_watts"] == pytest.approx(rows.load[at].max(), abs=0.01)
        assert month["peak_with_watts"] == pytest.approx(rows.imported[at].max(), abs=0.01)
        assert month["peak_perfect_watts"] <= month["peak_without_watts"]
        assert month["lowest_soc_ratio"] == pytest.approx(rows.soc[at].min(), abs=1e-5)
        assert month["worst_step"]["grid_import_watts"] == month["peak_with_watts"]
        if energy:
            cycles = np.maximum(taken[at], 0.0).sum() / energy
            assert month["cycles"] == pytest.approx(cycles, abs=1e-4)
            possible = month["peak_without_watts"] - month["peak_perfect_watts"]
            reached = month["peak_without_watts"] - month["peak_with_watts"]
            assert month["peak_share"] == pytest.approx(reached / possible)
        if tariff is None:
            assert month["bill_without"] is month["bill_with"] is month["bill_perfect"] is None
            continue
        rules = read_billing_rules(tariff)
        for name, watts in (("bill_without", rows.load), ("bill_with", rows.imported)):
            local = [time.replace(tzinfo=None) for time, inside in zip(rows.times, at, strict=True) if inside]
            prices = None if price is None else price[at]
            whole = bill(rules, local, watts[at], 3600.0 * hours, prices)
            assert month[name] == pytest.approx(whole.total, rel=1e-5)
        assert month["bill_perfect"] <= month["bill_without"] + month["wear"] + 1e-6


@pytest.fixture(scope="module")
def whole_year_tariff(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tariff") / "tariff.toml"
    path.write_text(TARIFF)
    return path


@pytest.fixture(scope="module")
def hourly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From 1 February to 7 March, hourly: March begins 28 days after it does and counts."""
    path = tmp_path_factory.mktemp("series") / "hourly.csv"
    return write(path, [*kilowatts(HOURS, 60)], minutes=60, start=FEBRUARY)


@pytest.fixture(scope="module")
def weeks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty days: forecasts and trading for the last six, all in February."""
    return write(tmp_path_factory.mktemp("series") / "weeks.csv", [*kilowatts(20 * 24, 60)], minutes=60)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen days: forecasts and trading for the last two."""
    return write(tmp_path_factory.mktemp("series") / "short.csv", [*kilowatts(16 * 24, 60)], minutes=60)


def test_the_rows_of_hours_give_the_same_peaks(hourly: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    found = answer(hourly, *SIZE, "--out", out)
    assert [month["month"] for month in found["months"]] == ["2026-03"]
    assert found["inputs"]["history_days"] == 28.0 and found["inputs"]["seed"] is None
    assert found["summary"]["mean_peak_share"] > 0.0
    check(found, read_rows(out))


def test_the_rows_of_hours_give_the_same_bills(weeks: Path, whole_year_tariff: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    found = answer(weeks, *SIZE, *SHORT, "--tariff", whole_year_tariff, "--out", out)
    check(found, read_rows(out), tariff=whole_year_tariff)
    summary = found["summary"]
    assert summary["saving_share"] == pytest.approx(summary["saving"] / summary["perfect_saving"])
    # An afternoon that costs four times the night has to pay.
    assert summary["saving"] > 0.0 and found["months"][0]["cycles"] > 2.0


def test_json_is_all_there_is_on_stdout(short: Path, whole_year_tariff: Path) -> None:
    words = ["simulate", "ess", str(short), *SIZE, *SHORT, "--tariff", str(whole_year_tariff)]
    done = subprocess.run(
        [sys.executable, "-m", "slurm_power.cli.slurm_power", *words, "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {"inputs", "months", "summary"}
    assert "HiGHS" not in done.stdout + done.stderr


def test_the_same_input_gives_the_same_answer(short: Path) -> None:
    assert simulate(short, *SIZE, *SHORT, "--json").stdout == simulate(short, *SIZE, *SHORT, "--json").stdout


@pytest.mark.parametrize("minutes", [10, 15, 30])
def test_steps_of_other_lengths(minutes: int, tmp_path: Path, whole_year_tariff: Path) -> None:
    steps = 16 * 1440 // minutes
    series = write(tmp_path / "load.csv", [*kilowatts(steps, minutes)], minutes=minutes)
    out = tmp_path / "out.csv"
    found = answer(series, *SIZE, *SHORT, "--tariff", whole_year_tariff, "--out", out)
    assert found["summary"]["step_seconds"] == 60.0 * minutes
    check(found, read_rows(out), tariff=whole_year_tariff)


def test_steps_of_a_minute(tmp_path: Path) -> None:
    start = datetime(2026, 1, 30, 0, 7, tzinfo=UTC)
    series = write(tmp_path / "load.csv.gz", [*kilowatts(3 * 1440, 1)], minutes=1, start=start)
    out = tmp_path / "out.csv"
    found = answer(series, *SIZE, "--history", "1d", "--out", out)
    check(found, read_rows(out))


def test_watts_and_kilowatts_are_the_same_load(tmp_path: Path) -> None:
    load = kilowatts(16 * 24, 60)
    in_kw = write(tmp_path / "kw.csv", [*load], minutes=60)
    in_w = write(tmp_path / "w.csv.gz", [round(1000.0 * value, 1) for value in load], minutes=60)
    one = answer(in_kw, *SIZE, *SHORT)
    other = answer(in_w, *SIZE, *SHORT, "--unit", "W")
    assert one["months"] and one["months"] == other["months"]


def test_another_column_by_its_heading(tmp_path: Path) -> None:
    series = tmp_path / "load.csv"
    lines = ["time,temperature,load"]
    for row, value in enumerate(kilowatts(16 * 24, 60)):
        lines.append(f"{(START + timedelta(hours=row)).timestamp():.0f},20,{value}")
    series.write_text("\n".join(lines))
    found = answer(series, *SIZE, *SHORT, "--column", "load")
    assert found["months"][0]["peak_without_watts"] > 100_000.0


@pytest.mark.parametrize("size", [("0", "2"), ("0.15", "0")])
def test_an_ess_of_no_size_changes_nothing(
    size: tuple[str, str], tmp_path: Path, whole_year_tariff: Path
) -> None:
    series = write(tmp_path / "load.csv", [*kilowatts(16 * 24, 60)], minutes=60)
    out = tmp_path / "out.csv"
    words = ("--ess-power-ratio", size[0], "--ess-hours", size[1], "--tariff", whole_year_tariff)
    found = answer(series, *words, *SHORT, "--out", out)
    rows = read_rows(out)
    assert not rows.discharge.any() and not rows.soc.any()
    check(found, rows, tariff=whole_year_tariff)
    month = found["months"][0]
    assert month["peak_with_watts"] == month["peak_without_watts"] == month["peak_perfect_watts"]
    assert month["peak_share"] is month["saving_share"] is found["summary"]["saving_share"] is None
    assert simulate(series, *words, *SHORT).exit_code == 0


def test_negative_prices(weeks: Path, tmp_path: Path) -> None:
    tariff, out = tmp_path / "demand.toml", tmp_path / "out.csv"
    tariff.write_text(DEMAND_ONLY)
    price = 0.08 + 0.12 * np.sin((np.arange(20 * 24) - 14) * 2 * np.pi / 24)
    prices = write_prices(tmp_path / "prices.csv", price.round(4).tolist())
    found = answer(weeks, *SIZE, *SHORT, "--tariff", tariff, "--prices", prices, "--out", out)
    rows = read_rows(out)
    check(found, rows, tariff=tariff, price=price.round(4))
    assert found["summary"]["saving"] > 0.0
    # Of what it charges, most is charged below the middle price.
    charged = np.maximum(-rows.discharge, 0.0)[15 * 24 :]
    assert charged[price[15 * 24 :] < 0.08].sum() > 0.8 * charged.sum()


def test_gaps_are_bridged_and_told(tmp_path: Path) -> None:
    load: list[object] = [*kilowatts(16 * 24, 60)]
    load[0] = load[50] = load[51] = ""
    series, out = write(tmp_path / "load.csv", load, minutes=60), tmp_path / "out.csv"
    # Rows that are not there are gaps as well.
    lines = series.read_text().splitlines()
    series.write_text("\n".join(lines[:100] + lines[103:]) + "\n")
    done = simulate(series, *SIZE, *SHORT, "--out", out, "--json")
    assert done.exit_code == 0 and "6 steps have no value" in done.stderr
    rows = read_rows(out)
    assert len(rows.load) == 16 * 24
    assert rows.load[50] == rows.load[51] == rows.load[49] and rows.load[0] == rows.load[1]
    check(json.loads(done.stdout), rows)


def test_an_export_charges_nothing_into_the_grid(tmp_path: Path) -> None:
    load = np.array(kilowatts(16 * 24, 60))
    load[np.arange(len(load)) % 24 == 12] = -20.0
    series, out = write(tmp_path / "load.csv", load.tolist(), minutes=60), tmp_path / "out.csv"
    check(answer(series, *SIZE, *SHORT, "--out", out), read_rows(out))
    rows = read_rows(out)
    assert (rows.discharge[rows.load < 0.0] <= 0.0).all()


def test_text_has_a_line_for_each_month_that_counts(short: Path, whole_year_tariff: Path) -> None:
    text = simulate(short, *SIZE, *SHORT, "--tariff", whole_year_tariff).stdout
    for part in ("2026-02", "mean share of the perfect peak reduction", "with perfect foresight"):
        assert part in text
    assert "2026-01" not in text and "\u2026" not in text


def test_every_problem_is_told_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    load: list[object] = [*kilowatts(16 * 24, 60)]
    load[3], load[7] = "much", "1e99"
    series = write(tmp_path / "load.csv", load, minutes=60)
    tariff = tmp_path / "tariff.toml"
    tariff.write_text("nothing = 1\n")
    done = simulate(
        series,
        *("--ess-power-ratio", "-1", "--ess-hours", "nan", "--round-trip", "1.2", "--wear-per-kwh", "inf"),
        *("--tariff", tariff, "--out", tmp_path / "none" / "out.csv", "--json"),
    )
    assert done.exit_code == 2 and not done.stdout
    for part in (
        *("--ess-power-ratio", "--ess-hours", "--round-trip", "--wear-per-kwh", "--tariff", "--out"),
        *("row 5: value 'much'", "row 9: value '1e99'"),
    ):
        assert part in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["load.csv", "tariff.toml"]


def rows_of(*rows: str) -> str:
    return "time,kw\n" + "\n".join(rows) + "\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "row 1 has to name"),
        ("time,kw\n", "no rows"),
        (rows_of("2026-01-01,1", "2026-01-01T01:00,2"), "at least three rows"),
        (rows_of("2026-01-01T02:00,1", "2026-01-01T01:00,2", "2026-01-01T03:00,2"), "times have to rise"),
        (rows_of("2026-01-01T01:00,1", "2026-01-01T01:00,2", "2026-01-01T02:00,2"), "times have to rise"),
        (rows_of(*(f"2026-01-0{day},1" for day in range(1, 6))), "1 s to 1 h"),
        (rows_of(*(f"{1000 * row},1" for row in range(5))), "part a day evenly"),
        (rows_of("0,1", "900,2", "1800,3", "2500,4", "3600,5"), "row 5: not on the grid"),
        (rows_of("0,", "900,", "1800,nan"), "no value"),
        (rows_of("0,-1", "900,-2", "1800,0"), "no load is above 0"),
        (rows_of("0,1", "900,1", "1800,1", "90000,1", "90900,1"), "at most a fifth may be missing"),
        (rows_of("0,1", "1,1", "2,1", "9000000,1"), "more than"),
        (rows_of("0,1", "900,1", "1800,1"), "no calendar month begins 28 days"),
        (rows_of("0,1", "900,1,5", "1800,2"), "row 3: has 3 columns, row 1 names 2"),
        ("\x00\xff", ""),
    ],
)
def test_series_that_cannot_be_used(text: str, told: str, tmp_path: Path) -> None:
    series, out = tmp_path / "load.csv", tmp_path / "out.csv"
    series.write_bytes(text.encode("latin-1"))
    done = simulate(series, *SIZE, "--out", out)
    assert done.exit_code == 2, done.output
    assert told in done.stderr and done.stderr.startswith("error: ") and not done.stdout
    assert not out.exists()


def test_options_that_do_not_fit_each_other(tmp_path: Path) -> None:
    series = write(tmp_path / "load.csv", [*kilowatts(16 * 24, 60)], minutes=60)
    tariff, out = tmp_path / "demand.toml", tmp_path / "out.csv"
    tariff.write_text(DEMAND_ONLY)
    prices = write_prices(tmp_path / "prices.csv", [0.1] * (16 * 24))
    late = write_prices(tmp_path / "late.csv", [0.1] * 48, start=START + timedelta(days=300))
    for words, told in (
        (("--prices", prices), "--prices: needs --tariff"),
        (("--tariff", tariff), "no energy prices"),
        (("--tariff", tariff, "--prices", late), "other times"),
        (("--tariff", tmp_path / "none.toml"), "--tariff: "),
        (("--column", "load"), "no column 'load'"),
        (("--history", "300d"), "no calendar month begins 300 days"),
    ):
        done = simulate(series, *SIZE, *SHORT, *words, "--out", out)
        assert done.exit_code == 2 and told in done.stderr and not done.stdout, done.output
        assert not out.exists()
    done = simulate(tmp_path / "none.csv", *SIZE)
    assert done.exit_code == 2 and "No such file" in done.stderr
    done = simulate(series, *SIZE, *SHORT, "--out", tmp_path / "out.txt")
    assert done.exit_code == 2 and "has to end in .csv" in done.stderr
