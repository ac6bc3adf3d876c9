"""One GET of a page by HTTP: bounded in time and size, never led to another host."""

import asyncio
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

from slurm_power import clock
from slurm_power.bridge.grid_events import printable
from slurm_power.bridge.openadr3_client import clock_doubt, tls_context
from slurm_power.config.http_signals import HttpFeed

_MOST_REDIRECTS = 3
_MOST_WAIT_SECONDS = 6 * 3600.0
_MOST_MARK = 1000
_MOST_HEADER_BYTES = 16_384
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OK, _UNCHANGED = 200, 304
_HEADER = re.compile(r"([A-Za-z0-9-]{1,100})\s*:\s*([!-~]|[!-~][ -~]{0,4000}[!-~])\s*")


class FetchError(Exception):
    """No page. ``status``: 0 without an answer; ``wait_seconds``: how long we are asked to wait."""

    def __init__(self, text: str, status: int = 0, wait_seconds: float = 0.0) -> None:
        super().__init__(text)
        self.status = status
        self.wait_seconds = wait_seconds


@dataclass(frozen=True, slots=True)
class Page:
    """``content`` is None where it is unchanged since ``marks``, the headers of the next request."""

    content: bytes | None
    marks: Mapping[str, str]
    clock_doubt: str


class PageReader:
    """Reads pages of one signal."""

    def __init__(self, signal: HttpFeed) -> None:
        """Raises FetchError where ``ca_file`` cannot be used."""
        self._signal = signal
        try:
            tls = tls_context(signal.ca_file, None, None)
        except OSError as error:
            raise FetchError(f"ca_file: {error}") from None
        self._http = httpx.AsyncClient(
            verify=tls, timeout=signal.timeout_seconds, follow_redirects=False, trust_env=False
        )

    async def close(self) -> None:
        """Hang up."""
        await self._http.aclose()

    async def read(self, url: str, marks: Mapping[str, str]) -> Page:
        """The page, if it is another one than that with ``marks``; raises FetchError."""
        headers = {
            **_secret_headers(self._signal.headers_file),
            **marks,
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
        }
        try:
            # The client's own limit is on each piece: a server that drips would never end.
            async with asyncio.timeout(self._signal.timeout_seconds):
                for _ in range(_MOST_REDIRECTS + 1):
                    found = await self._one(url, headers, marks)
                    if isinstance(found, Page):
                        return found
                    url = found
        except (TimeoutError, httpx.TimeoutException):
            raise FetchError(f"no whole answer in {self._signal.timeout_seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise FetchError(f"{type(error).__name__}: {printable(error, 200)}") from None
        raise FetchError(f"it redirects more than {_MOST_REDIRECTS} times")

    async def _one(self, url: str, headers: Mapping[str, str], marks: Mapping[str, str]) -> Page | str:
        """The page, or the address where it is said to be."""
        async with self._http.stream("GET", url, headers=headers) as answer:
            status = answer.status_code
            if status in _REDIRECTS:
                return _same_host(url, answer.headers.get("location", ""))
            doubt = clock_doubt(answer.headers.get("date", ""))
            if status == _UNCHANGED and marks:
                return Page(None, marks, doubt)
            if status != _OK:
                wait_seconds = retry_after_seconds(answer.headers.get("retry-after", ""))
                asked = f", it asks to wait {wait_seconds:.0f} s" if wait_seconds else ""
                reason = printable(answer.reason_phrase, 40)
                raise FetchError(f"{status} {reason}{asked}", status, wait_seconds)
            return Page(await self._content(answer), _marks(answer.headers), doubt)

    async def _content(self, answer: httpx.Response) -> bytes:
        most = self._signal.most_bytes
        coding = answer.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("identity", "gzip", ""):
            raise FetchError(f"its answer is packed as {printable(coding, 20)}, which nobody has asked for")
        # Unpacked here, as a small piece may become a very large one.
        unpack = zlib.decompressobj(wbits=31) if coding == "gzip" else None
        content = bytearray()
        async for piece in answer.aiter_raw():
            try:
                content += piece if unpack is None else unpack.decompress(piece, most + 1 - len(content))
            except zlib.error:
                raise FetchError("its answer says gzip and is none") from None
            if len(content) > most:
                raise FetchError(f"an answer of more than {most} bytes (most_bytes)")
        if unpack is not None and not unpack.eof:
            raise FetchError("its packed answer has no end")
        return bytes(content)


def retry_after_seconds(text: str) -> float:
    """How long ``Retry-After`` asks us to wait, six hours at most; 0 where it asks for nothing."""
    try:
        wait_seconds = float(int(text[:12]))
    except ValueError:
        try:
            wait_seconds = (parsedate_to_datetime(text) - clock.now()).total_seconds()
        except (TypeError, ValueError):
            return 0.0
    return min(max(0.0, wait_seconds), _MOST_WAIT_SECONDS)


def _same_host(url: str, location: str) -> str:
    """Where a redirect leads; our headers are secrets, so nowhere but to the same host."""
    try:
        target = urljoin(url, location)
        here, there = urlsplit(url), urlsplit(target)
        same = (here.scheme, here.hostname, here.port) == (there.scheme, there.hostname, there.port)
    except ValueError:
        raise FetchError("it redirects to what is no address") from None
    if not same or not location:
        raise FetchError(
            f"it redirects to {printable(location, 80)}, another host; if that is right, write it as url"
        )
    return target


def _marks(headers: httpx.Headers) -> dict[str, str]:
    found = {"If-None-Match": headers.get("etag", ""), "If-Modified-Since": headers.get("last-modified", "")}
    return {
        key: value
        for key, value in found.items()
        if value and len(value) <= _MOST_MARK and value.isascii() and value.isprintable()
    }


def _secret_headers(file: Path | None) -> dict[str, str]:
    """Lines ``Name: value``; read each time, as secrets change. Nothing of them is told."""
    if file is None:
        return {}
    try:
        with file.open("rb") as opened:
            lines = opened.read(_MOST_HEADER_BYTES).decode("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "no plain text"
        raise FetchError(f"headers_file: {file} cannot be read: {why}") from None
    found = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = _HEADER.fullmatch(line)
        if match is None:
            raise FetchError(f"headers_file: line {number} of {file} is not 'Name: value'")
        found[match[1]] = match[2]
    return found
