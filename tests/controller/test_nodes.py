"""The controller's TCP side with real sockets, real TLS and a real munged: who comes in, and who does not."""

import asyncio
import json
import os
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from containers.faults.controller import Munged
from slurm_power import clock
from slurm_power.controller.sensing.authority import Authority, make_authority
from slurm_power.controller.sensing.nodes import NodeLinks
from slurm_power.munge import munge_encode
from slurm_power.node.identity import Identity, digest
from slurm_power.node.link import Greeted, greet
from slurm_power.wire import Message, WireError, decode, encode

SECONDS = 5.0


@dataclass
class Site:
    """NodeLinks on a free port, and what it says."""

    munge_socket: str
    folder: Path
    port: int = 0
    lifetime: timedelta = timedelta(hours=1)
    messages: list[tuple[str, Message]] = field(default_factory=list)
    changes: list[tuple[str, bool]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    pins: dict[str, str] = field(default_factory=dict)
    hints: int = 0
    links: NodeLinks = field(init=False)

    def __post_init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        make_authority(self.folder / "tls", "test", ["127.0.0.1"], clock.now())
        self.links = NodeLinks(
            known_nodes=frozenset({"c1", "c2"}),
            node_uid=0,
            munge_socket=self.munge_socket,
            authority=Authority(
                self.folder / "tls", self.pins, lifetime=self.lifetime, keep=self.pins.update
            ),
            on_message=lambda node, message: self.messages.append((node, message)),
            on_change=lambda node, connected: self.changes.append((node, connected)),
            on_hint=self._hint,
            on_refusal=lambda _who, why: self.refusals.append(why),
        )

    def _hint(self) -> None:
        self.hints += 1

    def identity(self, node: str, place: str | None = None) -> Identity:
        """The keys of a node, in a folder of its own unless ``place`` names another's."""
        folder = self.folder / (place or node)
        folder.mkdir(exist_ok=True)
        return Identity(folder, node, self.folder / "tls" / "ca.pem")

    def proof(self, node: str) -> Callable[[str], str]:
        """What root on any node of the cluster can have MUNGE say."""
        return lambda text: munge_encode(
            json.dumps({"node": node, "request": text}), socket=self.munge_socket
        )

    async def greeted(self, node: str, place: str | None = None) -> Greeted:
        """Come in as powerd does."""
        address = ("127.0.0.1", self.port)
        return await asyncio.to_thread(greet, address, node, self.identity(node, place), self.proof(node))

    async def asked(self, *messages: Message, identity: Identity | None = None) -> list[Message]:
        """Say something inside TLS, with a certificate if ``identity`` has one; what came back."""
        context = (self.identity("stranger") if identity is None else identity).context()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        try:
            async with asyncio.timeout(SECONDS):
                for message in messages:
                    writer.write(encode(message))
                return [decode(line) for line in (await reader.read()).splitlines()]
        finally:
            writer.close()

    async def said(self, *data: bytes) -> bytes:
        """Send raw bytes as a stranger; return what came back before the end of the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(2 * SECONDS):
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


async def hung_up(node: Greeted) -> bool:
    """Whether the other end closes the connection, politely or not, and says nothing more."""
    node.connection.settimeout(SECONDS)
    try:
        return await asyncio.to_thread(node.connection.recv, 10) == b""
    except (ConnectionError, ssl.SSLError):
        return True


def tried(
    munged: Munged, check: Callable[[Site], Awaitable[None]], *, lifetime: timedelta = timedelta(hours=1)
) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            site = Site(str(munged.socket), Path(folder), lifetime=lifetime)
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
            assert node.connection.version() == "TLSv1.3"
            assert site.links.connected() == ("c1",)
            node.connection.sendall(encode({"type": "telemetry", "n": 1}) + encode({"type": "x", "n": 2}))
            await site.until(lambda: len(site.messages) == 2)
            assert site.messages == [("c1", {"type": "telemetry", "n": 1}), ("c1", {"type": "x", "n": 2})]
            assert site.links.send("c1", {"type": "grant"})
            assert not site.links.send("c2", {"type": "grant"})
            line = await asyncio.to_thread(node.connection.recv, 65536)
            assert decode(line) == {"type": "grant"}
        await site.until(lambda: site.changes == [("c1", True), ("c1", False)])
        assert not site.links.send("c1", {"type": "grant"})

    tried(munged, check)


def test_munge_is_asked_once_and_the_certificate_does_from_then_on(munged: Munged) -> None:
    async def check(site: Site) -> None:
        (await site.greeted("c1")).connection.close()

        def never(_: str) -> str:
            raise AssertionError("MUNGE was asked again")

        address = ("127.0.0.1", site.port)
        again = await asyncio.to_thread(greet, address, "c1", site.identity("c1"), never)
        again.connection.close()

    tried(munged, check)


def test_one_node_cannot_act_as_another(munged: Munged) -> None:
    """All nodes share one MUNGE key, so root on c1 can make c2's credential: the pinned key stops it."""

    async def check(site: Site) -> None:
        (await site.greeted("c2")).connection.close()
        with pytest.raises(WireError, match="pinned to another key"):
            await site.greeted("c2", place="c1")
        assert any("pinned to another key" in why for why in site.refusals)
        # With its own certificate it is itself, whatever it says.
        node = await site.greeted("c1")
        with node.connection:
            node.connection.sendall(encode({"type": "telemetry", "node": "c2"}))
            await site.until(lambda: len(site.messages) == 1)
            assert site.messages[0][0] == "c1"
        # An admin who has installed c2 anew says so.
        assert site.links.forget("c2")
        assert not site.links.forget("c2")
        (await site.greeted("c2", place="new-c2")).connection.close()

    tried(munged, check)


def test_a_forgotten_node_is_hung_up_on_and_its_certificate_is_worth_nothing(munged: Munged) -> None:
    async def check(site: Site) -> None:
        node = await site.greeted("c1")
        identity = site.identity("c1")
        with node.connection:
            site.links.forget("c1")
            assert await hung_up(node)
        (answer,) = await site.asked({"type": "hello", "version": 2}, identity=identity)
        assert (answer["type"], "not the one that is pinned" in str(answer["reason"])) == ("refused", True)

    tried(munged, check)


def test_an_expired_certificate_is_replaced_by_itself(munged: Munged) -> None:
    async def check(site: Site) -> None:
        (await site.greeted("c1")).connection.close()
        certificate = site.folder / "c1" / "node.pem"
        old = certificate.read_text()
        await asyncio.sleep(2.0)
        with pytest.raises(WireError, match="does not take our certificate"):
            await site.greeted("c1")
        (await site.greeted("c1")).connection.close()
        assert certificate.read_text() != old

    tried(munged, check, lifetime=timedelta(seconds=1.5))


def test_requests_without_proof_get_no_certificate(munged: Munged) -> None:
    async def check(site: Site) -> None:
        request = site.identity("c1").request()
        sound = site.proof("c1")(digest(request))
        other = site.proof("c1")(digest(site.identity("c2").request()))
        nowhere = site.proof("c9")(digest(request))
        for credential, changed in (
            (sound[:-20], request),
            ("", request),
            (None, request),
            ("\ud800", request),
            ("a\0b", request),
            (sound, "\ud800"),
            (other, request),
            (nowhere, request),
            (sound, "no request"),
            (site.proof("c1")(digest("no request")), "no request"),
        ):
            hello = {"type": "enrol", "version": 2, "request": changed, "credential": credential}
            (answer,) = await site.asked(hello)
            assert answer["type"] == "refused"
        assert site.pins == {}
        assert len(site.refusals) == 10

    tried(munged, check)


def test_a_credential_works_once(munged: Munged) -> None:
    async def check(site: Site) -> None:
        request = site.identity("c1").request()
        credential = site.proof("c1")(digest(request))
        hello: Message = {"type": "enrol", "version": 2, "request": request, "credential": credential}
        (first,) = await site.asked(hello)
        (second,) = await site.asked(hello)
        assert (first["type"], second["type"]) == ("certificate", "refused")
        assert "eplay" in str(second["reason"])

    tried(munged, check)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_is_no_node(munged: Munged) -> None:
    async def check(site: Site) -> None:
        request = site.identity("c1").request()
        command = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "--"]
        command += ["munge", f"--socket={site.munge_socket}"]
        payload = json.dumps({"node": "c1", "request": digest(request)})
        done = subprocess.run(command, input=payload, capture_output=True, text=True, check=True)  # noqa: ASYNC221  # nothing else runs yet
        (answer,) = await site.asked(
            {"type": "enrol", "version": 2, "request": request, "credential": done.stdout.strip()}
        )
        assert "uid 12345" in str(answer["reason"])
        assert site.changes == []

    tried(munged, check)


def test_of_two_connections_of_one_node_the_newer_counts(munged: Munged) -> None:
    async def check(site: Site) -> None:
        old, new = await site.greeted("c1"), await site.greeted("c1")
        with old.connection, new.connection:
            assert await hung_up(old)
            assert site.links.send("c1", {"type": "grant"})
            assert decode(await asyncio.to_thread(new.connection.recv, 65536)) == {"type": "grant"}
            assert site.links.connected() == ("c1",)
            assert site.changes == [("c1", True), ("c1", True)]

    tried(munged, check)


@pytest.mark.parametrize("line", [b"\x00\xff\n", b"[1]\n", b"x" * (3 << 20), b"\n"], ids=range(4))
def test_a_line_that_is_no_message_ends_the_connection(munged: Munged, line: bytes) -> None:
    async def check(site: Site) -> None:
        node = await site.greeted("c1")
        with node.connection:
            node.connection.settimeout(SECONDS)
            with suppress(OSError):
                await asyncio.to_thread(node.connection.sendall, line)
            assert await hung_up(node)
        await site.until(lambda: site.changes == [("c1", True), ("c1", False)])
        assert site.messages == []
        assert site.refusals

    tried(munged, check)


@pytest.mark.parametrize("below", [b'{"type":"telemetry"}\n', b"\x17\x03\x03\x00\x20" + b"x" * 32])
def test_what_is_forged_below_tls_ends_the_connection_unheard(munged: Munged, below: bytes) -> None:
    async def check(site: Site) -> None:
        node = await site.greeted("c1")
        with node.connection:
            os.write(node.connection.fileno(), below)
            assert await hung_up(node)
        await site.until(lambda: site.changes == [("c1", True), ("c1", False)])
        assert site.messages == []

    tried(munged, check)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "hello"},
        {"type": "hello", "version": 1},
        {"type": "hello", "version": 2},
        {"type": "enrol", "version": 2},
        {"type": "telemetry", "version": 2, "gpus": []},
    ],
)
def test_strangers_inside_tls_are_refused_with_a_reason(munged: Munged, message: Message) -> None:
    async def check(site: Site) -> None:
        (answer,) = await site.asked(message)
        assert answer["type"] == "refused"
        assert (site.messages, site.changes) == ([], [])
        assert len(site.refusals) == 1

    tried(munged, check)


@pytest.mark.parametrize(
    "line",
    [b"\n", b"GET / HTTP/1.1\r\n\r\n", b'{"type":"hello"}\n', b"\x16\x03\x01\xff\xffgarbage", b"x" * 9000],
    ids=range(5),
)
def test_strangers_without_tls_are_hung_up_on_without_a_word(munged: Munged, line: bytes) -> None:
    async def check(site: Site) -> None:
        assert not (await site.said(line)).startswith(b"{")
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


def test_a_flood_of_silent_connections_leaves_the_door_open(munged: Munged) -> None:
    async def check(site: Site) -> None:
        silent = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(200)]
        node = await site.greeted("c1")
        node.connection.close()
        for _, writer in silent:
            writer.close()

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
