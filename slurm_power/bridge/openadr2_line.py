"""Messages of OpenADR 2.0b to a VTN and back: openleadr's templates, schema and signatures, our own bounds.

Its client's loop is not used: it keeps what it knows in memory, turns ids into numbers, and takes a failed
answer for an empty one (docs/decisions/0102).
"""

import asyncio
import logging
from typing import Any
from xml.sax.saxutils import escape

import httpx
from openleadr import messaging, utils

from slurm_power.bridge.bounded_http import PACKED, AnswerError, bounded, tls_context, whole_answer
from slurm_power.bridge.grid_events import printable
from slurm_power.config.signals import OpenAdr2Signal

_MOST_BYTES = 2_000_000
GOOD = "200"

logging.getLogger("openleadr").setLevel(logging.WARNING)


class Message:
    """One message of the VTN, checked against the schema. ``kind``: such as oadrDistributeEvent."""

    def __init__(self, element: Any) -> None:
        self.element = element
        self.kind = str(element.tag).rpartition("}")[2]

    def text(self, path: str, default: str = "") -> str:
        """The text at a path of local names, such as ``eiResponse/responseCode``."""
        return text_at(self.element, path, default)

    def all(self, path: str) -> list[Any]:
        """The elements at a path of local names."""
        return list(self.element.iterfind(_path(path)))

    @property
    def code(self) -> str:
        """What it says about our message; 200 where it says nothing."""
        found = self.element.findtext(_path(".//responseCode")) if self.element is not None else None
        return (found or GOOD).strip()

    @property
    def request_id(self) -> str:
        """The id of its request."""
        return self.text(".//requestID")


def text_at(element: Any, path: str, default: str = "") -> str:
    """The text below an element at a path of local names, without spaces around it."""
    found = element.findtext(_path(path))
    return default if found is None else str(found).strip()


def _path(path: str) -> str:
    return "/".join(part if part in ("", ".") else f"{{*}}{part}" for part in path.split("/"))


def new_id() -> str:
    """An id for a request."""
    return str(utils.generate_id())


class OpenAdr2Line:
    """The way to one VTN. ``connections`` counts how often it was dialled: a new one may be a new VTN."""

    def __init__(self, signal: OpenAdr2Signal) -> None:
        self._url = signal.url.rstrip("/")
        self._signal = signal
        self._signing: dict[str, bytes] = {}
        self.connections = 0
        self.clock_doubt = ""
        context = tls_context(signal.ca_file, signal.cert_file, signal.key_file)
        try:
            if signal.sign_messages and signal.cert_file is not None and signal.key_file is not None:
                self._signing = {"cert": signal.cert_file.read_bytes(), "key": signal.key_file.read_bytes()}
        except OSError as error:
            raise AnswerError(f"cert_file or key_file: {error}") from None
        limits = httpx.Limits(max_connections=1, keepalive_expiry=3600.0)
        self._http = httpx.AsyncClient(
            verify=context, timeout=signal.timeout_seconds, trust_env=False, limits=limits
        )

    async def close(self) -> None:
        """Hang up."""
        await self._http.aclose()

    async def ask(self, service: str, kind: str, **words: Any) -> Message | None:
        """Send a message and return the answer, None for an empty one; raises AnswerError."""
        message = await asyncio.to_thread(self._made, kind, words)
        async with bounded(self._signal.timeout_seconds):
            answer = await whole_answer(
                self._http,
                "POST",
                f"{self._url}/{service}",
                most_bytes=_MOST_BYTES,
                content=message.encode(),
                headers={"content-type": "application/xml", **PACKED},
                extensions={"trace": self._traced},
            )
        self.clock_doubt = answer.clock_doubt
        if answer.status != 200:
            raise AnswerError(f"{kind}: {answer.status}", answer.status, answer.wait_seconds)
        if not answer.content.strip():
            return None
        return await asyncio.to_thread(self._understood, answer.content)

    async def _traced(self, event: str, _: Any) -> None:
        if event == "connection.connect_tcp.complete":
            self.connections += 1

    def _made(self, kind: str, words: dict[str, Any]) -> str:
        return str(messaging.create_message(kind, **self._signing, **_escaped(words)))

    def _understood(self, content: bytes) -> Message:
        """Check an answer; entities and other ways to make much of little are refused before it is parsed."""
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            raise AnswerError("its answer is no UTF-8") from None
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise AnswerError("its answer declares a document type")
        try:
            tree = messaging.validate_xml_schema(content)
            if self._signal.vtn_fingerprint:
                messaging.validate_xml_signature(tree, cert_fingerprint=self._signal.vtn_fingerprint)
            return Message(next(iter(tree.find(_path("oadrSignedObject")))))
        except Exception as error:  # noqa: BLE001  # lxml, signxml and cryptography have errors of many kinds
            words = f"its answer is refused: {type(error).__name__}: {error}"
            raise AnswerError(printable(words, 200)) from None


def _escaped(value: Any) -> Any:
    """The same with all text fit for XML: the templates put it in as it is."""
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value
