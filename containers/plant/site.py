"""The coupling: true GPU power becomes node, rack and grid power; the battery works against it at the grid.

Energies are exact: GPUs and PCS integrate by themselves, and only the host's share is sampled at the tick.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from containers.plant.nvml_control import GpuTruth, NodeGpus
from slurm_power.simulate.constants import PlantConstants
from slurm_power.simulate.pcs import Pcs
from slurm_power.simulate.rack import grid_import_watts, host_watts, node_watts, site_load_watts

HISTORY_SECONDS = 3600
# Above this share of its highest limit a GPU counts as fully busy; caps do not go lower, so that a capped
# node's host goes on drawing what it drew: caps cut GPU power, not the host's.
FULLY_BUSY_RATIO = 0.45


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondRecord:
    """True means over one stretch, as long as the meter's refresh interval."""

    unix_seconds: float
    duration_seconds: float
    grid_import_watts: float
    load_watts: float
    ess_discharge_watts: float
    racks_watts: dict[str, float]


@dataclass(slots=True)
class Energies:
    """Joules since the start; import and export are counted apart, discharge is positive."""

    grid_import: float = 0.0
    grid_export: float = 0.0
    load: float = 0.0
    ess_discharge: float = 0.0
    racks: dict[str, float] | None = None


class Node:
    """One node: its GPUs, seen from the physical side, and its host."""

    def __init__(self, name: str, gpus: NodeGpus, constants: PlantConstants) -> None:
        self.name, self.gpus, self.constants = name, gpus, constants
        self.count = gpus.gpu_count
        self.truths: list[GpuTruth] = [gpus.truth(slot) for slot in range(self.count)]
        self.host_watts = host_watts(constants.host, 0.0, self.count)
        self.watts = 0.0
        self.joules = 0.0

    def advance(self, duration_seconds: float) -> float:
        """Read the GPUs and return the joules that the node drew from its PDU since the last call."""
        before = self.truths
        self.truths = [self.gpus.truth(slot) for slot in range(self.count)]
        gpu_joules = sum(
            new.energy_joules - old.energy_joules for new, old in zip(self.truths, before, strict=True)
        )
        busy = sum(self._busy_ratio(truth) for truth in self.truths) / self.count
        previous, self.host_watts = self.host_watts, host_watts(self.constants.host, busy, self.count)
        gpu_watts = sum(truth.instant_watts for truth in self.truths)
        self.watts = node_watts(self.constants.host, gpu_watts, self.host_watts)
        host_joules = (previous + self.host_watts) / 2.0 * duration_seconds
        drawn_joules = node_watts(self.constants.host, gpu_joules, host_joules)
        self.joules += drawn_joules
        return drawn_joules

    def _busy_ratio(self, truth: GpuTruth) -> float:
        """Return how busy the host is for a GPU, 0 to 1, from the GPU's draw."""
        if not truth.load_active:
            return 0.0
        gpu = self.constants.gpu
        full = max(FULLY_BUSY_RATIO * gpu.limit_max_watts, gpu.loaded_idle_watts + 1.0)
        share = (truth.instant_watts - gpu.loaded_idle_watts) / (full - gpu.loaded_idle_watts)
        return min(1.0, max(0.0, share))


class Site:
    """Nodes, racks, battery and grid. ``advance`` moves all of them to now."""

    def __init__(self, constants: PlantConstants, racks: Mapping[str, list[Node]], pcs: Pcs) -> None:
        self.constants, self.racks, self.pcs = constants, racks, pcs
        self.base_load_watts = constants.site.base_load_watts
        self.now_seconds = time.monotonic()
        self.energies = Energies(racks=dict.fromkeys(racks, 0.0))
        self.history: deque[SecondRecord] = deque(maxlen=HISTORY_SECONDS)
        self._pcs_joules = self._ess_joules()
        self._recorded = self._totals()
        self.advance()

    @property
    def nodes(self) -> list[Node]:
        """All nodes, rack by rack."""
        return [node for nodes in self.racks.values() for node in nodes]

    @property
    def racks_watts(self) -> dict[str, float]:
        """What each rack draws at this moment."""
        return {rack: sum(node.watts for node in nodes) for rack, nodes in self.racks.items()}

    @property
    def load_watts(self) -> float:
        """The load at the grid connection at this moment."""
        return site_load_watts(self.constants.site, self.racks_watts.values(), self.base_load_watts)

    @property
    def grid_import_watts(self) -> float:
        """What flows in from the grid at this moment."""
        return grid_import_watts(self.load_watts, self.pcs.auxiliary_watts, self.pcs.discharge_watts)

    def advance(self) -> None:
        """Move to now and add up what was drawn on the way."""
        now = time.monotonic()
        duration = now - self.now_seconds
        self.now_seconds = now
        self.pcs.advance(now)
        assert self.energies.racks is not None
        drawn = {}
        for rack, nodes in self.racks.items():
            drawn[rack] = sum(node.advance(duration) for node in nodes)
            self.energies.racks[rack] += drawn[rack]
        load = site_load_watts(self.constants.site, drawn.values(), self.base_load_watts * duration)
        before, self._pcs_joules = self._pcs_joules, self._ess_joules()
        discharged = self._pcs_joules[0] - before[0]
        grid = grid_import_watts(load, self._pcs_joules[1] - before[1], discharged)
        self.energies.load += load
        self.energies.ess_discharge += discharged
        self.energies.grid_import += max(0.0, grid)
        self.energies.grid_export += max(0.0, -grid)

    def record(self) -> SecondRecord:
        """Close a stretch: return and remember the means since the last call."""
        before, self._recorded = self._recorded, self._totals()
        duration = max(1e-9, self._recorded[0] - before[0])
        means = [(new - old) / duration for new, old in zip(self._recorded, before, strict=True)]
        record = SecondRecord(
            unix_seconds=time.time(),
            duration_seconds=duration,
            grid_import_watts=means[1],
            load_watts=means[2],
            ess_discharge_watts=means[3],
            racks_watts=dict(zip(self.racks, means[4:], strict=True)),
        )
        self.history.append(record)
        return record

    def truth(self) -> dict[str, object]:
        """Return everything as it is at the last advance, for the control socket."""
        return {
            "unix_seconds": time.time(),
            "grid_import_watts": self.grid_import_watts,
            "load_watts": self.load_watts,
            "base_load_watts": self.base_load_watts,
            "racks_watts": self.racks_watts,
            "energy_joules": asdict(self.energies),
            "ess": self._ess_truth(),
            "nodes": {
                node.name: {
                    "watts": node.watts,
                    "joules": node.joules,
                    "host_watts": node.host_watts,
                    "gpus": [asdict(truth) for truth in node.truths],
                }
                for node in self.nodes
            },
        }

    def _ess_truth(self) -> dict[str, object]:
        pcs = self.pcs
        charge, discharge = pcs.limits_watts()
        return {
            "discharge_watts": pcs.discharge_watts,
            "soc_ratio": pcs.soc_ratio,
            "soh_ratio": pcs.constants.state_of_health_ratio,
            "stored_joules": pcs.stored_joules,
            "injected_joules": pcs.injected_joules,
            "absorbed_joules": pcs.absorbed_joules,
            "loss_joules": pcs.loss_joules,
            "auxiliary_watts": pcs.auxiliary_watts,
            "max_charge_watts": charge,
            "max_discharge_watts": discharge,
            "temperature_celsius": pcs.temperature_celsius,
            "enabled": pcs.control.enabled,
            "setpoint_watts": pcs.control.setpoint_watts,
            "reversion_remaining_seconds": pcs.reversion_remaining_seconds,
            "local": pcs.local,
            "started": pcs.started,
            "alarms": int(pcs.alarms),
        }

    def _ess_joules(self) -> tuple[float, float]:
        return self.pcs.injected_joules - self.pcs.absorbed_joules, self.pcs.auxiliary_joules

    def _totals(self) -> tuple[float, ...]:
        energies = self.energies
        assert energies.racks is not None
        grid = energies.grid_import - energies.grid_export
        return (self.now_seconds, grid, energies.load, energies.ess_discharge, *energies.racks.values())
