"""slurm-power store: what it prints, and how it ends."""

import json
import os
from pathlib import Path

import pytest

from slurm_power.store.private import lock_directory
from slurm_power.store.sqlite import SqliteStore
from tests.cli.test_slurm_power import run
from tests.store.contract_ledger import entry
from tests.store.earlier import earlier_ledger
from tests.store.test_schema import stamp


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    store = SqliteStore(folder / "powerctld.sqlite")
    for number in range(3):
        store.append(entry(number))
    store.close()
    return folder


def test_the_whole_round(state: Path, tmp_path: Path) -> None:
    said = run("store", "version", "--state", state)
    assert (said.exit_code, said.output) == (0, "powerctld.sqlite: schema 3, as this slurm-power writes it\n")
    said = run("store", "backup", "--state", state, "--to", tmp_path / "copy")
    assert said.exit_code == 0 and "1 files, " in said.output and "3 ledger entries" in said.output
    said = run("store", "check", "--state", tmp_path / "copy")
    assert said.exit_code == 0 and said.output.startswith("whole: 3 ledger entries, the last is ")
    lock = lock_directory(state)
    said = run("store", "restore", "--state", state, "--from", tmp_path / "copy")
    os.close(lock)
    assert said.exit_code == 2 and "stop powerctld first, nothing was changed" in said.output
    said = run("store", "restore", "--state", state, "--from", tmp_path / "copy")
    assert said.exit_code == 0 and "what was there is in" in said.output
    said = run("store", "check", "--state", state, "--json")
    assert json.loads(said.output)["whole"] is True


def test_older_and_newer_files_are_told_apart(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    earlier_ledger(old / "powerctld.sqlite", 1)
    said = run("store", "version", "--state", old)
    assert said.exit_code == 0 and "schema 1, becomes 3 at powerctld's next start" in said.output
    SqliteStore(new / "powerctld.sqlite").close()
    stamp(new / "powerctld.sqlite", 4)
    said = run("store", "version", "--state", new, "--json")
    assert (said.exit_code, json.loads(said.output)) == (1, {"powerctld.sqlite": {"schema": 4, "known": 3}})


def test_what_cannot_be_is_said(state: Path, tmp_path: Path) -> None:
    said = run("store", "version", "--state", tmp_path)
    assert said.exit_code == 1 and "no store in this directory" in said.output
    said = run("store", "backup", "--state", state, "--to", state)
    assert said.exit_code == 2 and "is there already" in said.output
    (state / "powerctld.sqlite").write_bytes(b"\0" * 4096)
    said = run("store", "check", "--state", state)
    assert said.exit_code == 1 and "not a database" in said.output
