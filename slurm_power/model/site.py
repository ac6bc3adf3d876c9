"""The electrical site: a tree of circuits with ratings and limits, and the storage that hangs on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class LimitKind(StrEnum):
    """What breaks when a limit is passed; the two fail in opposite directions when control is lost."""

    SAFETY = "safety"
    ECONOMIC = "economic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """One branch of the tree. ``rating_watts`` is nameplate, ``limit_watts`` the most allowed now.

    ``limit_watts`` None means no limit beyond the rating. ``nodes`` are the computers fed directly.
    ``overhead_ratio`` is how many watts appear here for each watt its children draw (losses, cooling).
    """

    name: str
    rating_watts: float
    limit_kind: LimitKind
    parent: str | None = None
    limit_watts: float | None = None
    meter: str | None = None
    nodes: tuple[str, ...] = ()
    overhead_ratio: float = 1.0

    @property
    def ceiling_watts(self) -> float:
        """The tighter of rating and limit."""
        return self.rating_watts if self.limit_watts is None else min(self.rating_watts, self.limit_watts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ess:
    """Static facts and rules of one energy storage system.

    ``reserve_soc_ratio`` is kept for outages; ``target_soc_ratio`` is where it is recharged to when there
    is room; ``bridge_seconds`` is how long a discharge must be sustainable before job levers take over.
    ``uncommissioned`` is who answers for it, and why, if it was not proven by ``slurm-power commission``.
    """

    name: str
    circuit: str
    reserve_soc_ratio: float = 0.2
    target_soc_ratio: float = 0.8
    bridge_seconds: float = 300.0
    lease_seconds: float = 10.0
    uncommissioned: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The whole tree, with its storage. Build it through :func:`slurm_power.config.load_site`."""

    name: str
    circuits: Mapping[str, Circuit]
    ess: Mapping[str, Ess]

    @property
    def root(self) -> Circuit:
        """The grid connection."""
        return next(circuit for circuit in self.circuits.values() if circuit.parent is None)

    def path(self, circuit: str) -> tuple[str, ...]:
        """Names from ``circuit`` up to the grid connection, both included."""
        names = []
        name: str | None = circuit
        while name is not None:
            names.append(name)
            name = self.circuits[name].parent
        return tuple(names)

    def circuits_of_node(self, node: str) -> tuple[str, ...]:
        """All circuits that carry ``node``'s power, the nearest first; empty for an unknown node."""
        for circuit in self.circuits.values():
            if node in circuit.nodes:
                return self.path(circuit.name)
        return ()

    def nodes(self) -> tuple[str, ...]:
        """All computers of the site, in the order of their circuits."""
        return tuple(node for circuit in self.circuits.values() for node in circuit.nodes)
