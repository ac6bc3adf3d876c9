"""The forecast worker as a child process: started, fed, listened to, and started again when it dies.

Statsmodels and the memory of hundreds of circuits stay out of the control loop; all that can come from a
worker that is slow, wrong or dead is a forecast that is not there.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from slurm_power import clock
from slurm_power.tasks import end_all
from slurm_power.wire import Message, WireError, decode, encode

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "slurm_power.forecaster")
# Its arrays are small: more threads would only take memory, and cores from others.
SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_MOST_LINE_BYTES = 8 << 20
# What a worker that does not listen may have outstanding before it is no longer fed.
_MOST_WAITING_BYTES = 16 << 20
_FIRST_RETRY_SECONDS, _MOST_RETRY_SECONDS = 1.0, 60.0
# One that has lived so long dies of something new.
_PROVEN_SECONDS = 600.0
_FAREWELL_SECONDS = 5.0


class ForecastProcess:
    """One worker at a time. ``on_end`` is told why it ended, "" once the next one is there."""

    def __init__(
        self,
        hello: Message,
        *,
        on_message: Callable[[Message], None],
        on_end: Callable[[str], None],
        command: tuple[str, ...] = COMMAND,
    ) -> None:
        self._hello = hello
        self._on_message = on_message
        self._on_end = on_end
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self.dropped = 0

    @property
    def process_id(self) -> int | None:
        """The worker's process, None while there is none."""
        return None if self._process is None else self._process.pid

    def send(self, message: Message) -> bool:
        """Hand a message over without waiting; False where there is nobody, or nobody who listens."""
        pipe = None if self._process is None else self._process.stdin
        if pipe is None or pipe.is_closing():
            return False
        if pipe.transport.get_write_buffer_size() > _MOST_WAITING_BYTES:
            self.dropped += 1
            return False
        pipe.write(encode(message))
        return True

    async def run(self) -> None:
        """Keep a worker running until cancelled; it then gets a moment to save what it has learned."""
        retry_seconds = _FIRST_RETRY_SECONDS
        try:
            while True:
                began_seconds = clock.monotonic()
                self._on_end(await self._one_life())
                if clock.monotonic() - began_seconds > _PROVEN_SECONDS:
                    retry_seconds = _FIRST_RETRY_SECONDS
                await asyncio.sleep(retry_seconds)
                retry_seconds = min(2.0 * retry_seconds, _MOST_RETRY_SECONDS)
        finally:
            await self._farewell()

    async def _one_life(self) -> str:
        """Start a worker and listen to its end; returns why it ended."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_MOST_LINE_BYTES,
                env={**os.environ, **SINGLE_THREADED},
            )
        except OSError as error:
            return f"it cannot be started: {error}"
        process = self._process
        self.send(self._hello)
        problem = await self._listen(process)
        if problem:
            with suppress(ProcessLookupError):
                process.kill()
        status = await process.wait()
        self._process = None
        return problem or _ending(status)

    async def _listen(self, process: asyncio.subprocess.Process) -> str:
        """Take its lines until it closes its end; returns what was wrong with them, "" for nothing."""
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                return f"it sent a line of more than {_MOST_LINE_BYTES} bytes"
            if not line:
                return ""
            try:
                self._on_message(decode(line))
            except (WireError, ValueError) as error:
                log.error("the forecast worker sent nonsense", exc_info=error)
                return f"it sent nonsense: {error}"

    async def _farewell(self) -> None:
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        # No asyncio.timeout here: inside a task that is being cancelled Python 3.11.2 loses its time-out.
        ending = asyncio.create_task(_heard_out(process))
        _, late = await asyncio.wait({ending}, timeout=_FAREWELL_SECONDS)
        if late:
            with suppress(ProcessLookupError):
                process.kill()
            await end_all(late)
            await process.wait()
        self._process = None


async def _heard_out(process: asyncio.subprocess.Process) -> None:
    """Wait for its end; it may have much to say still, and a full pipe would keep it from ending."""
    if process.stdout is not None:
        while await process.stdout.read(1 << 16):
            pass
    await process.wait()


def _ending(status: int) -> str:
    if status >= 0:
        return f"it ended with status {status}"
    with suppress(ValueError):
        return f"it was killed by {signal.Signals(-status).name}"
    return f"it was killed by signal {-status}"
