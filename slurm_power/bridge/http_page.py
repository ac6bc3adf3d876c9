"""One GET of a page by HTTP: bounded in time and size, never led to another host."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

from slurm_power.bridge.bounded_http import PACKED, AnswerError, bounded, tls_context, whole_answer
from slurm_power.bridge.grid_events import printable
from slurm_power.config.http_signals import HttpFeed

_MOST_REDIRECTS = 3
_MOST_MARK = 1000
_MOST_HEADER_BYTES = 16_384
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OK, _UNCHANGED = 200, 304
_HEADER = re.compile(r"([A-Za-z0-9-]{1,100})\s*:\s*([!-~]|[!-~][ -~]{0,4000}[!-~])\s*")


@dataclass(frozen=True, slots=True)
class Page:
    """``content`` is None where it is unchanged since ``marks``, the headers of the next request."""

    content: bytes | None
    marks: Mapping[str, str]
    clock_doubt: str


class PageReader:
    """Reads pages of one signal."""

    def __init__(self, signal: HttpFeed) -> None:
        """Raises AnswerError where ``ca_file`` cannot be used."""
        self._signal = signal
        tls = tls_context(signal.ca_file, None, None)
        self._http = httpx.AsyncClient(
            verify=tls, timeout=signal.timeout_seconds, follow_redirects=False, trust_env=False
        )

    async def close(self) -> None:
        """Hang up."""
        await self._http.aclose()

    async def read(self, url: str, marks: Mapping[str, str]) -> Page:
        """The page, if it is another one than that with ``marks``; raises AnswerError."""
        headers = {
            **_secret_headers(self._signal.headers_file),
            **marks,
            "Accept": "application/json",
            **PACKED,
        }
        async with bounded(self._signal.timeout_seconds):
            for _ in range(_MOST_REDIRECTS + 1):
                found = await self._one(url, headers, marks)
                if isinstance(found, Page):
                    return found
                url = found
        raise AnswerError(f"it redirects more than {_MOST_REDIRECTS} times")

    async def _one(self, url: str, headers: Mapping[str, str], marks: Mapping[str, str]) -> Page | str:
        """The page, or the address where it is said to be."""
        answer = await whole_answer(
            self._http, "GET", url, most_bytes=self._signal.most_bytes, setting="most_bytes", headers=headers
        )
        if answer.status in _REDIRECTS:
            return _same_host(url, answer.headers.get("location", ""))
        if answer.status == _UNCHANGED and marks:
            return Page(None, marks, answer.clock_doubt)
        if answer.status != _OK:
            asked = f", it asks to wait {answer.wait_seconds:.0f} s" if answer.wait_seconds else ""
            raise AnswerError(f"{answer.status} {answer.reason}{asked}", answer.status, answer.wait_seconds)
        return Page(answer.content, _marks(answer.headers), answer.clock_doubt)


def _same_host(url: str, location: str) -> str:
    """Where a redirect leads; our headers are secrets, so nowhere but to the same host."""
    try:
        target = urljoin(url, location)
        here, there = urlsplit(url), urlsplit(target)
        same = (here.scheme, here.hostname, here.port) == (there.scheme, there.hostname, there.port)
    except ValueError:
        raise AnswerError("it redirects to what is no address") from None
    if not same or not location:
        raise AnswerError(
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
        raise AnswerError(f"headers_file: {file} cannot be read: {why}") from None
    found = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = _HEADER.fullmatch(line)
        if match is None:
            raise AnswerError(f"headers_file: line {number} of {file} is not 'Name: value'")
        found[match[1]] = match[2]
    return found
