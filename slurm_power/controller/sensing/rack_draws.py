"""What the GPUs and hosts behind each meter draw: what a statement of energy is made of, summed each second.

A few sums for each meter, so that a month of a large site can be added up without reading each GPU.
"""

from dataclasses import dataclass

from slurm_power.model.reading import NodeDraw
from slurm_power.model.snapshot import Snapshot


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
    draws: dict[str, RackDraw] = {}
    for circuit, meter in nearest.items():
        if meter is None:
            continue
        draw = draws.setdefault(meter, RackDraw())
        for name in site.circuits[circuit].nodes:
            node = snapshot.nodes.get(name)
            if node is not None and node.drawn is not None:
                _add(draw, node.drawn, has_gpus=bool(node.gpus))
    return draws


def _add(draw: RackDraw, node: NodeDraw, *, has_gpus: bool) -> None:
    if has_gpus:
        draw.gpu_watts = (draw.gpu_watts or 0.0) + node.gpu_watts
        draw.idle_gpu_watts = (draw.idle_gpu_watts or 0.0) + node.gpu_watts - node.held_watts
    if node.host_watts is not None:
        draw.host_watts = (draw.host_watts or 0.0) + node.host_watts
