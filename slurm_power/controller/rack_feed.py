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
    site = snapshot.site
    members: dict[str, list[str]] = {}
    for node in site.nodes():
        circuit = _metered(snapshot, node)
        if circuit is not None:
            members.setdefault(circuit, []).append(node)
    return {
        node: _message(snapshot, circuit, node)
        for circuit, nodes in members.items()
        for node in nodes
        if node in snapshot.nodes
    }


def _metered(snapshot: Snapshot, node: str) -> str | None:
    """The nearest metered circuit that carries a node; the whole site's meter is no rack's."""
    root = snapshot.site.root.name
    path = snapshot.site.circuits_of_node(node)
    return next((name for name in path if name in snapshot.circuits and name != root), None)


def _message(snapshot: Snapshot, circuit: str, node: str) -> Message:
    reading = snapshot.circuits[circuit]
    carried = [name for name in snapshot.site.nodes() if circuit in snapshot.site.circuits_of_node(name)]
    return {
        "type": "rack",
        "circuit": circuit,
        "watts": None if reading.quality is Quality.INVALID else reading.watts,
        "quality": reading.quality.value,
        "age_seconds": min(reading.age_seconds, 1e6),
        "share_ratio": _share_ratio(snapshot, carried, node),
    }


def _share_ratio(snapshot: Snapshot, carried: list[str], node: str) -> float | None:
    if any(name not in snapshot.nodes for name in carried):
        return None
    draws = {
        name: sum(gpu.power_watts for gpu in snapshot.nodes[name].gpus.values() if not gpu.error)
        for name in carried
    }
    whole = sum(draws.values())
    return draws[node] / whole if whole > 0.0 else None
