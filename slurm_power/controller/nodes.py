"""The TCP side: node daemons come in, prove themselves by MUNGE, and stay connected both ways."""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

from slurm_power.wire import (
    MAX_LINE_BYTES,
    PROTOCOL_VERSION,
    Message,
    SignedChannel,
    WireError,
    decode,
    encode,
    munge_decode,
    munge_encode,
    new_session_key,
)

log = logging.getLogger(__name__)

_GREETING_SECONDS = 5.0
_SILENCE_SECONDS = 30.0
# A node that does not drain its socket is dropped instead of filling our memory.
_MOST_UNSENT_BYTES = 4 * MAX_LINE_BYTES


@dataclass(slots=True)
class _Connection:
    writer: asyncio.StreamWriter
    channel: SignedChannel


class NodeLinks:
    """All connected nodes. ``on_message`` gets (node, message), ``on_change`` (node, connected)."""

    def __init__(
        self,
        *,
        known_nodes: frozenset[str],
        node_uid: int,
        munge_socket: str | None,
        on_message: Callable[[str, Message], None],
        on_change: Callable[[str, bool], None],
        on_hint: Callable[[], None],
    ) -> None:
        self._known_nodes = known_nodes
        self._node_uid = node_uid
        self._munge_socket = munge_socket
        self._on_message = on_message
        self._on_change = on_change
        self._on_hint = on_hint
        self._connections: dict[str, _Connection] = {}
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen; raises OSError when the address is taken."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_LINE_BYTES)

    async def stop(self) -> None:
        """Hang up on all nodes and stop listening."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections.values()):
            connection.writer.close()
        if self._server is not None:
            await self._server.wait_closed()

    async def drain(self) -> None:
        """Wait until what was sent is on its way, as far as the nodes take it within a second."""
        writers = [connection.writer for connection in self._connections.values()]
        try:
            async with asyncio.timeout(1.0):
                await asyncio.gather(*(writer.drain() for writer in writers), return_exceptions=True)
        except TimeoutError:
            log.warning("not every node took its last message in time")

    def connected(self) -> tuple[str, ...]:
        """Nodes connected now."""
        return tuple(self._connections)

    def send(self, node: str, message: Message) -> bool:
        """Push a message to a node; False if it is not connected."""
        connection = self._connections.get(node)
        if connection is None or connection.writer.is_closing():
            return False
        if connection.writer.transport.get_write_buffer_size() > _MOST_UNSENT_BYTES:
            log.warning("%s does not take what it is sent: dropped", node)
            connection.writer.transport.abort()
            return False
        connection.writer.write(connection.channel.seal(message))
        return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        node = None
        try:
            async with asyncio.timeout(_GREETING_SECONDS):
                node, connection = await self._greet(reader, writer)
            if node is not None and connection is not None:
                await self._listen(node, connection, reader)
        except (
            WireError,
            KeyError,
            ConnectionError,
            EOFError,
            asyncio.LimitOverrunError,
            ValueError,
        ) as error:
            log.warning("%s %s: %s; hung up", node or "stranger", peer, error)
        except TimeoutError:
            log.warning("%s %s: silent; hung up", node or "stranger", peer)
        except asyncio.CancelledError:
            log.debug("%s: hung up on stop", peer)
        finally:
            self._forget(node, writer)
            writer.close()

    def _forget(self, node: str | None, writer: asyncio.StreamWriter) -> None:
        """Drop a connection, unless the node has come back on another one meanwhile."""
        if node is None:
            return
        current = self._connections.get(node)
        if current is not None and current.writer is writer:
            del self._connections[node]
            self._on_change(node, False)

    async def _greet(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str | None, _Connection | None]:
        first = decode(await reader.readuntil(b"\n"))
        if first.get("type") == "submitting":
            self._on_hint()
            writer.write(encode({"type": "noted"}))
            await writer.drain()
            return None, None
        if first.get("type") != "hello" or first.get("version") != PROTOCOL_VERSION:
            raise WireError(f"expected a hello of version {PROTOCOL_VERSION}")
        proof = await asyncio.to_thread(munge_decode, str(first.get("credential")), socket=self._munge_socket)
        if proof.uid != self._node_uid:
            raise WireError(f"uid {proof.uid} is not the node daemon's {self._node_uid}")
        said = decode(proof.payload.encode())
        node = str(said.get("node"))
        if node not in self._known_nodes:
            raise WireError(f"node {node!r} is on no circuit of site.toml")
        key = new_session_key()
        payload = json.dumps({"node": node, "nonce": said.get("nonce"), "key": key.hex()})
        credential = await asyncio.to_thread(
            munge_encode, payload, only_uid=self._node_uid, socket=self._munge_socket
        )
        writer.write(encode({"type": "welcome", "credential": credential}))
        connection = _Connection(writer, SignedChannel(key, sending="controller", receiving="node"))
        old = self._connections.get(node)
        self._connections[node] = connection
        if old is not None:
            old.writer.transport.abort()
        self._on_change(node, True)
        return node, connection

    async def _listen(self, node: str, connection: _Connection, reader: asyncio.StreamReader) -> None:
        while True:
            async with asyncio.timeout(_SILENCE_SECONDS):
                try:
                    line = await reader.readuntil(b"\n")
                except asyncio.IncompleteReadError:
                    return
            self._on_message(node, connection.channel.open(line[:-1]))
