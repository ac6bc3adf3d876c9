"""How much of each node and battery could be used lately."""

from collections.abc import Iterable, Mapping

from slurm_power.model.coverage import Coverage
from slurm_power.model.reading import EssReading, Quality
from slurm_power.model.snapshot import NodeState


class SourceCoverage:
    """All nodes and batteries of a site; meters count for themselves."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self._nodes = {name: Coverage() for name in nodes}
        self._ess: dict[str, Coverage] = {}

    def look(self, nodes: Mapping[str, NodeState], ess: Mapping[str, EssReading], now_seconds: float) -> None:
        """Note what can be used now: of a node the share of its GPUs, of one that is silent nothing."""
        for name, coverage in self._nodes.items():
            state = nodes.get(name)
            count = 0 if state is None else len(state.gpus)
            lost = 0 if state is None else len([gpu for gpu in state.gpus.values() if gpu.error])
            coverage.add(1.0 - lost / count if count else 0.0, now_seconds)
        for name, reading in ess.items():
            good = reading.quality is Quality.GOOD
            self._ess.setdefault(name, Coverage()).add(1.0 if good else 0.0, now_seconds)

    def of_node(self, name: str, now_seconds: float) -> float | None:
        """The share of the last ten minutes, as a mean over its GPUs; None before the first look."""
        coverage = self._nodes.get(name)
        return None if coverage is None else coverage.ratio(now_seconds)

    def of_ess(self, name: str, now_seconds: float) -> float | None:
        """The share of the last ten minutes in which it was good; None before the first look."""
        coverage = self._ess.get(name)
        return None if coverage is None else coverage.ratio(now_seconds)
