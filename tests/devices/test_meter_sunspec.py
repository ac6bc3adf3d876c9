"""The SunSpec meter against the plant's meter and devices of other models."""

import asyncio
import contextlib
import socket

import pytest
from pymodbus.client import AsyncModbusTcpClient

from slurm_power.devices import build_driver
from slurm_power.devices.meter_sunspec import SunspecMeterDriver
from slurm_power.ports import DeviceError
from tests.devices import benches
from tests.devices.contract import check_meter, check_unreachable


def test_contract() -> None:
    async def run() -> None:
        port = benches.free_port()
        front = benches.meter_front(port)
        async with benches.serving(front):
            for watts in (23_450.0, 0.0, -7_000.0):
                benches.take(front, watts)
                driver = build_driver(benches.meter_config(port))
                assert isinstance(driver, SunspecMeterDriver)
                await check_meter(driver, lambda: watts, 10)  # noqa: B023  # used before watts changes

    asyncio.run(run())


def test_agrees_with_the_raw_registers() -> None:
    async def run() -> None:
        port = benches.free_port()
        front = benches.meter_front(port)
        async with benches.serving(front):
            benches.take(front, 23_456.0)
            client = AsyncModbusTcpClient("127.0.0.1", port=port)
            await client.connect()
            # SunS 2 words, model 1 is 2 + 66; W and W_SF are words 18 and 22 of model 203.
            start = 40000 + 2 + 68
            words = (await client.read_holding_registers(start, count=23, device_id=1)).registers
            client.close()
            assert words[0] == 203
            scale = words[22] - 65536 if words[22] > 32767 else words[22]
            driver = SunspecMeterDriver(benches.meter_config(port))
            assert await driver.read_watts() == pytest.approx(words[18] * 10.0**scale)
            await driver.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("model", "raw", "scale", "watts"),
    [
        (201, 1234, 0, 1234.0),
        (202, 1234, 1, 12340.0),
        (203, -500, 2, -50000.0),
        (204, 12345, -1, 1234.5),
        # 701 counts injection as positive: a battery-like site that exports 5 kW has import -5 kW.
        (701, 500, 1, -5000.0),
        (701, -2345, 1, 23450.0),
    ],
)
def test_signs_and_scales_of_each_model(model: int, raw: int, scale: int, watts: float) -> None:
    async def run() -> float:
        port = benches.free_port()
        async with benches.serving(benches.chain({1: {"DA": 1}, model: {"W": raw, "W_SF": scale}}, port)):
            driver = SunspecMeterDriver(benches.meter_config(port))
            await driver.open()
            read = await driver.read_watts()
            await driver.close()
            return read

    assert asyncio.run(run()) == pytest.approx(watts)


def test_refuses_what_is_no_meter() -> None:
    async def run() -> None:
        port = benches.free_port()
        async with benches.serving(benches.chain({1: {"DA": 1}, 713: {"SoC": 50}}, port)):
            driver = SunspecMeterDriver(benches.meter_config(port))
            with pytest.raises(DeviceError, match="grid-meter: no meter: has SunSpec models 1, 713"):
                await driver.open()
            await driver.close()

    asyncio.run(run())


@pytest.mark.parametrize("point", ["W", "W_SF"])
def test_no_value_is_no_zero(point: str) -> None:
    async def run() -> None:
        port = benches.free_port()
        front = benches.chain({1: {"DA": 1}, 203: {"W": 5, "W_SF": 0}}, port)
        front.image.put_not_implemented(203, point)
        async with benches.serving(front):
            driver = SunspecMeterDriver(benches.meter_config(port))
            with pytest.raises(DeviceError, match=r"grid-meter: 203\.W: the meter has no value"):
                await driver.open()
            await driver.close()

    asyncio.run(run())


def test_a_late_answer_is_never_taken_for_a_later_one() -> None:
    async def run() -> None:
        port = benches.free_port()
        front = benches.meter_front(port)
        async with benches.serving(front):
            benches.take(front, 11_110.0)
            driver = SunspecMeterDriver(benches.meter_config(port, timeout_seconds=0.2))
            await driver.open()
            front.set_fault("late", 0.3, None)
            with pytest.raises(DeviceError, match=r"no answer within 0\.2 s"):
                await driver.read_watts()
            front.clear_faults()
            # What was asked for above arrives now, or is on its way; the load has changed since.
            benches.take(front, 22_220.0)
            for _ in range(20):
                with contextlib.suppress(DeviceError):
                    assert abs(await driver.read_watts() - 22_220.0) <= 10
                await asyncio.sleep(0.02)
            assert abs(await driver.read_watts() - 22_220.0) <= 10
            await driver.close()

    asyncio.run(run())


def test_refused_connection_is_reported_at_once_and_heals() -> None:
    async def run() -> None:
        port = benches.free_port()
        driver = SunspecMeterDriver(benches.meter_config(port))
        await check_unreachable(driver.open, "grid-meter", 0.6)
        await check_unreachable(driver.read_watts, "grid-meter", 0.6)
        front = benches.meter_front(port)
        async with benches.serving(front):
            benches.take(front, 5_000.0)
            assert await _healed(driver) == pytest.approx(5_000, abs=10)
        await driver.close()

    asyncio.run(run())


def test_a_black_hole_ends_within_the_time_out() -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
            # Accepted by the kernel, answered by nobody.
            driver = SunspecMeterDriver(benches.meter_config(listener.getsockname()[1], 0.3))
            await check_unreachable(driver.open, "grid-meter: read of registers 40000", 0.5)
            await driver.close()

    asyncio.run(run())


def test_reconnects_after_the_device_has_restarted() -> None:
    async def run() -> None:
        port = benches.free_port()
        driver = SunspecMeterDriver(benches.meter_config(port))
        front = benches.meter_front(port)
        async with benches.serving(front):
            benches.take(front, 1_000.0)
            await driver.open()
        await check_unreachable(driver.read_watts, "grid-meter", 0.6)
        again = benches.meter_front(port)
        async with benches.serving(again):
            benches.take(again, 2_000.0)
            assert await _healed(driver) == pytest.approx(2_000, abs=10)
        await driver.close()

    asyncio.run(run())


def test_notices_that_the_layout_has_changed() -> None:
    async def run() -> None:
        port = benches.free_port()
        driver = SunspecMeterDriver(benches.meter_config(port))
        async with benches.serving(benches.chain({1: {"DA": 1}, 203: {"W": 7, "W_SF": 0}}, port)):
            await driver.open()
        moved = benches.chain({1: {"DA": 1}, 713: {"SoC": 1}, 203: {"W": 9, "W_SF": 0}}, port)
        async with benches.serving(moved):
            assert await _healed(driver) == 9.0
        await driver.close()

    asyncio.run(run())


async def _healed(driver: SunspecMeterDriver) -> float:
    """Read until it works; no value may be wrong on the way."""
    deadline = asyncio.get_running_loop().time() + 4
    while True:
        try:
            return await driver.read_watts()
        except DeviceError:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)
