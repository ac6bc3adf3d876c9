"""The running plant: physics at 10 Hz in real time, the protocol fronts, the scenario, the control socket."""

import asyncio
import contextlib
import json
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Any

from containers.plant import nvml_control
from containers.plant.control import ControlServer
from containers.plant.meter import GridReading, Meter
from containers.plant.pcs import PcsFront
from containers.plant.pdu import Pdu
from containers.plant.pm_counters import PmCounters, folder_of
from containers.plant.scenario import ClearEntry, Entry, FaultEntry, GridEventEntry, LoadEntry
from containers.plant.site import Node, Site
from containers.plant.targets import GpuTarget, Target, known_kinds
from containers.plant.testbed import Testbed
from slurm_power.simulate.constants import PlantConstants, load_constants
from slurm_power.simulate.pcs import Pcs

TICK_SECONDS = 0.1
# The most that a scenario may add to the nodes' load, as a multiple of that.
BASE_LOAD_RATIO = 3.0
# GPUs draw more than their limit for moments.
PEAK_RATIO = 1.5


class Plant:
    """All of a lab's simulated hardware."""

    def __init__(
        self, testbed: Testbed, constants: PlantConstants, scenario: tuple[Entry, ...], hosts: dict[str, str]
    ) -> None:
        self.testbed, self.constants, self.scenario = testbed, constants, scenario
        self.known_kinds = known_kinds(testbed)
        gpus = {node: open_gpus(testbed, node, constants) for node in testbed.nodes}
        racks = {
            rack: [Node(node, gpus[node], constants) for node in nodes]
            for rack, nodes in testbed.racks.items()
        }
        self.site = Site(constants, racks, Pcs(constants.pcs, time.monotonic()))
        self._make_fronts(hosts)
        folders = {node: folder_of(testbed.run_directory, node.name) for node in self.site.nodes}
        self.pm_counters = {node: PmCounters(folder) for node, folder in folders.items() if folder.is_dir()}
        self.targets: dict[str, Target] = {"meter": self.meter, "pcs": self.pcs}
        self.targets |= {f"pdu.{rack}": pdu for rack, pdu in self.pdus.items()}
        for node, of_node in gpus.items():
            for slot in range(testbed.gpus_per_node):
                self.targets[f"gpu.{node}.{slot}"] = GpuTarget(of_node, slot)
        self.events: list[dict[str, Any]] = []
        self._scenario_task: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def _make_fronts(self, hosts: dict[str, str]) -> None:
        constants, testbed = self.constants, self.testbed
        default = hosts["*"]
        node_greatest = constants.gpu.limit_max_watts * testbed.gpus_per_node + constants.host.full_load_watts
        nodes_watts = len(testbed.nodes) * node_greatest * constants.site.overhead_ratio
        self.base_load_max_watts = BASE_LOAD_RATIO * nodes_watts
        greatest = PEAK_RATIO * nodes_watts + self.base_load_max_watts + constants.pcs.rated_watts
        self.meter = Meter(
            constants.meter,
            constants.site,
            greatest_watts=greatest,
            host=hosts.get("meter", default),
            port=testbed.meter_port,
        )
        self.pcs = PcsFront(
            self.site.pcs, constants.site, host=hosts.get("pcs", default), port=testbed.pcs_port
        )
        self.pdus = {
            rack: Pdu(
                rack,
                constants.pdu,
                constants.site,
                testbed.snmp,
                host=hosts.get(f"pdu.{rack}", default),
                port=port,
            )
            for rack, port in testbed.pdu_ports.items()
        }

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; raises whatever broke, so that no front dies unseen."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unhandled)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        run = self.testbed.run_directory / "run"
        control, ready = ControlServer(self, run / "plant.sock"), run / "plant.ready"
        fronts: list[Meter | PcsFront | Pdu] = [self.meter, self.pcs, *self.pdus.values()]
        ready.unlink(missing_ok=True)
        try:
            self._show_racks()
            self._show_nodes()
            self._show_grid(self.site.grid_import_watts)
            for front in fronts:
                await front.start(self.crash)
            for work in (self._tick(), self._refresh_meter(), self._refresh_pdus()):
                self._tasks.append(self._watched(work))
            await control.start()
            self.start_scenario()
            ready.write_text(json.dumps({"pid": os.getpid()}) + "\n")
            print(f"plant ready: {len(self.testbed.nodes)} nodes, control socket {control.path}", flush=True)
            await self._over
        finally:
            ready.unlink(missing_ok=True)
            await control.stop()
            for task in [*self._tasks, *filter(None, [self._scenario_task])]:
                task.cancel()
            for front in fronts:
                await front.stop()

    def stop(self) -> None:
        """End ``run`` in good order."""
        if not self._over.done():
            self._over.set_result(None)

    def crash(self, error: BaseException) -> None:
        """End ``run`` with an error."""
        if not self._over.done():
            self._over.set_exception(error)

    def advance(self) -> None:
        """Bring all physics to now."""
        self.pcs.advance()
        self.site.advance()

    def set_base_load(self, watts: float) -> None:
        """Change the site's load beside the nodes; raises ValueError outside the meter's range."""
        if not 0.0 <= watts <= self.base_load_max_watts:
            raise ValueError(f"watts: {watts:g} is not between 0 and {self.base_load_max_watts:g}")
        self.advance()
        self.site.base_load_watts = watts

    def set_fault(self, target: str, fault: str, value: float, duration_seconds: float | None) -> None:
        """Throw a fault; raises ValueError when there is no such target or fault."""
        if target not in self.targets:
            raise ValueError(f"there is no target {target!r}; the op `targets` lists them")
        self.targets[target].set_fault(fault, value, duration_seconds)

    def clear_faults(self, target: str | None) -> None:
        """Clear the faults of one target or of all."""
        if target is not None and target not in self.targets:
            raise ValueError(f"there is no target {target!r}; the op `targets` lists them")
        for name, found in self.targets.items():
            if target in (None, name):
                found.clear_faults()

    def start_scenario(self) -> None:
        """Begin the scenario, again from its first second if it runs already."""
        if self._scenario_task is not None:
            self._scenario_task.cancel()
        self._scenario_task = self._watched(self._play())

    def _watched(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crash(error)

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            self.crash(error)
        else:
            print(f"plant: {context['message']}", file=sys.stderr)

    async def _tick(self) -> None:
        while True:
            self.advance()
            self._show_nodes()
            await _sleep_to_multiple(TICK_SECONDS)

    async def _refresh_meter(self) -> None:
        while True:
            await _sleep_to_multiple(self.constants.meter.refresh_seconds)
            self.advance()
            self._show_grid(self.site.record().grid_import_watts)

    def _show_grid(self, import_watts: float) -> None:
        self.meter.take(
            GridReading(
                mean_import_watts=import_watts,
                imported_joules=self.site.energies.grid_import,
                exported_joules=self.site.energies.grid_export,
            )
        )

    async def _refresh_pdus(self) -> None:
        """A PDU shows the draw of the moment of its refresh."""
        while True:
            await _sleep_to_multiple(self.constants.pdu.refresh_seconds)
            self.advance()
            self._show_racks()

    def _show_nodes(self) -> None:
        for node, counters in self.pm_counters.items():
            counters.take(node.watts, node.joules, node.host_watts)

    def _show_racks(self) -> None:
        assert self.site.energies.racks is not None
        for rack, pdu in self.pdus.items():
            watts = sum(node.watts for node in self.site.racks[rack])
            pdu.take(watts, self.site.energies.racks[rack])

    async def _play(self) -> None:
        begin = time.monotonic()
        for entry in self.scenario:
            await asyncio.sleep(max(0.0, begin + entry.at_seconds - time.monotonic()))
            match entry:
                case LoadEntry():
                    self.set_base_load(entry.watts)
                case FaultEntry():
                    self.set_fault(entry.target, entry.fault, entry.value, entry.duration_seconds)
                case ClearEntry():
                    self.clear_faults(entry.target)
                case GridEventEntry():
                    event = {"sequence": len(self.events) + 1, "unix_seconds": time.time()}
                    self.events.append(event | asdict(entry))


def open_gpus(testbed: Testbed, node: str, constants: PlantConstants) -> nvml_control.NodeGpus:
    """Open a node's GPUs, made anew unless a plant with the same constants left them there.

    So a restarted plant finds its GPUs as the jobs have them. Raises OSError, ValueError, RuntimeError.
    """
    run = testbed.run_directory
    library = run / "lib" / nvml_control.LIBRARY_NAME
    if not library.exists():
        nvml_control.build_library(library.parent)
    folder = run / "nvml"
    folder.mkdir(exist_ok=True)
    # Where nodes are hosts of their own, each shares a folder with the plant and sees nobody else's GPUs.
    own = folder / node
    state = (own if own.is_dir() else folder) / f"{node}.state"
    note = state.with_suffix(".constants")
    of_gpu = gpu_constants(constants)
    wanted = f"gpus={testbed.gpus_per_node}\n{of_gpu.as_text()}"
    if state.exists() and not (note.exists() and note.read_text() == wanted):
        nvml_control.retire_state(library, state)
    if not state.exists():
        with contextlib.suppress(FileNotFoundError):
            note.unlink()
        nvml_control.create_state(library, state, node, testbed.gpus_per_node, of_gpu)
        note.write_text(wanted)
    return nvml_control.NodeGpus(library, state)


def gpu_constants(constants: PlantConstants | None = None) -> nvml_control.GpuConstants:
    """The GPU model of a plant, by default the one of plant.toml."""
    if constants is None:
        constants = load_constants(Path(__file__).with_name("plant.toml"))
    return nvml_control.GpuConstants(**asdict(constants.gpu))


async def _sleep_to_multiple(step_seconds: float) -> None:
    """Sleep until the monotonic clock passes the next multiple of a step: no drift, no pile-up.

    A timer may wake a little early: within a tenth of a step the multiple counts as passed.
    """
    now = time.monotonic()
    await asyncio.sleep((math.floor(now / step_seconds + 0.1) + 1.0) * step_seconds - now)


async def run_plant(
    testbed: Testbed, constants: PlantConstants, scenario: tuple[Entry, ...], hosts: dict[str, str]
) -> int:
    """Run a plant to its end; returns the exit status, after printing what broke."""
    try:
        await Plant(testbed, constants, scenario, hosts).run()
    except Exception:  # noqa: BLE001  # whatever broke must be seen, and end the process
        traceback.print_exc()
        return 1
    return 0
