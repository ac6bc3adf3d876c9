"""Many PDUs through a process of their own: values, errors, its death and its end."""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from containers.plant.pdu import Pdu
from slurm_power.config.devices import SnmpPdu
from slurm_power.devices.pdu_feed import PduFeed
from slurm_power.ports import DeviceError
from tests.devices import benches


def with_feed(
    configs: Callable[[int], list[SnmpPdu]], body: Callable[[PduFeed, Pdu], Awaitable[None]]
) -> None:
    async def run() -> None:
        port = benches.free_port(socket.SOCK_DGRAM)
        agent = benches.pdu(port)
        agent.take(4_560.0, 0.0)
        async with benches.serving(agent):
            await body(PduFeed(configs(port)), agent)

    asyncio.run(run())


def several(port: int, folder: Path) -> list[SnmpPdu]:
    """Two that answer, with different credentials, and one that nobody has."""
    v2c = replace(benches.pdu_v2c(port, 0.5), name="two", poll_seconds=0.25)
    v3 = replace(benches.pdu_v3(port, folder), name="three", poll_seconds=0.25)
    gone = replace(v2c, name="gone", address=f"127.0.0.1:{benches.free_port(socket.SOCK_DGRAM)}")
    return [v2c, v3, gone]


def reader_pid(feed: PduFeed) -> int:
    assert feed._process is not None
    return feed._process.pid


def test_values_and_errors_come_when_due_and_the_process_ends_with_its_last_meter(
    tmp_path: Path,
) -> None:
    async def body(feed: PduFeed, agent: Pdu) -> None:
        meters = [feed.meter(name) for name in ("two", "three", "gone")]
        for meter in meters[:2]:
            await meter.open()
            assert await meter.read_watts() == 4_560.0
        with pytest.raises(DeviceError, match=r"gone: .*no answer in time"):
            await meters[2].open()
        agent.take(7_890.0, 0.0)
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = [await meters[1].read_watts() for _ in range(5)]
        assert found[-1] == 7_890.0
        assert loop.time() - began > 0.6, "each value is given out once"
        pid = reader_pid(feed)
        for meter in meters:
            await meter.close()
            await meter.close()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    with_feed(lambda port: several(port, tmp_path), body)


def test_a_reader_that_is_killed_is_told_and_comes_back(tmp_path: Path) -> None:
    async def body(feed: PduFeed, _: Pdu) -> None:
        meter = feed.meter("two")
        await meter.open()
        await meter.read_watts()
        os.kill(reader_pid(feed), signal.SIGKILL)
        with pytest.raises(DeviceError, match="the reader of PDUs ended with -9"):
            for _attempt in range(3):  # a value may have been on its way
                await meter.read_watts()
        await meter.open()
        assert await meter.read_watts() == 4_560.0
        await meter.close()

    with_feed(lambda port: several(port, tmp_path), body)


def test_it_ends_when_its_starter_is_gone(tmp_path: Path) -> None:
    async def body(feed: PduFeed, agent: Pdu) -> None:
        assert agent is not None
        await feed.meter("two").open()
        process = feed._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()  # as the kernel does it for one that was killed
        assert await asyncio.wait_for(process.wait(), 5.0) == 0
        await feed.meter("two").close()

    with_feed(lambda port: several(port, tmp_path), body)
