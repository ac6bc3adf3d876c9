"""Modbus servers for devices with register maps, written from their documents and not from our maps."""

import struct
import time
from collections.abc import Mapping

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import SimData, SimDevice
from pymodbus.simulator.simutils import DataType

from slurm_power.simulate.pcs import Pcs, PcsControl
from tests.devices.benches import CONSTANTS


class Registers:
    """A span of registers that function codes 3, 4, 6 and 16 reach; remembers what was written, in order."""

    def __init__(self, first: int, count: int, port: int, values: Mapping[int, int] | None = None) -> None:
        self.first, self.port = first, port
        self.words = [0] * count
        self.written: list[tuple[int, int, tuple[int, ...]]] = []
        self.refuses: set[int] = set()
        self._server: ModbusTcpServer | None = None
        for address, word in (values or {}).items():
            self[address] = word

    def __getitem__(self, address: int) -> int:
        return self.words[address - self.first]

    def __setitem__(self, address: int, word: int) -> None:
        self.words[address - self.first] = word & 0xFFFF

    async def __aenter__(self) -> "Registers":
        block = SimData(self.first, values=list(self.words), datatype=DataType.REGISTERS)
        device = SimDevice(id=1, simdata=[block], action=self._action)
        self._server = ModbusTcpServer(context=[device], address=("127.0.0.1", self.port))
        await self._server.serve_forever(background=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await self._server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus

    def refresh(self) -> None:
        """Bring the registers up to date; called before each answer."""

    def wrote(self, address: int) -> None:
        """Something was written."""

    async def _action(  # noqa: PLR0917  # pymodbus calls it so
        self,
        function: int,
        start_address: int,
        address: int,
        count: int,
        current_registers: list[int],
        set_values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        self.refresh()
        if set_values:
            if address in self.refuses:
                return ExcCodes.ILLEGAL_VALUE
            begin = address - start_address
            self.words[begin : begin + count] = [int(word) for word in set_values]
            self.written.append((function, address, tuple(self.words[begin : begin + count])))
            self.wrote(address)
            self.refresh()
        current_registers[:] = self.words
        return None


STATE, POWER, SOC, SOH, MODE, COMMAND, WATTS, HEARTBEAT = (
    *(13000, 13021, 13022, 13023, 13049, 13050, 13051, 13079),
)
FORCED, CHARGE, DISCHARGE, STOP = 2, 0xAA, 0xBB, 0xCC


class Sungrow(Registers):
    """A hybrid inverter with battery physics. After its heartbeat's time it rests; registers stay."""

    def __init__(self, port: int) -> None:
        super().__init__(STATE, 100, port, {COMMAND: STOP})
        self.pcs = Pcs(CONSTANTS.pcs, time.monotonic())

    def wrote(self, address: int) -> None:
        if address == HEARTBEAT or self[MODE] == FORCED:
            watts = float(self[WATTS])
            signed = {CHARGE: -watts, DISCHARGE: watts}.get(self[COMMAND], 0.0)
            self.pcs.command(
                PcsControl(
                    enabled=self[MODE] == FORCED and self[COMMAND] != STOP,
                    setpoint_watts=signed,
                    reversion_seconds=float(self[HEARTBEAT]),
                ),
                arm=address == HEARTBEAT or self.pcs.reversion_remaining_seconds <= 0.0,
            )

    def refresh(self) -> None:
        self.pcs.advance(time.monotonic())
        watts = round(self.pcs.discharge_watts)
        self[POWER] = abs(watts)
        self[STATE] = 4 if watts > 0 else 2 if watts < 0 else 0
        self[SOC] = round(1000 * self.pcs.soc_ratio)
        self[SOH] = round(1000 * CONSTANTS.pcs.state_of_health_ratio)


def float_words(value: float) -> list[int]:
    """A float32, high word first."""
    return list(struct.unpack(">2H", struct.pack(">f", value)))


def swapped_words(value: int) -> list[int]:
    """An int32, low word first."""
    high, low = struct.unpack(">2H", struct.pack(">i", value))
    return [low, high]


def at(address: int, values: list[int]) -> dict[int, int]:
    """Registers from an address on."""
    return dict(enumerate(values, address))


class StrictDevice:
    """Has the registers it is given, input and holding apart, and refuses every other."""

    def __init__(self, port: int, registers: Mapping[int, Mapping[int, int]]) -> None:
        self.port = port
        self.registers = {function: dict(registers.get(function, {})) for function in (3, 4)}
        self.written: list[tuple[int, int, list[int]]] = []
        self._server: ModbusTcpServer | None = None

    async def __aenter__(self) -> "StrictDevice":
        whole = [SimData(0, values=[0] * 65_536, datatype=DataType.REGISTERS)]
        bits = [SimData(0, values=[False], datatype=DataType.BITS)]
        device = SimDevice(id=1, simdata=(bits, bits, whole, whole), action=self._action)
        self._server = ModbusTcpServer(context=[device], address=("127.0.0.1", self.port))
        await self._server.serve_forever(background=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await self._server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus

    async def _action(  # pymodbus calls it so
        self,
        function: int,
        _start_address: int,
        address: int,
        count: int,
        current_registers: list[int],
        set_values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        span = range(address, address + count)
        known = self.registers[4 if function == 4 else 3]
        if not known.keys() >= set(span):
            return ExcCodes.ILLEGAL_ADDRESS
        if set_values is not None:
            words = [int(word) for word in set_values]
            self.written.append((function, address, words))
            known.update(at(address, words))
        for place in span:
            current_registers[place] = known[place]
        return None
