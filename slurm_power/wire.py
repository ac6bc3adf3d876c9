"""Messages between our processes: one JSON object a line, inside TLS where they cross machines."""

import json

PROTOCOL_VERSION = 2
MAX_LINE_BYTES = 1 << 20
_MOST_DIGITS = 18

Message = dict[str, object]


class WireError(Exception):
    """A peer sent something malformed, refused or too long."""


class LineDecoder:
    """Cut a byte stream into lines; raises WireError for a line above ``max_line_bytes``."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._buffer = bytearray()
        self.max_line_bytes = max_line_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """Add received bytes; return the lines now complete, without their newline."""
        # Only what is new is looked at: a long line that comes byte by byte must not cost its square.
        first, *others = data.split(b"\n")
        self._buffer += first
        lines = []
        for piece in others:
            lines.append(bytes(self._buffer))
            self._buffer = bytearray(piece)
        if max(map(len, (self._buffer, *lines))) > self.max_line_bytes:
            raise WireError(f"line longer than {self.max_line_bytes} bytes")
        return lines


def encode(message: Message) -> bytes:
    """One message as a line, newline included."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _whole_number(text: str) -> int | float:
    """An int of at most 64 bits. A longer one, which no arithmetic here is made for, becomes a float."""
    return int(text) if len(text) <= _MOST_DIGITS else float(text)


_DECODER = json.JSONDecoder(parse_int=_whole_number)


def decode(line: bytes) -> Message:
    """One line back into a message; raises WireError."""
    try:
        message = _DECODER.decode(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise WireError("not a JSON object")
    return message
