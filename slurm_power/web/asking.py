"""Questions to powerctld: few at a time, at a bounded pace, and the same question once for all who ask it."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from slurm_power import clock
from slurm_power.wire import Message

Ask: TypeAlias = Callable[[Message], Awaitable[Message]]

# Each answer is made in the loop of the control: it gets no more of them than this.
_AT_ONCE = 4
_DEEDS_AT_ONCE = 2
_MOST_WAITING = 200
_MOST_KEPT = 500


class BusyError(Exception):
    """Too much is asked at once; try again in a while."""


class Asking:
    """Asks powerctld for the callers of the interface."""

    def __init__(self, ask: Ask, *, per_second: float) -> None:
        self._ask = ask
        self._gap_seconds = 1.0 / per_second
        self._next_seconds = 0.0
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._deeds = asyncio.Semaphore(_DEEDS_AT_ONCE)
        self._waiting = 0
        self._kept: OrderedDict[str, tuple[float, Message]] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[Message]] = {}

    async def question(self, message: Message, *, keep_seconds: float) -> Message:
        """An answer that is no older than ``keep_seconds``; raises LineError, BusyError."""
        key = json.dumps(message, sort_keys=True)
        known = self._kept.get(key)
        if known is not None and clock.monotonic() - known[0] < keep_seconds:
            return known[1]
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(self.paced(message))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._done(key, done))
        # One who leaves must not take the answer away from the others.
        return await asyncio.shield(task)

    def _done(self, key: str, task: "asyncio.Task[Message]") -> None:
        self._under_way.pop(key, None)
        if task.cancelled() or task.exception() is not None:
            return
        self._kept.pop(key, None)
        self._kept[key] = clock.monotonic(), task.result()
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)

    async def deed(self, message: Message) -> Message:
        """Have an operator's order done, before any question that waits; raises LineError."""
        async with self._deeds:
            return await self._ask(message)

    async def paced(self, message: Message) -> Message:
        """Ask in turn, without looking at what is known; raises LineError, BusyError."""
        if self._waiting >= _MOST_WAITING:
            raise BusyError("powerctld is asked too much at once; try again in a while")
        self._waiting += 1
        try:
            async with self._places:
                now_seconds = clock.monotonic()
                due_seconds = max(now_seconds, self._next_seconds)
                self._next_seconds = due_seconds + self._gap_seconds
                await asyncio.sleep(due_seconds - now_seconds)
                return await self._ask(message)
        finally:
            self._waiting -= 1

    def forget(self) -> None:
        """Something was changed: what is known may no longer be so."""
        self._kept.clear()


def plain(answer: Message) -> dict[str, Any]:
    """An answer without its ``ok``."""
    return {key: value for key, value in answer.items() if key != "ok"}
