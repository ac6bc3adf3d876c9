"""Answers to wrong proofs come late; whoever has a right one waits for nobody."""

import asyncio

from slurm_power.web.problems import RequestError

_WAIT_SECONDS = 1.0
_MOST_WAITING = 100


class Throttle:
    """Holds up refusals of wrong proofs: they are 256 random bits, so that this only makes guessing dear."""

    def __init__(self, seconds: float = _WAIT_SECONDS) -> None:
        self.seconds = seconds
        self._waiting = 0

    async def failed(self) -> None:
        """Wait a while; raises RequestError at once when many wait already."""
        if self._waiting >= _MOST_WAITING:
            raise RequestError(429, "too many wrong proofs at once", headers={"Retry-After": "5"})
        self._waiting += 1
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self._waiting -= 1
