"""Meters and battery inverters with register maps, against Modbus servers written without our maps."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pymodbus.client import AsyncModbusTcpClient

from slurm_power import clock
from slurm_power.config.devices import RegisterMeter, RegisterPcs
from slurm_power.config.register_map import map_file
from slurm_power.controller.storage.commission import Commissioning
from slurm_power.devices import build_driver
from slurm_power.devices.meter_register import RegisterMeterDriver
from slurm_power.devices.pcs_register import RegisterPcsDriver
from slurm_power.ports import DeviceError
from tests.devices import benches
from tests.devices.contract import check_meter, check_storage, check_unreachable, until
from tests.devices.register_bench import (
    COMMAND,
    DISCHARGE,
    HEARTBEAT,
    MODE,
    POWER,
    SOC,
    STATE,
    STOP,
    WATTS,
    Registers,
    Sungrow,
    float_words,
    swapped_words,
)


def meter(port: int, name: str, timeout_seconds: float = 0.5) -> RegisterMeter:
    return RegisterMeter(
        name="grid-meter", address=f"127.0.0.1:{port}", map=name, timeout_seconds=timeout_seconds
    )


def pcs(port: int, name: str) -> RegisterPcs:
    return RegisterPcs(
        name="battery",
        address=f"127.0.0.1:{port}",
        map=name,
        energy_rating_kwh=24.0,
        max_charge_watts=12_000.0,
        max_discharge_watts=12_000.0,
    )


@pytest.fixture
def quick_map(tmp_path: Path) -> str:
    """The shipped map with a time that can be waited for, as a map of the site's own."""
    file = tmp_path / "quick.toml"
    text = map_file("sungrow_sh").read_text()
    assert "lowest = 10" in text
    file.write_text(text.replace("lowest = 10", "lowest = 1"))
    return str(file)


@pytest.mark.parametrize(
    ("name", "address", "words"),
    [
        ("eastron_sdm630", 52, float_words),
        ("carlo_gavazzi_em24", 40, lambda watts: swapped_words(round(watts * 10))),
    ],
)
@pytest.mark.parametrize("watts", [23_456.5, 0.0, -7_000.5, 1_500_000.0])
def test_a_meter_reads_what_its_registers_say(
    name: str, address: int, words: Callable[[float], list[int]], watts: float
) -> None:
    async def run() -> None:
        port = benches.free_port()
        values = {address + at: word for at, word in enumerate(words(watts))}
        async with Registers(0, 80, port, values):
            driver = build_driver(meter(port, name))
            assert isinstance(driver, RegisterMeterDriver)
            await check_meter(driver, lambda: watts, 0.2)

    asyncio.run(run())


@pytest.mark.parametrize("words", [[0x7FC0, 0], [0x7F80, 0], [0xFF80, 0]])
def test_a_meter_that_says_not_a_number_has_no_value(words: list[int]) -> None:
    async def run() -> None:
        port = benches.free_port()
        async with Registers(0, 80, port, {52: words[0], 53: words[1]}):
            driver = RegisterMeterDriver(meter(port, "eastron_sdm630"))
            with pytest.raises(DeviceError, match=r"grid-meter: read.power_watts"):
                await driver.open()
            await driver.close()

    asyncio.run(run())


def test_an_unreachable_meter_is_named_in_time() -> None:
    async def run() -> None:
        driver = RegisterMeterDriver(meter(benches.free_port(), "eastron_sdm630", 0.3))
        await check_unreachable(driver.open, "grid-meter", 2.0)
        await driver.close()

    asyncio.run(run())


def test_a_map_that_has_gone_is_an_error_of_the_device(tmp_path: Path) -> None:
    async def run() -> None:
        for driver in (
            RegisterMeterDriver(meter(1, str(tmp_path / "gone.toml"))),
            RegisterPcsDriver(pcs(1, "eastron_sdm630")),
        ):
            with pytest.raises(DeviceError, match=r"no such map|this is a map of a meter"):
                await driver.open()

    asyncio.run(run())


def with_sungrow(map_name: str, body: Callable[[Sungrow, RegisterPcsDriver], Awaitable[None]]) -> None:
    async def run() -> None:
        port = benches.free_port()
        async with Sungrow(port) as device:
            assert isinstance(device, Sungrow)
            driver = build_driver(pcs(port, map_name))
            assert isinstance(driver, RegisterPcsDriver)
            try:
                await body(device, driver)
            finally:
                await driver.close()

    asyncio.run(run())


def test_contract(quick_map: str) -> None:
    with_sungrow(quick_map, lambda _, driver: check_storage(driver, 6_000.0))


def test_agrees_with_a_client_that_decodes_by_hand_and_charging_reads_negative(quick_map: str) -> None:
    async def body(device: Sungrow, driver: RegisterPcsDriver) -> None:
        await driver.open()
        client = AsyncModbusTcpClient("127.0.0.1", port=device.port)
        await client.connect()
        for wanted_watts in (3_000.0, -3_000.0):
            await driver.set_discharge(wanted_watts, 20)
            reading = await until(
                driver,
                lambda now: abs(now.discharge_watts - wanted_watts) < 1,  # noqa: B023  # used before it changes
                6,
                "its power",
            )
            assert (reading.discharge_watts < 0.0) is (wanted_watts < 0.0)
            words = (await client.read_input_registers(POWER, count=3, device_id=1)).registers
            state = (await client.read_input_registers(STATE, count=1, device_id=1)).registers[0]
            by_hand = words[0] * {2: -1.0, 4: 1.0}[state]
            again = await driver.read()
            assert again.discharge_watts == by_hand
            assert again.soc_ratio == pytest.approx(words[1] / 1000, abs=0.0011)
            assert again.soh_ratio == pytest.approx(words[2] / 1000)
        client.close()
        await driver.release()

    with_sungrow(quick_map, body)


def test_the_time_is_armed_before_the_setpoint_counts_and_forced_mode_comes_last(quick_map: str) -> None:
    async def body(device: Sungrow, driver: RegisterPcsDriver) -> None:
        await driver.set_discharge(2_500.0, 12.4)
        assert [(address, words) for _, address, words in device.written] == [
            (HEARTBEAT, (13,)),
            (WATTS, (2_500,)),
            (COMMAND, (DISCHARGE,)),
            (MODE, (2,)),
        ]

    with_sungrow(quick_map, body)


def test_in_our_silence_the_power_ends_though_the_register_keeps_it(quick_map: str) -> None:
    async def body(device: Sungrow, driver: RegisterPcsDriver) -> None:
        await driver.set_discharge(3_000.0, 2)
        await until(driver, lambda now: now.discharge_watts > 2_900, 6, "discharge")
        await driver.set_discharge(3_000.0, 2)
        began = clock.monotonic()
        await driver.close()
        await until(driver, lambda now: now.discharge_watts == 0.0, 8, "rest")
        assert 1.5 < clock.monotonic() - began < 4.5
        assert (device[WATTS], device[COMMAND]) == (3_000, DISCHARGE)

    with_sungrow(quick_map, body)


def test_a_lease_that_ends_before_the_devices_own_time_is_ended_at_a_reading() -> None:
    async def body(device: Sungrow, driver: RegisterPcsDriver) -> None:
        await driver.set_discharge(3_000.0, 0.5)
        assert (device[HEARTBEAT], driver.reversion_seconds(0.5)) == (10, 10)
        await asyncio.sleep(0.6)
        await driver.read()
        assert device[COMMAND] == STOP
        device.written.clear()
        await driver.read()
        assert device.written == [], "once"

    with_sungrow("sungrow_sh", body)


def test_what_nobody_commanded_is_not_released(quick_map: str) -> None:
    async def body(device: Sungrow, driver: RegisterPcsDriver) -> None:
        await driver.release()
        assert device.written == []

    with_sungrow(quick_map, body)


def test_a_refusal_and_a_power_out_of_range_are_told(quick_map: str) -> None:
    async def body(device: Sungrow, driver: RegisterPcsDriver) -> None:
        with pytest.raises(DeviceError, match=r"13000 W is outside -12000 W to 12000 W"):
            await driver.set_discharge(13_000.0, 10)
        assert device.written == []
        device.refuses = {WATTS}
        with pytest.raises(DeviceError, match=f"register {WATTS}: refused"):
            await driver.set_discharge(1_000.0, 10)
        assert COMMAND not in [address for _, address, _ in device.written]

    with_sungrow(quick_map, body)


def test_power_without_a_direction_is_no_reading(quick_map: str) -> None:
    async def body(device: Sungrow, driver: RegisterPcsDriver) -> None:
        device.refresh = lambda: None  # type: ignore[method-assign]  # registers stand as they are put
        device[SOC], device[POWER], device[STATE] = 500, 100, 0
        assert (await driver.read()).discharge_watts == 0.0, "its own consumption"
        device[POWER] = 5_000
        with pytest.raises(DeviceError, match=r"read.direction: 5000 W with no direction"):
            await driver.read()
        device[STATE] = 6
        with pytest.raises(DeviceError, match="with both directions"):
            await driver.read()
        device[SOC] = 1_200
        with pytest.raises(DeviceError, match=r"read.soc_ratio: 1.2 cannot be"):
            await driver.read()

    with_sungrow(quick_map, body)


class Importing:
    """A meter behind which enough is used, and never twice the same."""

    def __init__(self) -> None:
        self.watts = 20_000.0

    async def open(self) -> None: ...

    async def read_watts(self) -> float:
        self.watts += 0.1
        return self.watts

    async def close(self) -> None: ...


def test_commissioning_proves_its_reversion(quick_map: str) -> None:
    async def body(_: Sungrow, driver: RegisterPcsDriver) -> None:
        found = await Commissioning(driver, Importing(), lambda _: None).run()
        assert found.problems() == []
        assert found.expected_seconds == 5
        assert found.revert_seconds is not None
        assert 4.0 < found.revert_seconds < 9.0

    with_sungrow(quick_map, body)


def test_commissioning_finds_a_reversion_that_does_not_work(
    quick_map: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slurm_power.controller.storage.commission.STEP_SECONDS", 8.0)

    async def body(device: Sungrow, driver: RegisterPcsDriver) -> None:
        device.pcs.reversion_works = False
        found = await Commissioning(driver, Importing(), lambda _: None).run()
        assert [problem for problem in found.problems() if "outlives its controller" in problem]

    with_sungrow(quick_map, body)


def test_least_and_most_power_of_both_directions_make_a_setpoint() -> None:
    """SMA: registers that cannot be read back, 32 bits, one direction each."""

    async def run() -> None:
        port = benches.free_port()
        power = struct.unpack(">2H", struct.pack(">i", -1_500))
        values = {30775: power[0], 30776: power[1], 30845: 0, 30846: 55}
        async with Registers(30_700, 10_200, port, values) as device:
            driver = RegisterPcsDriver(pcs(port, "sma_sunny_boy_storage"))
            reading = await driver.read()
            assert (reading.discharge_watts, reading.soc_ratio) == (-1_500.0, 0.55)
            await driver.set_discharge(-2_000.0, 30)
            await driver.set_discharge(1_000.0, 30)
            pairs = [(address, words[0] << 16 | words[1]) for _, address, words in device.written]
            assert pairs == [
                *((40793, 2_000), (40795, 2_000), (40797, 0), (40799, 0), (40236, 2289)),
                *((40793, 0), (40795, 0), (40797, 1_000), (40799, 1_000), (40236, 2290)),
            ]
            assert driver.reversion_seconds(30) == 60
            device[30775], device[30776] = 0x8000, 0
            with pytest.raises(DeviceError, match=r"read.power_watts: the device has no value"):
                await driver.read()
            await driver.close()

    asyncio.run(run())


OWN = """
vendor = "somebody"
document = "none"
role = "pcs"
address_base = 1
watchdog_seconds = 10
[read.power_watts]
address = 1
type = "i16"
sign = -1
[read.soc_ratio]
address = 2
type = "u16"
scale = 0.01
[read.control]
address = 3
type = "u16"
local = [1]
[read.alarms]
address = 4
type = "u16"
names = { "3" = "over temperature" }
[[setpoint]]
address = 5
type = "i16"
value = "ratio_of_limit"
scale = 0.001
sign = -1
function = 6
[[release]]
address = 5
type = "i16"
value = 0
"""


def test_a_map_of_ones_own_with_local_control_alarms_and_a_share_of_the_rating(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(OWN)

    async def run() -> None:
        port = benches.free_port()
        async with Registers(0, 20, port, {0: 700, 1: 100}) as device:
            driver = RegisterPcsDriver(replace(pcs(port, str(file)), max_charge_watts=5_000.0))
            full = await driver.read()
            assert (full.discharge_watts, full.soc_ratio, full.max_charge_watts) == (-700.0, 1.0, 0.0)
            device[1] = 50
            await driver.set_discharge(-2_500.0, 5)
            await driver.set_discharge(2_400.0, 5)
            assert device.written == [(6, 4, (500,)), (6, 4, (0x10000 - 200,))]
            device[3] = 0b1001
            assert (await driver.read()).alarms == ("alarm bit 0", "over temperature")
            device[2] = 1
            assert not (await driver.read()).remote
            with pytest.raises(DeviceError, match="LOCAL"):
                await driver.set_discharge(0.0, 5)
            await driver.close()

    asyncio.run(run())
