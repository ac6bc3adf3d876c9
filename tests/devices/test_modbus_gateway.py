"""Units behind one gateway that takes one connection only: they share it, and a dead one harms no other."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import pytest
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import SimData, SimDevice
from pymodbus.simulator.simutils import DataType

from slurm_power.devices.modbus import ModbusUnit
from slurm_power.ports import DeviceError
from tests.devices import benches


class Gateway(ModbusTcpServer):
    """Has units 1 to 3, each with its number in register 0; takes one connection and hangs up on a second."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.silent: set[int] = set()
        self.connections = 0
        self.slow_seconds = 0.0
        self.busy = 0
        self.most_at_once = 0
        devices = [
            SimDevice(
                id=unit,
                simdata=[SimData(0, values=[unit], datatype=DataType.REGISTERS)],
                action=self._answering(unit),
            )
            for unit in (1, 2, 3)
        ]
        super().__init__(context=devices, address=("127.0.0.1", port))

    def _answering(self, unit: int) -> Callable[..., Coroutine[None, None, ExcCodes | None]]:
        async def action(*_: object) -> ExcCodes | None:
            self.busy += 1
            self.most_at_once = max(self.most_at_once, self.busy)
            await asyncio.sleep(30 if unit in self.silent else self.slow_seconds)
            self.busy -= 1
            return None

        return action

    def callback_new_connection(self) -> ServerRequestHandler:
        self.connections += 1
        handler = ServerRequestHandler(self, None, None, None)  # type: ignore[no-untyped-call]  # pymodbus
        if len(self.active_connections) > 1:
            asyncio.get_running_loop().call_soon(handler.close)
        return handler


def with_gateway(body: Callable[[Gateway, list[ModbusUnit]], Awaitable[None]]) -> None:
    async def run() -> None:
        port = benches.free_port()
        gateway = Gateway(port)
        await gateway.serve_forever(background=True)
        units = [
            ModbusUnit(name=f"unit{number}", address=f"127.0.0.1:{port}", unit_id=number, timeout_seconds=0.5)
            for number in (1, 2, 3)
        ]
        try:
            await body(gateway, units)
        finally:
            for unit in units:
                unit.close()
            await gateway.shutdown()  # type: ignore[no-untyped-call]  # pymodbus

    asyncio.run(run())


def test_units_share_one_connection_and_take_turns() -> None:
    async def body(gateway: Gateway, units: list[ModbusUnit]) -> None:
        gateway.slow_seconds = 0.02
        for _ in range(3):
            answers = await asyncio.gather(*(unit.read(0, 1) for unit in units))
            assert answers == [[1], [2], [3]]
        assert (gateway.connections, gateway.most_at_once) == (1, 1)

    with_gateway(body)


def test_the_connection_stays_until_the_last_unit_lets_go() -> None:
    async def body(gateway: Gateway, units: list[ModbusUnit]) -> None:
        for unit in units:
            await unit.read(0, 1)
        units[0].close()
        units[0].close()
        assert await units[1].read(0, 1) == [2]
        assert gateway.connections == 1
        units[1].close()
        units[2].close()
        await asyncio.sleep(0.05)
        assert len(gateway.active_connections) == 0
        assert await units[0].read(0, 1) == [1], "connects again by itself"

    with_gateway(body)


def test_a_silent_unit_is_left_alone_while_the_others_go_on() -> None:
    async def body(gateway: Gateway, units: list[ModbusUnit]) -> None:
        await units[0].read(0, 1)
        gateway.silent = {2}
        asked = 0
        for _ in range(30):
            gateway.busy = 0
            with pytest.raises(DeviceError, match="unit2: read of registers 0 to 0:"):
                await units[1].read(0, 1)
            asked += gateway.busy
            assert await units[0].read(0, 1) == [1]
            await asyncio.sleep(0.02)
        # Pauses of 0, 0.25 and 0.5 s, also while the connection is there for others.
        assert 2 <= asked <= 6
        assert gateway.connections <= asked + 1, "only what really failed costs the others their connection"
        gateway.silent = set()
        await asyncio.sleep(2.0)
        assert await units[1].read(0, 1) == [2]

    with_gateway(body)


def test_the_shortest_patience_does_not_count_for_the_others() -> None:
    async def body(gateway: Gateway, units: list[ModbusUnit]) -> None:
        gateway.slow_seconds = 0.3
        hasty = ModbusUnit(name="hasty", address=f"127.0.0.1:{gateway.port}", unit_id=1, timeout_seconds=0.1)
        with pytest.raises(DeviceError, match=r"hasty: .* no answer within 0.1 s"):
            await hasty.read(0, 1)
        gateway.slow_seconds = 0.0
        await hasty.read(0, 1)
        gateway.slow_seconds = 0.3
        assert await units[1].read(0, 1) == [2]
        hasty.close()

    with_gateway(body)


def test_a_cancelled_request_leaves_nothing_behind_for_another_unit() -> None:
    async def body(gateway: Gateway, units: list[ModbusUnit]) -> None:
        gateway.slow_seconds = 0.2
        task = asyncio.create_task(units[0].read(0, 1))
        await asyncio.sleep(0.1)
        task.cancel()
        assert await units[1].read(0, 1) == [2]
        with pytest.raises(asyncio.CancelledError):
            await task

    with_gateway(body)


def test_another_loop_has_a_connection_of_its_own() -> None:
    async def once(unit: ModbusUnit) -> None:
        with pytest.raises(DeviceError):
            await unit.read(0, 1)
        unit.close()

    unit = ModbusUnit(name="unit", address=f"127.0.0.1:{benches.free_port()}", unit_id=1, timeout_seconds=0.2)
    for _ in range(2):
        asyncio.run(once(unit))
