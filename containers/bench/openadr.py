"""``python -m containers.bench.openadr``: from an event at a VTN to powerctld, a command, and the meter.

A lab with one training on a node; both VTNs on loopback are polled each second, so half a second of each time
is waiting for the next poll on average. Times start when the event stands at the VTN.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from containers.bench.at_meter import AtMeter
from containers.bench.figure import Figure, markdown
from containers.bench.measures import spread
from containers.bench.steady import steady_plant, without_recharging
from containers.cluster import lifecycle
from containers.cluster.layout import LabError, Options
from containers.plant.__main__ import PLANT_FILE
from containers.vtn.stage import Utilities

EVENTS = 10
EVENT_SECONDS = 8
LIMIT_WATTS = 12_500
WATCHED_SECONDS = 15.0
_MOST_WAIT_SECONDS, _LOOK_SECONDS = 60.0, 0.5
POLL_TEXT = "polled each 1 s"
COMMANDS = ("cap", "discharge")


class Bench:
    """The events of one protocol after another, as ledger and meter show them."""

    def __init__(self, lab: lifecycle.StartedLab, utilities: Utilities) -> None:
        self.lab = lab.lab
        self.utilities = utilities
        self.meter = AtMeter(lab.lab)

    def submit(self) -> None:
        """One training on a node, at full power."""
        load = "srun plant-load --workload training --seconds 3000"
        words = ["psbatch", "--parsable", "--workload=training", "--flex=flex3", "--nodes=1", "--time=60"]
        words += ["--ntasks-per-node=1", "--gres=gpu:8", "--nodelist=c1", "--output=/dev/null"]
        self.lab.run([*words, f"--wrap={load}"], user="alice")
        self.meter.until(self._full, "full power", 60.0)

    def _full(self) -> bool:
        full = [gpu for gpu in self.meter.gpus() if gpu["instant_watts"] > 600.0]
        return len(full) >= 8

    def _at_rest(self) -> bool:
        status = self.meter.controller(op="status")
        moving = any(abs(ess["discharge_watts"]) > 100.0 for ess in status["ess"])
        busy = bool(status["events"] or status["leases"])
        return self._full() and not moving and not busy

    async def times(self, announce: Callable[[float, float], str]) -> tuple[float, float, float]:
        """Seconds from one event at the VTN to powerctld's word, its first command, and the meter."""
        self.meter.until(self._at_rest, "a lab at rest", 60.0)
        await self._above()
        last = self._entries(0)[-1]["sequence"]
        await asyncio.sleep(time.time() % 1.0 * 0.97)  # not in step with the polls
        began = time.time()
        announce(LIMIT_WATTS, EVENT_SECONDS)
        readings = await self.meter.read(WATCHED_SECONDS)
        late = time.time() - WATCHED_SECONDS - began
        below = next((at for at, watts in readings if watts <= LIMIT_WATTS), None)
        rows = self._entries(last)
        taken = next((row for row in rows if row["kind"] == "event"), None)
        command = next((row for row in rows if row["kind"] in COMMANDS), None)
        if below is None or taken is None or command is None:
            kinds = ", ".join(row["kind"] for row in rows)
            raise LabError(f"an event did not reach the meter; the ledger has: {kinds or 'nothing'}")
        moments = [datetime.fromisoformat(row["at"]).timestamp() - began for row in (taken, command)]
        return moments[0], moments[1], below + late

    async def _above(self) -> None:
        """Wait until the meter shows the load that an event has to bring down; it follows the GPUs later."""
        ends = time.monotonic() + _MOST_WAIT_SECONDS
        while (await self.meter.read(_LOOK_SECONDS))[-1][1] <= LIMIT_WATTS:
            if time.monotonic() > ends:
                raise LabError(f"the meter shows no more than {LIMIT_WATTS} W at full power")

    def _entries(self, after: int) -> list[dict[str, Any]]:
        answer = self.meter.controller(op="ledger", since_seconds=600, after_sequence=after)
        found: list[dict[str, Any]] = answer["entries"]
        return found


async def measure(lab: lifecycle.StartedLab, utilities: Utilities) -> list[Figure]:
    """All events of both protocols."""
    bench = Bench(lab, utilities)
    bench.submit()
    bench.meter.until(
        lambda: all(
            row["quality"] == "good"
            for row in utilities.states(bench.meter.controller(op="sources")).values()
        ),
        "both signals",
        30.0,
    )
    numbers = iter(range(1, EVENTS + 1))
    ways: dict[str, Callable[[float, float], str]] = {
        "OpenADR 3": utilities.announce_newer,
        "OpenADR 2.0b": lambda watts, seconds: utilities.announce_older(watts, seconds, f"e{next(numbers)}"),
    }
    figures = []
    for name, announce in ways.items():
        rows = []
        for number in range(EVENTS):
            rows.append(await bench.times(announce))
            print(f"{name} {number + 1}: {rows[-1]}", file=sys.stderr)
        for place, what in enumerate(("powerctld", "first command", "grid meter below the level")):
            value = spread([row[place] for row in rows], "s")
            figures.append(Figure(what=f"{name}, event at VTN to {what} ({POLL_TEXT})", value=value))
    await bench.meter.close()
    return figures


def main() -> int:
    """Measure and print a table; returns 0, or the lab's exit status."""
    with tempfile.TemporaryDirectory(prefix="sp-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        plant = steady_plant(PLANT_FILE, Path(folder) / "plant.toml")
        try:
            lab = lifecycle.up(Options(power=True, plant=str(plant)))
            try:
                site = lab.lab.layout.etc / "site.toml"
                site.write_text(without_recharging(site.read_text()))
                utilities = Utilities(lab.lab)
                try:
                    print(markdown(asyncio.run(measure(lab, utilities))))
                finally:
                    utilities.close()
            finally:
                lab.down()
        except LabError as error:
            print(f"bench: {error}", file=sys.stderr)
            return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
