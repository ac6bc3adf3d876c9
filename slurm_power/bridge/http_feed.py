"""Pages read again and again: for http_prices and http_carbon into a file for ``[supply]``."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from slurm_power import clock
from slurm_power.bridge.bounded_http import AnswerError
from slurm_power.bridge.feeds import Feed
from slurm_power.bridge.grid_events import LONGEST_AHEAD, Price
from slurm_power.bridge.http_doubts import (
    made_ahead,
    made_before,
    moment_text,
    reaches_less,
    unit_doubts,
    usual_of,
)
from slurm_power.bridge.http_page import PageReader
from slurm_power.bridge.http_rows import PageError, merged, read_page
from slurm_power.bridge.signal_rounds import MOST_EVENT_WAIT_SECONDS, sleep_spread
from slurm_power.bridge.signal_state import SignalState
from slurm_power.bridge.state_file import StateFile
from slurm_power.config.http_signals import HttpKind, HttpSignal, TimeForm
from slurm_power.powerctld_line import LineError

_FIRST_RETRY_SECONDS = 15.0
_NOT_FOUND = 404
_DOUBTS_KEPT = 5
_MEANING = (
    *("kind", "url", "rows", "time", "end", "value", "unit", "time_form", "zone", "step_minutes"),
    *("least_value", "most_value", "published"),
)


class FeedFileError(Exception):
    """What was read reaches nobody: its file cannot be written."""


async def run_http_feed(signal: HttpSignal, state: SignalState, *, folder: Path, feeds: Path) -> None:
    """Read one feed for ever; raises only what is a fault of ours."""
    feed = HttpFeedReader(signal, folder=folder, feeds=feeds)

    async def one_round() -> list[str]:
        doubts = await feed.round()
        return [*feed.stopped(clock.now()), *doubts]  # what is worst first: the end is cut off

    await poll(signal, state, one_round, lambda: feed.stopped(clock.now()))


async def poll(
    signal: HttpSignal,
    state: SignalState,
    one_round: Callable[[], Awaitable[list[str]]],
    standing: Callable[[], list[str]] = list,
) -> None:
    """Do rounds for ever, less often where they fail; ``standing``: what else is to say of a failed one."""
    failures = 0
    while True:
        state.beat()
        wait_seconds = signal.poll_seconds
        try:
            state.heard(await one_round())
            failures = 0
        except (AnswerError, PageError, FeedFileError, LineError) as error:
            state.failed("; ".join([str(error), *standing()]))
            asked_seconds = error.wait_seconds if isinstance(error, AnswerError) else 0.0
            if signal.kind is HttpKind.LIMITS:
                asked_seconds = min(asked_seconds, MOST_EVENT_WAIT_SECONDS)
            retry_seconds = min(_FIRST_RETRY_SECONDS * 2.0 ** min(failures, 20), signal.poll_seconds)
            wait_seconds = max(asked_seconds, retry_seconds)
            failures += 1
        await sleep_spread(wait_seconds, state)


class HttpFeedReader:
    """What one feed has said, kept over restarts: in ``feeds``, if given, and in a file of our own."""

    def __init__(self, signal: HttpSignal, *, folder: Path, feeds: Path | None = None) -> None:
        self._signal = signal
        self._file = StateFile(folder / f"signal.{signal.name}.json")
        kind, heading = (
            ("price", "price_per_kwh") if signal.kind is HttpKind.PRICES else ("carbon", "carbon_g_per_kwh")
        )
        self._feed = None if feeds is None else Feed(feeds / f"{signal.name}.{kind}.csv", heading)
        # Values that were understood by other keys mean something else.
        keys = [str(getattr(signal, key)) for key in _MEANING]
        self._meaning = hashlib.sha256(repr(keys).encode()).hexdigest()
        kept = self._file.read()
        same = kept.get("meaning") == self._meaning
        self.known = _prices(kept.get("rows")) if same else []
        usual = kept.get("usual") if same else None
        self._usual: float | None = usual if isinstance(usual, float) else None
        pages = kept.get("pages") if same else None
        self._pages: dict[str, dict[str, Any]] = {
            url: page
            for url, page in (pages if isinstance(pages, dict) else {}).items()
            if isinstance(page, dict) and isinstance(page.get("marks"), dict)
        }

    async def round(self) -> list[str]:
        """Read each page once; returns what is doubtful.

        Raises AnswerError, PageError where the first page fails, FeedFileError where nobody learns of it.
        """
        now = clock.now()
        doubts: list[str] = []
        pages: dict[str, dict[str, Any]] = {}
        reader = PageReader(self._signal)
        try:
            # Days may share an address, such as that of their month.
            by_url: dict[str, Address] = {}
            for day in addresses(self._signal, now):
                by_url[day.url] = replace(day, since=by_url.get(day.url, day).since)
            for number, address in enumerate(by_url.values()):
                before = self._pages.get(address.url, {})
                try:
                    pages[address.url] = await self._page(reader, address, before, now, doubts)
                except AnswerError as error:
                    if number == 0 or error.wait_seconds:
                        raise
                    # What is of tomorrow is not there before somebody has made it.
                    if error.status != _NOT_FOUND:
                        doubts.append(f"a later day: {error}")
                    pages[address.url] = before
                except PageError as error:
                    if number == 0:
                        raise
                    doubts.append(f"a later day: {error}")
                    pages[address.url] = before
        finally:
            await reader.close()
            problem = await asyncio.to_thread(self._keep, pages or self._pages, now)
        if problem:
            raise FeedFileError(problem)
        if self._file.problem:
            doubts.insert(0, self._file.problem)
        return list(dict.fromkeys(doubts))

    def stopped(self, now: datetime) -> list[str]:
        """That nothing is known of now, and since when."""
        return stopped(self.known, now)

    async def _page(
        self,
        reader: PageReader,
        address: "Address",
        before: Mapping[str, Any],
        now: datetime,
        doubts: list[str],
    ) -> dict[str, Any]:
        marks = {str(key): str(value) for key, value in before.get("marks", {}).items()}
        page = await reader.read(address.url, marks)
        if page.clock_doubt:
            doubts.append(page.clock_doubt)
        ended_at = (
            _moment(before, "ends_seconds")
            if self._signal.daily
            else max((one.ends_at for one in self.known), default=None)
        )
        made_at = _moment(before, "made_seconds")
        if page.content is None:
            said = [str(one) for one in before.get("doubts") or ()]
        else:
            # Pages may be large, and other signals must not wait for them.
            told = await asyncio.to_thread(read_page, page.content, self._signal, now)
            if older := made_before(told.made_at, made_at):
                raise PageError(older)
            said = list(told.doubts)
            if told.made_at is not None and (ahead := made_ahead(told.made_at, now)):
                # Taken as it says it would make all later pages look old.
                said.append(ahead)
            elif told.made_at is not None:
                made_at = told.made_at
            mixed_up = unit_doubts(self._usual, told.values)
            said += mixed_up
            if not mixed_up:
                # What is doubtful must not become what is usual.
                self._usual = usual_of(told.values) or self._usual
            speaks_for = None
            if self._signal.kind is HttpKind.LIMITS:
                # What is doubtful takes no limit back.
                starts_at = max(told.starts_at or now, address.since)
                speaks_for = None if said or starts_at >= address.until else (starts_at, address.until)
            else:
                said += reaches_less(ended_at, told.values, now)
            self.known = await asyncio.to_thread(merged, self.known, told.values, now, speaks_for)
            ended_at = max(
                (moment for moment in (ended_at, *(one.ends_at for one in told.values[-1:])) if moment),
                default=None,
            )
        doubts += said
        return {
            "marks": dict(page.marks),
            "doubts": said[:_DOUBTS_KEPT],
            "ends_seconds": None if ended_at is None else ended_at.timestamp(),
            "made_seconds": None if made_at is None else made_at.timestamp(),
        }

    def _keep(self, pages: dict[str, dict[str, Any]], now: datetime) -> str:
        """Write all down; returns why nobody else can read it."""
        self._pages = pages
        rows = [[one.starts_at.timestamp(), one.ends_at.timestamp(), one.value] for one in self.known]
        # Without a page that could be read nothing is taken back.
        problem = "" if self._feed is None or not self.known else self._feed.put(self.known, now)
        self._file.write({"meaning": self._meaning, "rows": rows, "pages": pages, "usual": self._usual})
        return problem


def stopped(known: list[Price], now: datetime) -> list[str]:
    """That nothing of what is known is of now, and since when."""
    if any(one.starts_at <= now < one.ends_at for one in known):
        return []
    past = [one.ends_at for one in known if one.ends_at <= now]
    if not past:
        return ["it says nothing about now"]
    return [f"nothing is known since {moment_text(max(past))}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a page is, and from when up to when it can speak."""

    url: str
    since: datetime
    until: datetime


def addresses(signal: HttpSignal, now: datetime) -> Iterator[Address]:
    """The addresses of today and the days ahead, today's first; one alone where they differ by no day."""
    zone = ZoneInfo(signal.zone)
    today = now.astimezone(zone).date()
    for ahead in range(signal.days if signal.daily else 1):
        day = today + timedelta(days=ahead)
        until = day + timedelta(days=1 if signal.daily else signal.days)
        bounds = [datetime(one.year, one.month, one.day, tzinfo=zone).astimezone(UTC) for one in (day, until)]
        words = {
            "date": day.isoformat(),
            "year": f"{day:%Y}",
            "month": f"{day:%m}",
            "day": f"{day:%d}",
            "from": _written(bounds[0], signal.time_form),
            "to": _written(bounds[1], signal.time_form),
        }
        url = signal.url
        for key, word in words.items():
            url = url.replace(f"{{{key}}}", quote(word, safe=""))
        speaks_until = bounds[1] if signal.daily else now + LONGEST_AHEAD
        yield Address(url=url, since=bounds[0], until=speaks_until)


def _written(at: datetime, form: TimeForm) -> str:
    if form is TimeForm.ISO:
        return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return f"{at.timestamp() * (1 if form is TimeForm.EPOCH_SECONDS else 1000):.0f}"


def _moment(page: Mapping[str, Any], key: str) -> datetime | None:
    """A moment that was kept with a page."""
    try:
        return datetime.fromtimestamp(page[key], UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def _prices(rows: object) -> list[Price]:
    """What was kept, empty where it cannot be read."""
    try:
        return [
            Price(
                starts_at=datetime.fromtimestamp(start, UTC),
                ends_at=datetime.fromtimestamp(end, UTC),
                value=float(value),
            )
            for start, end, value in (rows if isinstance(rows, list) else [])
        ]
    except (TypeError, ValueError, OverflowError, OSError):
        return []
