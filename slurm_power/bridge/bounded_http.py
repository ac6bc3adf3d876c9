"""HTTP to what is not trusted: bounded in time and size, never led elsewhere, always one kind of error."""

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx

from slurm_power import clock
from slurm_power.bridge.grid_events import printable

_MOST_WAIT_SECONDS = 6 * 3600.0
_MOST_SKEW_SECONDS = 60.0
PACKED = {"Accept-Encoding": "gzip"}
"""To be sent with each request: other codings are not unpacked."""


class AnswerError(Exception):
    """The other end did not answer, or not as it has to.

    ``status``: 0 without an answer; ``wait_seconds``: how long we are asked to wait.
    """

    def __init__(self, text: str, status: int = 0, wait_seconds: float = 0.0) -> None:
        super().__init__(text)
        self.status = status
        self.wait_seconds = wait_seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, unpacked."""

    status: int
    reason: str
    headers: httpx.Headers
    content: bytes

    @property
    def clock_doubt(self) -> str:
        """What is wrong between its clock and ours, empty where nothing is."""
        return clock_doubt(self.headers.get("date", ""))

    @property
    def wait_seconds(self) -> float:
        """How long it asks us to wait."""
        return retry_after_seconds(self.headers.get("retry-after", ""))


@asynccontextmanager
async def bounded(seconds: float) -> AsyncIterator[None]:
    """Let what is asked inside take so long in all; what goes wrong in it becomes AnswerError."""
    try:
        # The client's own limit is on each piece: a server that drips would never end.
        async with asyncio.timeout(seconds):
            yield
    except (TimeoutError, httpx.TimeoutException):
        raise AnswerError(f"no whole answer in {seconds:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise AnswerError(f"{type(error).__name__}: {printable(error, 200)}") from None


async def whole_answer(
    http: httpx.AsyncClient, method: str, url: str, *, most_bytes: int, setting: str = "", **request: Any
) -> Answer:
    """Ask inside of ``bounded``; raises AnswerError for one too long or strangely packed.

    ``setting``: where in the configuration ``most_bytes`` is from.
    """
    async with http.stream(method, url, **request) as answer:
        try:
            content = await _content(answer, most_bytes, setting)
        except AnswerError:
            if answer.is_success:
                raise
            # What a refusal says besides is no matter; its status is.
            content = b""
        return Answer(answer.status_code, printable(answer.reason_phrase, 40), answer.headers, content)


async def _content(answer: httpx.Response, most_bytes: int, setting: str) -> bytes:
    coding = answer.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", ""):
        raise AnswerError(f"its answer is packed as {printable(coding, 20)}, which nobody has asked for")
    # Unpacked here, as a small piece may become a very large one.
    unpack = zlib.decompressobj(wbits=31) if coding == "gzip" else None
    content = bytearray()
    packed = False
    async for piece in answer.aiter_raw():
        packed = True
        try:
            content += piece if unpack is None else unpack.decompress(piece, most_bytes + 1 - len(content))
        except zlib.error:
            raise AnswerError("its answer says gzip and is none") from None
        if len(content) > most_bytes:
            where = f" ({setting})" if setting else ""
            raise AnswerError(f"an answer of more than {most_bytes} bytes{where}")
    # An answer without a body, such as 304, may name a coding all the same.
    if unpack is not None and packed and not unpack.eof:
        raise AnswerError("its packed answer has no end")
    return bytes(content)


def retry_after_seconds(text: str) -> float:
    """How long ``Retry-After`` asks us to wait, six hours at most; 0 where it asks for nothing."""
    try:
        wait_seconds = float(int(text[:12]))
    except ValueError:
        try:
            wait_seconds = (parsedate_to_datetime(text) - clock.now()).total_seconds()
        except (TypeError, ValueError, OverflowError):
            return 0.0
    return min(max(0.0, wait_seconds), _MOST_WAIT_SECONDS)


def clock_doubt(date: str) -> str:
    """What is wrong between the clock of an HTTP answer's Date and ours, empty where nothing is."""
    try:
        skew_seconds = (parsedate_to_datetime(date) - clock.now()).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return ""
    if abs(skew_seconds) <= _MOST_SKEW_SECONDS:
        return ""
    return f"its clock is {abs(skew_seconds):.0f} s {'ahead of' if skew_seconds > 0.0 else 'behind'} ours"


def tls_context(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> ssl.SSLContext:
    """TLS to a server, checked against ``ca_file`` or the system's authorities; raises AnswerError."""
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        if cert_file is not None:
            context.load_cert_chain(cert_file, key_file)
    except OSError as error:
        names = "ca_file" if cert_file is None else "ca_file, cert_file or key_file"
        raise AnswerError(f"{names}: {error}") from None
    return context
