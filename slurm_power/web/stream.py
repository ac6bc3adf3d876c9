"""Server-sent events: the picture once a second, to hundreds of browsers, without a queue for any of them."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.types import Receive, Scope, Send

from slurm_power.tasks import end_all
from slurm_power.web.keys import KeysError
from slurm_power.web.people import Person, RefusedProofError
from slurm_power.web.pictures import GZIP_HEAD, Pictures, Text
from slurm_power.web.problems import without_folders

Prove: TypeAlias = Callable[[], Awaitable[Person | None]]

_RETRY_MILLISECONDS = 3000
# Who does not read for so long is hung up on; a browser comes back by itself and begins with a whole picture.
_SLOW_SECONDS = 10.0
_MOST_OF_A_PERSON = 50
# Who has not said who they are share the places, and leave some to those who have.
_NOBODYS_RATIO = 0.8
# A stream may last for days: whoever has logged out, or has another role by now, must not go on watching.
_PROVE_SECONDS = 15.0

_SITE = Text.of(b"event: site\ndata: ")
_END = Text.of(b"\n\n")


class FullError(Exception):
    """No further stream is taken; the text says why."""


class Streams:
    """The streams that are open; there are at most ``most``, and of one person no more than a share."""

    def __init__(self, pictures: Pictures, *, most: int) -> None:
        self.pictures = pictures
        self._most = most
        self._open: Counter[str] = Counter()
        self.dropped = 0

    @property
    def count(self) -> int:
        """How many are open."""
        return self._open.total()

    def open(self, person: Person, *, packed: bool, prove: Prove) -> "Stream":
        """A stream for somebody, as long as ``prove`` says that they still are; raises FullError."""
        if self.count >= self._most:
            raise FullError(f"{self._most} browsers are watching already (web.most_clients)")
        if person.proof and self._open[person.name] >= _MOST_OF_A_PERSON:
            raise FullError(f"{person.name} has {_MOST_OF_A_PERSON} streams open already")
        # Nobody's name is everybody's.
        if not person.proof and self._open[person.name] >= max(1.0, _NOBODYS_RATIO * self._most):
            raise FullError("the other places are for those who log in; run `slurm-power web login`")
        return Stream(self, person, packed=packed, prove=prove)

    def began(self, person: Person) -> None:
        """Count a stream."""
        self._open[person.name] += 1

    def ended(self, person: Person) -> None:
        """Count it no longer."""
        self._open[person.name] -= 1
        self._open += Counter()


class Stream:
    """One browser's stream, an ASGI answer."""

    def __init__(self, streams: Streams, person: Person, *, packed: bool, prove: Prove) -> None:
        self._streams = streams
        self._pictures = streams.pictures
        self._person = person
        self._packed = packed
        self._prove = prove
        self._refused = False

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the browser leaves, is too slow, or powerweb ends."""
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store, no-transform"),
            (b"x-accel-buffering", b"no"),
        ]
        if self._packed:
            headers += [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self._streams.began(self._person)
        left = asyncio.create_task(_left(receive))
        told = asyncio.create_task(self._tell(send))
        # Beside it: behind names may be a directory service that hangs, and the picture must go on.
        proving = asyncio.create_task(self._prove_again())
        try:
            with self._pictures.watched_by(self._person):
                await asyncio.wait((left, told), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._streams.ended(self._person)
            await end_all([left, told, proving])
        if told.done() and not told.cancelled() and told.exception() is None:
            await send({"type": "http.response.body", "body": b""})

    async def _tell(self, send: Send) -> None:
        await self._send(send, Text.of(f"retry: {_RETRY_MILLISECONDS}\n\n".encode()), first=True)
        turn, number = await self._pictures.now(self._person), 0
        away = ""
        while not self._pictures.closing:
            if self._refused:
                await self._send(send, _event("bye", {"reason": "you are no longer logged in as before"}))
                return
            if turn is not None and turn.number > number and not self._pictures.problem:
                number, away = turn.number, ""
                await self._send(send, _SITE, *turn.parts(self._person), _END)
            elif self._pictures.problem and self._pictures.problem != away:
                away = self._pictures.problem
                await self._send(send, _event("away", {"error": without_folders(away)}))
            else:
                # Proxies cut what is silent, and a browser that has left is noticed by this.
                await self._send(send, Text.of(b": still here\n\n"))
            turn = await self._pictures.after(number)
        await self._send(send, _event("bye", {"reason": "powerweb is being stopped"}))

    async def _prove_again(self) -> None:
        """Look again and again who watches; what goes wrong with that ends the stream as well."""
        proved = True
        try:
            while proved:
                await asyncio.sleep(_PROVE_SECONDS)
                proved = await self._proved()
        finally:
            self._refused = True

    async def _proved(self) -> bool:
        """Whether who watches is still who they were, with the same role."""
        try:
            return await self._prove() == self._person
        except RefusedProofError:
            return False
        except KeysError:
            return True  # nothing is known to have changed, and a full disk must not turn all screens dark

    async def _send(self, send: Send, *texts: Text, first: bool = False) -> None:
        """Send at once; a browser that does not read ends its own stream."""
        if self._packed:
            body = b"".join(((GZIP_HEAD if first else b""), *(text.packed for text in texts)))
        else:
            body = b"".join(text.plain for text in texts)
        try:
            async with asyncio.timeout(_SLOW_SECONDS):
                await send({"type": "http.response.body", "body": body, "more_body": True})
        except TimeoutError:
            self._streams.dropped += 1
            raise ConnectionError("the browser is too slow") from None


def _event(name: str, data: dict[str, str]) -> Text:
    return Text.of(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())


async def _left(receive: Receive) -> None:
    """Return when the browser has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass
