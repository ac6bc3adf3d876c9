"""HAProxy's runtime API: a line of commands to its admin socket, its answer read to the end."""

import asyncio
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

TIMEOUT_SECONDS = 2.0
CHECK = "inter 500ms fall 2 rise 1"
_MOST_ANSWER_BYTES = 4 << 20
# Bits of srv_admin_state in `show servers state`: whatever keeps a server in maintenance, or in drain.
_MAINTENANCE = 0x01 | 0x02 | 0x04 | 0x20 | 0x40
_DRAIN = 0x08 | 0x10


class HaproxyError(Exception):
    """HAProxy is not there, does not answer in time, or does not do what it was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerWish:
    """A server as HAProxy is to know it. ``ready`` False: checked, and sent nothing (``drain``)."""

    name: str
    address: str
    order: int
    ready: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSeen:
    """A server as HAProxy has it. ``up`` is its health check's word, None before the first one.

    ``address`` is HOST:PORT as HAProxy has it. ``open_streams`` counts requests and streams that are under
    way, a streamed body until its last byte.
    """

    name: str
    address: str
    ready: bool
    maintenance: bool
    up: bool | None
    open_streams: int


class Runtime(Protocol):
    """What the gateway needs of a proxy. All calls raise HaproxyError."""

    async def servers(self, backend: str) -> dict[str, ServerSeen]:
        """All servers of a backend by name."""

    async def apply(self, backend: str, wishes: list[ServerWish], seen: dict[str, ServerSeen]) -> None:
        """Bring a backend's servers to what is wished, those that begin to serve first."""

    async def request_rate(self, frontend: str) -> float | None:
        """Requests per second that a frontend got in the last second."""


class Haproxy:
    """One HAProxy by its admin socket."""

    def __init__(self, socket_path: Path, *, check: str = CHECK) -> None:
        self._socket_path = socket_path
        self._check = check

    async def command(self, *commands: str) -> str:
        """Send commands in one line and return all they print; raises HaproxyError."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._socket_path)
                try:
                    writer.write(";".join(commands).encode() + b"\n")
                    await writer.drain()
                    answer = await reader.read(_MOST_ANSWER_BYTES)
                    while chunk := await reader.read(_MOST_ANSWER_BYTES):
                        answer += chunk
                finally:
                    writer.close()
        except TimeoutError:
            raise HaproxyError(f"HAProxy at {self._socket_path} does not answer") from None
        except OSError as error:
            raise HaproxyError(f"HAProxy at {self._socket_path}: {error.strerror or error}") from None
        return answer.decode(errors="replace")

    async def process_id(self) -> int:
        """The process that answers; raises HaproxyError."""
        for line in (await self.command("show info")).splitlines():
            name, _, value = line.partition(":")
            if name == "Pid" and value.strip().isdecimal():
                return int(value)
        raise HaproxyError(f"HAProxy at {self._socket_path} does not say its process id")

    async def servers(self, backend: str) -> dict[str, ServerSeen]:
        """All servers of a backend by name."""
        # The status hides what was ordered where a server is down, the state does not count streams: both.
        printed = await self.command(f"show servers state {backend}", f"show stat {backend} 4 -1")
        states, _, stats = printed.partition("# pxname,")
        if "srv_admin_state" not in states or not stats:
            raise HaproxyError(f"show servers state {backend}: {printed.strip()[:200]}")
        _, head, *rows = states.strip().splitlines()
        columns = head.lstrip("# ").split()
        admin = {}
        for row in rows:
            values = dict(zip(columns, row.split(), strict=False))
            admin[values["srv_name"]] = int(values["srv_admin_state"])
        found = {}
        for stat in csv.DictReader(("pxname," + stats).strip().splitlines()):
            name = stat["svname"]
            if stat["pxname"] != backend or name not in admin:
                continue
            maintenance = bool(admin[name] & _MAINTENANCE)
            found[name] = ServerSeen(
                name=name,
                address=stat.get("addr", ""),
                ready=not admin[name] & (_MAINTENANCE | _DRAIN),
                maintenance=maintenance,
                up=None if maintenance else _up(stat.get("status", ""), stat.get("check_status", "")),
                open_streams=int(stat.get("scur") or 0),
            )
        return found

    async def request_rate(self, frontend: str) -> float | None:
        """Requests per second that a frontend got in the last second."""
        printed = await self.command(f"show stat {frontend} 1 -1")
        for row in csv.DictReader(printed.lstrip("# ").strip().splitlines()):
            if row.get("pxname") == frontend and row.get("req_rate"):
                return float(row["req_rate"])
        return None

    async def apply(self, backend: str, wishes: list[ServerWish], seen: dict[str, ServerSeen]) -> None:
        """Bring a backend's servers to what is wished, those that begin to serve first.

        A server that is not wished any more has its last streams ended and is deleted. What HAProxy does
        not do now is tried again with the next look.
        """
        for wish in sorted(wishes, key=lambda wish: not wish.ready):
            known = seen.get(wish.name)
            if known is not None and not known.maintenance and known.address != wish.address:
                await self._delete(backend, wish.name)
                known = None
            if known is None:
                await self._add(backend, wish)
            state = "ready" if wish.ready else "drain"
            if known is None or known.up is None:
                # Again where nothing was checked yet: whoever added it may have died before this.
                await self._told(f"enable health {backend}/{wish.name}")
            if known is None or known.maintenance or known.ready != wish.ready:
                await self._told(f"set server {backend}/{wish.name} state {state}")
        for name in seen.keys() - {wish.name for wish in wishes}:
            await self._delete(backend, name)

    async def _add(self, backend: str, wish: ServerWish) -> None:
        server = f"{backend}/{wish.name}"
        said = await self.command(f"add server {server} {wish.address} id {wish.order} check {self._check}")
        if "registered" not in said:
            raise HaproxyError(f"add server {server}: {said.strip()}")

    async def _delete(self, backend: str, name: str) -> None:
        server = f"{backend}/{name}"
        await self._told(f"set server {server} state maint")
        await self._told(f"shutdown sessions server {server}")
        said = await self.command(f"del server {server}")
        if "deleted" not in said:
            raise HaproxyError(f"del server {server}: {said.strip()}")

    async def _told(self, command: str) -> None:
        """Send a command that says nothing where it was done."""
        said = (await self.command(command)).strip()
        if said:
            raise HaproxyError(f"{command}: {said}")


def _up(status: str, check: str) -> bool | None:
    """Whether the health check is content: the status alone says nothing of a server that drains."""
    result = check.lstrip("* ")
    if result.endswith("OK"):
        return not status.startswith("DOWN")
    return None if result in {"", "INI", "UNK"} else False
