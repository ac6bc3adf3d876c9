"""Every shipped register map against a real Modbus server whose registers were filled in by hand."""

import asyncio
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from slurm_power.config.devices import RegisterMeter, RegisterPcs
from slurm_power.config.register_map import PCS_GIVEN, Role, load_register_map, map_file, shipped
from slurm_power.devices import build_driver
from slurm_power.devices.meter_register import RegisterMeterDriver
from slurm_power.devices.pcs_register import RegisterPcsDriver
from slurm_power.ports import DeviceError, PowerMeter, Storage
from tests.devices import benches
from tests.devices.register_bench import StrictDevice, at, float_words, swapped_words

Registers = Mapping[int, Mapping[int, int]]
HOLDING, INPUT = 3, 4
GIVEN: dict[str, Any] = {
    "energy_rating_kwh": 20.0,
    "max_charge_watts": 5_000.0,
    "max_discharge_watts": 4_600.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One device as its document has it: states with what they mean, commands with what is to be written."""

    # Import of a meter, else discharge of a PCS: one positive, one negative.
    states: Mapping[float, Registers]
    no_value: Registers = field(default_factory=dict)
    soc_ratio: float = 0.0
    writable: Mapping[int, int] = field(default_factory=dict)
    # By watts asked for 30 s; None is release.
    commands: Mapping[float | None, list[tuple[int, int, list[int]]]] = field(default_factory=dict)


def long_words(value: int) -> list[int]:
    """A 32-bit number, high word first."""
    return list(struct.unpack(">2H", struct.pack(">i", value)))


def _sma(charge_watts: int, discharge_watts: int, mode: int) -> list[tuple[int, int, list[int]]]:
    powers = (charge_watts, charge_watts, discharge_watts, discharge_watts)
    return [
        *((16, 40793 + 2 * place, long_words(watts)) for place, watts in enumerate(powers)),
        (16, 40236, long_words(mode)),
    ]


def _sungrow(command: int, watts: int) -> list[tuple[int, int, list[int]]]:
    return [(16, 13079, [30]), (16, 13051, [watts]), (16, 13050, [command]), (16, 13049, [2])]


SUNGROW_HOLDING = {13049: 0, 13050: 0xBB, 13051: 0, 13079: 0}
CASES = {
    "carlo_gavazzi_em24": Case(
        states={
            12_345.6: {INPUT: at(40, swapped_words(123_456))},
            -70_000.0: {INPUT: at(40, swapped_words(-700_000))},
        },
        no_value={INPUT: at(40, swapped_words(0x7FFFFFFF))},
    ),
    "eastron_sdm630": Case(
        states={
            15_360.5: {INPUT: at(52, float_words(15_360.5))},
            -2_048.25: {INPUT: at(52, float_words(-2_048.25))},
        },
        no_value={INPUT: at(52, float_words(float("nan")))},
    ),
    "sma_sunny_boy_storage": Case(
        states={
            2_500.0: {INPUT: at(30775, long_words(2_500)) | at(30845, long_words(57))},
            -1_200.0: {INPUT: at(30775, long_words(-1_200)) | at(30845, long_words(57))},
        },
        no_value={INPUT: at(30775, [0x8000, 0]) | at(30845, long_words(57))},
        soc_ratio=0.57,
        writable=dict.fromkeys([*range(40793, 40801), 40236, 40237], 0),
        commands={-1_800.0: _sma(1_800, 0, 2289), 900.0: _sma(0, 900, 2290), None: _sma(0, 0, 2424)},
    ),
    "sungrow_sh": Case(
        states={
            3_000.0: {INPUT: {13000: 0x4, 13021: 3_000, 13022: 571, 13023: 985}, HOLDING: SUNGROW_HOLDING},
            -1_500.0: {INPUT: {13000: 0x3, 13021: 1_500, 13022: 571, 13023: 985}, HOLDING: SUNGROW_HOLDING},
        },
        no_value={INPUT: {13000: 0x6, 13021: 900, 13022: 571, 13023: 985}, HOLDING: SUNGROW_HOLDING},
        soc_ratio=0.571,
        writable=SUNGROW_HOLDING,
        commands={
            -1_800.0: _sungrow(0xAA, 1_800),
            900.0: _sungrow(0xBB, 900),
            None: [(16, 13050, [0xCC]), (16, 13051, [0])],
        },
    ),
}


def _config(name: str, role: Role, port: int) -> RegisterMeter | RegisterPcs:
    given: dict[str, Any] = {"name": "device", "address": f"127.0.0.1:{port}", "map": name}
    return RegisterMeter(**given) if role is Role.METER else RegisterPcs(**given, **GIVEN)


async def _watts(driver: PowerMeter | Storage, soc_ratio: float) -> float:
    """What it reads as the power of its role."""
    if isinstance(driver, RegisterMeterDriver):
        return await driver.read_watts()
    assert isinstance(driver, RegisterPcsDriver)
    reading = await driver.read()
    assert reading.soc_ratio == pytest.approx(soc_ratio)
    assert (reading.energy_rating_kwh, reading.max_charge_watts) == (20.0, 5_000.0)
    return reading.discharge_watts


@pytest.mark.parametrize("name", shipped())
def test_each_shipped_map_means_what_its_document_says(name: str) -> None:
    registers = load_register_map(name)
    case = CASES[name]
    source = map_file(name).read_text()
    assert "Not run on a device" in source, "say so, or say on which it ran"
    assert min(case.states) < 0 < max(case.states), "charging (or export) reads negative"

    async def run() -> None:
        for expected_watts, state in case.states.items():
            port = benches.free_port()
            device = StrictDevice(port, state)
            device.registers[HOLDING].update(case.writable)
            async with device:
                driver = build_driver(_config(name, registers.role, port))
                try:
                    await driver.open()
                    assert await _watts(driver, case.soc_ratio) == pytest.approx(expected_watts)
                    if registers.role is Role.PCS:
                        await _command(driver, device, case)
                    device.registers[INPUT].update(case.no_value.get(INPUT, {}))
                    with pytest.raises(DeviceError, match=r"device: read\.\w+:"):
                        await _watts(driver, case.soc_ratio)
                finally:
                    await driver.close()

    asyncio.run(run())


async def _command(driver: PowerMeter | Storage, device: StrictDevice, case: Case) -> None:
    assert isinstance(driver, RegisterPcsDriver)
    assert None in case.commands
    for watts, expected in case.commands.items():
        device.written.clear()
        if watts is None:
            await driver.release()
        else:
            await driver.set_discharge(watts, 30)
        assert device.written == expected
    for watts in (GIVEN["max_discharge_watts"] + 1, -GIVEN["max_charge_watts"] - 1, float("nan")):
        device.written.clear()
        with pytest.raises(DeviceError, match="outside"):
            await driver.set_discharge(watts, 30)
        assert device.written == []


def test_maps_that_ship_are_those_with_a_case() -> None:
    assert sorted(CASES) == shipped()
    roles = [load_register_map(name).role for name in CASES]
    assert min(roles.count(role) for role in Role) >= 2
    assert set(GIVEN) == set(PCS_GIVEN)
