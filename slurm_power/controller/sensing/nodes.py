"""The TCP side: node daemons come in over TLS, get a certificate once, and stay connected both ways.

Hints of psbatch come to the same port without TLS: the first byte of a connection tells them apart, and
nothing is taken off it before. They carry nothing that is trusted.
"""

import asyncio
import asyncio.sslproto
import hashlib
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from slurm_power import clock
from slurm_power.controller.sensing.authority import Authority
from slurm_power.munge import MungeError, munge_decode
from slurm_power.ports import StoreError
from slurm_power.wire import MAX_LINE_BYTES, PROTOCOL_VERSION, LineDecoder, Message, WireError, decode, encode

log = logging.getLogger(__name__)

_GREETING_SECONDS = 5.0
_SILENCE_SECONDS = 30.0
_SWEEP_SECONDS = 5.0
# A node that does not drain its socket is dropped instead of filling our memory.
_MOST_UNSENT_BYTES = 4 * MAX_LINE_BYTES
_TLS_RECORD = b"\x16"
_HINT_BYTES = 4096
# Whoever has not proved anything yet may make us keep so much of a line, and no more.
_GREETING_BYTES = 64 * 1024
_BACKLOG = 4096
# asyncio reserves 256 KiB a TLS connection; a report of a node is a few KiB.
_TLS_BUFFER_BYTES = 16 * 1024
asyncio.sslproto.SSLProtocol.max_size = _TLS_BUFFER_BYTES  # there is no public way


class NodeLinks:
    """All connected nodes. ``on_message`` gets (node, message), ``on_change`` (node, connected)."""

    def __init__(
        self,
        *,
        known_nodes: frozenset[str],
        node_uid: int,
        munge_socket: str | None,
        authority: Authority,
        on_message: Callable[[str, Message], None],
        on_change: Callable[[str, bool], None],
        on_hint: Callable[[], None],
        on_refusal: Callable[[str, str], None],
    ) -> None:
        """``on_refusal`` gets (who, why) for everybody who is turned away."""
        self.known_nodes = known_nodes
        self.authority = authority
        self.on_message = on_message
        self._on_change = on_change
        self._on_hint = on_hint
        self.on_refusal = on_refusal
        self._node_uid = node_uid
        self._munge_socket = munge_socket
        self._connections: dict[str, _NodeConnection] = {}
        self._open: set[_NodeConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._context: ssl.SSLContext | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen; raises OSError when the address is taken."""
        family = (await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM))[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        self._listener = listener
        self._context = self.authority.server_context()
        self.start_task(self._accept(listener))
        self.start_task(self._sweep())

    @property
    def port(self) -> int:
        """The port that is listened on, also when any free one was asked for."""
        assert self._listener is not None
        port: int = self._listener.getsockname()[1]
        return port

    def start_task(self, work: "asyncio._CoroutineLike[None]") -> None:
        """Run something on the side until ``stop``."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Hang up on all nodes and stop listening."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self._open):
            connection.hang_up()
        await asyncio.sleep(0)

    async def drain(self) -> None:
        """Wait until what was sent is on its way, as far as the nodes take it within a second."""
        deadline = clock.monotonic() + 1.0
        while any(connection.unsent_bytes() for connection in self._connections.values()):
            if clock.monotonic() > deadline:
                log.warning("not every node took its last message in time")
                return
            await asyncio.sleep(0.01)

    def connected(self) -> tuple[str, ...]:
        """Nodes connected now."""
        return tuple(self._connections)

    def software(self) -> dict[str, str]:
        """The version of slurm-power that each connected node runs; empty where it did not say."""
        return {node: connection.software for node, connection in self._connections.items()}

    def send(self, node: str, message: Message) -> bool:
        """Push a message to a node; False if it is not connected."""
        connection = self._connections.get(node)
        if connection is None or connection.closing():
            return False
        if connection.unsent_bytes() > _MOST_UNSENT_BYTES:
            log.warning("%s does not take what it is sent: dropped", node)
            connection.abort()
            return False
        connection.write(message)
        return True

    def forget(self, node: str) -> bool:
        """Drop a node's pinned key and its connection; False if none was pinned."""
        known = self.authority.forget(node)
        connection = self._connections.get(node)
        if connection is not None:
            connection.abort()
        return known

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("accept: %s", error)
                await asyncio.sleep(0.1)
                continue
            connection.setblocking(False)
            self.start_task(self._sort(connection, f"{peer[0]}:{peer[1]}"))

    async def _sort(self, connection: socket.socket, peer: str) -> None:
        """Give a connection to who is there for it, by its first byte."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_GREETING_SECONDS):
                await _readable(connection)
                first = connection.recv(1, socket.MSG_PEEK)
                if first != _TLS_RECORD:
                    await self._hinted(connection, peer)
                    return
                assert self._context is not None
                await loop.connect_accepted_socket(
                    lambda: _NodeConnection(self, peer), connection, ssl=self._context
                )
        except (OSError, TimeoutError) as error:
            # An SSLError is an OSError: whoever cannot do our TLS is nobody to talk to.
            if not isinstance(error, ConnectionError):
                self.on_refusal(peer, str(error) or "said nothing in time")
            connection.close()

    async def _hinted(self, connection: socket.socket, peer: str) -> None:
        loop = asyncio.get_running_loop()
        with connection:
            data = b""
            while b"\n" not in data and len(data) < _HINT_BYTES:
                piece = await loop.sock_recv(connection, _HINT_BYTES)
                if not piece:
                    break
                data += piece
            with suppress(WireError):
                if b"\n" in data and decode(data.partition(b"\n")[0]).get("type") == "submitting":
                    self._on_hint()
                    await loop.sock_sendall(connection, encode({"type": "noted"}))
                    return
            if data:
                self.on_refusal(peer, "no TLS and no hint")

    async def _sweep(self) -> None:
        """Hang up on whoever has been silent for too long."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now_seconds = clock.monotonic()
            for connection in list(self._open):
                # Before the greeting words that drip in are no sign of life.
                if connection.node:
                    late = now_seconds - connection.heard_seconds > _SILENCE_SECONDS
                else:
                    late = now_seconds - connection.opened_seconds > _GREETING_SECONDS
                if late:
                    self.on_refusal(connection.node or connection.peer, "silent")
                    connection.abort()

    def opened(self, connection: "_NodeConnection") -> None:
        """TLS is up."""
        self._open.add(connection)

    def greeted(self, node: str, connection: "_NodeConnection") -> None:
        """A node has proved itself; an older connection of it counts no more."""
        old = self._connections.get(node)
        self._connections[node] = connection
        if old is not None:
            old.abort()
        self._on_change(node, True)

    def closed(self, connection: "_NodeConnection") -> None:
        """A connection has ended; the node is gone unless it has come back on another one."""
        self._open.discard(connection)
        if connection.node and self._connections.get(connection.node) is connection:
            del self._connections[connection.node]
            self._on_change(connection.node, False)

    async def enrol(self, connection: "_NodeConnection", message: Message) -> None:
        """Give a node its certificate, if MUNGE says that it is root's on one of our nodes."""
        try:
            node, certificate, fresh = await self._certified(message)
        except (WireError, MungeError, StoreError, ValueError) as error:
            self.on_refusal(connection.peer, f"no certificate: {error}")
            connection.write({"type": "refused", "reason": str(error)})
        else:
            log.info("%s: %s certificate for %s", connection.peer, "first" if fresh else "new", node)
            connection.write({"type": "certificate", "certificate": certificate})
        connection.hang_up()

    async def _certified(self, message: Message) -> tuple[str, str, bool]:
        request = message.get("request")
        if not isinstance(request, str):
            raise WireError("request: missing")
        proof = await asyncio.to_thread(
            munge_decode, str(message.get("credential")), socket=self._munge_socket
        )
        if proof.uid != self._node_uid:
            raise WireError(f"uid {proof.uid} is not the node daemon's {self._node_uid}")
        said = decode(proof.payload.encode())
        node = str(said.get("node"))
        if said.get("request") != _digest(request):
            raise WireError("the credential is for another request")
        if node not in self.known_nodes:
            raise WireError(f"node {node!r} is on no circuit of site.toml")
        return node, *self.authority.issue(node, request, clock.now())


def _digest(request_pem: str) -> str:
    return hashlib.sha256(request_pem.encode()).hexdigest()


async def _readable(connection: socket.socket) -> None:
    """Wait until something can be read, and leave it there."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def note() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(connection, note)
    try:
        await ready
    finally:
        loop.remove_reader(connection)


class _NodeConnection(asyncio.Protocol):
    """One TLS connection, from its first message to its end."""

    def __init__(self, links: NodeLinks, peer: str) -> None:
        self._links = links
        self.peer = peer
        self.node = self.software = ""
        self.opened_seconds = self.heard_seconds = clock.monotonic()
        self._decoder = LineDecoder(_GREETING_BYTES)
        self._transport: asyncio.Transport | None = None
        self._enrolling = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._links.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the reason was told already
        self._links.closed(self)

    def data_received(self, data: bytes) -> None:
        self.heard_seconds = clock.monotonic()
        try:
            for line in self._decoder.feed(data):
                self._take(decode(line))
        except (WireError, KeyError, ValueError) as error:
            self._links.on_refusal(self.node or self.peer, f"{error}; hung up")
            if not self.node:
                self.write({"type": "refused", "reason": str(error)})
                self.hang_up()
            else:
                self.abort()

    def _take(self, message: Message) -> None:
        if self.node:
            self._links.on_message(self.node, message)
        elif self._enrolling:
            raise WireError("one request at a time")
        elif message.get("version") != PROTOCOL_VERSION:
            raise WireError(f"this controller speaks version {PROTOCOL_VERSION} of the protocol")
        elif message.get("type") == "enrol":
            self._enrolling = True
            self._links.start_task(self._links.enrol(self, message))
        elif message.get("type") == "hello":
            self.software = str(message.get("software", ""))[:40]
            self._greet()
        else:
            raise WireError("expected a hello")

    def _greet(self) -> None:
        assert self._transport is not None
        tls = self._transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True)
        if certificate is None:
            raise WireError("a node needs its certificate")
        node = self._links.authority.node_of(certificate, clock.now())
        if node not in self._links.known_nodes:
            raise WireError(f"node {node!r} is on no circuit of site.toml")
        self.write({"type": "welcome", "version": PROTOCOL_VERSION, "node": node})
        self.node = node
        self._decoder.max_line_bytes = MAX_LINE_BYTES
        self._links.greeted(node, self)

    def write(self, message: Message) -> None:
        """Send a message."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(message))

    def unsent_bytes(self) -> int:
        """What waits to be sent."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def closing(self) -> bool:
        """Whether the end has begun."""
        return self._transport is None or self._transport.is_closing()

    def hang_up(self) -> None:
        """Send what is left, then close."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
