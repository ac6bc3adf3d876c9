"""The electrical site: a tree of circuits with ratings and limits, and the storage that hangs on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from slurm_power.model.power_table import PowerTable


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

    Its own limits, None where there is none beyond what its inverter says: ``max_*_c_rate`` is power over
    the energy that its health has left, ``*_power_by_soc`` and ``*_power_by_celsius`` which share of the
    power may be used. A temperature that stopped it lets go ``temperature_margin_celsius`` inside the table;
    ``unknown_temperature_ratio`` of the power is used while nobody knows the temperature that a table asks
    for. ``full_cycles_*`` bound what trading may use up.
    """

    name: str
    circuit: str
    reserve_soc_ratio: float = 0.2
    target_soc_ratio: float = 0.8
    bridge_seconds: float = 300.0
    lease_seconds: float = 10.0
    uncommissioned: str | None = None
    max_charge_c_rate: float | None = None
    max_discharge_c_rate: float | None = None
    charge_power_by_soc: PowerTable | None = None
    discharge_power_by_soc: PowerTable | None = None
    charge_power_by_celsius: PowerTable | None = None
    discharge_power_by_celsius: PowerTable | None = None
    temperature_margin_celsius: float = 3.0
    unknown_temperature_ratio: float = 0.5
    full_cycles_per_day: float | None = None
    full_cycles_per_year: float | None = None


@dataclass(frozen=True, slots=True)
class _Lookups:
    """What is asked of a site again and again, made once: a tree may have thousands of nodes."""

    paths: Mapping[str, tuple[str, ...]]
    factors: Mapping[str, tuple[tuple[str, float], ...]]
    children: Mapping[str, tuple[str, ...]]
    leaves_first: tuple[Circuit, ...]
    circuit_of_node: Mapping[str, str]
    ess_behind: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The whole tree, with its storage. Build it through :func:`slurm_power.config.load_site`."""

    name: str
    circuits: Mapping[str, Circuit]
    ess: Mapping[str, Ess]
    _made: list[_Lookups] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def root(self) -> Circuit:
        """The grid connection."""
        return self._lookups().leaves_first[-1]

    def path(self, circuit: str) -> tuple[str, ...]:
        """Names from ``circuit`` up to the grid connection, both included."""
        return self._lookups().paths[circuit]

    def path_factors(self, circuit: str) -> tuple[tuple[str, float], ...]:
        """What each circuit of the path sees, losses included, of one watt drawn by a node on ``circuit``."""
        return self._lookups().factors[circuit]

    def children(self, circuit: str) -> tuple[str, ...]:
        """The circuits fed directly by ``circuit``."""
        return self._lookups().children[circuit]

    def leaves_first(self) -> tuple[Circuit, ...]:
        """All circuits, each before the one that feeds it; the grid connection is the last."""
        return self._lookups().leaves_first

    def ess_behind(self, circuit: str) -> tuple[str, ...]:
        """Names of the storage systems whose power passes through ``circuit``."""
        return self._lookups().ess_behind[circuit]

    def circuit_of_node(self, node: str) -> str | None:
        """The circuit that feeds ``node`` directly, None for an unknown node."""
        return self._lookups().circuit_of_node.get(node)

    def circuits_of_node(self, node: str) -> tuple[str, ...]:
        """All circuits that carry ``node``'s power, the nearest first; empty for an unknown node."""
        nearest = self.circuit_of_node(node)
        return () if nearest is None else self.path(nearest)

    def nodes(self) -> tuple[str, ...]:
        """All computers of the site, in the order of their circuits."""
        return tuple(node for circuit in self.circuits.values() for node in circuit.nodes)

    def _lookups(self) -> _Lookups:
        if not self._made:
            self._made.append(_lookups(self.circuits, self.ess))
        return self._made[0]


def _lookups(circuits: Mapping[str, Circuit], ess: Mapping[str, Ess]) -> _Lookups:
    paths: dict[str, tuple[str, ...]] = {}
    factors: dict[str, tuple[tuple[str, float], ...]] = {}
    children: dict[str, list[str]] = {name: [] for name in circuits}
    circuit_of_node: dict[str, str] = {}
    for circuit in circuits.values():
        names: list[str] = []
        ups: list[tuple[str, float]] = []
        name: str | None = circuit.name
        factor = 1.0
        while name is not None:
            factor *= circuits[name].overhead_ratio
            names.append(name)
            ups.append((name, factor))
            name = circuits[name].parent
        paths[circuit.name], factors[circuit.name] = tuple(names), tuple(ups)
        if circuit.parent is not None:
            children[circuit.parent].append(circuit.name)
        for node in circuit.nodes:
            circuit_of_node.setdefault(node, circuit.name)
    return _Lookups(
        paths=paths,
        factors=factors,
        children={name: tuple(below) for name, below in children.items()},
        leaves_first=tuple(sorted(circuits.values(), key=lambda circuit: -len(paths[circuit.name]))),
        circuit_of_node=circuit_of_node,
        ess_behind={
            name: tuple(key for key, one in ess.items() if name in paths[one.circuit]) for name in circuits
        },
    )
