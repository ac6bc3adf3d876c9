"""The Unix socket for users and operators: status, ledger, events. Who asks is what the kernel says."""

import asyncio
import logging
import os
import pwd
import socket
import struct
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from slurm_power import clock
from slurm_power.controller.answers.behalf import Behalf, BehalfError, behalf_of
from slurm_power.model.role import Role
from slurm_power.wire import Message, WireError, decode, encode

log = logging.getLogger(__name__)

_REQUEST_SECONDS = 5.0
_MOST_REQUEST_BYTES = 65_536
# Each caller costs a file descriptor. One user must not take those that operators, nodes and devices need.
_MOST_CALLERS_OF_A_USER = 16
_MOST_CALLERS = 256
# The control's loop answers. A user who asks again and again gets this share of it, on however many lines.
_MOST_OF_LOOP_RATIO = 0.2
_LONGEST_TURN_SECONDS = 2.0
# Behind users' names may be a directory service, which may hang: the control's loop must not wait for it.
_NAMES_AT_ONCE = 4
_NAMED_SECONDS = 10.0
_MOST_NAMED = 1000


# What an answer is: a message, or what writes its line in another thread because it takes a while.
Answer: TypeAlias = Message | Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end of a Unix socket, by the kernel's word, or whom that one speaks for.

    ``name`` is that of the uid where it has been looked up already.
    """

    uid: int
    behalf: Behalf | None = None
    name: str | None = None

    @property
    def operator(self) -> bool:
        """Root and the controller's own user see and may do everything, and for operators they do it."""
        own = self.uid in {0, os.getuid()}
        return own and (self.behalf is None or self.behalf.role is Role.OPERATOR)

    @property
    def sees_all(self) -> bool:
        """Whether other users' names and jobs are told: to operators and auditors."""
        return self.operator or (self.behalf is not None and self.behalf.role is Role.AUDITOR)

    @property
    def user(self) -> str:
        """The caller's name, or the bare uid where it has none."""
        if self.behalf is not None:
            return self.behalf.name
        return _name_of(self.uid) if self.name is None else self.name

    @property
    def who(self) -> str:
        """The caller as the ledger names it: ``alice``, ``alice (web)``, ``signal:openadr3``."""
        return self.user if self.behalf is None else self.behalf.who


def _name_of(uid: int) -> str:
    """A user's name, or the bare uid where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


class RefusedError(Exception):
    """A request that is not granted; the text is for the caller."""


class UserSocket:
    """One request, one answer, hang up. ``answer`` raises RefusedError for what it will not do."""

    def __init__(self, path: Path, answer: Callable[[Message, Caller], Answer]) -> None:
        self._path = path
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._callers: Counter[int] = Counter()
        self._turns: dict[int, float] = {}
        self._own_names: dict[int, str] = {}
        self._names: dict[int, tuple[float, str]] = {}
        self._namers = ThreadPoolExecutor(_NAMES_AT_ONCE, "names")

    async def start(self) -> None:
        """Listen; a socket file left by a dead controller is replaced."""
        # Before anybody waits, and for good: operators are answered whatever becomes of a directory service.
        self._own_names = {uid: _name_of(uid) for uid in (0, os.getuid())}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=_MOST_REQUEST_BYTES)
        self._path.chmod(0o666)  # everybody may ask; what they get depends on who they are

    async def stop(self) -> None:
        """Stop listening and remove the socket file."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        self._namers.shutdown(wait=False, cancel_futures=True)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = _caller(writer)
        if self._too_many(caller):
            writer.transport.abort()
            return
        self._callers[caller.uid] += 1
        told = False
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                line = await reader.readuntil(b"\n")
                named = replace(caller, name=await self._name(caller.uid))
                reply = await self._in_turn(line, named)
                # A caller that hangs up meanwhile does not stop the thread, which ends by itself.
                writer.write(encode(reply) if isinstance(reply, dict) else await asyncio.to_thread(reply))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
                told = True
        except (TimeoutError, EOFError, ConnectionError, asyncio.LimitOverrunError) as error:
            # Anybody can bring this about as often as they like: not for the log.
            log.debug("user socket: uid %d: %s", caller.uid, type(error).__name__)
        finally:
            # One that does not read its answer must not keep it here. What was closed after a long answer
            # can no longer be aborted: asyncio stumbles over it.
            if not told:
                writer.transport.abort()
            self._callers[caller.uid] -= 1
            self._callers += Counter()  # forgets who has none left

    async def _name(self, uid: int) -> str:
        if uid in self._own_names:
            return self._own_names[uid]
        until_seconds, name = self._names.get(uid, (0.0, ""))
        if clock.monotonic() >= until_seconds:
            name = await asyncio.get_running_loop().run_in_executor(self._namers, _name_of, uid)
            if len(self._names) >= _MOST_NAMED:
                self._names.clear()
            self._names[uid] = clock.monotonic() + _NAMED_SECONDS, name
        return name

    async def _in_turn(self, line: bytes, caller: Caller) -> Answer:
        """The reply, once the user has let others' work go on for as long as their last answers took."""
        if caller.operator:
            return self._reply(line, caller)
        while (wait_seconds := self._turns.get(caller.uid, 0.0) - clock.monotonic()) > 0.0:  # noqa: ASYNC110  # it is known when
            await asyncio.sleep(wait_seconds)
        began = clock.monotonic()
        reply = self._reply(line, caller)
        ended = clock.monotonic()
        pause_seconds = (ended - began) * (1.0 / _MOST_OF_LOOP_RATIO - 1.0)
        self._turns = {uid: until for uid, until in self._turns.items() if until > ended}
        self._turns[caller.uid] = ended + min(pause_seconds, _LONGEST_TURN_SECONDS)
        return reply

    def _too_many(self, caller: Caller) -> bool:
        if caller.operator:
            return False
        others = sum(count for uid, count in self._callers.items() if not Caller(uid).operator)
        return self._callers[caller.uid] >= _MOST_CALLERS_OF_A_USER or others >= _MOST_CALLERS

    def _reply(self, line: bytes, caller: Caller) -> Answer:
        try:
            line.decode()
            request = decode(line)
            answer = self._answer(request, _speaking_for(caller, request))
            return {"ok": True, **answer} if isinstance(answer, dict) else answer
        except UnicodeError:
            # Also what JSON can write and no file can store: halves of characters.
            return {"ok": False, "error": "the request is no UTF-8 text"}
        except (RefusedError, WireError) as error:
            return {"ok": False, "error": str(error)}


def _speaking_for(caller: Caller, request: Message) -> Caller:
    """The caller, or whom it speaks for with ``for``; raises RefusedError for all but operators."""
    if request.get("for") is None:
        return caller
    if not caller.operator:
        raise RefusedError("for: only root and the controller's own user may speak for somebody")
    try:
        return Caller(caller.uid, behalf_of(request["for"]))
    except BehalfError as error:
        raise RefusedError(str(error)) from None


def _caller(writer: asyncio.StreamWriter) -> Caller:
    connection: socket.socket = writer.get_extra_info("socket")
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return Caller(uid=struct.unpack("3i", packed)[1])
