"""Series written by a thread of their own: a slow or broken store costs series, never a cycle."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime

from slurm_power.ports import SeriesWriter, StoreError

log = logging.getLogger(__name__)

_CLOSE_SECONDS = 10.0
_RETRY_SECONDS = 0.5


class BackgroundSeries:
    """A bounded queue before a store of series. A full queue drops its oldest tick.

    ``problem`` says what is wrong now, "" when nothing is; ``lost_ticks`` counts what was dropped. What a
    store that is away refuses (StoreError) is tried again; a tick that breaks it otherwise is lost.
    """

    def __init__(self, open_writer: Callable[[], SeriesWriter], *, queue_ticks: int) -> None:
        """``open_writer`` is called in the thread that writes, again with each tick while it fails."""
        self._open_writer = open_writer
        self._writer: SeriesWriter | None = None
        self._most = queue_ticks
        self._queue: deque[tuple[datetime, Mapping[str, float | None]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._refusal = ""
        self._full = False
        self.lost_ticks = 0
        self._thread = threading.Thread(target=self._work, name="series", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str:
        """What keeps series from being stored now; "" when nothing does."""
        if self._refusal:
            return self._refusal
        return "it does not keep up: the oldest ticks are dropped" if self._full else ""

    @property
    def queued_ticks(self) -> int:
        """Ticks that wait to be written."""
        return len(self._queue)

    def add(self, at: datetime, values: Mapping[str, float | None]) -> None:
        """Hand a tick over; never waits for the store."""
        with self._changed:
            self._full = len(self._queue) >= self._most
            if self._full:
                self._queue.popleft()
                self.lost_ticks += 1
            self._queue.append((at, values))
            self._changed.notify()

    def close(self) -> None:
        """Write what is queued, as far as the store takes it within some seconds, and close the store."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            log.error("the series store hangs: %d ticks are lost", len(self._queue))

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closing:
                    self._changed.wait()
                if not self._queue:
                    break
                at, values = self._queue.popleft()
                self._full = self._full and bool(self._queue)
            self._write(at, values)
        if self._writer is not None:
            self._writer.close()

    def _write(self, at: datetime, values: Mapping[str, float | None]) -> None:
        try:
            if self._writer is None:
                self._writer = self._open_writer()
            self._writer.add(at, values)
            self._refusal = ""
        except StoreError as error:
            self._refused(str(error))
            self._keep(at, values)
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not end the thread
            self.lost_ticks += 1
            self._refused(f"{type(error).__name__}: {error}")

    def _refused(self, text: str) -> None:
        if not self._refusal:
            log.error("series are not stored: %s", text)
        self._refusal = text

    def _keep(self, at: datetime, values: Mapping[str, float | None]) -> None:
        """Put a refused tick back where it was, and wait before it is tried again."""
        with self._changed:
            if self._closing or len(self._queue) >= self._most:
                self.lost_ticks += 1
            else:
                self._queue.appendleft((at, values))
            self._changed.wait_for(lambda: self._closing, _RETRY_SECONDS)
