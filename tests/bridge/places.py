"""A VTN, a powerctld and a VEN between them, for the tests of both OpenADRs."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from slurm_power.store.series import SqliteSeries
from tests.bridge.powerctld import Powerctld


class VenPlace(ABC):
    """Each of the three can be started anew. ``more``: further keys of the signal."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.folder = folder
        self.powerctld = Powerctld()
        self.more = more

    @abstractmethod
    async def open(self) -> None:
        """Start the VTN."""

    @abstractmethod
    async def begin(self) -> None:
        """A new process of the VEN."""

    @abstractmethod
    async def close(self) -> None:
        """End both."""


SLACK_SECONDS = 10.0
"""What a busy machine may take from announcing an event to looking at it."""

_Place = TypeVar("_Place", bound=VenPlace)


def tell(place: _Place, told: Callable[[_Place], Awaitable[None]]) -> None:
    """Run a story at a place."""

    async def run() -> None:
        await place.open()
        try:
            await place.begin()
            await told(place)
        finally:
            await place.close()

    asyncio.run(run())


def series_of(folder: Path, watts: float, since: datetime, until: datetime) -> None:
    series = SqliteSeries(folder / "series.sqlite")
    moment = since
    while moment < until:
        series.add(moment, {"circuit.grid.watts": watts})
        moment += timedelta(seconds=1)
    series.close()
