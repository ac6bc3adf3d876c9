"""The outgoing connection to powerctld: greeting with MUNGE in a thread, then signed lines in the loop."""

import json
import logging
import random
import secrets
import select
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from slurm_power import clock
from slurm_power.wire import (
    MAX_LINE_BYTES,
    PROTOCOL_VERSION,
    LineDecoder,
    Message,
    SignedChannel,
    WireError,
    decode,
    encode,
    munge_decode,
    munge_encode,
)

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

    connection: socket.socket
    channel: SignedChannel
    decoder: LineDecoder
    lines: list[bytes]


def greet(address: tuple[str, int], node: str, *, controller_uid: int, munge_socket: str | None) -> Greeted:
    """Connect and prove both ends to each other. Blocks for a bounded time; raises OSError, WireError."""
    connection = socket.create_connection(address, timeout=GREETING_SECONDS)
    try:
        nonce = secrets.token_hex(16)
        credential = munge_encode(json.dumps({"node": node, "nonce": nonce}), socket=munge_socket)
        hello: Message = {"type": "hello", "version": PROTOCOL_VERSION, "credential": credential}
        connection.sendall(encode(hello))
        decoder = LineDecoder()
        lines: list[bytes] = []
        deadline = clock.monotonic() + GREETING_SECONDS
        while not lines:
            connection.settimeout(max(0.001, deadline - clock.monotonic()))
            data = connection.recv(65536)
            if not data:
                raise WireError("the controller hung up during the greeting")
            lines = decoder.feed(data)
        key = _session_key(decode(lines[0]), node, nonce, controller_uid, munge_socket)
        channel = SignedChannel(key=key, sending="node", receiving="controller")
        return Greeted(connection=connection, channel=channel, decoder=decoder, lines=lines[1:])
    except BaseException:
        connection.close()
        raise


def _session_key(
    welcome: Message, node: str, nonce: str, controller_uid: int, munge_socket: str | None
) -> bytes:
    """Check the controller's answer and return the key in it; raises WireError."""
    text = welcome.get("credential")
    if welcome.get("type") != "welcome" or not isinstance(text, str):
        raise WireError(f"no welcome but: {str(welcome)[:200]}")
    credential = munge_decode(text, socket=munge_socket)
    if credential.uid != controller_uid:
        raise WireError(f"the welcome comes from uid {credential.uid}, not from {controller_uid}")
    payload = decode(credential.payload.encode())
    if payload.get("node") != node or payload.get("nonce") != nonce:
        raise WireError("the welcome answers somebody else's hello")
    try:
        key = bytes.fromhex(str(payload.get("key")))
    except ValueError:
        key = b""
    if len(key) < 16:
        raise WireError("the welcome carries no key")
    return key


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
        self._outgoing += self._greeted.channel.seal(message)
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
            self._arrived.append(str(error))
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
        try:
            data = greeted.connection.recv(1 << 18)
            if not data:
                raise WireError("the controller hung up")
            lines = greeted.decoder.feed(data)
        except BlockingIOError:
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
                message = greeted.channel.open(line)
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
        except BlockingIOError:
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
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads reconnections, keeps no secret
        self.next_attempt_seconds = now_seconds + self._backoff_seconds * jitter
        self._backoff_seconds = min(2 * self._backoff_seconds, MOST_BACKOFF_SECONDS)
