"""The controller's TCP side with real sockets and a real munged: who comes in, and who does not."""

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from containers.faults.controller import Munged
from slurm_power.controller.nodes import NodeLinks
from slurm_power.node.link import Greeted, greet
from slurm_power.wire import Message, WireError, encode, munge_encode

SECONDS = 5.0


@dataclass
class Site:
    """NodeLinks on a free port, and what it says."""

    munge_socket: str
    port: int = 0
    messages: list[tuple[str, Message]] = field(default_factory=list)
    changes: list[tuple[str, bool]] = field(default_factory=list)
    hints: int = 0
    links: NodeLinks = field(init=False)

    def __post_init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.links = NodeLinks(
            known_nodes=frozenset({"c1", "c2"}),
            node_uid=0,
            munge_socket=self.munge_socket,
            on_message=lambda node, message: self.messages.append((node, message)),
            on_change=lambda node, connected: self.changes.append((node, connected)),
            on_hint=self._hint,
        )

    def _hint(self) -> None:
        self.hints += 1

    async def greeted(self, node: str) -> Greeted:
        """Come in as powerd does."""
        address = ("127.0.0.1", self.port)
        return await asyncio.to_thread(
            greet, address, node, controller_uid=os.getuid(), munge_socket=self.munge_socket
        )

    async def said(self, *data: bytes) -> bytes:
        """Send raw bytes as a stranger; return what came back before the end of the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(SECONDS):
                for piece in data:
                    writer.write(piece)
                return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():  # noqa: ASYNC110  # any condition, not only an event
                await asyncio.sleep(0.01)

    def hello(self, node: str = "c1", **payload: object) -> bytes:
        text = json.dumps({"node": node, "nonce": "00" * 16, **payload})
        credential = munge_encode(text, socket=self.munge_socket)
        return encode({"type": "hello", "version": 1, "credential": credential})


async def hung_up(node: Greeted) -> bool:
    """Whether the other end closes the connection, politely or not, and says nothing more."""
    node.connection.settimeout(SECONDS)
    try:
        return await asyncio.to_thread(node.connection.recv, 10) == b""
    except ConnectionError:
        return True


def tried(munged: Munged, check: Callable[[Site], Awaitable[None]]) -> None:
    async def run() -> None:
        site = Site(str(munged.socket))
        await site.links.start("127.0.0.1", site.port)
        try:
            await check(site)
        finally:
            await site.links.stop()

    asyncio.run(run())


def test_a_node_comes_in_and_both_ends_hear_each_other(munged: Munged) -> None:
    async def check(site: Site) -> None:
        node = await site.greeted("c1")
        with node.connection:
            assert site.links.connected() == ("c1",)
            node.connection.sendall(node.channel.seal({"type": "telemetry", "n": 1}))
            node.connection.sendall(node.channel.seal({"type": "telemetry", "n": 2}))
            await site.until(lambda: len(site.messages) == 2)
            assert site.messages == [("c1", {"type": "telemetry", "n": n}) for n in (1, 2)]
            assert site.links.send("c1", {"type": "grant"})
            assert not site.links.send("c2", {"type": "grant"})
            line = await asyncio.to_thread(node.connection.recv, 65536)
            assert node.channel.open(line[:-1]) == {"type": "grant"}
        await site.until(lambda: site.changes == [("c1", True), ("c1", False)])
        assert not site.links.send("c1", {"type": "grant"})

    tried(munged, check)


def test_a_node_of_no_circuit_and_one_without_proof_are_refused(munged: Munged) -> None:
    async def check(site: Site) -> None:
        with pytest.raises((WireError, ConnectionError)):
            await site.greeted("c9")
        forged = munge_encode("{}", socket=site.munge_socket)[:-20]
        for credential in (forged, "", "MUNGE:AAAA:", None, 5):
            assert await site.said(encode({"type": "hello", "version": 1, "credential": credential})) == b""
        bare = encode(
            {"type": "hello", "version": 1, "credential": munge_encode("[]", socket=site.munge_socket)}
        )
        assert await site.said(bare) == b""
        assert site.changes == []

    tried(munged, check)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_is_no_node(munged: Munged) -> None:
    async def check(site: Site) -> None:
        command = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "--"]
        command += ["munge", f"--socket={site.munge_socket}"]
        payload = json.dumps({"node": "c1", "nonce": "00" * 16})
        done = subprocess.run(command, input=payload, capture_output=True, text=True, check=True)  # noqa: ASYNC221  # nothing else runs yet
        hello = encode({"type": "hello", "version": 1, "credential": done.stdout.strip()})
        assert await site.said(hello) == b""
        assert site.changes == []

    tried(munged, check)


def test_a_hello_works_once(munged: Munged) -> None:
    async def check(site: Site) -> None:
        hello = site.hello()
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(hello)
        async with asyncio.timeout(SECONDS):
            assert json.loads(await reader.readline())["type"] == "welcome"
        assert await site.said(hello) == b""
        assert site.changes == [("c1", True)]
        writer.close()

    tried(munged, check)


def test_a_welcome_can_be_opened_by_the_nodes_uid_alone(munged: Munged) -> None:
    async def check(site: Site) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(site.hello())
        async with asyncio.timeout(SECONDS):
            welcome = json.loads(await reader.readline())
        writer.close()
        command = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "--"]
        command += ["unmunge", f"--socket={site.munge_socket}"]
        done = subprocess.run(  # noqa: ASYNC221  # nothing else has to run meanwhile
            command, input=welcome["credential"], capture_output=True, text=True, check=False
        )
        assert done.returncode != 0
        assert "key" not in done.stdout
        assert "Unauthorized" in done.stderr

    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    tried(munged, check)


def test_of_two_connections_of_one_node_the_newer_counts(munged: Munged) -> None:
    async def check(site: Site) -> None:
        old, new = await site.greeted("c1"), await site.greeted("c1")
        with old.connection, new.connection:
            assert await hung_up(old)
            assert site.links.send("c1", {"type": "grant"})
            line = await asyncio.to_thread(new.connection.recv, 65536)
            assert new.channel.open(line[:-1]) == {"type": "grant"}
            assert site.links.connected() == ("c1",)
            assert site.changes == [("c1", True), ("c1", True)]

    tried(munged, check)


def spoiled(node: Greeted, how: str) -> bytes:
    if how == "oversized":
        return b"x" * (3 << 20)
    if how == "garbage":
        return b"\x00\xff\n"
    line = node.channel.seal({"n": 1})
    return line.replace(b'"n":1', b'"n":2') if how == "signature" else node.channel.seal({"n": 2})


@pytest.mark.parametrize("spoil", ["counter", "signature", "garbage", "oversized"])
def test_a_line_that_is_not_the_nodes_next_one_ends_the_connection(munged: Munged, spoil: str) -> None:
    async def check(site: Site) -> None:
        node = await site.greeted("c1")
        with node.connection:
            line = spoiled(node, spoil)
            node.connection.settimeout(SECONDS)
            with suppress(ConnectionError):
                await asyncio.to_thread(node.connection.sendall, line)
            assert await hung_up(node)
        await site.until(lambda: site.changes == [("c1", True), ("c1", False)])
        assert site.messages == []

    tried(munged, check)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b'{"type":"hello"}\n',
        b'{"type":"hello","version":2,"credential":"x"}\n',
        b'{"type":"telemetry","gpus":[]}\n',
        b"[1]\n",
        b"\xff\xfe\n",
        b"x" * (2 << 20),
    ],
    ids=range(8),
)
def test_strangers_are_hung_up_on_without_a_word(munged: Munged, line: bytes) -> None:
    async def check(site: Site) -> None:
        assert await site.said(line) == b""
        assert (site.messages, site.changes, site.hints) == ([], [], 0)
        node = await site.greeted("c2")  # and the door is still open
        node.connection.close()

    tried(munged, check)


def test_anybody_may_hint_and_gets_nothing_else(munged: Munged) -> None:
    async def check(site: Site) -> None:
        answer = await site.said(encode({"type": "submitting"}), encode({"type": "telemetry"}))
        assert answer == encode({"type": "noted"})
        assert (site.hints, site.messages) == (1, [])

    tried(munged, check)


def test_stopping_hangs_up_on_everybody(munged: Munged) -> None:
    async def check(site: Site) -> None:
        node = await site.greeted("c1")
        with node.connection:
            await site.links.stop()
            assert await hung_up(node)
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", site.port)

    tried(munged, check)
