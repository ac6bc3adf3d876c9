"""From each earlier form of the files to today's, with nothing lost; newer ones are not touched."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from slurm_power import clock
from slurm_power.ports import StoreError
from slurm_power.store.copies import file_sha256
from slurm_power.store.places import open_series_reader
from slurm_power.store.reading import SeriesReading
from slurm_power.store.schema import LEDGER, SERIES, NewerSchemaError, bring_up_to_date, stored_version
from slurm_power.store.series import SqliteSeries
from slurm_power.store.sqlite import SqliteStore
from tests.store.contract_ledger import entry
from tests.store.contract_series import START
from tests.store.earlier import LEDGERS, REASONS, earlier_ledger, earlier_series


def version_in(file: Path) -> int:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def stamp(file: Path, version: int) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def files_of(folder: Path) -> dict[str, str]:
    return {
        path.name: file_sha256(path) for path in folder.iterdir() if not path.name.endswith(("-shm", "-wal"))
    }


@pytest.mark.parametrize("version", sorted(LEDGERS))
def test_a_ledger_of_each_earlier_version_goes_on(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A day later: series of the first version are kept for a week.
    monkeypatch.setattr(clock, "now", lambda: START + timedelta(days=1))
    file = tmp_path / "powerctld.sqlite"
    earlier_ledger(file, version)
    store = SqliteStore(file)
    kept = store.entries()
    assert [each.reason for each in kept[:3]] == list(REASONS)
    assert kept[3].kind == "migration" and kept[3].details == {"from_version": version, "to_version": 3}
    assert store.broken_at_sequence() is None
    assert store.job("17") == {"user": "alice", "seconds": 20.0}
    assert store.state("fairness") == {"users": {}}
    store.append(entry(0))
    store.close()
    assert version_in(file) == LEDGER.version
    if version == 1:
        reader = open_series_reader(tmp_path)
        points = reader.read(["circuit.grid.watts"])["circuit.grid.watts"]
        reader.close()
        assert [point.mean for point in points] == [900.0 + second for second in range(10)]
    again = SqliteStore(file)
    assert len(again.entries()) == 5  # it is not migrated twice
    again.close()


@pytest.mark.parametrize("version", sorted(LEDGERS))
def test_what_was_there_before_is_kept_and_goes_back_to_the_older_program(
    tmp_path: Path, version: int
) -> None:
    file = tmp_path / "powerctld.sqlite"
    earlier_ledger(file, version)
    SqliteStore(file).close()
    copy = tmp_path / "powerctld.sqlite.before-schema-3"
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as connection:
        connection.executescript(LEDGERS[version])  # as the older program opens it
        assert connection.execute("PRAGMA user_version").fetchone() == (0,)
        assert [reason for (reason,) in connection.execute("SELECT reason FROM ledger ORDER BY seq")] == list(
            REASONS
        )
        assert stored_version(connection, LEDGER) == version


def test_series_without_a_number_get_one_and_go_on(tmp_path: Path) -> None:
    file = tmp_path / "series.sqlite"
    earlier_series(file)
    series = SqliteSeries(file)
    series.add(START + timedelta(seconds=130), {"circuit.grid.watts": 7.0})
    found = series.read(["circuit.grid.watts"])["circuit.grid.watts"]
    series.close()
    assert [point.mean for point in found] == [*(1000.0 + second for second in range(130)), 7.0]
    assert version_in(file) == SERIES.version
    assert list(tmp_path.glob("*before-schema*")) == []  # no row is changed: nothing to keep


@pytest.mark.parametrize(
    ("name", "opened"),
    [
        ("powerctld.sqlite", SqliteStore),
        ("powerctld.sqlite", lambda file: SqliteStore(file, read_only=True)),
        ("series.sqlite", SqliteSeries),
        ("series.sqlite", SeriesReading.open),
    ],
)
def test_a_newer_file_is_refused_and_not_touched(tmp_path: Path, name: str, opened: Any) -> None:
    file = tmp_path / name
    (SqliteStore if name.startswith("powerctld") else SqliteSeries)(file).close()
    stamp(file, 9)
    before = files_of(tmp_path)
    with pytest.raises(
        NewerSchemaError, match=r"has schema 9 .* knows [23]: install the newer slurm-power again"
    ):
        opened(file)
    assert files_of(tmp_path) == before


def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "s.sqlite"
    SqliteStore(file).close()
    four = replace(
        LEDGER,
        version=5,
        steps={3: ("ALTER TABLE job ADD COLUMN site TEXT",), 4: ("INSERT INTO nowhere VALUES (1)",)},
    )
    with closing(sqlite3.connect(file)) as connection:
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            bring_up_to_date(connection, four, file)
        assert stored_version(connection, four) == 3
        assert "site" not in [row[1] for row in connection.execute("PRAGMA table_info(job)")]
        good = replace(four, steps={3: four.steps[3], 4: ("CREATE INDEX job_site ON job (site)",)})
        assert bring_up_to_date(connection, good, file) == 3
        assert stored_version(connection, good) == 5
        assert "site" in [row[1] for row in connection.execute("PRAGMA table_info(job)")]


def test_no_room_for_the_copy_is_said_and_nothing_is_changed(tmp_path: Path) -> None:
    file = tmp_path / "powerctld.sqlite"
    earlier_ledger(file, 2)
    (tmp_path / "powerctld.sqlite.before-schema-3.partial").mkdir()  # in the way, as a full disk is
    with pytest.raises(OSError, match="partial"):
        SqliteStore(file)
    assert version_in(file) == 0
    (tmp_path / "powerctld.sqlite.before-schema-3.partial").rmdir()
    SqliteStore(file).close()
    assert version_in(file) == 3


def test_a_file_that_is_no_database_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "series.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(StoreError, match="not a database"):
        SqliteSeries(tmp_path / "series.sqlite")
