"""One Modbus/TCP unit: reads and writes of registers, one request at a time, over one connection.

A connection on which anything went wrong is closed, so that nothing late can be read from the next one.
"""

import asyncio
import logging
from typing import Any

from slurm_power import clock
from slurm_power.ports import DeviceError

BACKOFF_SECONDS = (0.0, 0.25, 0.5, 1.0, 2.0)
INPUT, SINGLE = 4, 6
EXCEPTIONS = {
    1: "illegal function",
    2: "illegal address",
    3: "illegal value",
    4: "device failure",
    5: "acknowledged, still busy",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target does not answer",
}


class RefusedError(DeviceError):
    """The device answered, and said no (a Modbus exception)."""


class ModbusUnit:
    """One unit behind one TCP connection; connects by itself, again after a failure with growing pauses.

    Every request, with the connecting it may need, ends within ``timeout_seconds``. All errors are
    DeviceErrors that name device, register and reason.
    """

    def __init__(self, *, name: str, address: str, unit_id: int, timeout_seconds: float) -> None:
        self.name = name
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._unit_id, self._timeout_seconds = unit_id, timeout_seconds
        self._client: Any = None
        self._lock = asyncio.Lock()
        self._failures = 0
        self._retry_at_seconds = 0.0
        self._last_error = ""
        # The wire library reports to its own log what we raise as DeviceError.
        logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)

    def close(self) -> None:
        """Let go of the connection."""
        self._drop()

    async def read(self, address: int, count: int, *, function: int = 3) -> list[int]:
        """Read holding (function 3) or input registers (4); raises DeviceError, also for another number."""

        def send(client: Any) -> Any:
            ask = client.read_input_registers if function == INPUT else client.read_holding_registers
            return ask(address, count=count, device_id=self._unit_id)

        reply = await self._request(f"read of registers {address} to {address + count - 1}", send)
        if len(reply.registers) != count:
            self._drop()
            raise DeviceError(
                f"{self.name}: asked for {count} registers at {address}, got {len(reply.registers)}"
            )
        return list(reply.registers)

    async def write(self, address: int, words: list[int], *, what: str, function: int = 16) -> None:
        """Write registers at once (function 6: one); raises DeviceError with ``what``, also if refused."""

        def send(client: Any) -> Any:
            if function == SINGLE:
                return client.write_register(address, words[0], device_id=self._unit_id)
            return client.write_registers(address, words, device_id=self._unit_id)

        await self._request(what, send)

    async def _request(self, what: str, send: Any) -> Any:
        """Do one exchange; anything but a clean answer ends the connection."""
        from pymodbus.exceptions import ModbusException  # noqa: PLC0415  # vendor libraries load late

        async with self._lock:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    reply = await send(await self._connected())
            except TimeoutError:
                self._failed(f"no answer within {self._timeout_seconds:g} s")
                raise DeviceError(f"{self.name}: {what}: {self._last_error}") from None
            except (ModbusException, OSError) as error:
                self._failed(" ".join(str(error).split()))
                raise DeviceError(f"{self.name}: {what}: {self._last_error}") from error
            except asyncio.CancelledError:
                self._drop()
                raise
            self._failures = 0
        if reply.isError():
            code = reply.exception_code
            raise RefusedError(f"{self.name}: {what}: refused, {EXCEPTIONS.get(code, f'exception {code}')}")
        return reply

    async def _connected(self) -> Any:
        """Return the connected client; OSError at once while the pause after a failure lasts."""
        if self._client is not None and self._client.connected:
            return self._client
        wait_seconds = self._retry_at_seconds - clock.monotonic()
        if wait_seconds > 0:
            raise OSError(f"not connected, next try in {wait_seconds:.1f} s ({self._first_error()})")
        self._drop()
        from pymodbus.client import AsyncModbusTcpClient  # noqa: PLC0415  # vendor libraries load late

        # Slightly above our own, so that ours is the one that fires.
        self._client = AsyncModbusTcpClient(
            self._host, port=self._port, timeout=self._timeout_seconds * 1.5, retries=0, reconnect_delay=0
        )
        if not await self._client.connect():
            raise OSError(f"cannot connect to {self._host}:{self._port}")
        return self._client

    def _first_error(self) -> str:
        return (
            self._last_error.rpartition("(")[2].rstrip(")")
            if "next try" in self._last_error
            else self._last_error
        )

    def _failed(self, reason: str) -> None:
        waiting = "next try" in reason
        self._last_error = reason
        self._drop()
        if not waiting:
            pause = BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)]
            self._failures += 1
            self._retry_at_seconds = clock.monotonic() + pause

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
