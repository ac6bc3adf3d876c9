"""The keeper against a front that went mad, and against a fault that nobody has thought of."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_power.config.node_record import NodeConfig
from slurm_power.model.lease import Lever
from slurm_power.model.reading import CapReading
from slurm_power.model.site import LimitKind
from slurm_power.node.frames import Grant, Prove, encode_request
from slurm_power.node.keeper import Keeper
from tests.fakes import FakeGpus


class Surprising(FakeGpus):
    """A driver that fails in a way no driver should."""

    def read_cap(self, uuid: str) -> CapReading:  # noqa: ARG002  # the port has it
        raise ValueError("surprise")


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    slow = tmp_path / "bin" / "munge"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nsleep 1\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:/usr/bin:/bin")
    config = NodeConfig(node="c1", socket=tmp_path / "powerd.sock", state_directory=tmp_path)
    made = Keeper(config, Surprising("a"), [])
    yield made
    made._guardian.dismiss(5.0)


def test_a_front_that_asks_for_credentials_without_end_gets_one_at_a_time(keeper: Keeper) -> None:
    before = threading.active_count()
    for _ in range(300):
        keeper._hear(encode_request(Prove(digest="0" * 64)))
    assert threading.active_count() <= before + 1
    for _ in range(10):
        keeper._turn()
    assert not keeper._proving


def test_a_fault_of_a_lease_s_thread_ends_the_keeper_so_that_its_watchdog_restores(keeper: Keeper) -> None:
    grant = Grant(
        lease_id="L",
        uuid="a",
        lever=Lever.POWER_CAP,
        bound=400.0,
        ttl_seconds=5.0,
        kind=LimitKind.ECONOMIC,
        job_id="7",
        reason="peak",
    )
    keeper._hear(encode_request(grant))
    with pytest.raises(ValueError, match="surprise"):
        for _ in range(10):
            keeper._turn()
