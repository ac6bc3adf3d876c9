"""The beat of the cycle: once a second and on every event, and what is written down when a cycle breaks."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from slurm_power import clock
from slurm_power.controller.governance.operators import Note
from slurm_power.controller.records.scrape import CycleFigures

log = logging.getLogger(__name__)

_CYCLE_SECONDS = 1.0
# Events come in bursts; two cycles closer together than this would see the same world.
_LEAST_CYCLE_SECONDS = 0.2


class CycleBeat:
    """Runs cycles until it is stopped; ``figures`` counts them."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._wake = asyncio.Event()
        self._broken = ""
        self.stopping = False  # read by others as well
        self.figures = CycleFigures()

    def wake(self) -> None:
        """Have the next cycle at once."""
        self._wake.set()

    def stop(self) -> None:
        """Have no further cycle."""
        self.stopping = True
        self._wake.set()

    async def run(self, cycle: Callable[[float], Awaitable[None]], after: Callable[[float], None]) -> None:
        """Call ``cycle`` with its begin in seconds, and ``after`` it, again and again.

        A cycle that fails renews no lease, so that everything ends safely by itself; the daemon stays up to
        be asked, and tries again.
        """
        while True:
            try:
                async with asyncio.timeout(_CYCLE_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass  # nothing has happened: its time has come
            self._wake.clear()
            if self.stopping:
                return
            started_seconds = clock.monotonic()
            try:
                await cycle(started_seconds)
                self._broken = ""
            except Exception as error:  # noqa: BLE001  # see above
                self._broke(error)
            spent_seconds = clock.monotonic() - started_seconds
            self.figures.add(spent_seconds, failed=bool(self._broken))
            after(started_seconds)
            if spent_seconds < _LEAST_CYCLE_SECONDS:
                await asyncio.sleep(_LEAST_CYCLE_SECONDS - spent_seconds)

    def _broke(self, error: Exception) -> None:
        """Say once what broke the cycle."""
        text = f"{type(error).__name__}: {error}"
        log.error("the cycle failed, no lease is renewed", exc_info=error)
        if text != self._broken:
            self._broken = text
            self._note("controller", "failed", "cycle", text)
