"""Modbus/TCP units: reads and writes of registers, one request at a time, over one connection an address.

A connection on which anything went wrong is closed, so that nothing late can be read from the next one.
"""

import asyncio
import logging
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from slurm_power import clock
from slurm_power.ports import DeviceError

BACKOFF_SECONDS = (0.0, 0.25, 0.5, 1.0, 2.0)
INPUT, SINGLE = 4, 6
# Above the longest timeout of a device: the client's own never fires.
CLIENT_SECONDS = 30.0
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


class _Link:
    """One TCP connection, and one request at a time on it, for all units behind an address.

    Gateways take few connections, often one, and mix up answers of requests that overlap.
    """

    def __init__(self, host: str, port: int) -> None:
        self.lock = asyncio.Lock()
        self._host, self._port = host, port
        self._units: WeakSet[ModbusUnit] = WeakSet()
        self._client: Any = None

    async def connected(self) -> Any:
        """Return the connected client; raises OSError."""
        if self._client is not None and self._client.connected:
            return self._client
        self.drop()
        from pymodbus.client import AsyncModbusTcpClient  # noqa: PLC0415  # vendor libraries load late

        self._client = AsyncModbusTcpClient(
            self._host, port=self._port, timeout=CLIENT_SECONDS, retries=0, reconnect_delay=0
        )
        if not await self._client.connect():
            raise OSError(f"cannot connect to {self._host}:{self._port}")
        return self._client

    def drop(self) -> None:
        """Close the connection, so that nothing late can be read from it."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def join(self, unit: "ModbusUnit") -> None:
        """Keep the connection for a unit."""
        self._units.add(unit)

    def leave(self, unit: "ModbusUnit") -> None:
        """Close the connection if nobody else is on it."""
        self._units.discard(unit)
        if not self._units:
            self.drop()


# A connection belongs to its event loop, and goes with the last unit that holds it.
_links: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[tuple[str, int], _Link]]
_links = WeakKeyDictionary()


def _link_to(host: str, port: int) -> _Link:
    """The link of this event loop to an address."""
    links = _links.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    link = links.get((host, port))
    if link is None:
        link = links[host, port] = _Link(host, port)
    return link


class ModbusUnit:
    """One unit at an address; connects by itself, is asked again after a failure with growing pauses.

    Units at the same address share its connection and take turns. Every request, with the connecting it may
    need, ends within ``timeout_seconds`` from its turn. All errors are DeviceErrors that name device,
    register and reason.
    """

    def __init__(self, *, name: str, address: str, unit_id: int, timeout_seconds: float) -> None:
        self.name = name
        host, _, port = address.rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._unit_id, self._timeout_seconds = unit_id, timeout_seconds
        self._link: _Link | None = None
        self._failures = 0
        self._retry_at_seconds = 0.0
        self._last_error = ""
        # The wire library reports to its own log what we raise as DeviceError.
        logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)

    def close(self) -> None:
        """Let go of the connection, which stays for other units at the same address."""
        if self._link is not None:
            self._link.leave(self)
            self._link = None

    async def read(self, address: int, count: int, *, function: int = 3) -> list[int]:
        """Read holding (function 3) or input registers (4); raises DeviceError, also for another number."""

        def send(client: Any) -> Any:
            ask = client.read_input_registers if function == INPUT else client.read_holding_registers
            return ask(address, count=count, device_id=self._unit_id)

        what = f"read of registers {address} to {address + count - 1}"
        reply = await self._request(what, send, registers=count)
        return list(reply.registers)

    async def write(self, address: int, words: list[int], *, what: str, function: int = 16) -> None:
        """Write registers at once (function 6: one); raises DeviceError with ``what``, also if refused."""

        def send(client: Any) -> Any:
            if function == SINGLE:
                return client.write_register(address, words[0], device_id=self._unit_id)
            return client.write_registers(address, words, device_id=self._unit_id)

        await self._request(what, send)

    async def _request(self, what: str, send: Any, *, registers: int | None = None) -> Any:
        """Do one exchange; anything but a clean answer, with so many registers, ends the connection."""
        from pymodbus.exceptions import ModbusException  # noqa: PLC0415  # vendor libraries load late

        link = self._joined()
        async with link.lock:
            self._refuse_in_pause(what)
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    reply = await send(await link.connected())
            except TimeoutError:
                self._failed(link, f"no answer within {self._timeout_seconds:g} s")
                raise DeviceError(f"{self.name}: {what}: {self._last_error}") from None
            except (ModbusException, OSError) as error:
                self._failed(link, " ".join(str(error).split()))
                raise DeviceError(f"{self.name}: {what}: {self._last_error}") from error
            except asyncio.CancelledError:
                link.drop()
                raise
            self._failures = 0
            if reply.isError():
                code = reply.exception_code
                reason = EXCEPTIONS.get(code, f"exception {code}")
                raise RefusedError(f"{self.name}: {what}: refused, {reason}")
            if registers is not None and len(reply.registers) != registers:
                link.drop()
                raise DeviceError(f"{self.name}: {what}: got {len(reply.registers)} instead of {registers}")
        return reply

    def _joined(self) -> _Link:
        """The link at this address, in whose users we are."""
        host, port = self._address
        link = _link_to(host, port)
        if link is not self._link:
            self.close()
            self._link = link
        link.join(self)
        return link

    def _refuse_in_pause(self, what: str) -> None:
        """Raise DeviceError while the pause after a failure lasts, also where others have a connection."""
        wait_seconds = self._retry_at_seconds - clock.monotonic()
        if wait_seconds > 0:
            next_try = f"not connected, next try in {wait_seconds:.1f} s"
            raise DeviceError(f"{self.name}: {what}: {next_try} ({self._last_error})")

    def _failed(self, link: _Link, reason: str) -> None:
        """End the connection, which takes it from the other units too; they connect again."""
        link.drop()
        self._last_error = reason
        pause = BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)]
        self._failures += 1
        self._retry_at_seconds = clock.monotonic() + pause
