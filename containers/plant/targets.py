"""What faults can be thrown at: ``meter``, ``pcs``, ``pdu.RACK`` and ``gpu.NODE.SLOT``."""

import math
import time
from collections.abc import Mapping
from typing import Protocol

from containers.plant.nvml_control import FaultKind, NodeGpus
from containers.plant.testbed import Testbed

from . import meter, modbus, pcs, pdu

# Done once, at once; they have no duration.
GPU_EVENTS = {
    "counter_reset": "the driver is reloaded: energy counter 0, default limit, no clock lock",
    "foreign_limit": "somebody else writes a limit of `value` watts",
    "reverse_order": "the NVML indices of the node's GPUs turn round",
}
GPU_FAULTS = {kind.name.lower(): kind for kind in FaultKind}


class Target(Protocol):
    """Something with faults."""

    def set_fault(self, kind: str, value: float, duration_seconds: float | None) -> None:
        """Switch a fault on; raises ValueError when it cannot be."""

    def clear_faults(self) -> None:
        """Switch all faults off."""


class GpuTarget:
    """One GPU, by its slot, as a target."""

    def __init__(self, gpus: NodeGpus, slot: int) -> None:
        self.gpus, self.slot = gpus, slot
        self._until: dict[str, float] = {}

    def set_fault(self, kind: str, value: float, duration_seconds: float | None) -> None:
        """Switch a fault on, or do an event; raises ValueError for an unknown kind or a bad value."""
        try:
            if kind == "counter_reset":
                self.gpus.reload_driver(self.slot)
            elif kind == "foreign_limit":
                self.gpus.write_foreign_limit(self.slot, value)
            elif kind == "reverse_order":
                self.gpus.order_indices(list(reversed(range(self.gpus.gpu_count))))
            elif kind in GPU_FAULTS:
                self.gpus.set_fault(
                    self.slot, GPU_FAULTS[kind], value=value, duration_seconds=duration_seconds
                )
                ends = math.inf if duration_seconds is None else time.monotonic() + duration_seconds
                self._until[kind] = ends
            else:
                raise ValueError(f"unknown fault {kind!r}; known here: {', '.join(sorted(gpu_kinds()))}")
        except OSError as error:
            raise ValueError(f"{kind}: the GPU refuses {value:g}: {error.strerror}") from None

    def clear_faults(self) -> None:
        """Switch all faults off; events that happened stay."""
        for kind in FaultKind:
            self.gpus.clear_fault(self.slot, kind)
        self._until.clear()

    def active(self) -> list[str]:
        """Return the names of the faults that are on."""
        now = time.monotonic()
        return [kind for kind, until in self._until.items() if until > now]


def gpu_kinds() -> list[str]:
    """Return the names of everything that can happen to a GPU."""
    return [*GPU_FAULTS, *GPU_EVENTS]


def known_kinds(testbed: Testbed) -> Mapping[str, list[str]]:
    """Return all targets of a lab with the kinds of fault that each knows."""
    known = {
        "meter": [*modbus.LINK_FAULTS, *meter.FAULTS],
        "pcs": [*modbus.LINK_FAULTS, *pcs.FAULTS],
    }
    known |= {f"pdu.{rack}": list(pdu.FAULTS) for rack in testbed.racks}
    for node in testbed.nodes:
        known |= {f"gpu.{node}.{slot}": gpu_kinds() for slot in range(testbed.gpus_per_node)}
    return known
