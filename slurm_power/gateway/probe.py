"""One HTTP request to a model server, straight: is it healthy, and does it answer its warm-up?"""

import asyncio
import socket
from urllib.parse import urlsplit

_MOST_HEAD_BYTES = 65536


class ProbeError(Exception):
    """No answer, or not one of HTTP."""


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``http://HOST:PORT``; raises ProbeError."""
    try:
        parts = urlsplit(address.strip())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ProbeError(f"{address!r} is no address: {error}") from None
    if parts.scheme != "http" or not host or port is None or parts.path not in {"", "/"} or parts.query:
        raise ProbeError(f"{address!r} is not of the form http://HOST:PORT")
    return host, port


async def resolve(address: str) -> str:
    """IP:PORT of an address, as HAProxy takes it; raises ProbeError."""
    host, port = split_address(address)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ProbeError(f"{host}: {error.strerror or error}") from None
    # An IPv4 address where there is one: not every model server listens on both.
    family, *_, place = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return f"{place[0]}:{port}" if family == socket.AF_INET else f"[{place[0]}]:{port}"


async def ask(
    address: str,
    *,
    path: str,
    method: str = "GET",
    body: str = "",
    content_type: str = "application/json",
    timeout_seconds: float = 2.0,
) -> int:
    """The status of the answer, once its body is complete; raises ProbeError."""
    host, port = split_address(address)
    data = body.encode()
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host}:{port}",
        "Connection: close",
        "User-Agent: slurm-power",
    ]
    if data or method in {"POST", "PUT"}:
        lines += [f"Content-Type: {content_type}", f"Content-Length: {len(data)}"]
    try:
        async with asyncio.timeout(timeout_seconds):
            reader, writer = await asyncio.open_connection(host, port, limit=_MOST_HEAD_BYTES)
            try:
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
                await writer.drain()
                head = await reader.readuntil(b"\r\n\r\n")
                await _read_body(reader, head.lower(), method)
            finally:
                writer.close()
    except TimeoutError:
        raise ProbeError(f"no answer within {timeout_seconds:g} s") from None
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        raise ProbeError(str(error)) from None
    words = head.split(b"\r\n")[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ProbeError("it answers, and not in HTTP")
    return int(words[1])


async def _read_body(reader: asyncio.StreamReader, head: bytes, method: str) -> None:
    """Read to the end of the answer, also from a server that keeps the connection."""
    lines = head.split(b"\r\n")
    status = lines[0].split()[1:2]
    if method == "HEAD" or status in ([b"204"], [b"304"]):
        return
    fields = dict(line.split(b":", 1) for line in lines[1:] if b":" in line)
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        while size := int((await reader.readline()).split(b";")[0], 16):
            await reader.readexactly(size + 2)
    elif b"content-length" in fields:
        await reader.readexactly(int(fields[b"content-length"]))
    else:
        while await reader.read(_MOST_HEAD_BYTES):
            pass
