"""The registers of a device with a map: values out of words, words out of values, in few requests."""

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from slurm_power.config.register_map import Point, RegisterType, WordOrder, Write
from slurm_power.devices.modbus import ModbusUnit
from slurm_power.ports import DeviceError

MOST_REGISTERS = 125


@dataclass(frozen=True, slots=True)
class Block:
    """Registers that are read in one request."""

    function: int
    address: int
    count: int


def blocks(points: Iterable[Point], max_gap_registers: int) -> list[Block]:
    """The requests that cover all points; registers between two are read along if they are few enough."""
    found: list[Block] = []
    for point in sorted(points, key=lambda point: (point.function, point.address)):
        end = point.address + point.type.registers
        if found and found[-1].function == point.function:
            last = found[-1]
            near = point.address <= last.address + last.count + max_gap_registers
            if near and end - last.address <= MOST_REGISTERS:
                count = max(last.count, end - last.address)
                found[-1] = Block(last.function, last.address, count)
                continue
        found.append(Block(point.function, point.address, point.type.registers))
    return found


def raw_of(words: Sequence[int], order: WordOrder | None) -> int:
    """The words as one unsigned number."""
    ordered = words if order is not WordOrder.LOW_FIRST else list(reversed(words))
    raw = 0
    for word in ordered:
        raw = raw << 16 | word
    return raw


def value_of(point: Point, raw: int) -> float | None:
    """The value in the unit of its name; None if the device says that it has none."""
    if raw in point.nan:
        return None
    bits = point.type.bits
    if point.type is RegisterType.F32:
        number: float = struct.unpack(">f", raw.to_bytes(4))[0]
        if not math.isfinite(number):
            return None
    elif point.type.value.startswith("i") and raw >> (bits - 1):
        number = raw - (1 << bits)
    else:
        number = raw
    return number * point.scale * point.sign


def words_of(step: Write, number: float) -> list[int]:
    """A number, scaled already, as words; raises ValueError if the register cannot hold it."""
    bits = step.type.bits
    if step.type is RegisterType.F32:
        raw = int.from_bytes(struct.pack(">f", number))
    else:
        raw = round(number)
        signed = step.type.value.startswith("i")
        lowest, highest = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        if not lowest <= raw <= highest:
            raise ValueError(f"{raw} does not fit into {step.type}")
        raw &= (1 << bits) - 1
    words = [raw >> shift & 0xFFFF for shift in range(bits - 16, -1, -16)]
    return words if step.word_order is not WordOrder.LOW_FIRST else words[::-1]


class RegisterReader:
    """Reads all points of a map in as few requests as it allows."""

    def __init__(self, unit: ModbusUnit, points: Mapping[str, Point], max_gap_registers: int) -> None:
        self._unit = unit
        self._points = points
        self._blocks = blocks(points.values(), max_gap_registers)

    async def read(self) -> dict[str, int]:
        """The raw value of each point; raises DeviceError."""
        words: dict[tuple[int, int], int] = {}
        for block in self._blocks:
            found = await self._unit.read(block.address, block.count, function=block.function)
            for offset, word in enumerate(found):
                words[block.function, block.address + offset] = word
        return {
            name: raw_of(
                [words[point.function, point.address + at] for at in range(point.type.registers)],
                point.word_order,
            )
            for name, point in self._points.items()
        }

    def value(self, raws: Mapping[str, int], name: str) -> float | None:
        """A value in its unit; None where the map or the device has none."""
        point = self._points.get(name)
        return None if point is None else value_of(point, raws[name])

    def needed(self, raws: Mapping[str, int], name: str) -> float:
        """A value that must be there; raises DeviceError."""
        value = self.value(raws, name)
        if value is None:
            raise DeviceError(f"{self._unit.name}: read.{name}: the device has no value")
        return value
