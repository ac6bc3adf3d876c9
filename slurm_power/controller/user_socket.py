"""The Unix socket for users and operators: status, ledger, events. Who asks is what the kernel says."""

import asyncio
import logging
import os
import pwd
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slurm_power.wire import Message, WireError, decode, encode

log = logging.getLogger(__name__)

_REQUEST_SECONDS = 5.0
_MOST_REQUEST_BYTES = 65_536
# Each caller costs a file descriptor. One user must not take those that operators, nodes and devices need.
_MOST_CALLERS_OF_A_USER = 16
_MOST_CALLERS = 256


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end of a Unix socket, by the kernel's word."""

    uid: int

    @property
    def operator(self) -> bool:
        """Root and the controller's own user see and may do everything."""
        return self.uid in {0, os.getuid()}

    @property
    def user(self) -> str:
        """The caller's name, or the bare uid where it has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)


class RefusedError(Exception):
    """A request that is not granted; the text is for the caller."""


class UserSocket:
    """One request, one answer, hang up. ``answer`` raises RefusedError for what it will not do."""

    def __init__(self, path: Path, answer: Callable[[Message, Caller], Message]) -> None:
        self._path = path
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._callers: Counter[int] = Counter()

    async def start(self) -> None:
        """Listen; a socket file left by a dead controller is replaced."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=_MOST_REQUEST_BYTES)
        self._path.chmod(0o666)  # everybody may ask; what they get depends on who they are

    async def stop(self) -> None:
        """Stop listening and remove the socket file."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = _caller(writer)
        if self._too_many(caller):
            writer.transport.abort()
            return
        self._callers[caller.uid] += 1
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                line = await reader.readuntil(b"\n")
                writer.write(encode(self._reply(line, caller)))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, EOFError, ConnectionError, asyncio.LimitOverrunError) as error:
            # Anybody can bring this about as often as they like: not for the log.
            log.debug("user socket: uid %d: %s", caller.uid, type(error).__name__)
        finally:
            # One that does not read its answer must not keep it here.
            writer.transport.abort()
            self._callers[caller.uid] -= 1
            self._callers += Counter()  # forgets who has none left

    def _too_many(self, caller: Caller) -> bool:
        if caller.operator:
            return False
        others = sum(count for uid, count in self._callers.items() if not Caller(uid).operator)
        return self._callers[caller.uid] >= _MOST_CALLERS_OF_A_USER or others >= _MOST_CALLERS

    def _reply(self, line: bytes, caller: Caller) -> Message:
        try:
            line.decode()
            return {"ok": True, **self._answer(decode(line), caller)}
        except UnicodeError:
            # Also what JSON can write and no file can store: halves of characters.
            return {"ok": False, "error": "the request is no UTF-8 text"}
        except (RefusedError, WireError) as error:
            return {"ok": False, "error": str(error)}


def _caller(writer: asyncio.StreamWriter) -> Caller:
    connection: socket.socket = writer.get_extra_info("socket")
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return Caller(uid=struct.unpack("3i", packed)[1])
