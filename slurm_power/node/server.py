"""The Unix socket for hooks and users: one bounded request, one answer; the kernel says who is calling."""

import logging
import selectors
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from slurm_power import clock
from slurm_power.wire import LineDecoder, Message, WireError, decode, encode

MAX_REQUEST_BYTES = 64 * 1024
CLIENT_SECONDS = 2.0
# Root's hooks have places of their own, so that no user can take them all.
MAX_USER_CLIENTS = 16
MAX_ROOT_CLIENTS = 128

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class Client:
    """One caller. ``answered`` turns True when its answer is under way."""

    connection: socket.socket
    uid: int
    deadline_seconds: float
    decoder: LineDecoder = field(default_factory=lambda: LineDecoder(MAX_REQUEST_BYTES))
    outgoing: bytes = b""
    asked: bool = False
    answered: bool = False


class HookServer:
    """Serve the socket from a selector's loop; ``handle`` answers a request, now or later, by ``answer``."""

    def __init__(
        self,
        listener: socket.socket,
        selector: selectors.BaseSelector,
        handle: Callable[[Client, Message], None],
    ) -> None:
        self._listener = listener
        self._selector = selector
        self._handle = handle
        self._clients: set[Client] = set()

    def open(self) -> None:
        """Begin to accept callers."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, lambda _: self._accept(self._listener))

    def close(self) -> None:
        """Accept nobody any more and drop all callers."""
        for client in list(self._clients):
            self._hang_up(client)
        self._selector.unregister(self._listener)
        self._listener.close()

    def expire(self, now_seconds: float) -> None:
        """Hang up on callers that are too slow."""
        for client in [client for client in self._clients if now_seconds >= client.deadline_seconds]:
            self._hang_up(client)

    def next_deadline(self) -> float | None:
        """When `expire` has something to do next."""
        return min((client.deadline_seconds for client in self._clients), default=None)

    def answer(self, client: Client, message: Message | bytes) -> None:
        """Send the one answer, bytes as they are; a caller that has gone is no matter."""
        if client in self._clients and not client.answered:
            client.answered = True
            client.outgoing = message if isinstance(message, bytes) else encode(message)
            self._send(client)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError as error:
            log.debug("accept: %s", error)
            return
        connection.setblocking(False)
        uid = peer_uid(connection)
        peers = sum(1 for client in self._clients if (client.uid == 0) == (uid == 0))
        if peers >= (MAX_ROOT_CLIENTS if uid == 0 else MAX_USER_CLIENTS):
            connection.close()
            return
        client = Client(connection=connection, uid=uid, deadline_seconds=clock.monotonic() + CLIENT_SECONDS)
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, lambda mask: self._ready(client, mask))

    def _ready(self, client: Client, mask: int) -> None:
        if client not in self._clients:
            return
        if mask & selectors.EVENT_WRITE:
            self._send(client)
        elif mask & selectors.EVENT_READ:
            self._receive(client)

    def _receive(self, client: Client) -> None:
        try:
            data = client.connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up(client)
            return
        if client.asked:
            return
        try:
            lines = client.decoder.feed(data)
            if not lines:
                return
            client.asked = True
            request = decode(lines[0])
        except WireError as error:
            client.asked = True
            self.answer(client, {"ok": False, "error": str(error)})
            return
        self._handle(client, request)

    def _send(self, client: Client) -> None:
        try:
            sent = client.connection.send(client.outgoing)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._hang_up(client)
            return
        client.outgoing = client.outgoing[sent:]
        if not client.outgoing:
            self._hang_up(client)
        else:
            self._selector.modify(
                client.connection, selectors.EVENT_WRITE, lambda mask: self._ready(client, mask)
            )

    def _hang_up(self, client: Client) -> None:
        self._clients.discard(client)
        with suppress(KeyError, ValueError):
            self._selector.unregister(client.connection)
        client.connection.close()


def peer_uid(connection: socket.socket) -> int:
    """User id of the process at the other end, as the kernel knows it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)
