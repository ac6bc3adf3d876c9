"""Drivers against real Modbus servers, beside a client that knows no model and no map and decodes by hand.

Both must read the same, charging must read negative, and a setpoint must end by itself when we fall silent:
that is seen by the other client alone, with the driver hung up.
"""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from pymodbus.client import AsyncModbusTcpClient

from slurm_power.config.devices import RegisterPcs
from slurm_power.config.register_map import map_file
from slurm_power.devices import build_driver
from slurm_power.devices.meter_sunspec import SunspecMeterDriver
from slurm_power.devices.pcs_register import RegisterPcsDriver
from slurm_power.devices.pcs_sunspec import SunspecPcsDriver
from slurm_power.model.reading import EssReading
from slurm_power.ports import Storage
from tests.devices import benches
from tests.devices.contract import until
from tests.devices.register_bench import Sungrow


class ByHand:
    """A plain Modbus client."""

    def __init__(self, client: AsyncModbusTcpClient) -> None:
        self.client = client

    async def registers(self, form: str, address: int, *, inputs: bool = False) -> tuple[int, ...]:
        """Big-endian numbers from an address on, ``form`` in the letters of struct."""
        count = struct.calcsize(f">{form}") // 2
        ask = self.client.read_input_registers if inputs else self.client.read_holding_registers
        reply = await ask(address, count=count, device_id=1)
        return struct.unpack(f">{form}", struct.pack(f">{count}H", *reply.registers))

    async def models(self) -> dict[int, int]:
        """Where each SunSpec model begins, from walking the chain."""
        assert bytes(await self.registers("4B", 40_000)) == b"SunS"
        found, address = {}, 40_002
        while (head := await self.registers("2H", address))[0] != 0xFFFF:
            found[head[0]] = address
            address += 2 + head[1]
        return found


@contextlib.asynccontextmanager
async def by_hand(port: int) -> AsyncIterator[ByHand]:
    client = AsyncModbusTcpClient("127.0.0.1", port=port)
    assert await client.connect()
    try:
        yield ByHand(client)
    finally:
        client.close()


async def rests(
    watts: Callable[[], Awaitable[float]], *, after_seconds: float, within_seconds: float
) -> None:
    """See power end by itself, not before its time."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while abs(await watts()) > 50.0:
        assert loop.time() - began < within_seconds, "the setpoint outlives its controller"
        await asyncio.sleep(0.05)
    assert loop.time() - began > after_seconds


def _gives(wanted_watts: float, reading: EssReading) -> bool:
    return abs(reading.discharge_watts - wanted_watts) < 1.0


async def command_and_fall_silent(driver: Storage, watts: Callable[[], Awaitable[float]]) -> None:
    """Both directions as both clients see them, then silence."""
    for wanted_watts in (3_000.0, -3_000.0):
        await driver.set_discharge(wanted_watts, 20)
        await until(driver, partial(_gives, wanted_watts), 8, "power")
        told_watts, seen_watts = (await driver.read()).discharge_watts, await watts()
        assert told_watts == pytest.approx(seen_watts, abs=2.0)
        assert (told_watts < 0.0) is (wanted_watts < 0.0), "charging reads negative"
    await driver.set_discharge(-3_000.0, 2)
    await driver.close()
    await rests(watts, after_seconds=1.0, within_seconds=8.0)


def test_sunspec_meter() -> None:
    async def run() -> None:
        port = benches.free_port()
        front = benches.meter_front(port)
        async with benches.serving(front), by_hand(port) as hand:
            driver = build_driver(benches.meter_config(port))
            assert isinstance(driver, SunspecMeterDriver)
            await driver.open()
            start = (await hand.models())[203]
            for watts in (18_340.0, -4_260.0, 0.0):
                benches.take(front, watts)
                power, scale = [(await hand.registers("h", start + at))[0] for at in (18, 22)]
                assert await driver.read_watts() == pytest.approx(power * 10.0**scale)
                assert power * 10.0**scale == pytest.approx(watts, abs=10.0)
            await driver.close()

    asyncio.run(run())


def test_sunspec_pcs() -> None:
    async def run() -> None:
        port = benches.free_port()
        async with benches.serving(benches.pcs_front(port)), by_hand(port) as hand:
            driver = build_driver(benches.pcs_config(port))
            assert isinstance(driver, SunspecPcsDriver)
            await driver.open()
            models = await hand.models()

            async def scaled(model: int, form: str, at: int, scale_at: int) -> float:
                (raw,) = await hand.registers(form, models[model] + at)
                (exponent,) = await hand.registers("h", models[model] + scale_at)
                return float(raw * 10.0**exponent)

            reading = await driver.read()
            assert reading.soc_ratio == pytest.approx(await scaled(713, "H", 4, 8) / 100, abs=0.0011)
            assert reading.soh_ratio == pytest.approx(await scaled(713, "H", 5, 8) / 100)
            assert reading.energy_rating_kwh == pytest.approx(await scaled(713, "H", 2, 7) / 1000)
            assert reading.max_charge_watts == pytest.approx(await scaled(702, "H", 34, 45))
            await command_and_fall_silent(driver, lambda: scaled(701, "h", 10, 116))
            assert await hand.registers("H", models[704] + 22) == (0,), "WSetEna"

    asyncio.run(run())


def test_register_map_pcs(tmp_path: Path) -> None:
    file = tmp_path / "sungrow.toml"
    file.write_text(map_file("sungrow_sh").read_text().replace("lowest = 10", "lowest = 1"))

    async def run() -> None:
        port = benches.free_port()
        config = RegisterPcs(
            name="battery",
            address=f"127.0.0.1:{port}",
            map=str(file),
            energy_rating_kwh=24.0,
            max_charge_watts=12_000.0,
            max_discharge_watts=12_000.0,
        )
        async with Sungrow(port), by_hand(port) as hand:
            driver = build_driver(config)
            assert isinstance(driver, RegisterPcsDriver)
            await driver.open()

            async def watts() -> float:
                (state,) = await hand.registers("H", 13_000, inputs=True)
                (magnitude,) = await hand.registers("H", 13_021, inputs=True)
                return -float(magnitude) if state & 2 else float(magnitude)

            charge, health = await hand.registers("2H", 13_022, inputs=True)
            reading = await driver.read()
            assert (reading.soc_ratio, reading.soh_ratio) == pytest.approx((charge / 1000, health / 1000))
            await command_and_fall_silent(driver, watts)
            assert await hand.registers("2H", 13_050) == (0xAA, 3_000), "its registers say otherwise"

    asyncio.run(run())
