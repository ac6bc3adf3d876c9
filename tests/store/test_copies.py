"""Copies of a state directory: made while it is written to, checked, and put back."""

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from slurm_power.ports import StoreError
from slurm_power.store.copies import MANIFEST, backup, check, restore, versions
from slurm_power.store.private import lock_directory
from slurm_power.store.series import SqliteSeries
from slurm_power.store.sqlite import SqliteStore
from tests.store.contract_ledger import entry
from tests.store.contract_series import START
from tests.store.test_schema import stamp


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "state"
    store, series = SqliteStore(folder / "powerctld.sqlite"), SqliteSeries(folder / "series.sqlite")
    for number in range(20):
        store.append(entry(number))
        series.add(START + timedelta(seconds=number), {"circuit.grid.watts": float(number)})
    store.put_job("17", {"user": "alice"})
    (folder / "holds.json").write_text('{"17": 60.0}')
    (folder / "forecaster").mkdir()
    (folder / "forecaster" / "grid.json").write_text("{}")
    (folder / "tls").mkdir()
    (folder / "tls" / "ca.key").write_text("secret")
    store.close()
    series.close()
    yield folder


def reasons(folder: Path) -> list[str]:
    store = SqliteStore(folder / "powerctld.sqlite", read_only=True)
    try:
        return [each.reason for each in store.entries()]
    finally:
        store.close()


def test_a_copy_is_of_one_moment_while_it_is_written_to(state: Path, tmp_path: Path) -> None:
    stop, failures = threading.Event(), []

    def write() -> None:
        lock = lock_directory(state)
        store = SqliteStore(state / "powerctld.sqlite")
        try:
            number = 20
            while not stop.is_set():
                store.append(entry(number))
                number += 1
        except sqlite3.Error as error:
            failures.append(error)
        finally:
            store.close()
            os.close(lock)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        manifests = [backup(state, tmp_path / f"copy{number}") for number in range(3)]
    finally:
        stop.set()
        writer.join()
    assert failures == []
    counts = [manifest["ledger"]["entries"] for manifest in manifests]
    assert counts[0] >= 20 and counts == sorted(counts)
    for number, manifest in enumerate(manifests):
        found = check(tmp_path / f"copy{number}")
        assert (found.problems, found.entries) == ((), manifest["ledger"]["entries"])
        assert found.last_hash == manifest["ledger"]["last_hash"]


def test_a_copy_holds_all_but_keys_and_what_runs(state: Path, tmp_path: Path) -> None:
    manifest = backup(state, tmp_path / "copy")
    assert set(manifest["files"]) == {
        "powerctld.sqlite",
        "series.sqlite",
        "holds.json",
        "forecaster/grid.json",
    }
    assert manifest["schemas"] == {"powerctld.sqlite": 3, "series.sqlite": 2}
    there = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in there} == {0o600}
    assert not any("secret" in path.read_text(errors="replace") for path in there)


def test_what_is_put_back_is_what_was_copied_and_what_was_there_is_kept(state: Path, tmp_path: Path) -> None:
    backup(state, tmp_path / "copy")
    store = SqliteStore(state / "powerctld.sqlite")
    store.append(entry(99))
    store.close()
    (state / "holds.json").write_text("{}")
    kept = restore(tmp_path / "copy", state)
    assert kept is not None and kept.parent == state
    assert len(reasons(state)) == 20 and len(reasons(kept)) == 21
    assert json.loads((state / "holds.json").read_text()) == {"17": 60.0}
    assert (state / "tls" / "ca.key").read_text() == "secret"
    again = SqliteStore(state / "powerctld.sqlite")
    again.append(entry(20))
    assert again.broken_at_sequence() is None
    again.close()
    assert restore(tmp_path / "copy", tmp_path / "elsewhere") is None
    assert len(reasons(tmp_path / "elsewhere")) == 20


def test_nothing_is_put_back_beside_a_running_powerctld(state: Path, tmp_path: Path) -> None:
    backup(state, tmp_path / "copy")
    lock = lock_directory(state)
    try:
        with pytest.raises(StoreError, match="another powerctld has it; stop powerctld first"):
            restore(tmp_path / "copy", state)
    finally:
        os.close(lock)
    assert len(reasons(state)) == 20
    assert not list(state.glob("before-restore-*"))


def test_a_copy_that_was_changed_is_found_and_not_put_back(state: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    backup(state, copy)
    with closing(sqlite3.connect(copy / "powerctld.sqlite")) as connection:
        connection.execute("UPDATE ledger SET reason = 'nothing happened' WHERE seq = 7")
        connection.commit()
    (copy / "holds.json").unlink()
    (copy / "more").write_text("x")
    problems = check(copy).problems
    assert any("entry 7 of the ledger" in problem for problem in problems)
    assert any("powerctld.sqlite: is not as the manifest says" in problem for problem in problems)
    assert any("holds.json: is in the manifest and not in the folder" in problem for problem in problems)
    assert any("more: is not in the manifest" in problem for problem in problems)
    with pytest.raises(StoreError, match="nothing was changed"):
        restore(copy, state)
    (copy / MANIFEST).unlink()
    with pytest.raises(StoreError, match="no copy that"):
        restore(copy, state)


def test_a_ledger_that_is_broken_already_makes_no_copy_that_looks_whole(state: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(state / "powerctld.sqlite")) as connection:
        connection.execute("DELETE FROM ledger WHERE seq = 3")
        connection.commit()
    with pytest.raises(StoreError, match=r"copy.partial: the copy is not whole: .*entry 3 of the ledger"):
        backup(state, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_what_cannot_be_copied_is_said(state: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for target, said in ((tmp_path / "there", "is there already"), (state / "copy", "lies inside")):
        with pytest.raises(StoreError, match=said):
            backup(state, target)
    with pytest.raises(StoreError, match="no store in this directory"):
        backup(tmp_path / "there", tmp_path / "copy")


def test_a_manifest_cannot_reach_outside(state: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    backup(state, copy)
    told = json.loads((copy / MANIFEST).read_text())
    told["files"]["../state/holds.json"] = told["files"]["holds.json"]
    (copy / MANIFEST).write_text(json.dumps(told))
    with pytest.raises(StoreError, match="not in this folder"):
        restore(copy, state)


def test_a_newer_copy_is_not_put_back(state: Path, tmp_path: Path) -> None:
    stamp(state / "powerctld.sqlite", 9)
    assert versions(state)[0].version == 9
    with pytest.raises(StoreError, match="has schema 9"):
        backup(state, tmp_path / "copy")
    assert any("newer than this slurm-power" in problem for problem in check(state).problems)
