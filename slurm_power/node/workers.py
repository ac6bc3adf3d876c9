"""Threads for device calls: a GPU that hangs holds up its own thread, never the loop or the other GPUs.

Usually one thread does all GPUs in turn; another is started only when something has waited behind a slow one.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from slurm_power import clock

# A visit that waits this long sits behind a slow one.
PATIENCE_SECONDS = 0.2

Result = TypeVar("Result")


class Workers(Generic[Result]):
    """Run ``visit(uuid)`` in threads, one at a time per GPU; ``wake`` is called when all that waits is done.

    All methods are for the thread of the loop.
    """

    def __init__(self, visit: Callable[[str], Result], wake: Callable[[], None], max_threads: int) -> None:
        self._visit = visit
        self._wake = wake
        self._max_threads = max_threads
        self._threads = 0
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._results: deque[tuple[str, Result]] = deque()
        self._started: dict[str, float] = {}
        self._submitted: dict[str, float] = {}
        self._again: set[str] = set()

    def submit(self, uuid: str) -> None:
        """Have a GPU visited; one that is under way is visited once more afterwards."""
        if uuid in self._submitted:
            if uuid in self._started:
                self._again.add(uuid)
            return
        self._submitted[uuid] = clock.monotonic()
        self._queue.put(uuid)
        if self._threads == 0:
            self._start_thread()

    def results(self) -> list[tuple[str, Result]]:
        """What has been done since the last call."""
        done = []
        while self._results:
            uuid, result = self._results.popleft()
            done.append((uuid, result))
            self._started.pop(uuid, None)
            del self._submitted[uuid]
            if uuid in self._again:
                self._again.discard(uuid)
                self.submit(uuid)
        return done

    def reinforce(self) -> None:
        """Start another thread if a visit has waited too long for one, up to the bound."""
        oldest = min((at for uuid, at in self._submitted.items() if uuid not in self._started), default=None)
        waited = oldest is not None and clock.monotonic() - oldest > PATIENCE_SECONDS
        if waited and self._threads < self._max_threads:
            self._start_thread()

    def pending(self) -> set[str]:
        """GPUs that wait for a visit or are in one."""
        return set(self._submitted)

    def hanging_seconds(self, uuid: str) -> float:
        """For how long the visit of a GPU has been under way; 0.0 if there is none."""
        started = self._started.get(uuid)
        return 0.0 if started is None else clock.monotonic() - started

    def _start_thread(self) -> None:
        self._threads += 1
        threading.Thread(target=self._run, name=f"gpu-{self._threads}", daemon=True).start()

    def _run(self) -> None:
        while True:
            uuid = self._queue.get()
            self._started[uuid] = clock.monotonic()
            self._results.append((uuid, self._visit(uuid)))
            if self._queue.empty():
                self._wake()
