"""A running lab as the benches of reactions see it: its daemons' answers, its plant, and its grid meter."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from containers.cluster.lab import Lab
from containers.demo.stage import ask
from slurm_power.config import SunspecMeter
from slurm_power.devices.meter_sunspec import SunspecMeterDriver

Readings = list[tuple[float, float]]

_POLL_SECONDS = 0.05


class AtMeter:
    """A running lab and its meter; close it when done."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._run = lab.run_directory / "run"
        self._meter = SunspecMeterDriver(
            SunspecMeter(name="meter", address=f"127.0.0.1:{lab.layout.ports['meter']}")
        )

    def plant(self, **request: Any) -> dict[str, Any]:
        """Ask the plant."""
        return ask(self._run / "plant.sock", request)

    def controller(self, **request: Any) -> dict[str, Any]:
        """Ask powerctld; raises RuntimeError for what it refuses."""
        return ask(self._run / "powerctld.sock", request)

    def gpus(self) -> list[dict[str, Any]]:
        """All GPUs of the site as they truly are."""
        nodes = self.plant(op="truth")["truth"]["nodes"].values()
        return [gpu for node in nodes for gpu in node["gpus"]]

    def until(self, happened: Callable[[], bool], what: str, seconds: float) -> None:
        """Poll until something is so; raises LabError."""
        self.lab.wait_until(happened, what, seconds=seconds)

    async def read(self, seconds: float, each: Callable[[float], None] = lambda _passed: None) -> Readings:
        """The meter over some seconds, as (seconds since the start, watts); ``each`` is called in between."""
        began = time.monotonic()
        readings = []
        while (passed := time.monotonic() - began) < seconds:
            readings.append((passed, await self._meter.read_watts()))
            each(passed)
            await asyncio.sleep(_POLL_SECONDS)
        return readings

    async def close(self) -> None:
        """Let go of the meter."""
        await self._meter.close()


def means(readings: Sequence[tuple[float, float]], seconds: float) -> Readings:
    """The mean of each reading and those of the ``seconds`` before it, from the first whole one on."""
    found: Readings = []
    first, total = 0, 0.0
    for index, (at, watts) in enumerate(readings):
        total += watts
        while readings[first][0] < at - seconds:
            total -= readings[first][1]
            first += 1
        if at - readings[0][0] >= seconds:
            found.append((at, total / (index + 1 - first)))
    return found


def worst_rise(readings: Sequence[tuple[float, float]], window_seconds: float) -> float:
    """The most that any reading lies above one of the ``window_seconds`` before it; watts, at least 0."""
    worst, first = 0.0, 0
    for index, (at, watts) in enumerate(readings):
        while readings[first][0] < at - window_seconds:
            first += 1
        worst = max(worst, watts - min(before for _, before in readings[first : index + 1]))
    return worst


def worst_fall(readings: Sequence[tuple[float, float]], window_seconds: float) -> float:
    """The most that any reading lies below one of the ``window_seconds`` before it; watts, at least 0."""
    return worst_rise([(at, -watts) for at, watts in readings], window_seconds)
