"""The picture of the site: asked for once a second, written once for all who see the same."""

import asyncio
import json
import logging
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from slurm_power import clock
from slurm_power.powerctld_line import LineError
from slurm_power.web import cut
from slurm_power.web.asking import Ask
from slurm_power.web.people import Person

log = logging.getLogger(__name__)

TURN_SECONDS = 1.0
_MOST_USERS = 1000
_MOST_JOBS = 2000
# Who asked without watching is reckoned with for so long.
_ASKED_SECONDS = 15.0
# A picture older than this is no answer any more.
OLD_SECONDS = 10.0
_FIRST_SECONDS = 5.0

GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_GZIP_END = zlib.compressobj(wbits=-15).flush()


@dataclass(frozen=True, slots=True)
class Text:
    """Bytes, and the same packed so that packed texts may stand one after the other in one gzip stream."""

    plain: bytes
    packed: bytes

    @classmethod
    def of(cls, plain: bytes) -> "Text":
        """Pack; each text ends at a full byte and looks back at nothing before it."""
        packer = zlib.compressobj(1, zlib.DEFLATED, -15)
        return cls(plain, packer.compress(plain) + packer.flush(zlib.Z_FULL_FLUSH))


def gzip_of(*texts: Text) -> bytes:
    """One complete gzip file of some texts."""
    check, size = 0, 0
    for text in texts:
        check, size = zlib.crc32(text.plain, check), size + len(text.plain)
    ends = check.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")
    return b"".join((GZIP_HEAD, *(text.packed for text in texts), _GZIP_END, ends))


@dataclass(slots=True)
class Turn:
    """One second's picture. ``users`` are those whose jobs are all in it, ``all_jobs`` that many are."""

    number: int
    taken_seconds: float
    live: dict[str, Any]
    users: frozenset[str]
    all_jobs: bool
    _texts: dict[bool, Text] = field(default_factory=dict)

    def parts(self, person: Person) -> tuple[Text, Text]:
        """The JSON of the picture for somebody in two parts: the first is shared by all who see the same."""
        shared = self._texts.get(person.sees_all)
        if shared is None:
            seen = cut.whole(self.live) if person.sees_all else cut.totals(self.live)
            shared = self._texts[person.sees_all] = Text.of(_json(seen)[:-1])
        more: dict[str, Any] = {
            "you": {"name": person.name if person.proof else "", "role": person.role.value}
        }
        if not person.sees_all:
            more |= cut.own(self.live, person.name)
        return shared, Text.of(b"," + _json(more)[1:])

    def holds(self, person: Person) -> bool:
        """Whether all that somebody may see is in it."""
        if person.sees_all:
            return self.all_jobs
        return person.name in self.users or (self.all_jobs and not self.live.get("jobs_left_off"))


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class Pictures:
    """Asks powerctld once a second. Streams wait for the next turn; nothing is kept for slow ones."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._turned = asyncio.Event()
        self._hurry = asyncio.Event()
        self._watching: Counter[tuple[bool, str]] = Counter()
        self._asked: dict[tuple[bool, str], float] = {}
        self._count = 0
        self.latest: Turn | None = None
        self.problem = "powerctld has not been asked yet"
        self.closing = False

    async def run(self) -> None:
        """Take pictures until cancelled; a powerctld that is away is asked again each second."""
        while not self.closing:
            began = clock.monotonic()
            await self._turn(began)
            self._hurry.clear()
            left = TURN_SECONDS - (clock.monotonic() - began)
            try:
                async with asyncio.timeout(max(left, 0.05)):
                    await self._hurry.wait()
            except TimeoutError:
                pass  # nobody was in a hurry

    async def _turn(self, now_seconds: float) -> None:
        users, all_jobs = self._wanted(now_seconds)
        request = {"op": "live", "most_jobs": _MOST_JOBS if all_jobs else 0, "users": sorted(users)}
        try:
            live = await self._ask(request)
        except LineError as error:
            if str(error) != self.problem:
                log.warning("no picture: %s", error)
            self.problem = str(error)
        else:
            if self.problem:
                log.info("powerctld answers")
            self.problem = ""
            self._count += 1
            self.latest = Turn(self._count, now_seconds, live, users, all_jobs)
        self._wake()

    def _wake(self) -> None:
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()

    def _wanted(self, now_seconds: float) -> tuple[frozenset[str], bool]:
        self._asked = {key: at for key, at in self._asked.items() if now_seconds - at < _ASKED_SECONDS}
        keys = self._watching.keys() | self._asked.keys()
        users = [name for sees_all, name in keys if not sees_all]
        return frozenset(users[:_MOST_USERS]), any(sees_all for sees_all, _ in keys)

    @contextmanager
    def watched_by(self, person: Person) -> Iterator[None]:
        """Have somebody's jobs in each picture for a while."""
        key = person.sees_all, person.name
        self._watching[key] += 1
        try:
            yield
        finally:
            self._watching[key] -= 1
            if self._watching[key] <= 0:
                del self._watching[key]

    async def now(self, person: Person) -> Turn | None:
        """The latest picture with all that somebody may see; None while none is young enough."""
        if len(self._asked) < _MOST_USERS:
            self._asked[person.sees_all, person.name] = clock.monotonic()
        found = self._young()
        if found is not None and found.holds(person):
            return found
        self._hurry.set()
        number = 0 if found is None else found.number
        try:
            async with asyncio.timeout(_FIRST_SECONDS if found is None else 2 * TURN_SECONDS):
                # A turn that was under way already may not have known of this one.
                for _ in range(2):
                    later = await self.after(number)
                    if later is None or later.holds(person):
                        break
                    number = later.number
                    self._hurry.set()
        except TimeoutError:
            pass  # what there is will do
        return self._young()

    async def after(self, number: int) -> Turn | None:
        """The next picture after ``number``; None when there is a problem instead, or this is closing."""
        if self.latest is not None and self.latest.number > number and not self.problem:
            return self.latest
        await self._turned.wait()
        found = self.latest
        return None if found is None or self.problem or self.closing else found

    def _young(self) -> Turn | None:
        found = self.latest
        if found is None or clock.monotonic() - found.taken_seconds > OLD_SECONDS:
            return None
        return found

    def close(self) -> None:
        """Let all who wait go: nothing comes any more."""
        self.closing = True
        self._hurry.set()
        self._wake()
