"""The battery's temperature by each driver, and what a hot one leads to, over Modbus."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from containers.plant.modbus import ModbusFront
from containers.plant.sunspec import Image, Value
from slurm_power.config.devices import RegisterPcs, SunspecStorage
from slurm_power.devices import build_driver
from slurm_power.devices.pcs_register import RegisterPcsDriver
from slurm_power.devices.pcs_sunspec import SunspecPcsDriver
from slurm_power.devices.storage_sunspec import SunspecStorageDriver
from slurm_power.model.power_table import PowerTable
from slurm_power.model.site import Ess
from slurm_power.plan.ess_limits import NO_STOPS, Direction, heat_stops, limited
from tests.devices import benches
from tests.devices.register_bench import Sungrow
from tests.devices.storage_bench import MODELS, StorageFront

FADE = PowerTable(((40.0, 1.0), (50.0, 0.0)))
ESS = Ess(name="battery", circuit="grid", charge_power_by_celsius=FADE, discharge_power_by_celsius=FADE)


def test_the_simulated_pcs_heats_up_and_is_stopped_before_it_stops_itself() -> None:
    async def run() -> None:
        port = benches.free_port()
        front = benches.pcs_front(port)
        async with benches.serving(front):
            config = replace(benches.pcs_config(port), temperature_point="TmpCab")
            driver = SunspecPcsDriver(config)
            await driver.open()
            cool = await driver.read()
            assert cool.temperature_celsius == pytest.approx(front.pcs.temperature_celsius, abs=0.1)
            assert limited(ESS, cool) == cool
            watts = []
            for celsius in (45.0, 50.5):
                front.pcs.temperature_celsius = front.pcs.ambient_celsius = celsius
                hot = await driver.read()
                assert hot.temperature_celsius == pytest.approx(celsius, abs=0.2)
                watts.append(limited(ESS, hot, heat_stops(ESS, hot, NO_STOPS)).max_discharge_watts)
            assert watts[0] == pytest.approx(0.5 * cool.max_discharge_watts, rel=0.05)
            assert watts[1] == 0.0
            assert heat_stops(ESS, hot, NO_STOPS) == frozenset(Direction)
            # What is left is a setpoint that the device takes.
            await driver.set_discharge(watts[0], 3.0)
            await driver.release()
            await driver.close()

    asyncio.run(run())


def test_a_temperature_that_is_not_implemented_is_none() -> None:
    async def run() -> None:
        port = benches.free_port()
        front = benches.chain(benches.PCS_MODELS, port)
        async with benches.serving(front):
            driver = SunspecPcsDriver(replace(benches.pcs_config(port), temperature_point="TmpOt"))
            await driver.open()
            assert (await driver.read()).temperature_celsius is None
            await driver.close()
            silent = SunspecPcsDriver(benches.pcs_config(port))
            await silent.open()
            assert (await silent.read()).temperature_celsius is None
            await silent.close()

    asyncio.run(run())


def with_bank(models: Mapping[int, Mapping[str, Value]], raw_celsius: int) -> Image:
    """A device with model 803 at its end, of no strings: pysunspec2 makes none without telling how many."""
    image = Image(models)
    bank = [0] * 24
    # Points 2 and 21 after ID and length: ModTmpMax, and ModTmp_SF with tenths.
    bank[2], bank[21] = raw_celsius & 0xFFFF, 0xFFFF
    image.registers[-2:] = [803, len(bank), *bank, 0xFFFF, 0]
    return image


@pytest.mark.parametrize(("raw", "celsius"), [(412, 41.2), (-120, -12.0), (-0x8000, None), (32_000, None)])
def test_a_bank_says_its_hottest_module(raw: int, celsius: float | None) -> None:
    async def run() -> None:
        for models, older in ((benches.PCS_MODELS, False), (MODELS, True)):
            port = benches.free_port()
            async with benches.serving(ModbusFront(with_bank(models, raw), {}, "127.0.0.1", port)):
                driver: SunspecPcsDriver | SunspecStorageDriver
                if older:
                    driver = SunspecStorageDriver(SunspecStorage(name="battery", address=f"127.0.0.1:{port}"))
                else:
                    driver = SunspecPcsDriver(benches.pcs_config(port))
                await driver.open()
                assert (await driver.read()).temperature_celsius == celsius
                await driver.close()

    asyncio.run(run())


def test_an_older_device_without_a_bank_says_nothing() -> None:
    async def run() -> None:
        port = benches.free_port()
        async with benches.serving(StorageFront(port)):
            driver = SunspecStorageDriver(SunspecStorage(name="battery", address=f"127.0.0.1:{port}"))
            await driver.open()
            assert (await driver.read()).temperature_celsius is None
            await driver.close()

    asyncio.run(run())


def test_a_register_map_may_read_it(tmp_path: Path) -> None:
    shipped = Path("slurm_power/devices/maps/modbus/sungrow_sh.toml").read_text()
    own = tmp_path / "own.toml"
    own.write_text(f'{shipped}\n[read.temperature_celsius]\naddress = 13024\ntype = "i16"\nscale = 0.1\n')

    async def run() -> None:
        port = benches.free_port()
        async with Sungrow(port) as device:
            driver = build_driver(
                RegisterPcs(
                    name="battery",
                    address=f"127.0.0.1:{port}",
                    map=str(own),
                    energy_rating_kwh=9.6,
                    max_charge_watts=5_000.0,
                    max_discharge_watts=4_600.0,
                )
            )
            assert isinstance(driver, RegisterPcsDriver)
            await driver.open()
            for raw, celsius in ((235, 23.5), (-55, -5.5)):
                device[13024] = raw
                assert (await driver.read()).temperature_celsius == pytest.approx(celsius)
            await driver.close()

    asyncio.run(run())
