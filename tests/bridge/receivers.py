"""Other ends of alerts: an Alertmanager's door, and a mail server (RFC 5321, as far as alerts need it)."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.bridge.loopback import on_loopback


@dataclass
class Alertmanager:
    """What POST /api/v2/alerts got. ``status``: what it answers, 0: it hangs up without a word."""

    port: int = 0
    status: int = 200
    posts: list[list[dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def active(self) -> set[str]:
        """Causes that fire by what it was told last of each, as Alertmanager counts: until endsAt."""
        ends: dict[str, tuple[str, datetime]] = {}
        for post in self.posts:
            for alert in post:
                key = json.dumps(alert["labels"], sort_keys=True)
                ends[key] = alert["labels"]["cause"], datetime.fromisoformat(alert["endsAt"])
        return {cause for cause, end in ends.values() if end > datetime.now(UTC)}


def _problems(alerts: object) -> list[str]:
    """What Alertmanager's model of a postable alert would refuse (api/v2/openapi.yaml)."""
    if not isinstance(alerts, list):
        return ["no list"]
    found = []
    for alert in alerts:
        labels = alert.get("labels")
        if not isinstance(labels, dict) or not labels.get("alertname"):
            found.append("labels: no alertname")
            continue
        for kind in ("labels", "annotations"):
            found += [
                f"{kind}.{name}: {value!r}"
                for name, value in alert.get(kind, {}).items()
                if not isinstance(value, str) or not name.replace("_", "a").isalnum() or name[0].isdigit()
            ]
        for key in ("startsAt", "endsAt"):
            if datetime.fromisoformat(alert[key]).tzinfo is None:
                found.append(f"{key}: no zone")
        if datetime.fromisoformat(alert["endsAt"]) < datetime.fromisoformat(alert["startsAt"]):
            found.append("endsAt before startsAt")
        if set(alert) - {"labels", "annotations", "startsAt", "endsAt", "generatorURL"}:
            found.append("unknown keys")
    return found


@asynccontextmanager
async def alertmanager() -> AsyncIterator[Alertmanager]:
    own = Alertmanager()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        if own.status == 0:
            return
        status, text = own.status, ""
        if head[0] != "POST /api/v2/alerts HTTP/1.1" or headers["content-type"] != "application/json":
            status, text = 404, f"no such door: {head[0]}"
        elif status == 200:
            alerts = json.loads(body)
            if found := _problems(alerts):
                own.problems += found
                status, text = 400, "; ".join(found)
            else:
                own.posts.append(alerts)
                own.headers.append(headers)
        head_lines = f"HTTP/1.1 {status} x\r\nContent-Length: {len(text)}\r\nConnection: close"
        writer.write(f"{head_lines}\r\n\r\n{text}".encode())
        await writer.drain()

    async with on_loopback(talk) as own.port:
        yield own


@dataclass
class MailServer:
    """What it was handed. ``refuse``: by the first word of a command, what is answered instead."""

    port: int = 0
    user: str = ""
    password: str = ""
    refuse: dict[str, str] = field(default_factory=dict)
    mails: list[tuple[str, list[str], str]] = field(default_factory=list)
    secured: list[bool] = field(default_factory=list)


class _Conversation:
    """One client of a MailServer."""

    def __init__(
        self,
        own: MailServer,
        context: ssl.SSLContext | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.own, self.context, self.reader, self.writer = own, context, reader, writer
        self.secure, self.known = False, not own.user
        self.sender, self.to = "", list[str]()

    @property
    def open(self) -> bool:
        """Whether mail is taken."""
        return self.known and (self.secure or self.context is None)

    async def say(self, text: str) -> None:
        self.writer.write(text.encode() + b"\r\n")
        await self.writer.drain()

    async def talk(self) -> None:
        await self.say("220 mail.test ESMTP")
        commands = {"EHLO": self.ehlo, "STARTTLS": self.starttls, "AUTH": self.auth, "MAIL": self.mail}
        commands |= {"RCPT": self.rcpt, "DATA": self.data, "RSET": self.reset, "NOOP": self.reset}
        while line := (await self.reader.readline()).decode().rstrip("\r\n"):
            verb, _, rest = line.partition(" ")
            verb = verb.upper()
            if verb in self.own.refuse:
                await self.say(self.own.refuse[verb])
            elif verb == "QUIT":
                await self.say("221 bye")
                return
            elif verb in commands:
                await commands[verb](rest)
            else:
                await self.say("502 5.5.1 what?")

    async def ehlo(self, _: str) -> None:
        offers = ["mail.test"]
        offers += ["STARTTLS"] if self.context is not None and not self.secure else []
        offers += ["AUTH PLAIN"] if self.own.user and (self.secure or self.context is None) else []
        for offer in offers[:-1]:
            await self.say(f"250-{offer}")
        await self.say(f"250 {offers[-1]}")

    async def starttls(self, _: str) -> None:
        if self.context is None or self.secure:
            await self.say("503 5.5.1 not now")
            return
        await self.say("220 go ahead")
        await self.writer.start_tls(self.context)
        self.secure, self.sender, self.to = True, "", []

    async def auth(self, rest: str) -> None:
        method, _, proof = rest.partition(" ")
        given = base64.b64decode(proof or "").split(b"\0") if method == "PLAIN" else []
        self.known = [part.decode() for part in given[1:]] == [self.own.user, self.own.password]
        await self.say("235 welcome" if self.known else "535 5.7.8 no such user or password")

    async def mail(self, rest: str) -> None:
        if not self.open:
            await self.say("530 5.7.0 first STARTTLS and AUTH")
            return
        self.sender = rest.partition("<")[2].partition(">")[0]
        await self.say("250 ok")

    async def rcpt(self, rest: str) -> None:
        if not self.sender:
            await self.say("503 5.5.1 not now")
            return
        self.to.append(rest.partition("<")[2].partition(">")[0])
        await self.say("250 ok")

    async def data(self, _: str) -> None:
        if not self.to:
            await self.say("503 5.5.1 not now")
            return
        await self.say("354 until a dot alone")
        lines = []
        while (text := (await self.reader.readline()).decode()) != ".\r\n":
            assert text.endswith("\r\n"), "a bare line feed"
            lines.append(text.removeprefix("."))
        self.own.mails.append((self.sender, self.to, "".join(lines)))
        self.own.secured.append(self.secure)
        self.sender, self.to = "", []
        await self.say("250 taken")

    async def reset(self, _: str) -> None:
        self.sender, self.to = "", []
        await self.say("250 ok")


@asynccontextmanager
async def mail_server(
    context: ssl.SSLContext | None, *, user: str = "", password: str = ""
) -> AsyncIterator[MailServer]:
    """Serve SMTP; with a ``context`` mail is taken after STARTTLS only, with a ``user`` after AUTH only."""
    own = MailServer(user=user, password=password)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _Conversation(own, context, reader, writer).talk()

    async with on_loopback(talk) as own.port:
        yield own


def certificate(folder: Path, name: str = "localhost") -> tuple[ssl.SSLContext, Path]:
    """A certificate that signs itself: the server's context, and the file that who trusts it names."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "mail.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = folder / "mail.key"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    return context, pem
