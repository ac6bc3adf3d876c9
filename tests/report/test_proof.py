"""The proof of a ledger: it finds every row that was altered, removed, inserted or cut off."""

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main
from slurm_power.model.ledger import LedgerEntry
from slurm_power.report.audit.proof import chain_proof
from slurm_power.store.sqlite import SqliteStore

START = datetime(2026, 11, 1, tzinfo=UTC)
# With all later entries moved into the place of the one before, or behind.
REMOVED = """
    DELETE FROM ledger WHERE seq = 7;
    UPDATE ledger SET seq = -seq WHERE seq > 7;
    UPDATE ledger SET seq = -seq - 1 WHERE seq < 0;
"""
INSERTED = """
    UPDATE ledger SET seq = -seq WHERE seq > 7;
    UPDATE ledger SET seq = -seq + 1 WHERE seq < 0;
    INSERT INTO ledger
    SELECT 8, at, actor, kind, subject, reason, job_id, user, saved_watts, details, hash
    FROM ledger WHERE seq = 7;
"""


def proof(state: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["report", "proof", "--state", str(state), *arguments])


@pytest.fixture
def state(tmp_path: Path) -> Path:
    store = SqliteStore(tmp_path / "powerctld.sqlite")
    for number in range(20):
        at = START + timedelta(seconds=number)
        store.append(
            LedgerEntry(
                at=at, actor="guard", kind="cap", subject=f"job:{number}", reason="r", details={"n": number}
            )
        )
    store.close()
    return tmp_path


def test_a_whole_chain(state: Path) -> None:
    store = SqliteStore(state / "powerctld.sqlite", read_only=True)
    found = chain_proof(store.rows())
    hashes = [stored for _, _, stored in store.rows()]
    store.close()
    assert found.whole
    assert (found.entries, found.first_at, found.last_at) == (20, START, START + timedelta(seconds=19))
    assert (found.first_hash, found.last_hash) == (hashes[0], hashes[-1])
    result = proof(state)
    assert result.exit_code == 0
    assert "The ledger is whole: 20 entries" in result.output
    assert hashes[0] in result.output and hashes[-1] in result.output


def test_no_entry_yet(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "powerctld.sqlite").close()
    result = proof(tmp_path)
    assert (result.exit_code, result.output.splitlines()[0]) == (0, "The ledger has no entry.")


@pytest.mark.parametrize(
    ("tampering", "broken"),
    [
        ("UPDATE ledger SET reason = 'other' WHERE seq = 7", 7),
        ("UPDATE ledger SET at = '2026-11-01T00:00:06.5+00:00' WHERE seq = 7", 7),
        ("UPDATE ledger SET saved_watts = 1.0 WHERE seq = 1", 1),
        ("UPDATE ledger SET details = 'no json' WHERE seq = 7", 7),
        ("UPDATE ledger SET at = 'never' WHERE seq = 20", 20),
        ("UPDATE ledger SET hash = 'x' WHERE seq = 20", 20),
        ("DELETE FROM ledger WHERE seq = 7", 7),
        ("DELETE FROM ledger WHERE seq = 1", 1),
        (REMOVED, 7),
        (INSERTED, 8),
        ("UPDATE ledger SET seq = 100 WHERE seq = 3; UPDATE ledger SET seq = 3 WHERE seq = 4", 3),
    ],
)
def test_the_first_row_that_is_not_in_order_is_named(state: Path, tampering: str, broken: int) -> None:
    with sqlite3.connect(state / "powerctld.sqlite") as connection:
        connection.executescript(tampering)
    connection.close()
    result = proof(state, "--json")
    assert result.exit_code == 1
    told = json.loads(result.output)
    assert (told["whole"], told["broken_at_sequence"], told["entries"]) == (False, broken, broken - 1)
    words = proof(state)
    assert words.exit_code == 1
    assert f"NOT whole: entry {broken} was altered, removed or inserted" in words.output


def test_an_end_that_was_cut_off_is_found_with_an_earlier_hash(state: Path) -> None:
    noted = json.loads(proof(state, "--json").output)["last_hash"]
    assert proof(state, "--since-hash", noted).exit_code == 0
    with sqlite3.connect(state / "powerctld.sqlite") as connection:
        connection.execute("DELETE FROM ledger WHERE seq > 15")
    connection.close()
    assert proof(state).exit_code == 0  # nobody could tell
    result = proof(state, "--since-hash", f" {noted.upper()}")
    assert result.exit_code == 1
    assert "cut off or written anew" in result.output


def test_later_entries_do_not_matter_to_an_earlier_hash(state: Path) -> None:
    noted = json.loads(proof(state, "--json").output)["last_hash"]
    store = SqliteStore(state / "powerctld.sqlite")
    store.append(LedgerEntry(at=START + timedelta(hours=1), actor="a", kind="k", subject="s", reason="r"))
    store.close()
    result = proof(state, "--since-hash", noted)
    assert result.exit_code == 0
    assert "is that of entry 20" in result.output


def test_what_is_no_hash_or_no_state_is_refused(state: Path, tmp_path: Path) -> None:
    assert proof(state, "--since-hash", "12").exit_code == 2
    assert proof(tmp_path / "none").exit_code == 2
    (tmp_path / "empty").mkdir()
    assert "there is no store" in proof(tmp_path / "empty").output
    (tmp_path / "empty/powerctld.sqlite").write_bytes(b"no database at all, but long enough" * 50)
    result = proof(tmp_path / "empty")
    assert (result.exit_code, "not a database" in result.output) == (1, True)


def test_the_proof_as_a_page(state: Path, tmp_path: Path) -> None:
    out = tmp_path / "proof.html"
    done = proof(state, "--out", str(out))
    assert (done.exit_code, done.output) == (0, f"wrote {out}\n")
    page = out.read_text()
    assert "The ledger is whole" in page and "20 entries in order" in page and "Last entry" in page
    assert proof(state, "--table", "x").exit_code == 2
    with sqlite3.connect(state / "powerctld.sqlite") as connection:
        connection.execute("UPDATE ledger SET reason = 'better' WHERE seq = 7")
    done = proof(state, "--out", str(out))
    assert done.exit_code == 1
    assert "entry 7 was altered, removed or inserted" in out.read_text()
