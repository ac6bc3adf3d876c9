"""Inverters whose registers wear out: an equal setpoint is spared, but never one that may be forgotten."""

import asyncio
from pathlib import Path

import pytest

from slurm_power.config.devices import RegisterPcs
from slurm_power.config.register_map import map_file
from slurm_power.devices.pcs_register import RegisterPcsDriver
from slurm_power.ports import DeviceError
from tests.devices import benches
from tests.devices.register_bench import Registers

WRITES_OF_A_SETPOINT = 5


@pytest.fixture
def wearing(tmp_path: Path) -> str:
    """The map of an SMA, as if its registers were an EEPROM."""
    text = map_file("sma_sunny_boy_storage").read_text()
    file = tmp_path / "eeprom.toml"
    file.write_text(text.replace("watchdog_seconds = 60", "watchdog_seconds = 60\nequal_write_seconds = 20"))
    return str(file)


def sma(port: int) -> Registers:
    return Registers(30_700, 10_200, port, {30846: 55})


def driver_for(port: int, name: str) -> RegisterPcsDriver:
    config = RegisterPcs(
        name="battery",
        address=f"127.0.0.1:{port}",
        map=name,
        energy_rating_kwh=24.0,
        max_charge_watts=12_000.0,
        max_discharge_watts=12_000.0,
    )
    return RegisterPcsDriver(config)


def test_an_equal_setpoint_is_not_written_again_before_its_time(wearing: str) -> None:
    async def run() -> None:
        port = benches.free_port()
        async with sma(port) as device:
            driver = driver_for(port, wearing)
            await driver.set_discharge(1_000.0, 30)
            assert len(device.written) == WRITES_OF_A_SETPOINT
            await driver.set_discharge(1_000.0, 30)
            assert len(device.written) == WRITES_OF_A_SETPOINT
            await driver.close()  # it may forget meanwhile
            await driver.set_discharge(1_000.0, 30)
            assert len(device.written) == 2 * WRITES_OF_A_SETPOINT
            await driver.close()

    asyncio.run(run())


def test_a_device_that_was_away_is_told_everything_again(wearing: str) -> None:
    async def run() -> None:
        port = benches.free_port()
        driver = driver_for(port, wearing)
        async with sma(port):
            await driver.set_discharge(1_000.0, 30)
        with pytest.raises(DeviceError):
            await driver.read()
        async with sma(port) as restarted:
            await driver.set_discharge(1_000.0, 30)
            assert len(restarted.written) == WRITES_OF_A_SETPOINT
            await driver.close()

    asyncio.run(run())
