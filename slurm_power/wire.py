"""Messages between our processes: one JSON object a line, signed where they cross machines.

A node proves itself to the controller with a MUNGE credential; the controller answers with a credential that
only root can open and that carries the session key. From then on every line is ``<hmac> <json>`` with a
counter inside, so that nothing can be forged, replayed or reordered by somebody who does not hold the key.
"""

import hashlib
import hmac
import json
import os
import secrets
import subprocess
from dataclasses import dataclass, field

PROTOCOL_VERSION = 1
MAX_LINE_BYTES = 1 << 20
MUNGE_TIMEOUT_SECONDS = 2.0

Message = dict[str, object]


class WireError(Exception):
    """A peer sent something malformed, unsigned, replayed or too long."""


class LineDecoder:
    """Cut a byte stream into lines; raises WireError for a line above ``max_line_bytes``."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._buffer = bytearray()
        self._max_line_bytes = max_line_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """Add received bytes; return the lines now complete, without their newline."""
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = bytearray(rest)
        if max(map(len, (rest, *lines))) > self._max_line_bytes:
            raise WireError(f"line longer than {self._max_line_bytes} bytes")
        return [bytes(line) for line in lines]


def encode(message: Message) -> bytes:
    """One message as an unsigned line, newline included."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    """One unsigned line back into a message; raises WireError."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise WireError("not a JSON object")
    return message


@dataclass(slots=True)
class SignedChannel:
    """Sign outgoing and check incoming messages of one connection.

    ``sending`` and ``receiving`` name the two directions, so that a message cannot be reflected.
    """

    key: bytes
    sending: str
    receiving: str
    _sent: int = field(default=0, init=False)
    _received: int = field(default=0, init=False)

    def _mac(self, direction: str, counter: int, body: bytes) -> str:
        text = f"{direction} {counter} ".encode() + body
        return hmac.new(self.key, text, hashlib.sha256).hexdigest()

    def seal(self, message: Message) -> bytes:
        """Return the signed line for a message, newline included."""
        self._sent += 1
        body = encode(message)[:-1]
        return f"{self._mac(self.sending, self._sent, body)} {self._sent} ".encode() + body + b"\n"

    def open(self, line: bytes) -> Message:
        """Check a signed line and return its message; raises WireError when it is not the next one."""
        try:
            mac, counter_text, body = line.split(b" ", 2)
            counter = int(counter_text)
        except ValueError:
            raise WireError("not a signed line") from None
        if counter != self._received + 1:
            raise WireError(f"message {counter} came where {self._received + 1} was due")
        if not hmac.compare_digest(mac, self._mac(self.receiving, counter, body).encode()):
            raise WireError("wrong signature")
        self._received = counter
        return decode(body)


def new_session_key() -> bytes:
    """A fresh random key for one connection."""
    return secrets.token_bytes(32)


def munge_encode(payload: str, *, only_uid: int | None = None, socket: str | None = None) -> str:
    """Seal ``payload`` in a MUNGE credential, readable by ``only_uid`` alone if given; raises WireError."""
    command = ["munge", *(["--socket", socket] if socket else [])]
    if only_uid is not None:
        command += ["--restrict-uid", str(only_uid)]
    return _run_munge(command, payload).strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What an opened MUNGE credential proves: who made it, and what it carried."""

    uid: int
    payload: str


def munge_decode(credential: str, *, socket: str | None = None) -> Credential:
    """Open a MUNGE credential; raises WireError for one that is forged, expired, replayed or not for us."""
    command = ["unmunge", "--keys", "STATUS,UID", *(["--socket", socket] if socket else [])]
    head, _, payload = _run_munge(command, credential).partition("\n\n")
    fields = dict(line.split(":", 1) for line in head.splitlines() if ":" in line)
    try:
        uid = int(fields["UID"].rsplit("(", 1)[1].rstrip(") \n"))
    except (KeyError, IndexError, ValueError):
        raise WireError("unmunge printed no UID") from None
    return Credential(uid=uid, payload=payload)


def _run_munge(command: list[str], stdin: str) -> str:
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=MUNGE_TIMEOUT_SECONDS,
            check=False,
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WireError(f"{command[0]}: {error}") from None
    if done.returncode != 0:
        raise WireError(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
