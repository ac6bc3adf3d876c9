"""A Modbus/TCP server for one SunSpec device, which can be made to fail in the ways that devices do."""

import asyncio
from collections.abc import Callable

from pymodbus.constants import ExcCodes
from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import SimData, SimDevice
from pymodbus.simulator.simutils import DataType

from containers.plant.faults import FaultSet
from containers.plant.sunspec import BASE_ADDRESS, Image

UNIT = 1
LINK_FAULTS = {
    "hang": "connections stay open, requests get no answer",
    "late": "each answer comes `value` seconds late",
    "disconnect": "connections are closed, new ones at their first request",
}


class ModbusFront:
    """Serves an image. Subclasses refresh it before each answer and decide about writes."""

    def __init__(self, image: Image, faults: dict[str, str], host: str, port: int) -> None:
        self.image = image
        self.faults = FaultSet(LINK_FAULTS | faults)
        self.address = (host, port)
        self.crash: Callable[[BaseException], None] = _raise
        self._server: _Server | None = None

    async def start(self, crash: Callable[[BaseException], None]) -> None:
        """Listen; ``crash`` is told of every error that is no client's fault. Raises RuntimeError."""
        self.crash = crash
        block = SimData(BASE_ADDRESS, values=list(self.image.registers), datatype=DataType.REGISTERS)
        device = SimDevice(id=UNIT, simdata=[block], action=self._action)
        self._server = _Server(self, device)
        await self._server.serve_forever(background=True)

    async def stop(self) -> None:
        """Close the listener and all connections."""
        if self._server is not None:
            await self._server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus

    def set_fault(self, kind: str, value: float, duration_seconds: float | None) -> None:
        """Switch a fault on; raises ValueError for an unknown kind."""
        self.faults.set(kind, value, duration_seconds)
        if kind == "disconnect" and self._server is not None:
            self._server.close_connections()

    def clear_faults(self) -> None:
        """Switch all faults off."""
        self.faults.clear()

    def refresh(self) -> None:
        """Bring the image up to date; called before each answer."""

    def write(self, addresses: range, registers: list[int]) -> ExcCodes | None:  # noqa: ARG002  # for subclasses
        """Take a write, given the image as it would stand after it; this device has nothing to write."""
        return ExcCodes.ILLEGAL_ADDRESS

    async def _action(
        self,
        _function_code: int,
        start_address: int,
        address: int,
        count: int,
        current_registers: list[int],
        set_values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        self.refresh()
        if set_values:
            begin = address - start_address
            after = list(self.image.registers)
            after[begin : begin + count] = [int(word) for word in set_values]
            refused = self.write(range(address, address + count), after)
            if refused is not None:
                return refused
            self.image.registers[begin : begin + count] = after[begin : begin + count]
            self.refresh()
        current_registers[:] = self.image.registers
        return None


class _Server(ModbusTcpServer):
    def __init__(self, front: ModbusFront, device: SimDevice) -> None:
        super().__init__(context=[device], address=front.address)
        self.front = front

    def callback_new_connection(self) -> ServerRequestHandler:
        return _Connection(self)

    def close_connections(self) -> None:
        for connection in list(self.active_connections.values()):
            connection.close()


class _Connection(ServerRequestHandler):
    """Answers each request with its own transaction id, also when the answer comes after the next request."""

    def __init__(self, server: _Server) -> None:
        super().__init__(server, None, None, None)  # type: ignore[no-untyped-call]  # pymodbus
        self.front = server.front
        self._answers: set[asyncio.Task[None]] = set()

    def handle_later(self) -> None:
        request, self.last_pdu = self.last_pdu, None
        if request is None:
            return
        answer = asyncio.get_running_loop().create_task(self._answer(request))
        self._answers.add(answer)
        answer.add_done_callback(self._answered)

    def _answered(self, answer: asyncio.Task[None]) -> None:
        self._answers.discard(answer)
        if not answer.cancelled() and (error := answer.exception()) is not None:
            self.front.crash(error)

    async def _answer(self, request: ModbusPDU) -> None:
        faults = self.front.faults
        if faults.on("disconnect"):
            self.close()
            return
        if faults.on("hang"):
            return
        delay_seconds = faults.value("late")
        if delay_seconds is not None:
            await asyncio.sleep(delay_seconds)
        response: ModbusPDU
        if request.dev_id != UNIT:
            response = ExceptionResponse(request.function_code, ExcCodes.GATEWAY_NO_RESPONSE)
        else:
            response = await request.datastore_update(self.server.context, request.dev_id)
        response.transaction_id = request.transaction_id
        response.dev_id = request.dev_id
        if not self.is_closing:
            self.server_send(response, None)  # type: ignore[no-untyped-call]  # pymodbus


def _raise(error: BaseException) -> None:
    raise error
