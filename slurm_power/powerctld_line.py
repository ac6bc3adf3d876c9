"""One question to powerctld's Unix socket and its answer, for daemons beside it."""

import asyncio
from pathlib import Path

from slurm_power import wire

DEFAULT_TIMEOUT_SECONDS = 2.0
MOST_ANSWER_BYTES = 16 * wire.MAX_LINE_BYTES


class LineError(Exception):
    """powerctld did not answer."""


class LineRefusedError(LineError):
    """powerctld has understood and does not do it; the text is its own."""


async def ask(
    socket_path: Path, message: wire.Message, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
) -> wire.Message:
    """Send ``message``, return the answer; raises LineError, LineRefusedError."""
    try:
        async with asyncio.timeout(timeout_seconds):
            reader, writer = await asyncio.open_unix_connection(socket_path, limit=MOST_ANSWER_BYTES)
            try:
                writer.write(wire.encode(message))
                await writer.drain()
                answer = wire.decode(await reader.readuntil(b"\n"))
            finally:
                writer.close()
    except TimeoutError:
        raise LineError(f"powerctld did not answer in {timeout_seconds:g} s") from None
    except (OSError, EOFError, asyncio.LimitOverrunError, wire.WireError) as error:
        raise LineError(f"powerctld: {getattr(error, 'strerror', None) or error}") from None
    if answer.get("ok") is not True:
        raise LineRefusedError(str(answer.get("error") or "powerctld refused without a reason"))
    return answer
