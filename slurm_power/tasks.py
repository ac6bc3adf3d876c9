"""The end of asyncio tasks, also of those that overhear a cancellation."""

import asyncio
import logging
from collections.abc import Collection
from typing import Any

_PATIENCE_SECONDS = 1.0
_MOST_TRIES = 10

log = logging.getLogger(__name__)


async def end_all(tasks: Collection["asyncio.Task[Any]"]) -> None:
    """Cancel tasks and wait for their end; what they return or raise is nobody's business any more.

    Up to Python 3.11 ``asyncio.wait_for`` loses a cancellation that comes together with its result
    (python/cpython#86296), and drivers' libraries use it: who goes on is cancelled again.
    """
    pending = {task for task in tasks if not task.done()}
    for _ in range(_MOST_TRIES):
        if not pending:
            break
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_PATIENCE_SECONDS)
    for task in tasks:
        if not task.done():
            log.error("%s does not end", task.get_name())
        elif not task.cancelled():
            task.exception()  # seen
