"""A forecast worker in this process, and as one of its own, that is told the story of a small site."""

import json
import math
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slurm_power.forecast.messages import forecast_from
from slurm_power.forecaster.worker import Hello, Worker
from slurm_power.model.forecast import CircuitForecast, Reach
from slurm_power.store.places import SERIES_NAME
from slurm_power.store.series import SqliteSeries
from slurm_power.wire import Message, encode

# A Monday, 00:00 UTC.
BEGAN = 1_767_571_200.0
STEP = 60.0
NO_JOBS = {"running": [], "planned": [], "ended": [], "total_gpus": 32, "free_gpus": 32}


def load(seconds: float) -> float:
    """A day's course, with a little noise from minute to minute, the same whenever it is asked."""
    day = 2.0 * math.pi * seconds / 86_400.0
    return 20_000.0 + 5_000.0 * math.sin(day) + 300.0 * math.sin(seconds // STEP * 12.9898)


def hello(directory: Path, circuits: Iterable[str] = ("grid", "rack1"), **other: Any) -> Message:
    return {
        "type": "hello",
        "circuits": list(circuits),
        "fitted": [],
        "with_paths": ["grid"],
        "state_directory": str(directory),
        "stored_here": True,
        "near_step_seconds": STEP,
        "near_steps": 60,
        "far_steps": 192,
        **other,
    }


def step(end_seconds: float, jobs: Any = None, **loads: float | None) -> Message:
    """A step in which every circuit has the usual load, unless said otherwise."""
    usual = {"grid": load(end_seconds - STEP / 2), "rack1": 0.4 * load(end_seconds - STEP / 2)}
    return {
        "type": "step",
        "end_seconds": end_seconds,
        "loads": {**usual, **loads},
        "jobs": {**NO_JOBS, **(jobs or {})},
    }


class InProcess:
    """A worker whose words are kept."""

    def __init__(self, directory: Path, **other: Any) -> None:
        self.said: list[Any] = []
        self.worker = Worker(Hello.from_message(hello(directory, **other)), self.said.append)

    def steps(self, first_end: float, count: int, jobs: Any = None) -> None:
        """Tell it some steps and let it speak after each, as it does with nothing else to do."""
        for at in range(count):
            self.worker.take(step(first_end + at * STEP, jobs))
            self.worker.speak()
            while not self.worker.idle:
                self.worker.learn_next()

    def last(self, circuit: str, reach: Reach) -> CircuitForecast:
        return next(
            forecast_from(message)
            for message in reversed(self.said)
            if message["type"] == "forecast"
            and message["circuit"] == circuit
            and message["reach"] == reach.value
        )

    def words(self) -> list[str]:
        return [f"{each['about']}: {each['text']}" for each in self.said if each["type"] == "words"]


class OwnProcess:
    """The same as powerctld starts it."""

    def __init__(self, *messages: Message) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "slurm_power.forecaster"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.tell(*messages)

    def tell(self, *messages: Message) -> None:
        assert self.process.stdin is not None
        for message in messages:
            self.process.stdin.write(encode(message))
        self.process.stdin.flush()

    def hear(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def end(self) -> int:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.read()
        self.process.stdout.close()
        return self.process.wait(20)


def stored(
    directory: Path, hours: float, *, until: float = BEGAN, every: float = 60.0, factor: float = 1.0
) -> None:
    """Write what powerctld would have stored in the hours before."""
    series = SqliteSeries(directory / SERIES_NAME)
    try:
        for tick in range(round(hours * 3600.0 / every)):
            at = until - hours * 3600.0 + (tick + 0.5) * every
            series.add(
                datetime.fromtimestamp(at, UTC),
                {"circuit.grid.load_watts": factor * load(at), "circuit.rack1.load_watts": 0.4 * load(at)},
            )
    finally:
        series.close()
