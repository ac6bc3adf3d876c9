"""A signal of kind http_prices or http_carbon: pages read again and again into a file for ``[supply]``."""

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from slurm_power import clock
from slurm_power.bridge.bounded_http import AnswerError
from slurm_power.bridge.feeds import Feed
from slurm_power.bridge.grid_events import Price
from slurm_power.bridge.http_page import PageReader
from slurm_power.bridge.http_rows import PageError, backwards, merged, read_page
from slurm_power.bridge.signal_rounds import sleep_spread
from slurm_power.bridge.signal_state import SignalState
from slurm_power.bridge.state_file import StateFile
from slurm_power.config.http_signals import HttpKind, HttpSignal, TimeForm

_FIRST_RETRY_SECONDS = 15.0
_NOT_FOUND = 404
_DOUBTS_KEPT = 5
_MEANING = (
    *("kind", "url", "rows", "time", "end", "value", "unit", "time_form", "zone", "step_minutes"),
    *("least_value", "most_value"),
)


async def run_http_feed(signal: HttpSignal, state: SignalState, *, folder: Path, feeds: Path) -> None:
    """Read one feed for ever; raises only what is a fault of ours."""
    feed = HttpFeedReader(signal, folder=folder, feeds=feeds)
    failures = 0
    while True:
        state.beat()
        wait_seconds = signal.poll_seconds
        try:
            state.heard(await feed.round())
            failures = 0
        except (AnswerError, PageError) as error:
            state.failed("; ".join([str(error), *feed.stopped(clock.now())]))
            asked_seconds = error.wait_seconds if isinstance(error, AnswerError) else 0.0
            retry_seconds = min(_FIRST_RETRY_SECONDS * 2.0 ** min(failures, 20), signal.poll_seconds)
            wait_seconds = max(asked_seconds, retry_seconds)
            failures += 1
        await sleep_spread(wait_seconds, state)


class HttpFeedReader:
    """What one feed has said, kept over restarts."""

    def __init__(self, signal: HttpSignal, *, folder: Path, feeds: Path) -> None:
        self._signal = signal
        self._file = StateFile(folder / f"signal.{signal.name}.json")
        kind, heading = (
            ("price", "price_per_kwh") if signal.kind is HttpKind.PRICES else ("carbon", "carbon_g_per_kwh")
        )
        self._feed = Feed(feeds / f"{signal.name}.{kind}.csv", heading)
        # Values that were understood by other keys mean something else.
        keys = [str(getattr(signal, key)) for key in _MEANING]
        self._meaning = hashlib.sha256(repr(keys).encode()).hexdigest()
        kept = self._file.read()
        same = kept.get("meaning") == self._meaning
        self._known = _prices(kept.get("rows")) if same else []
        pages = kept.get("pages") if same else None
        self._pages: dict[str, dict[str, Any]] = {
            url: page
            for url, page in (pages if isinstance(pages, dict) else {}).items()
            if isinstance(page, dict) and isinstance(page.get("marks"), dict)
        }

    async def round(self) -> list[str]:
        """Read each page once; returns what is doubtful. Raises AnswerError, PageError if the first fails."""
        now = clock.now()
        doubts: list[str] = []
        pages: dict[str, dict[str, Any]] = {}
        reader = PageReader(self._signal)
        try:
            for number, url in enumerate(dict.fromkeys(addresses(self._signal, now))):
                before = self._pages.get(url, {})
                try:
                    pages[url] = await self._page(reader, url, before, now, doubts)
                except AnswerError as error:
                    if number == 0 or error.wait_seconds:
                        raise
                    # What is of tomorrow is not there before somebody has made it.
                    if error.status != _NOT_FOUND:
                        doubts.append(f"a later day: {error}")
                except PageError as error:
                    if number == 0:
                        raise
                    doubts.append(f"a later day: {error}")
        finally:
            await reader.close()
            self._keep(pages or self._pages, now)
        return list(dict.fromkeys([*self.stopped(now), *doubts]))  # what is worst first: the end is cut off

    def stopped(self, now: datetime) -> list[str]:
        """That nothing is known of now, and since when."""
        if any(one.starts_at <= now < one.ends_at for one in self._known):
            return []
        past = [one.ends_at for one in self._known if one.ends_at <= now]
        if not past:
            return ["it says nothing about now"]
        return [f"nothing is known since {max(past).astimezone(UTC):%Y-%m-%d %H:%MZ}"]

    async def _page(
        self, reader: PageReader, url: str, before: Mapping[str, Any], now: datetime, doubts: list[str]
    ) -> dict[str, Any]:
        marks = {str(key): str(value) for key, value in before.get("marks", {}).items()}
        page = await reader.read(url, marks)
        if page.clock_doubt:
            doubts.append(page.clock_doubt)
        ended_at = (
            _ended_at(before)
            if self._signal.daily
            else max((one.ends_at for one in self._known), default=None)
        )
        if page.content is None:
            said = [str(one) for one in before.get("doubts") or ()]
        else:
            # Pages may be large, and other signals must not wait for them.
            told, said = await asyncio.to_thread(read_page, page.content, self._signal, now)
            self._known = await asyncio.to_thread(merged, self._known, told, now)
            said += backwards(ended_at, told, now)
            ended_at = max(
                (moment for moment in (ended_at, *(one.ends_at for one in told[-1:])) if moment), default=None
            )
        doubts += said
        ends_seconds = None if ended_at is None else ended_at.timestamp()
        return {"marks": dict(page.marks), "doubts": said[:_DOUBTS_KEPT], "ends_seconds": ends_seconds}

    def _keep(self, pages: dict[str, dict[str, Any]], now: datetime) -> None:
        self._pages = pages
        rows = [[one.starts_at.timestamp(), one.ends_at.timestamp(), one.value] for one in self._known]
        self._feed.put(self._known, now)
        self._file.write({"meaning": self._meaning, "rows": rows, "pages": pages})


def addresses(signal: HttpSignal, now: datetime) -> Iterator[str]:
    """The addresses of today and the days ahead, today's first; one alone where they differ by no day."""
    zone = ZoneInfo(signal.zone)
    today = now.astimezone(zone).date()
    for ahead in range(signal.days if signal.daily else 1):
        day = today + timedelta(days=ahead)
        until = day + timedelta(days=1 if signal.daily else signal.days)
        bounds = [datetime(one.year, one.month, one.day, tzinfo=zone) for one in (day, until)]
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
        yield url


def _written(at: datetime, form: TimeForm) -> str:
    if form is TimeForm.ISO:
        return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return f"{at.timestamp() * (1 if form is TimeForm.EPOCH_SECONDS else 1000):.0f}"


def _ended_at(page: Mapping[str, Any]) -> datetime | None:
    """How far a page has reached so far."""
    try:
        return datetime.fromtimestamp(page["ends_seconds"], UTC)
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
