"""What each node is told of its rack's PDU, so that a job's record can hold that beside what its GPUs say."""

from collections.abc import Callable

from slurm_power.model.reading import Quality
from slurm_power.model.snapshot import Snapshot
from slurm_power.wire import Message

FEED_SECONDS = 5.0


class RackFeed:
    """Sends them every few seconds."""

    def __init__(self, send: Callable[[str, Message], bool]) -> None:
        self._send = send
        self._due_seconds = float("-inf")

    def look(self, snapshot: Snapshot, now_seconds: float) -> None:
        """Send to all nodes, if it is time."""
        if now_seconds < self._due_seconds:
            return
        self._due_seconds = now_seconds + FEED_SECONDS
        for node, message in rack_messages(snapshot).items():
            self._send(node, message)


def rack_messages(snapshot: Snapshot) -> dict[str, Message]:
    """The message for each node that reports, on a metered circuit below the grid connection.

    A circuit's power is split by what the GPUs of its nodes draw; while one of its nodes is silent nobody's
    share is known.
    """
    site, root = snapshot.site, snapshot.site.root.name
    rows: list[tuple[str, str, float]] = []
    # What the GPUs of all nodes on each circuit draw; None while one of them is silent.
    wholes: dict[str, float | None] = {}
    for node in site.nodes():
        metered = [name for name in site.circuits_of_node(node) if name in snapshot.circuits and name != root]
        watts = _gpu_watts(snapshot, node) if metered else None
        for name in metered:
            before = wholes.get(name, 0.0)
            wholes[name] = None if watts is None or before is None else before + watts
        if watts is not None:
            rows.append((node, metered[0], watts))
    return {node: _message(snapshot, circuit, watts, wholes[circuit]) for node, circuit, watts in rows}


def _gpu_watts(snapshot: Snapshot, node: str) -> float | None:
    """What the GPUs of a node draw that answer; None for a node that does not report."""
    state = snapshot.nodes.get(node)
    if state is None:
        return None
    return sum(gpu.power_watts for gpu in state.gpus.values() if not gpu.error)


def _message(snapshot: Snapshot, circuit: str, watts: float, whole_watts: float | None) -> Message:
    reading = snapshot.circuits[circuit]
    return {
        "type": "rack",
        "circuit": circuit,
        "watts": None if reading.quality is Quality.INVALID else reading.watts,
        "quality": reading.quality.value,
        "age_seconds": min(reading.age_seconds, 1e6),
        "share_ratio": watts / whole_watts if whole_watts else None,
    }
