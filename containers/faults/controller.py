"""A controller for powerd to talk to: a real TCP peer with a real munged, told by tests what to say."""

import json
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from containers.faults.node import wait_until
from slurm_power.wire import (
    LineDecoder,
    Message,
    SignedChannel,
    WireError,
    decode,
    encode,
    munge_decode,
    munge_encode,
    new_session_key,
)


class Munged:
    """A munged of our own in a folder; the folder must be short, and enterable by all."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o711)
        folder.chmod(0o711)
        self.socket = folder / "munge.sock"
        key = folder / "munge.key"
        key.write_bytes(bytes(range(256)) * 4)
        key.chmod(0o400)
        self._pid_file = folder / "munged.pid"
        command = ["munged", "--foreground", "--force", f"--socket={self.socket}", f"--key-file={key}"]
        command += [f"--pid-file={self._pid_file}", f"--log-file={folder}/log", f"--seed-file={folder}/seed"]
        self._process = subprocess.Popen(
            [*command, "--num-threads=2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self.socket.exists, "munged's socket")

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


class FakeController:
    """Accepts nodes, greets them, keeps what they say.

    ``forge`` spoils the greeting in a named way; one that is ``deaf`` hears nothing and hangs up on nobody.
    """

    def __init__(self, munge_socket: str, port: int = 0) -> None:
        self._munge_socket = munge_socket
        self.messages: list[Message] = []
        self.connections = 0
        self.forge = ""
        self.deaf = False
        self.last_sent = b""
        self._channel: SignedChannel | None = None
        self._connection: socket.socket | None = None
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    @property
    def connected(self) -> bool:
        """Whether a node is connected now."""
        return self._channel is not None

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connection = connection
            with connection, suppress(OSError, WireError):
                self._talk(connection)
            self._channel = None

    def _talk(self, connection: socket.socket) -> None:
        decoder = LineDecoder()
        lines: list[bytes] = []
        while not lines:
            lines = decoder.feed(self._received(connection))
        hello = json.loads(
            munge_decode(str(decode(lines[0])["credential"]), socket=self._munge_socket).payload
        )
        key = new_session_key()
        nonce = "0" * 32 if self.forge == "nonce" else hello["nonce"]
        payload = json.dumps({"node": hello["node"], "nonce": nonce, "key": key.hex()})
        credential = munge_encode(payload, only_uid=0, socket=self._munge_socket)
        if self.forge == "credential":
            credential = credential[:40] + "A" + credential[41:]
        connection.sendall(encode({"type": "welcome", "credential": credential}))
        self._channel = SignedChannel(key=key, sending="controller", receiving="node")
        self.connections += 1
        channel = self._channel
        while True:
            while self.deaf:
                time.sleep(0.05)
            for line in decoder.feed(self._received(connection)):
                self.messages.append(channel.open(line))

    @staticmethod
    def _received(connection: socket.socket) -> bytes:
        data = connection.recv(65536)
        if not data:
            raise WireError("gone")
        return data

    def send(self, message: Message) -> None:
        """Send a message of the protocol."""
        assert self._channel is not None and self._connection is not None
        self.last_sent = self._channel.seal(message)
        self._connection.sendall(self.last_sent)

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        assert self._connection is not None
        self._connection.sendall(data)

    def grant(self, lease_id: str, uuid: str, cap_watts: float, **more: object) -> None:
        """Grant a cap."""
        lease = {"lease_id": lease_id, "uuid": uuid, "cap_watts": cap_watts, "ttl_seconds": 10.0}
        lease |= {"kind": "economic", "job_id": None, "reason": "the test wants it"}
        self.send({"type": "grant", "leases": [{**lease, **more}]})

    def said(self, kind: str, **fields: object) -> list[dict[str, Any]]:
        """What nodes have said so far, of one type and with these values."""
        return [
            message
            for message in list(self.messages)
            if message["type"] == kind and all(message.get(key) == value for key, value in fields.items())
        ]

    def drop(self) -> None:
        """Cut the connection."""
        if self._connection is not None:
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop listening and hang up; may be called again."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.deaf = False
        if self._connection is not None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
