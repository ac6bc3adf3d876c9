"""A controller for powerd to talk to: a real TLS peer with a real munged, told by tests what to say."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from containers.faults.node import wait_until
from slurm_power import clock
from slurm_power.controller.sensing.authority import CA_CERTIFICATE, Authority, make_authority
from slurm_power.munge import MungeError, munge_decode
from slurm_power.wire import PROTOCOL_VERSION, LineDecoder, Message, WireError, decode, encode


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
    """Accepts nodes over TLS, certifies them, keeps what they say.

    ``foreign`` shows a certificate of another authority; one that is ``deaf`` hears nothing and hangs up on
    nobody. ``pins`` are kept by the caller for a controller that comes after this one.
    """

    def __init__(self, munge_socket: str, port: int = 0, *, before: "FakeController | None" = None) -> None:
        self._munge_socket = munge_socket
        self.messages: list[Message] = []
        self.connections = 0
        self.foreign = False
        self.deaf = False
        self.last_sent = b""
        self.folder: Path = Path(tempfile.mkdtemp(prefix="sp-tls-")) if before is None else before.folder
        self.pins: dict[str, str] = {} if before is None else before.pins
        if before is None:
            for name in ("own", "foreign"):
                make_authority(self.folder / name, "bench", ["127.0.0.1"], clock.now())
            self.folder.chmod(0o711)
            (self.folder / "own").chmod(0o711)
        self._authorities = {name: self._authority(name) for name in ("own", "foreign")}
        self._connection: ssl.SSLSocket | None = None
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _authority(self, name: str) -> Authority:
        return Authority(
            self.folder / name,
            self.pins,
            lifetime=timedelta(hours=1),
            keep=self.pins.update,
        )

    @property
    def ca_file(self) -> Path:
        """The certificate that nodes are to trust."""
        return self.folder / "own" / CA_CERTIFICATE

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    @property
    def connected(self) -> bool:
        """Whether a node is connected now."""
        return self._connection is not None

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            authority = self._authorities["foreign" if self.foreign else "own"]
            with plain, suppress(OSError, WireError, MungeError):
                plain.settimeout(5.0)
                with authority.server_context().wrap_socket(plain, server_side=True) as connection:
                    self._talk(connection, authority)
            self._connection = None

    def _talk(self, connection: ssl.SSLSocket, authority: Authority) -> None:
        decoder = LineDecoder()
        lines: list[bytes] = []
        while not lines:
            lines = decoder.feed(self._received(connection))
        first = decode(lines[0])
        if first["type"] == "enrol":
            proof = munge_decode(str(first["credential"]), socket=self._munge_socket)
            certificate, _ = authority.issue(
                str(json.loads(proof.payload)["node"]), str(first["request"]), clock.now()
            )
            connection.sendall(encode({"type": "certificate", "certificate": certificate}))
            return
        shown = connection.getpeercert(binary_form=True)
        assert shown is not None
        authority.node_of(shown, clock.now())
        connection.settimeout(None)
        connection.sendall(encode({"type": "welcome", "version": PROTOCOL_VERSION}))
        self.connections += 1
        self._connection = connection
        while True:
            while self.deaf:
                time.sleep(0.05)
            for line in decoder.feed(self._received(connection)):
                self.messages.append(decode(line))

    @staticmethod
    def _received(connection: ssl.SSLSocket) -> bytes:
        data = connection.recv(65536)
        if not data:
            raise WireError("gone")
        return data

    def send(self, message: Message) -> None:
        """Send a message of the protocol."""
        self.last_sent = encode(message)
        self.send_raw(self.last_sent)

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are, inside TLS."""
        assert self._connection is not None
        self._connection.sendall(data)

    def send_below_tls(self, data: bytes) -> None:
        """Send bytes past TLS, as somebody on the wire could."""
        assert self._connection is not None
        os.write(self._connection.fileno(), data)

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
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop listening and hang up; may be called again."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.deaf = False
        self.drop()
        self._thread.join(5)

    def discard(self) -> None:
        """Close, and remove the certificates."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)
