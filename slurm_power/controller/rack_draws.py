"""What the GPUs and hosts behind each meter draw: what a statement of energy is made of, summed each second.

A few sums for each meter, so that a month of a large site can be added up without reading each GPU.
"""

from dataclasses import dataclass

from slurm_power.model.reading import gpu_sums
from slurm_power.model.snapshot import NodeState, Snapshot


@dataclass(slots=True)
class RackDraw:
    """Sums over the nodes whose nearest metered circuit this is, in watts.

    ``gpu_watts`` is of all GPUs that answer, ``idle_gpu_watts`` of those among them that no job has.
    ``host_watts`` is of the hosts that are measured. None: none of them has told anything.
    """

    gpu_watts: float | None = None
    idle_gpu_watts: float | None = None
    host_watts: float | None = None


def rack_draws(snapshot: Snapshot) -> dict[str, RackDraw]:
    """The sums by metered circuit; one that no node hangs on directly has none."""
    site, metered = snapshot.site, snapshot.circuits.keys()
    nearest = {
        circuit.name: next((name for name in site.path(circuit.name) if name in metered), None)
        for circuit in site.circuits.values()
        if circuit.nodes
    }
    held = _held_watts(snapshot)
    draws: dict[str, RackDraw] = {}
    for circuit, meter in nearest.items():
        if meter is None:
            continue
        draw = draws.setdefault(meter, RackDraw())
        for name in site.circuits[circuit].nodes:
            node = snapshot.nodes.get(name)
            if node is not None:
                _add(draw, node, held.get(name, 0.0))
    return draws


def _held_watts(snapshot: Snapshot) -> dict[str, float]:
    """What the GPUs that jobs have on each node draw."""
    held: dict[str, float] = {}
    for job in snapshot.jobs:
        for name, uuids in job.gpus_by_node:
            node = snapshot.nodes.get(name)
            if node is not None:
                sums = node.sums.get(uuids) or gpu_sums(node.gpus, uuids)
                held[name] = held.get(name, 0.0) + sums.power_watts
    return held


def _add(draw: RackDraw, node: NodeState, held_watts: float) -> None:
    if node.gpus:
        watts = sum([0.0 if gpu.error else gpu.power_watts for gpu in node.gpus.values()])
        draw.gpu_watts = (draw.gpu_watts or 0.0) + watts
        # A GPU that two jobs share would be taken off twice.
        draw.idle_gpu_watts = (draw.idle_gpu_watts or 0.0) + max(0.0, watts - held_watts)
    if node.host_watts is not None:
        draw.host_watts = (draw.host_watts or 0.0) + node.host_watts
