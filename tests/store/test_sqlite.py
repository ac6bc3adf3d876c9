"""The ledger contract on the embedded store, and what only a file can do."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_power.store.sqlite import SqliteStore
from tests.store.contract_ledger import LedgerContract, Place, entry


class InAFile(Place):
    def __init__(self, file: Path) -> None:
        self.file = file

    def open(self) -> SqliteStore:
        return SqliteStore(self.file)

    def tamper(self, statement: str) -> None:
        with sqlite3.connect(self.file) as connection:
            connection.execute(statement)
        connection.close()


class TestSqlite(LedgerContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return InAFile(tmp_path / "s.sqlite")


def test_a_reader_sees_a_live_store(tmp_path: Path) -> None:
    writer = SqliteStore(tmp_path / "s.sqlite")
    writer.append(entry(0))
    reader = SqliteStore(tmp_path / "s.sqlite", read_only=True)
    writer.append(entry(1))
    assert len(reader.entries()) == 2
    with pytest.raises(sqlite3.OperationalError):
        reader.append(entry(2))
    reader.close()
    writer.close()


@pytest.mark.parametrize("watts", [-0.0, float("nan"), 7, -3.5])
def test_no_number_breaks_the_chain(tmp_path: Path, watts: float) -> None:
    """A file keeps neither minus zero nor what is no number."""
    store = SqliteStore(tmp_path / "s.sqlite")
    store.append(replace(entry(0), saved_watts=watts))
    store.append(entry(1))
    assert store.broken_at_sequence() is None
    store.close()
