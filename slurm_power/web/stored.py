"""What powerweb reads from powerctld's files itself, in threads of its own: history, ledger, savings."""

import asyncio
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from slurm_power import clock
from slurm_power.config import SiteConfig
from slurm_power.model.series import Point, Resolution
from slurm_power.ports import StoreError
from slurm_power.store.ledger_page import ledger_page
from slurm_power.store.places import LEDGER_NAME, SERIES_NAME
from slurm_power.store.reading import SeriesReading
from slurm_power.web.savings import savings_beside

MOST_POINTS = 2000
# How long a span may be for each resolution: the finest that gives no more points than wanted.
_SPANS = (
    (Resolution.RAW, 1800.0),
    (Resolution.MINUTE, 2 * 86_400.0),
    (Resolution.QUARTER_HOUR, float("inf")),
)
# A chart of an hour moves by a pixel in some seconds, one of a month in minutes.
_KEEP = ((1800.0, 2.0), (86_400.0, 15.0), (float("inf"), 60.0))
_MOST_KEPT = 64
_MOST_WAITING = 50
_SAVINGS_SECONDS = 300.0
_THREADS = 2


class StoredError(Exception):
    """What is asked for cannot be read now; the text says why."""


class Stored:
    """Reads beside powerctld, never through it. What was just read for one is given to all."""

    def __init__(
        self, config: SiteConfig, savings: Callable[[Path], dict[str, Any]] = savings_beside
    ) -> None:
        """``savings`` works out what this month came to by a site.toml, and may take a while."""
        self._config = config
        self._savings = partial(savings, config.file)
        self._directory = config.controller.state_directory
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="stored")
        self._long = ThreadPoolExecutor(1, thread_name_prefix="savings")
        self._kept: OrderedDict[tuple[str, float], tuple[float, dict[str, Any]]] = OrderedDict()
        self._under_way: dict[tuple[str, float], asyncio.Future[dict[str, Any]]] = {}
        self._waiting = 0

    async def _read(self, step: Callable[[], Any], *, long: bool = False) -> Any:
        """Run in a thread; raises StoredError when too much is asked or nothing can be read."""
        if self._waiting >= _MOST_WAITING:
            raise StoredError("too much is read at once; try again in a while")
        self._waiting += 1
        try:
            threads = self._long if long else self._threads
            return await asyncio.get_running_loop().run_in_executor(threads, step)
        except (StoreError, sqlite3.Error, OSError) as error:
            raise StoredError(str(error)) from None
        finally:
            self._waiting -= 1

    async def _shared(
        self,
        key: tuple[str, float],
        keep_seconds: float,
        step: Callable[[], dict[str, Any]],
        *,
        long: bool = False,
    ) -> dict[str, Any]:
        known = self._kept.get(key)
        if known is not None and clock.monotonic() - known[0] < keep_seconds:
            return known[1]
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.ensure_future(self._read(step, long=long))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    def _done(self, key: tuple[str, float], task: "asyncio.Future[dict[str, Any]]") -> None:
        self._under_way.pop(key, None)
        if not task.cancelled() and task.exception() is None:
            self._kept.pop(key, None)
            self._kept[key] = clock.monotonic(), task.result()
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)

    async def history(self, circuit: str, seconds: float) -> dict[str, Any]:
        """Columns of what a circuit drew in the last ``seconds``; raises StoredError."""
        if self._config.store.series_url is not None:
            raise StoredError("the series of this site are kept in another engine (store.series_url)")
        # Spans are rounded up, so that many charts of nearly the same span are one.
        wanted = next((one for one in _ROUND_SPANS if seconds <= one), seconds)
        keep_seconds = next(keep for span, keep in _KEEP if wanted <= span)
        return await self._shared(
            (circuit, wanted), keep_seconds, lambda: self._history(circuit, wanted, clock.now())
        )

    def _history(self, circuit: str, seconds: float, now: datetime) -> dict[str, Any]:
        site = self._config.site
        resolution = next(one for one, span in _SPANS if seconds <= span)
        batteries = site.ess_behind(circuit)
        names = [f"circuit.{circuit}.{word}" for word in ("watts", "limit_watts", "load_watts")]
        names += [f"ess.{name}.{word}" for name in batteries for word in ("discharge_watts", "soc_ratio")]
        file = self._directory / SERIES_NAME
        if not file.is_file():
            raise StoredError("powerctld has not written any series yet")
        reader = SeriesReading.open(file)
        try:
            points = reader.read(names, now - timedelta(seconds=seconds), now, resolution)
        finally:
            reader.close()
        begins = now.timestamp() - seconds
        step_seconds = max(float(resolution), seconds / MOST_POINTS)
        columns = {name: _in_steps(points[name], begins, step_seconds) for name in names}
        steps = sorted({step for column in columns.values() for step in column})
        watts, limits, loads = (_column(columns[name], steps) for name in names[:3])
        discharges = [_column(columns[f"ess.{name}.discharge_watts"], steps) for name in batteries]
        charges = [_column(columns[f"ess.{name}.soc_ratio"], steps) for name in batteries]
        return {
            "circuit": circuit,
            "seconds": seconds,
            "step_seconds": max(1.0, step_seconds),
            "at_seconds": [round(begins + step * step_seconds, 3) for step in steps],
            "watts": watts,
            "limit_watts": limits,
            "natural_watts": loads,
            "discharge_watts": _together(discharges, len(steps), sum),
            "soc_ratio": _together(charges, len(steps), _mean),
        }

    async def ledger(self, *, visible_to: str | None, **words: Any) -> dict[str, Any]:
        """A page of the ledger; raises StoredError."""
        wanted = {
            "after": words.get("after", 0),
            "before": words.get("before"),
            "job_id": words.get("job"),
            "kind": words.get("kind"),
            "most": words.get("most", 100),
        }
        file = self._directory / LEDGER_NAME
        entries, more = await self._read(lambda: ledger_page(file, visible_to=visible_to, **wanted))
        return {"entries": entries, "more": more}

    async def savings(self) -> dict[str, Any]:
        """What this month came to, at most some minutes old; raises StoredError."""
        return await self._shared(("savings", 0.0), _SAVINGS_SECONDS, self._savings, long=True)

    def close(self) -> None:
        """Let the threads end."""
        for threads in (self._threads, self._long):
            threads.shutdown(wait=False, cancel_futures=True)


_ROUND_SPANS = (
    *(300.0, 900.0, 1800.0, 3600.0, 6 * 3600.0, 86_400.0, 2 * 86_400.0, 7 * 86_400.0, 31 * 86_400.0),
    *(92 * 86_400.0, 366 * 86_400.0),
)


def _in_steps(points: Iterable[Point], begins: float, step_seconds: float) -> dict[int, float | None]:
    """The mean of what is known in each step; None where nothing is."""
    step_seconds = max(step_seconds, 0.2)
    sums: dict[int, list[float]] = {}
    for point in points:
        sums.setdefault(int((point.at_seconds - begins) // step_seconds), []).extend(
            [] if point.mean is None else [point.mean]
        )
    return {step: sum(found) / len(found) if found else None for step, found in sums.items() if step >= 0}


def _column(values: dict[int, float | None], steps: list[int]) -> list[float | None]:
    found = (values.get(step) for step in steps)
    return [None if value is None else round(value, 4) for value in found]


def _together(
    columns: list[list[float | None]], length: int, how: Callable[[list[float]], float]
) -> list[float | None]:
    """Several batteries as one; None where one of them is not known."""
    if not columns:
        return [None] * length
    rows = zip(*columns, strict=True)
    return [None if None in row else round(how([v for v in row if v is not None]), 4) for row in rows]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
