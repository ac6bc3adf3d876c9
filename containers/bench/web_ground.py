"""A powerctld of a made-up site of any size, whole but for meters and nodes: the ground of `web`.

Its cycles see one second of `BigSite` after the other, made beforehand; each cycle's time is kept. At the end
(SIGTERM) they are written to FOLDER/cycles.json in seconds: when by the monotonic clock, how long, and how
much of that was processor time of the control's own thread.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from containers.bench.big_site import BigSite, big_site
from slurm_power import clock
from slurm_power.config import load_site
from slurm_power.controller.daemon import Controller
from slurm_power.controller.records.scrape import CycleFigures
from slurm_power.controller.sensing.authority import make_authority
from slurm_power.model.job import Job
from slurm_power.model.pool import Pool
from slurm_power.model.snapshot import Snapshot
from slurm_power.store.background import BackgroundSeries
from slurm_power.store.places import SERIES_NAME
from slurm_power.store.series import SqliteSeries
from slurm_power.store.sqlite import SqliteStore
from slurm_power.telemetry import Levers

MOMENTS = 12
_WATTS_PER_NODE = 5_600.0


@dataclass(slots=True)
class KeptFigures(CycleFigures):
    """Figures that keep every cycle."""

    cycles: list[tuple[float, float, float]] = field(default_factory=list)
    busy_seconds: float = 0.0

    def add(self, spent_seconds: float, *, failed: bool) -> None:
        """Count a cycle, and keep its time."""
        self.done += 1
        self.failed += failed
        self.last_seconds = spent_seconds
        self.cycles.append((clock.monotonic(), spent_seconds, self.busy_seconds))


class NoSlurm:
    """A workload manager that is asked and does nothing: jobs come with the snapshots."""

    def __init__(self, jobs: tuple[Job, ...]) -> None:
        self._jobs = jobs

    async def jobs(self) -> tuple[Job, ...]:
        """The first moment's list."""
        return self._jobs

    async def pools(self) -> dict[str, Pool]:
        """None is known."""
        return {}

    def __getattr__(self, name: str) -> Any:
        """Whatever else is asked for is done at once."""

        async def nothing(*_: object, **__: object) -> None:
            return None

        return nothing


def site_text(nodes: int, folder: Path, port: int, web_port: int) -> str:
    """The site.toml of a big site as powerweb reads it: circuits without devices."""
    lines = [
        '[site]\nname = "big"',
        f'[controller]\nlisten = "127.0.0.1:{port}"\nsocket = "{folder}/ctl.sock"',
        f'state_directory = "{folder}"\ntls_directory = "{folder}/tls"',
        f'[web]\nlisten = "127.0.0.1:{web_port}"',
        "[policy]\ncontrol = false",
        "[forecast]\nenabled = false",
    ]
    circuits = big_site(nodes, limit_watts=_WATTS_PER_NODE * nodes).circuits
    most_watts = circuits["grid"].rating_watts
    lines += [
        f"[circuit.{circuit.name}]\nrating_watts = {min(circuit.rating_watts, most_watts)}\n"
        f'limit_kind = "{circuit.limit_kind.value}"\noverhead_ratio = {circuit.overhead_ratio}\n'
        + (f'parent = "{circuit.parent}"\n' if circuit.parent else "")
        + (f"nodes = {json.dumps(list(circuit.nodes))}\n" if circuit.nodes else "")
        for circuit in circuits.values()
    ]
    return "\n".join(lines)


async def serve(folder: Path, nodes: int) -> None:
    """Run until SIGTERM."""
    config = load_site(folder / "site.toml")
    made = BigSite(nodes=nodes, limit_watts=_WATTS_PER_NODE * nodes)
    moments = [made.step() for _ in range(MOMENTS)]
    metered = replace(made.site, ess={})
    make_authority(folder / "tls", "big", ["127.0.0.1"], clock.now())
    store = SqliteStore(folder / "powerctld.sqlite")
    series = BackgroundSeries(lambda: SqliteSeries(folder / SERIES_NAME), queue_ticks=120)
    scheduler: Any = NoSlurm(moments[0].jobs)
    controller = Controller(config, store, series=series, meters={}, storages={}, scheduler=scheduler)
    figures = KeptFigures()
    controller.cycle_figures = controller._beat.figures = figures
    whole_cycle = controller._cycle

    async def cycle(now_seconds: float) -> None:
        began = time.thread_time()
        await whole_cycle(now_seconds)
        figures.busy_seconds = time.thread_time() - began

    controller._cycle = cycle  # type: ignore[method-assign]  # to see its processor time
    turn = iter(range(1 << 60))

    def snapshot(at: datetime, _now_seconds: float, levers: Levers) -> Snapshot:
        seen = moments[next(turn) // 2 % MOMENTS]
        return replace(
            seen, at=at, site=metered, ess={}, caps=levers.caps, holds=levers.holds, events=levers.events
        )

    controller.telemetry.snapshot = snapshot  # type: ignore[method-assign,assignment]  # the meters and nodes there are not
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, controller.stop)
    task = asyncio.create_task(controller.run())
    while figures.done < 3 and not task.done():  # noqa: ASYNC110  # polls what has no event
        await asyncio.sleep(0.1)
    print("ready", flush=True)
    await task
    series.close()
    store.close()
    (folder / "cycles.json").write_text(json.dumps(figures.cycles))


def main() -> int:
    """Run the controller; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m containers.bench.web_ground", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nodes", type=int, required=True)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.folder, arguments.nodes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
