"""Who may read the state directory of powerctld: its owner, whatever the umask."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_power.store.series import SqliteSeries
from slurm_power.store.sqlite import SqliteStore
from tests.store.contract_ledger import entry
from tests.store.contract_series import START


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_nobody_else_reads_what_is_stored(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    store, series = SqliteStore(folder / "powerctld.sqlite"), SqliteSeries(folder / "series.sqlite")
    store.append(entry(0))
    series.add(START, {"circuit.grid.watts": 1.0})
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()}
    assert len(modes) >= 4  # the write-ahead logs among them
    assert set(modes.values()) == {"0o600"}, modes
    assert folder.stat().st_mode & 0o777 == 0o700
    store.close()
    series.close()


@pytest.mark.usefixtures("open_umask")
def test_a_store_that_was_opened_to_a_group_stays_so(tmp_path: Path) -> None:
    file = tmp_path / "powerctld.sqlite"
    SqliteStore(file).close()
    file.chmod(0o640)
    store = SqliteStore(file)
    store.append(entry(0))
    assert file.stat().st_mode & 0o777 == 0o640
    store.close()
