"""A state directory's series as one: rows of an older version beside the ledger, and packed ones."""

import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from slurm_power import clock
from slurm_power.config.store import StoreConfig
from slurm_power.model.series import Resolution
from slurm_power.store.places import LEDGER_NAME, open_series_reader, open_series_writer
from slurm_power.store.sqlite import SqliteStore
from tests.store.contract_series import START, after

GRID = "circuit.grid.watts"


def with_old_samples(folder: Path, age: timedelta) -> None:
    SqliteStore(folder / LEDGER_NAME).close()
    with sqlite3.connect(folder / LEDGER_NAME) as connection:
        connection.execute(
            "CREATE TABLE sample (at REAL NOT NULL, name TEXT NOT NULL, value REAL, PRIMARY KEY (at, name))"
            " WITHOUT ROWID"
        )
        shift = (clock.now() - age - START).total_seconds() if age else 0.0
        connection.executemany(
            "INSERT INTO sample VALUES (?,?,?)",
            [
                (START.timestamp() + shift + second, GRID, None if second < 30 else 100.0 + second % 2)
                for second in range(60)
            ],
        )
    connection.close()


def test_old_and_new_series_are_read_as_one(tmp_path: Path) -> None:
    with_old_samples(tmp_path, timedelta())
    store = open_series_writer(StoreConfig(resolution_watts=1.0), tmp_path, "s")
    for second in range(60, 130):
        store.add(after(second), {GRID: 200.4, "gpu.c1.GPU-1.watts": 1.0})
    store.close()
    reader = open_series_reader(tmp_path)
    assert reader.names() == [GRID, "gpu.c1.GPU-1.watts"]
    points = reader.read([GRID])[GRID]
    assert [point.at_seconds - START.timestamp() for point in points] == list(range(130))
    assert [points[second].mean for second in (29, 30, 31, 60)] == [None, 100.0, 101.0, 200.0]
    old, new, running = reader.read([GRID], None, None, Resolution.MINUTE)[GRID]
    assert (old.mean, old.least, old.most, old.coverage_ratio) == (100.5, 100.0, 101.0, 0.5)
    assert (new.mean, new.coverage_ratio) == (200.0, 1.0)
    assert running.coverage_ratio == pytest.approx(10 / 60, abs=0.001)
    assert len(reader.read([GRID], after(10), after(70))[GRID]) == 60
    reader.close()


@pytest.mark.parametrize(("age", "kept"), [(timedelta(days=6), 60), (timedelta(days=8), 0)])
def test_old_samples_go_a_week_after_the_last(tmp_path: Path, age: timedelta, kept: int) -> None:
    with_old_samples(tmp_path, age)
    SqliteStore(tmp_path / LEDGER_NAME).close()
    reader = open_series_reader(tmp_path)
    assert len(reader.read([GRID])[GRID]) == kept
    reader.close()


def test_an_empty_directory_has_no_series(tmp_path: Path) -> None:
    reader = open_series_reader(tmp_path)
    assert (reader.names(), reader.read([GRID])) == ([], {GRID: []})
