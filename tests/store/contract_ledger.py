"""What every store of ledger and metadata promises; each engine's tests subclass it and open one."""

from abc import ABC, abstractmethod
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slurm_power.model.ledger import LedgerEntry
from slurm_power.ports import Store

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
        saved_watts=1200,  # an int on purpose: the chain must not depend on how an engine returns it
        details={"cap_watts": 500.0, "nested": {"b": [1, 2], "a": None}},
    )


class Place(ABC):
    """Where a store lies: opened as often as wanted, and tampered with."""

    @abstractmethod
    def open(self) -> Store: ...

    @abstractmethod
    def tamper(self, statement: str) -> None:
        """Do what no store of ours would, in SQL."""


class LedgerContract:
    """Entries are chained, durable and found again; jobs and small state are kept."""

    @pytest.fixture
    def place(self) -> Place:
        raise NotImplementedError

    def test_entries_come_back_as_written_and_survive_reopening(self, place: Place) -> None:
        store = place.open()
        written = [entry(0, "1"), entry(1, "2"), entry(2)]
        for one in written:
            store.append(one)
        store.close()
        again = place.open()
        assert list(again.entries()) == written
        assert list(again.entries(job_id="2")) == [written[1]]
        assert list(again.entries(since=AT + timedelta(seconds=1))) == written[1:]
        assert [sequence for sequence, _, _ in again.rows(1)] == [2, 3]
        again.append(entry(3))
        assert again.broken_at_sequence() is None
        assert again.checked_sequence == 4
        again.close()

    def test_what_is_hard_to_hold_comes_back_too(self, place: Place) -> None:
        store = place.open()
        hard = replace(
            entry(0, "1"),
            reason="NUL \0, half a pair \ud800, quote ' and % and {x}",
            details={"a\0b": float("inf"), "big": 2**70, "tiny": 1e-300},
            saved_watts=None,
            at=AT + timedelta(microseconds=1),
        )
        store.append(hard)
        store.put_jobs({"1": {"name": "NUL \0 \ud800", "energy_joules": float("inf")}})
        store.close()
        again = place.open()
        (found,) = again.entries()
        assert found == hard
        assert found.reason.startswith("NUL \0, half a pair \ufffd, quote ' and % and {x}")
        assert again.broken_at_sequence() is None
        assert again.job("1") == {"name": "NUL \0 \ud800", "energy_joules": float("inf")}
        again.close()

    @pytest.mark.parametrize(
        ("tampering", "broken_at"),
        [
            ("UPDATE ledger SET reason = 'nothing happened' WHERE seq = 2", 2),
            ("UPDATE ledger SET saved_watts = 0.0 WHERE seq = 3", 3),
            ("UPDATE ledger SET job_id = '7' WHERE seq = 3", 3),
            ("UPDATE ledger SET hash = 'x' WHERE seq = 3", 3),
            ("DELETE FROM ledger WHERE seq = 2", 2),
            ("DELETE FROM ledger WHERE seq = 1", 1),
            ("UPDATE ledger SET seq = 9 WHERE seq = 4", 4),
        ],
    )
    def test_tampering_breaks_the_chain(self, place: Place, tampering: str, broken_at: int) -> None:
        store = place.open()
        for number in range(4):
            store.append(entry(number))
        assert store.broken_at_sequence() is None
        store.close()
        place.tamper(tampering)
        again = place.open()
        assert again.broken_at_sequence() == broken_at
        again.close()

    def test_jobs_and_state(self, place: Place) -> None:
        store = place.open()
        store.put_jobs({"17": {"user": "alice"}, "18": {"user": "bob"}})
        store.put_jobs({"17": {"user": "alice", "energy_joules": 5.0}})
        assert store.jobs() == {"17": {"user": "alice", "energy_joules": 5.0}, "18": {"user": "bob"}}
        assert store.job("18") == {"user": "bob"}
        assert store.job("19") == {}
        store.put_jobs({})
        assert store.state("levers") is None
        assert store.state("levers", 3) == 3
        store.put_state("levers", {"caps": {}})
        store.put_state("levers", {"caps": {"1": 500.0}})
        store.close()
        again = place.open()
        assert again.state("levers") == {"caps": {"1": 500.0}}
        assert len(again.jobs()) == 2
        assert again.copy_problem == ""
        again.close()

    def test_users_are_given_their_own_entries_and_those_of_no_job(self, place: Place) -> None:
        store = place.open()
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
        assert list(store.rows(most=0)) == []
        store.close()

    def test_what_is_about_a_user_and_no_job_is_that_users_alone(self, place: Place) -> None:
        """A service's entries name its user, and no job."""
        store = place.open()
        for number, user in enumerate(("alice", "bob", None)):
            store.append(replace(entry(number, None), user=user))
        assert [sequence for sequence, _, _ in store.rows(visible_to="alice")] == [1, 3]
        assert [sequence for sequence, _, _ in store.rows(visible_to="bob", most=1)] == [2]
        assert [sequence for sequence, _, _ in store.rows(visible_to="carol", most=5)] == [3]
        store.close()

    def test_a_long_ledger_is_checked_piece_by_piece(self, place: Place) -> None:
        store = place.open()
        for number in range(10):
            store.append(entry(number))
        store.close()
        place.tamper("UPDATE ledger SET reason = 'nothing happened' WHERE seq = 8")
        again = place.open()
        assert [again.broken_at_sequence(3) for _ in range(4)] == [None, None, 8, 8]
        assert again.checked_sequence == 7
        again.close()
