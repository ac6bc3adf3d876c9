"""What powerctld says when it cannot start: exit 2, a sentence with the key, no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_power import clock
from slurm_power.controller.sensing.authority import make_authority
from slurm_power.store.private import lock_directory
from slurm_power.store.sqlite import SqliteStore
from tests.store.test_schema import files_of, stamp

SITE = """
[site]
name = "small"
[controller]
listen = "127.0.0.1:6820"
socket = "{folder}/ctl.sock"
state_directory = "{folder}/state"
tls_directory = "{folder}/tls"
[circuit.grid]
rating_watts = 60_000
limit_watts = 30_000
limit_kind = "economic"
nodes = ["c1"]
"""


def start(folder: Path) -> subprocess.CompletedProcess[str]:
    make_authority(folder / "tls", "small", ["127.0.0.1"], clock.now())
    file = folder / "site.toml"
    file.write_text(SITE.format(folder=folder))
    words = [sys.executable, "-m", "slurm_power.cli.powerctld", "--config", str(file)]
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("what", ["a file", "a broken ledger"])
def test_a_state_directory_that_cannot_be_used_is_named(tmp_path: Path, what: str) -> None:
    state = tmp_path / "state"
    if what == "a file":
        state.write_text("not a directory")
    else:
        state.mkdir()
        (state / "powerctld.sqlite").write_text("no database" * 1000)
    ended = start(tmp_path)
    assert ended.returncode == 2
    assert f"controller.state_directory: {state} cannot be used:" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_state_directory_that_another_has_is_left_alone(tmp_path: Path) -> None:
    lock = lock_directory(tmp_path / "state")
    try:
        ended = start(tmp_path)
    finally:
        os.close(lock)
    assert ended.returncode == 2
    assert "cannot be used: another powerctld has it" in ended.stderr
    assert not (tmp_path / "state" / "powerctld.sqlite").exists()


def test_a_ledger_of_a_newer_slurm_power_is_left_alone(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "state" / "powerctld.sqlite").close()
    stamp(tmp_path / "state" / "powerctld.sqlite", 4)
    before = files_of(tmp_path / "state")
    ended = start(tmp_path)
    assert ended.returncode == 2
    assert "controller.state_directory: " in ended.stderr and "has schema 4 of the ledger" in ended.stderr
    assert "Traceback" not in ended.stderr
    after = files_of(tmp_path / "state")
    assert {name: after[name] for name in before} == before
