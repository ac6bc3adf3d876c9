"""``python -m containers.faults.fuzz``: spoiled messages at every door, and nobody falls over.

The doors are the real ones: the controller's node connections and user socket, the node's link and hook
socket, and the frames between powerd's halves. A message may be refused; anything else raised is a find.
"""

import argparse
import asyncio
import copy
import json
import logging
import os
import random
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from containers.faults.fuzz_messages import FROM_CONTROLLER, FROM_HOOKS, FROM_NODE, FROM_USERS, SITE, TIERS
from containers.faults.gpus import FakeGpus
from slurm_power import clock
from slurm_power.config.node_record import NodeConfig
from slurm_power.config.site import load_site
from slurm_power.controller.answers.user_socket import Caller
from slurm_power.controller.daemon import Controller
from slurm_power.controller.sensing.authority import make_authority
from slurm_power.controller.sensing.nodes import _NodeConnection
from slurm_power.model.job import Job
from slurm_power.model.pool import Pool
from slurm_power.node.daemon import Daemon
from slurm_power.node.frames import FrameError, decode_news, decode_request
from slurm_power.node.server import Client
from slurm_power.store.sqlite import SqliteStore
from slurm_power.tiers.catalog import read_catalog
from slurm_power.wire import WireError, decode

NODE, STRANGER = "c1", 12345
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1e308, -0.0, float("nan"), float("inf"), 1 << 70, 10**400, "", "x" * 5000),
    *("\x00", "\ud800", "c1", "GPU-a", [], {}, [[]], [None], {"a": {}}, "1e999", "17", [1, "a", None]),
)


def spoiled(message: dict[str, Any], chance: random.Random) -> bytes:
    """A message as a line, with something changed in its structure, in its bytes, in both, or in nothing."""
    if chance.random() < 0.8:
        message = copy.deepcopy(message)
        for _ in range(chance.randrange(1, 3)):
            _change(message, chance)
    try:
        line = bytearray(json.dumps(message).encode("utf-8", "surrogatepass"))
    except (ValueError, UnicodeError):
        line = bytearray(b"{}")
    if chance.random() < 0.3:
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(line) + 1)
            line[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(4))
    return bytes(line).replace(b"\n", b" ")


def _change(value: dict[str, Any] | list[Any], chance: random.Random) -> None:
    """Change one place somewhere below."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = chance.choice(keys)
        inner = value[key]  # type: ignore[index,call-overload]  # the key is its own
        if isinstance(inner, dict | list) and inner and chance.random() < 0.7:
            value = inner
            continue
        match chance.randrange(4):
            case 0:
                del value[key]  # type: ignore[arg-type]  # as above
            case 1 if isinstance(value, dict):
                value[chance.choice(["type", "op", "job_id", "extra"])] = copy.deepcopy(chance.choice(ODD))
            case _:
                value[key] = copy.deepcopy(chance.choice(ODD))  # type: ignore[index,call-overload]  # as above
        return


class _Sink(asyncio.Transport):
    """Where a connection writes to when there is no network; closing is remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take it, and forget it."""

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed

    def get_write_buffer_size(self) -> int:
        """Nothing ever waits."""
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ARG002  # the interface's
        """A stranger has no certificate."""
        return self

    def getpeercert(self, *, binary_form: bool) -> None:
        """As ssl says it for a peer without one."""


class _Queue:
    async def jobs(self) -> tuple[Job, ...]:
        """No jobs."""
        return ()

    async def pools(self) -> tuple[Pool, ...]:
        """No pools."""
        return ()

    async def relocate(self, job_id: str, avoid: Sequence[str], reason: str) -> None:
        """Nothing to send elsewhere."""

    async def hold(self, job_id: str, seconds: float, reason: str) -> None:
        """Nothing to hold."""

    async def release(self, job_id: str) -> None:
        """Nothing to release."""

    async def pause(self, job_id: str, seconds: float, reason: str) -> None:
        """Nothing to pause."""

    async def resume(self, job_id: str) -> None:
        """Nothing to resume."""

    async def queue_saved(self, job_id: str) -> bool:
        """Nothing to queue again."""
        return not job_id

    async def requeue(self, job_id: str) -> None:
        """Nothing to queue again."""

    async def check_tier(self, job_id: str, gpu_count: int) -> None:
        """Nothing of the kind."""

    async def change_tier(
        self, job_id: str, tier: str, gpu_count: int, start_in_seconds: float | None, reason: str
    ) -> None:
        """Nothing to change."""


class Doors:
    """The controller and a node, not running, with their doors open to us."""

    def __init__(self, folder: Path) -> None:
        (folder / "site.toml").write_text(SITE.format(folder=folder))
        (folder / "tiers.toml").write_text(TIERS)
        make_authority(folder / "tls", "fuzz", ["127.0.0.1"], clock.now())
        self._store = SqliteStore(folder / "powerctld.sqlite")
        self.controller = Controller(
            load_site(folder / "site.toml"), self._store, meters={}, storages={}, scheduler=_Queue()
        )
        self.controller.tiers.source.catalog = read_catalog(folder / "tiers.toml")
        (folder / "node" / "front").mkdir(parents=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        self._keeper_end = ours
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "hooks.sock"))
        listener.listen()
        config = NodeConfig(node=NODE, socket=folder / "hooks.sock", state_directory=folder / "node")
        self.node = Daemon(config, FakeGpus("GPU-a"), theirs, listener)
        self.node._node.known |= {"GPU-a"}
        self._client, self._other_end = socket.socketpair()
        self._connection = self._connected(NODE)
        self._stranger = self._connected("")

    def _connected(self, node: str) -> _NodeConnection:
        connection = _NodeConnection(self.controller._links, "127.0.0.1:9")
        connection.connection_made(_Sink())
        connection.node = node
        return connection

    def from_node(self, line: bytes) -> None:
        """A connected node says something; one that was hung up on comes back."""
        self._connection.data_received(line + b"\n")
        if self._connection.closing():
            self._connection = self._connected(NODE)

    def from_stranger(self, line: bytes) -> None:
        """Somebody inside TLS, without a certificate."""
        self._stranger.data_received(line + b"\n")
        if self._stranger.closing():
            self._stranger = self._connected("")

    def from_controller(self, line: bytes) -> None:
        """The node's link hears something; what the node asks its keeper for has to be a sound frame."""
        self.node._on_message(decode(line))
        while True:
            try:
                decode_request(self._keeper_end.recv(1 << 16))
            except BlockingIOError:
                return

    def from_hooks(self, line: bytes) -> None:
        """A hook or a user at the node's socket."""
        for uid in (0, STRANGER):
            client = Client(connection=self._client, uid=uid, deadline_seconds=1e18)
            self.node._desk.handle(client, decode(line))
        self.from_controller(b'{"type":"nothing"}')

    def from_users(self, line: bytes) -> None:
        """A user and root at the controller's socket."""
        for uid in (STRANGER, 0):
            self.controller._users._reply(line, Caller(uid=uid))

    def frames(self, line: bytes) -> None:
        """Bytes of any kind between the halves."""
        for read in (decode_request, decode_news):
            try:
                read(line)
            except FrameError:
                continue

    def close(self) -> None:
        """Let go of everything."""
        self._store.close()
        for opened in (self._keeper_end, self._client, self._other_end):
            opened.close()


def run(messages: int, seed: int) -> int:
    """Throw that many; print what came of it. 1 if anything fell over."""
    chance = random.Random(seed)  # noqa: S311  # has to be repeatable
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # a folder of our own is made in it
    counts: dict[str, int] = {}
    finds: list[str] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sp-fuzz-", dir=memory) as folder:
        doors = Doors(Path(folder))
        targets: tuple[tuple[str, Callable[[bytes], None], tuple[dict[str, Any], ...]], ...] = (
            ("node to controller", doors.from_node, FROM_NODE),
            ("stranger to controller", doors.from_stranger, FROM_NODE),
            ("controller to node", doors.from_controller, FROM_CONTROLLER),
            ("hooks and users to node", doors.from_hooks, FROM_HOOKS),
            ("users to controller", doors.from_users, FROM_USERS),
            ("frames between the halves", doors.frames, FROM_CONTROLLER),
        )
        weights = (30, 10, 25, 15, 5, 15)
        for number in range(messages):
            ((name, door, corpus),) = chance.choices(targets, weights)
            line = spoiled(chance.choice(corpus), chance)
            counts[name] = counts.get(name, 0) + 1
            try:
                door(line)
            except WireError:
                continue
            except Exception as error:  # noqa: BLE001  # whatever it is, it is a find
                finds.append(f"message {number}, {name}: {type(error).__name__}: {error}: {line[:300]!r}")
                if len(finds) >= 20:
                    break
        doors.close()
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("| door | messages |\n|---|---|")
    for name, count in counts.items():
        print(f"| {name} | {count} |")
    total = sum(counts.values())
    print(f"\n{total} messages, seed {seed}, {seconds:.0f} s, {len(finds)} finds, {peak:.0f} MB at most")
    print("\n".join(finds))
    return 1 if finds else 0


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m containers.faults.fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or 1))
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)

    async def inside_a_loop() -> int:
        return run(arguments.messages, arguments.seed)

    return asyncio.run(inside_a_loop())


if __name__ == "__main__":
    sys.exit(main())
