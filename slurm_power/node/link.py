"""The outgoing connection to powerctld: TLS set up in a thread, then lines in the loop."""

import logging
import os
import select
import selectors
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from slurm_power import __version__, clock
from slurm_power.node.identity import Identity, digest
from slurm_power.wire import MAX_LINE_BYTES, PROTOCOL_VERSION, LineDecoder, Message, WireError, decode, encode

GREETING_SECONDS = 3.0
LEAST_BACKOFF_SECONDS = 0.25
MOST_BACKOFF_SECONDS = 4.0
# A controller that acknowledges nothing for so long is gone, whatever TCP still hopes.
USER_TIMEOUT_MILLISECONDS = 8000
MAX_UNSENT_BYTES = 4 * MAX_LINE_BYTES
MAX_KEPT_MESSAGES = 1000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeted:
    """A connection whose two ends have proved themselves, with what came after the welcome."""

    connection: ssl.SSLSocket
    decoder: LineDecoder
    lines: list[bytes]


class _RefusedError(WireError):
    """The controller answered, and does not want this certificate."""


def greet(address: tuple[str, int], node: str, identity: Identity, prove: Callable[[str], str]) -> Greeted:
    """Connect and prove both ends to each other. Blocks for a bounded time; raises OSError, WireError.

    A node without a certificate gets one first: ``prove`` makes a MUNGE credential of root's for the digest
    of a certificate request.
    """
    if not identity.certified:
        _enrol(address, node, identity, prove)
    try:
        connection, decoder, lines = _exchange(
            address,
            identity.context(),
            {"type": "hello", "version": PROTOCOL_VERSION, "software": __version__},
        )
    except (ssl.SSLError, ConnectionResetError, _RefusedError) as error:
        # Expired, forgotten, or of another authority: the next try asks for a new one.
        identity.discard()
        raise WireError(f"the controller does not take our certificate: {error}") from None
    welcome = decode(lines[0])
    if welcome.get("type") != "welcome":
        connection.close()
        raise WireError(f"no welcome but: {lines[0][:200]!r}")
    if welcome.get("node", node) != node:
        # A node that was renamed, or a copy of another's disk, must not go on in the other's name.
        identity.discard()
        connection.close()
        raise WireError(f"our certificate is that of {str(welcome['node'])[:64]!r}; asking for our own")
    return Greeted(connection=connection, decoder=decoder, lines=lines[1:])


def _enrol(address: tuple[str, int], node: str, identity: Identity, prove: Callable[[str], str]) -> None:
    """Get a certificate for this node's key; raises OSError, WireError."""
    request = identity.request()
    hello: Message = {
        "type": "enrol",
        "version": PROTOCOL_VERSION,
        "request": request,
        "credential": prove(digest(request)),
    }
    connection, _, lines = _exchange(address, identity.context(), hello)
    connection.close()
    answer = decode(lines[0])
    certificate = answer.get("certificate")
    if answer.get("type") != "certificate" or not isinstance(certificate, str):
        raise WireError(f"no certificate for {node} but: {lines[0][:200]!r}")
    identity.keep(certificate)
    log.info("got a certificate from the controller")


def _exchange(
    address: tuple[str, int], context: ssl.SSLContext, message: Message
) -> tuple[ssl.SSLSocket, LineDecoder, list[bytes]]:
    """Connect, send one message and wait for at least one line; raises OSError, WireError."""
    plain = socket.create_connection(address, timeout=GREETING_SECONDS)
    try:
        connection = context.wrap_socket(plain, server_hostname=address[0])
    except BaseException:
        plain.close()
        raise
    try:
        connection.sendall(encode(message))
        decoder = LineDecoder()
        lines: list[bytes] = []
        deadline = clock.monotonic() + GREETING_SECONDS
        while not lines:
            connection.settimeout(max(0.001, deadline - clock.monotonic()))
            data = connection.recv(65536)
            if not data:
                # In TLS 1.3 a server that does not take a certificate may say so by hanging up.
                raise _RefusedError("the controller hung up during the greeting")
            lines = decoder.feed(data)
        answer = decode(lines[0])
        if answer.get("type") == "refused":
            raise _RefusedError(str(answer.get("reason"))[:300])
    except BaseException:
        connection.close()
        raise
    return connection, decoder, lines


class ControllerLink:
    """Keep the connection up. Messages of weight are kept while it is down, telemetry is not."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        greeting: Callable[[], Greeted],
        *,
        wake: Callable[[], None],
        on_connect: Callable[[], None],
        on_message: Callable[[Message], None],
        on_loss: Callable[[], None],
    ) -> None:
        self._selector = selector
        self._greeting = greeting
        self._wake = wake
        self._on_connect = on_connect
        self._on_message = on_message
        self._on_loss = on_loss
        self._greeted: Greeted | None = None
        self._arrived: deque[Greeted | str] = deque()
        self._greeting_under_way = False
        self._outgoing = bytearray()
        self._kept: deque[Message] = deque(maxlen=MAX_KEPT_MESSAGES)
        self._backoff_seconds = LEAST_BACKOFF_SECONDS
        self._last_problem = ""
        self._closed = False
        self.next_attempt_seconds = 0.0

    @property
    def state(self) -> str:
        """``connected`` or ``disconnected``, with the last problem."""
        if self._greeted is not None:
            return "connected"
        return f"disconnected: {self._last_problem}" if self._last_problem else "disconnected"

    def poll(self, now_seconds: float) -> None:
        """Take over a finished greeting, start one that is due."""
        while self._arrived:
            self._greeting_under_way = False
            arrived = self._arrived.popleft()
            if isinstance(arrived, str):
                self._back_off(arrived, now_seconds)
            elif self._closed:
                arrived.connection.close()
            else:
                self._connected(arrived)
        waiting = self._greeted is None and not self._greeting_under_way and not self._closed
        if waiting and now_seconds >= self.next_attempt_seconds:
            self._greeting_under_way = True
            threading.Thread(target=self._greet, name="greeting", daemon=True).start()

    def send(self, message: Message, *, keep: bool) -> None:
        """Send a message; without a connection it is kept for the next one, or dropped."""
        if self._greeted is None:
            if keep:
                self._kept.append(message)
            return
        if len(self._outgoing) > MAX_UNSENT_BYTES:
            self._lose("the controller takes nothing any more")
            return
        self._outgoing += encode(message)
        self._flush()

    def drain(self, patience_seconds: float) -> None:
        """Wait until everything is sent, for a while."""
        deadline = clock.monotonic() + patience_seconds
        while self._greeted is not None and self._outgoing and clock.monotonic() < deadline:
            self._flush()
            if self._greeted is not None:
                select.select([], [self._greeted.connection], [], 0.05)

    def close(self) -> None:
        """Hang up for good."""
        self._closed = True
        if self._greeted is not None:
            self._lose("closing")

    def _greet(self) -> None:
        try:
            self._arrived.append(self._greeting())
        except (OSError, WireError) as error:
            self._arrived.append(str(error) or type(error).__name__)
        self._wake()

    def _connected(self, greeted: Greeted) -> None:
        connection = greeted.connection
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MILLISECONDS)
        self._greeted = greeted
        self._outgoing.clear()
        self._last_problem = ""
        self._selector.register(connection, selectors.EVENT_READ, self._ready)
        log.info("connected to the controller")
        self._on_connect()
        while self._kept and self._greeted is greeted:
            self.send(self._kept.popleft(), keep=True)
        self._take(greeted, greeted.lines)

    def _ready(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._flush()
        greeted = self._greeted
        if greeted is None or not mask & selectors.EVENT_READ:
            return
        # What TLS has decrypted already no selector shows: read until it has nothing left.
        while self._greeted is greeted:
            try:
                data = greeted.connection.recv(1 << 18)
                if not data:
                    raise WireError("the controller hung up")
                lines = greeted.decoder.feed(data)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except (OSError, WireError) as error:
                self._lose(str(error))
                return
            self._take(greeted, lines)

    def _take(self, greeted: Greeted, lines: list[bytes]) -> None:
        for line in lines:
            if self._greeted is not greeted:
                return
            try:
                message = decode(line)
            except WireError as error:
                self._lose(str(error))
                return
            self._backoff_seconds = LEAST_BACKOFF_SECONDS
            self._on_message(message)

    def _flush(self) -> None:
        if self._greeted is None:
            return
        try:
            sent = self._greeted.connection.send(self._outgoing) if self._outgoing else 0
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            sent = 0
        except OSError as error:
            self._lose(str(error))
            return
        del self._outgoing[:sent]
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outgoing else 0)
        if self._selector.get_key(self._greeted.connection).events != events:
            self._selector.modify(self._greeted.connection, events, self._ready)

    def _lose(self, problem: str) -> None:
        greeted, self._greeted = self._greeted, None
        if greeted is None:
            return
        with suppress(KeyError, ValueError):
            self._selector.unregister(greeted.connection)
        greeted.connection.close()
        self._outgoing.clear()
        self._back_off(problem, clock.monotonic())
        self._on_loss()

    def _back_off(self, problem: str, now_seconds: float) -> None:
        """Wait for longer after each failure, and never in step with the other nodes."""
        if problem != self._last_problem:
            log.warning("no controller: %s", problem)
        self._last_problem = problem
        jitter = 0.5 + 0.5 * os.urandom(1)[0] / 255.0
        self.next_attempt_seconds = now_seconds + self._backoff_seconds * jitter
        self._backoff_seconds = min(2 * self._backoff_seconds, MOST_BACKOFF_SECONDS)
