"""``python -m containers.bench.forecast_worker``: what the forecast worker takes, with 200 circuits.

Each circuit has 35 days behind it, as on a site that has run for long. Exit 1 if it takes more than promised.
"""

import argparse
import json
import math
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from slurm_power.controller.planning.forecast_process import COMMAND, SINGLE_THREADED
from slurm_power.forecaster.circuit import CircuitModels
from slurm_power.forecaster.state_files import StateFiles
from slurm_power.forecaster.worker import DIRECTORY
from slurm_power.wire import encode

NOW = 1_767_571_200.0
STEP, NEAR_STEPS, FAR_STEPS = 60.0, 60, 192
RUNNING_JOBS = 500
# What was promised.
MOST_START_SECONDS, MOST_ALL_SECONDS, MOST_MEGABYTES, MOST_MILLISECONDS = 4.0, 2.0, 350.0, 20.0


def load(seconds: float) -> float:
    """A day's course, and noise that is the same whenever it is asked."""
    noise = math.sin(seconds * 12.9898) * 43758.5453 % 1.0
    return 1e6 + 2e5 * math.sin(2.0 * math.pi * seconds / 86_400.0) + 5e4 * noise


def learned() -> CircuitModels:
    """A circuit after 35 days."""
    models = CircuitModels("one", near_step_seconds=STEP, near_steps=NEAR_STEPS, far_steps=FAR_STEPS)
    first = NOW - 35 * 86_400.0
    models.learn_far(first, np.array([load(first + 900.0 * at) for at in range(35 * 96)]))
    first = NOW - 2 * 86_400.0
    for at in range(2 * 1440):
        models.take(first + (at + 1) * STEP, load(first + at * STEP))
    return models


class Bench:
    """A worker process and what it says."""

    def __init__(self, directory: Path, circuits: list[str]) -> None:
        self.circuits = circuits
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **SINGLE_THREADED}
        )
        assert self.process.stdout is not None and self.process.stdin is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._rest = b""
        self.tell(
            {
                "type": "hello",
                "circuits": circuits,
                "fitted": [],
                "with_paths": circuits[:1],
                "state_directory": str(directory),
                "stored_here": False,
                "near_step_seconds": STEP,
                "near_steps": NEAR_STEPS,
                "far_steps": FAR_STEPS,
            }
        )

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message."""
        assert self.process.stdin is not None
        self.process.stdin.write(encode(message))
        self.process.stdin.flush()

    def step(self, end: float) -> None:
        """A minute of the whole site with its jobs."""
        running = [
            [f"user{at % 40}", 8, 86_400.0, 600.0 + at, {self.circuits[0]: 5e3, self.circuits[at % 200]: 5e3}]
            for at in range(RUNNING_JOBS)
        ]
        self.tell(
            {
                "type": "step",
                "end_seconds": end,
                "loads": {name: load(end - STEP) for name in self.circuits},
                "jobs": {"running": running, "planned": [], "ended": [], "total_gpus": 8000, "free_gpus": 0},
            }
        )

    def hear(self, count: int) -> list[dict[str, Any]]:
        """The next forecasts, whatever else is said between them."""
        assert self.process.stdout is not None
        found: list[dict[str, Any]] = []
        while len(found) < count:
            select.select([self.process.stdout], [], [], 60.0)
            data = self.process.stdout.read()
            if not data:
                raise RuntimeError("the worker has ended")
            *lines, self._rest = (self._rest + data).split(b"\n")
            found += [each for each in map(json.loads, lines) if each["type"] == "forecast"]
        return found

    def megabytes(self) -> float:
        """The most memory it has had, in MB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
        return 0.0

    def seconds(self, end: float, count: int) -> float:
        """Tell it a step; how long until everything is said."""
        began = time.monotonic()
        self.step(end)
        self.hear(count)
        return time.monotonic() - began

    def cpu_seconds(self) -> float:
        """What it has taken of a core so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> float:
        """Let it save and end; returns the seconds that took."""
        began = time.monotonic()
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        os.set_blocking(self.process.stdout.fileno(), True)
        self.process.stdout.read()
        self.process.wait(120)
        return time.monotonic() - began


def main() -> int:
    """Measure; returns 1 if a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m containers.bench.forecast_worker", description=__doc__)
    parser.add_argument("--circuits", type=int, default=200)
    count = parser.parse_args().circuits
    names = [f"circuit{at:03}" for at in range(count)]
    with tempfile.TemporaryDirectory(prefix="sp-") as folder:
        directory = Path(folder)
        state = learned().state()
        files = StateFiles(directory / DIRECTORY)
        for name in names:
            files.save(name, state)
        kilobytes = (directory / DIRECTORY / f"{names[0]}.npz").stat().st_size / 1000
        bench = Bench(directory, names)
        try:
            bench.step(NOW + STEP)
            bench.hear(2)
            first = time.monotonic() - bench.began
            bench.hear(2 * count - 2)
            every = time.monotonic() - bench.began
            before = bench.cpu_seconds()
            near = [bench.seconds(NOW + (2 + at) * STEP, count) for at in range(5)]
            cpu = (bench.cpu_seconds() - before) / len(near)
            # Each fifth minute the experts of the next hour are asked; so they are with the quarter.
            asked = [bench.seconds(NOW + at * STEP, count) for at in range(7, 15)][10 - 7]
            both = bench.seconds(NOW + 15 * STEP, 2 * count)
            megabytes = bench.megabytes()
        finally:
            saved = bench.end()
    far = max(0.0, both - asked)
    print(
        f"{count} circuits with 35 days each, {RUNNING_JOBS} running jobs, state {kilobytes:.0f} kB a circuit"
    )
    rows = (
        ("first circuit forecast after its start, s", first, MOST_START_SECONDS),
        ("all circuits restored and forecast, s", every, None),
        ("all next hours, after each minute, s", sorted(near)[2], MOST_ALL_SECONDS),
        ("  of which its own work, s", cpu, None),
        ("all next days, after each quarter, s", far, MOST_ALL_SECONDS),
        ("one circuit, both, ms", 1000.0 * both / count, MOST_MILLISECONDS),
        ("memory at most, MB", megabytes, MOST_MEGABYTES),
        ("saving all, s", saved, None),
    )
    for what, value, most in rows:
        kept = "" if most is None else f" (at most {most:g})" + ("" if value <= most else "  BROKEN")
        print(f"  {what:44} {value:8.2f}{kept}")
    return int(any(most is not None and value > most for _, value, most in rows))


if __name__ == "__main__":
    sys.exit(main())
