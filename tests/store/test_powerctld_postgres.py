"""powerctld itself with a copy of its ledger in PostgreSQL: started, killed, and refused beside another."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from containers.demo.stage import ask
from containers.faults.node import wait_until as until
from slurm_power import clock
from slurm_power.controller.sensing.authority import make_authority
from slurm_power.store.places import LEDGER_NAME
from slurm_power.store.sqlite import SqliteStore
from tests.store.test_postgres import Postgres, copied, postgres

__all__ = ["postgres"]  # the fixture

SITE = """
[site]
name = "lab"
[controller]
listen = "127.0.0.1:{port}"
socket = "{folder}/socket"
state_directory = "{folder}/state"
tls_directory = "{folder}/tls"
slurm_conf = "{folder}/slurm.conf"
[store]
ledger_url = "{url}"
[circuit.grid]
rating_watts = 60_000
limit_watts = 30_000
limit_kind = "economic"
nodes = ["c1"]
"""


class Host:
    """A folder that a powerctld runs from."""

    def __init__(self, folder: Path, url: str) -> None:
        folder.mkdir()
        self.folder, self.socket = folder, folder / "socket"
        make_authority(folder / "tls", "lab", ["localhost"], clock.now())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.file = folder / "site.toml"
        self.file.write_text(SITE.format(port=port, folder=folder, url=url))

    def spawn(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "slurm_power.cli.powerctld", "--config", str(self.file)]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(words, stdout=log, stderr=log)

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Killed at the end, as a power cut does it."""
        self.socket.unlink(missing_ok=True)
        process = self.spawn()
        try:
            until(self._answers, "powerctld's answer")
            yield process
        finally:
            process.kill()
            process.wait(10.0)

    def _answers(self) -> bool:
        try:
            return bool(ask(self.socket, {"op": "status"}))
        except OSError:  # its file is there before anybody listens
            return False

    def control(self, *, enabled: bool) -> None:
        assert ask(self.socket, {"op": "control", "enabled": enabled, "reason": "asked for"})["ok"]

    def reasons(self) -> list[str]:
        local = SqliteStore(self.folder / "state" / LEDGER_NAME, read_only=True)
        try:
            return [entry.reason for entry in local.entries()]
        finally:
            local.close()


@pytest.fixture
def host(postgres: Postgres, tmp_path: Path) -> Host:
    return Host(tmp_path / "host", postgres.new_database())


def address(host: Host) -> str:
    return host.file.read_text().split('ledger_url = "')[1].split('"')[0]


def test_killed_together_they_agree_again(postgres: Postgres, host: Host) -> None:
    url = address(host)
    with host.running():
        host.control(enabled=False)
        until(lambda: len(copied(url)) > 0 and copied(url) == host.reasons(), "the copy")
        postgres.kill()
        before = len(host.reasons())
        host.control(enabled=True)
        host.control(enabled=False)
        until(lambda: len(host.reasons()) >= before + 2, "entries without the server")
    written = host.reasons()
    postgres.start()
    assert len(copied(url)) < len(written)
    with host.running():
        until(lambda: copied(url)[: len(written)] == written, "the rest")


def test_a_second_one_is_refused_and_changes_nothing(host: Host, tmp_path: Path) -> None:
    url = address(host)
    with host.running():
        host.control(enabled=False)
        until(lambda: copied(url) == host.reasons(), "the copy")
        second = Host(tmp_path / "second", url)
        assert second.spawn().wait(20.0) == 2
        text = (second.folder / "log").read_text()
        assert "store.ledger_url: another powerctld writes to this database" in text
        assert second.reasons() == []
        assert not second.socket.exists()
