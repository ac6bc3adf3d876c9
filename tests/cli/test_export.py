"""``slurm-power export``: what was stored stands in the file, or nothing is written and it says why."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pyarrow import parquet

from slurm_power.cli.slurm_power import main
from slurm_power.store.series import SqliteSeries

START = datetime(2026, 1, 2, 3, 59, 0, tzinfo=UTC)


def files(folder: Path) -> list[str]:
    """What lies there beside SQLite's own log, which a reader may leave."""
    return sorted(path.name for path in folder.iterdir() if path.suffix not in {".sqlite-wal", ".sqlite-shm"})


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["export", *map(str, words)])


@pytest.fixture
def state(tmp_path: Path) -> Path:
    store = SqliteSeries(tmp_path / "series.sqlite")
    for second in range(180):
        store.add(
            START + timedelta(seconds=second),
            {
                "circuit.grid.watts": 20_000.0 + second,
                "gpu.c1.GPU-1.watts": None if second < 90 else 700.1,
                "ess.b.soc_ratio": 0.25,
            },
        )
    store.close()
    return tmp_path


def test_csv_has_a_row_a_moment_and_a_column_a_series(state: Path) -> None:
    out = state / "out.csv"
    result = run(
        "--state", state, "--out", out, "--since", "2026-01-02T03:59:58", "--until", "2026-01-02T04:01Z"
    )
    assert result.exit_code == 0, result.output
    assert result.output == f"wrote {out}: 62 rows of 3 series\n"
    rows = list(csv.DictReader(out.open()))
    assert list(rows[0]) == ["time_utc", "circuit.grid.watts", "ess.b.soc_ratio", "gpu.c1.GPU-1.watts"]
    assert list(rows[0].values()) == ["2026-01-02T03:59:58.000Z", "20058.0", "0.25", ""]
    assert list(rows[-1].values()) == ["2026-01-02T04:00:59.000Z", "20119.0", "0.25", "700.1"]
    assert files(state) == ["out.csv", "series.sqlite"]


def test_parquet_holds_the_same_with_units_in_the_names(state: Path) -> None:
    out = state / "out.parquet"
    words = ("--state", state, "--out", out, "--series", "gpu.*", "--series", "circuit.grid.watts")
    result = run(*words, "--since", "2026-01-02", "--until", "2026-01-03", "--resolution", "1min")
    assert result.exit_code == 0, result.output
    table = parquet.read_table(out)
    assert table.column_names == [
        "time_utc",
        *(f"circuit.grid.{word}_watts" for word in ("mean", "min", "max")),
        "circuit.grid.watts.coverage_ratio",
        *(f"gpu.c1.GPU-1.{word}_watts" for word in ("mean", "min", "max")),
        "gpu.c1.GPU-1.watts.coverage_ratio",
    ]
    first, second, third = table.to_pylist()
    assert first["time_utc"] == START
    assert (first["circuit.grid.mean_watts"], first["circuit.grid.max_watts"]) == (20_029.5, 20_059.0)
    assert (first["gpu.c1.GPU-1.mean_watts"], first["gpu.c1.GPU-1.watts.coverage_ratio"]) == (None, 0.0)
    assert (second["gpu.c1.GPU-1.mean_watts"], second["gpu.c1.GPU-1.watts.coverage_ratio"]) == (700.1, 0.5)
    assert third["gpu.c1.GPU-1.watts.coverage_ratio"] == 1.0


def test_raw_and_coarse_agree_across_slices(state: Path) -> None:
    for resolution, rows in (("raw", 180), ("1min", 3), ("15min", 2)):
        out = state / f"{resolution}.csv"
        result = run(
            "--state",
            state,
            "--out",
            out,
            "--since",
            START.isoformat(),
            "--until",
            "2027-01-01",
            "--resolution",
            resolution,
        )
        assert f"{rows} rows of 3 series" in result.output, result.output


def test_names_are_listed(state: Path) -> None:
    assert (
        run("--state", state, "--list", "--series", "*.watts").output
        == "circuit.grid.watts\ngpu.c1.GPU-1.watts\n"
    )


def test_all_problems_are_said_at_once_and_nothing_is_written(state: Path) -> None:
    result = run(
        "--state", state, "--out", state / "x.xls", "--series", "moon.*", "--since", "2h", "--until", "3h"
    )
    assert result.exit_code == 2
    for part in (
        "--out",
        "ends in neither of .csv, .parquet",
        "'moon.*'",
        "--since",
        "is not before --until",
    ):
        assert part in result.output
    assert files(state) == ["series.sqlite"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--since", "yesterday", "--out", "x.csv"), "is no moment"),
        (("--since", "9" * 30 + "d", "--out", "x.csv"), "too long ago"),
        (("--since", "0001-01-01T00:00+14:00", "--out", "x.csv"), "is no moment"),
        ((), "--out: missing"),
        (("--out", "/nowhere/x.csv"), "there is no folder /nowhere"),
    ],
)
def test_bad_input_is_named(state: Path, words: tuple[str, ...], said: str) -> None:
    result = run("--state", state, *words)
    assert (result.exit_code, said in result.output) == (2, True), result.output


def test_a_failure_in_between_leaves_the_old_file(state: Path) -> None:
    out = state / "out.csv"
    out.write_text("old")
    (state / "series.sqlite").write_bytes((state / "series.sqlite").read_bytes()[:9000])
    result = run("--state", state, "--out", out, "--since", START.isoformat())
    assert result.exit_code == 1
    assert "series.sqlite" in result.output
    assert out.read_text() == "old"
    assert files(state) == ["out.csv", "series.sqlite"]


def test_an_empty_folder_has_no_series(tmp_path: Path) -> None:
    result = run("--state", tmp_path, "--list")
    assert (result.exit_code, "has no series" in result.output) == (2, True)
