import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from slurm_power.model.ledger import LedgerEntry
from slurm_power.store.sqlite import SqliteStore

AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def entry(number: int, job_id: str | None = None) -> LedgerEntry:
    return LedgerEntry(
        at=AT + timedelta(seconds=number),
        actor="guard",
        kind="cap",
        subject=f"job:{job_id}",
        reason="grid must stay below 30.0 kW",
        job_id=job_id,
        user="alice",
        saved_watts=1200,  # an int on purpose: the chain must not depend on how SQLite returns it
        details={"cap_watts": 500.0, "nested": {"b": [1, 2], "a": None}},
    )


def test_entries_come_back_as_written_and_survive_reopening(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite")
    written = [entry(0, "1"), entry(1, "2"), entry(2)]
    for one in written:
        store.append(one)
    store.close()
    again = SqliteStore(tmp_path / "s.sqlite")
    assert again.entries() == written
    assert again.entries(job_id="2") == [written[1]]
    assert again.entries(since=AT + timedelta(seconds=1)) == written[1:]
    assert [sequence for sequence, _, _ in again.rows(1)] == [2, 3]
    again.append(entry(3))
    assert again.broken_at_sequence() is None
    again.close()


@pytest.mark.parametrize(
    ("tampering", "broken_at"),
    [
        ("UPDATE ledger SET reason = 'nothing happened' WHERE seq = 2", 2),
        ("UPDATE ledger SET saved_watts = 0.0 WHERE seq = 3", 3),
        ("DELETE FROM ledger WHERE seq = 2", 2),
        ("DELETE FROM ledger WHERE seq = 1", 1),
        ("UPDATE ledger SET seq = 9 WHERE seq = 4", 4),
    ],
)
def test_tampering_breaks_the_chain(tmp_path: Path, tampering: str, broken_at: int) -> None:
    store = SqliteStore(tmp_path / "s.sqlite")
    for number in range(4):
        store.append(entry(number))
    assert store.broken_at_sequence() is None
    store.close()
    with sqlite3.connect(tmp_path / "s.sqlite") as connection:
        connection.execute(tampering)
    connection.close()
    again = SqliteStore(tmp_path / "s.sqlite")
    assert again.broken_at_sequence() == broken_at
    again.close()


def test_jobs_and_state(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite")
    store.put_job("17", {"user": "alice"})
    store.put_job("17", {"user": "alice", "energy_joules": 5.0})
    assert store.jobs() == {"17": {"user": "alice", "energy_joules": 5.0}}
    assert store.state("levers") is None
    store.put_state("levers", {"caps": {}})
    assert store.state("levers") == {"caps": {}}
    store.close()


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


def test_users_are_given_their_own_entries_and_those_of_no_job(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite")
    for number in range(30):
        job_id, user = [("1", "alice"), ("2", "bob"), (None, None)][number % 3]
        store.append(replace(entry(number, job_id), user=user))

    def seen(**filters: Any) -> list[int]:
        return [sequence for sequence, _, _ in store.rows(visible_to="alice", **filters)]

    assert seen() == [n for n in range(1, 31) if n % 3 != 2]
    assert seen(most=5) == [1, 3, 4, 6, 7]
    assert seen(after_sequence=7, most=3) == [9, 10, 12]
    assert seen(since=AT + timedelta(seconds=27)) == [28, 30]
    assert seen(since=AT + timedelta(seconds=99)) == []
    assert seen(job_id="1", most=2) == [1, 4]
    assert seen(job_id="2") == []
    assert [sequence for sequence, _, _ in store.rows(28)] == [29, 30]
    store.close()


def test_a_long_ledger_is_checked_piece_by_piece(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite")
    for number in range(10):
        store.append(entry(number))
    store.close()
    with sqlite3.connect(tmp_path / "s.sqlite") as connection:
        connection.execute("UPDATE ledger SET reason = 'nothing happened' WHERE seq = 8")
    connection.close()
    again = SqliteStore(tmp_path / "s.sqlite")
    assert [again.broken_at_sequence(3) for _ in range(4)] == [None, None, 8, 8]
    assert again.checked_sequence == 7
    again.close()


def test_one_job_or_several(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite")
    store.put_jobs({"1": {"user": "alice"}, "2": {"user": "bob"}})
    assert store.job("2") == {"user": "bob"}
    assert store.job("3") == {}
    store.close()
