"""From the list of bad sources to their causes: what follows from a dead device is named inside its alert."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from slurm_power.bridge.loose import words
from slurm_power.model.alert import Finding, Severity

_CIRCUIT = re.compile(r"circuit (\S+)")
_NODE = re.compile(r"node ([^\s,]+)")
_GPU = re.compile(r"GPU \S+ of (\S+)")
_BY_RACK = re.compile(r"its rack (\S+) shows")
_EXPLAINS = "explains"
_SILENT = "its daemon is silent"
_FEWEST_TOGETHER = 2
_MANY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What hangs on what, by site.toml.

    ``parents`` of circuits; ``circuits`` of nodes; ``meters`` of circuits; ``places``: the host that answers
    for a device or a battery; ``ceilings_watts``: standing limits of circuits.
    """

    parents: Mapping[str, str | None] = field(default_factory=dict)
    circuits: Mapping[str, str] = field(default_factory=dict)
    meters: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    ceilings_watts: Mapping[str, float] = field(default_factory=dict)

    def above(self, circuit: str) -> list[str]:
        """The circuit and those that feed it, upwards."""
        found: list[str] = []
        at: str | None = circuit
        while at is not None and at in self.parents and at not in found:
            found.append(at)
            at = self.parents[at]
        return found

    def by_circuit(self, nodes: Iterable[str]) -> dict[str, set[str]]:
        """Of the nodes, those that hang on each circuit, however deep."""
        found: dict[str, set[str]] = {}
        for node in nodes:
            for circuit in self.above(self.circuits[node]) if node in self.circuits else ():
                found.setdefault(circuit, set()).add(node)
        return found


@dataclass(slots=True)
class _Group:
    """The bad rows of one cause; the first is the one that it is named after."""

    cause: str
    title: str
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    covers: set[str] = field(default_factory=set)

    def metered(self) -> set[str]:
        """The circuits whose meters are among its rows."""
        return {match[1] for row in self.rows if (match := _CIRCUIT.match(words(row, "measures")))}

    def circuits(self, layout: Layout) -> set[str]:
        """The circuits that its rows are about."""
        nodes = (_node_of(words(row, "measures")) or "" for row in self.rows)
        return self.metered() | {layout.circuits[node] for node in nodes if node in layout.circuits}


def source_findings(
    bad: Iterable[Mapping[str, Any]], layout: Layout, *, unmeasured: frozenset[str], unrenewed: int
) -> tuple[list[Finding], frozenset[str]]:
    """One finding a cause, and which of the ``unmeasured`` circuits they explain.

    ``unrenewed``: leases that run out; with a node silent they are for want of it.
    """
    groups = _merged(_grouped(bad, layout), layout)
    found: list[Finding] = []
    explained: set[str] = set()
    for group in groups:
        blind = unmeasured & group.metered()
        explained |= blind
        effects = [f"nobody measures {name}: it counts as full" for name in sorted(blind)]
        effects += [_line(row) for row in group.rows[1:]]
        if unrenewed and any(_SILENT in words(row, "reason") for row in group.rows):
            effects.append(f"{unrenewed} leases run out unrenewed: its GPUs go back to what they were")
        first = group.rows[0]
        found.append(
            Finding(
                rule="dead_source",
                cause=group.cause,
                summary=f"{group.title}: {words(first, 'reason') or words(first, 'quality')}",
                what_to_do="See to the first one named; what follows from it comes back by itself.",
                severity=Severity.PAGE if blind else None,
                effects=tuple(effects),
                labels={"source": group.cause.partition(":")[2]},
                covers=tuple(sorted(group.covers)),
            )
        )
    return found, frozenset(explained)


def _grouped(bad: Iterable[Mapping[str, Any]], layout: Layout) -> dict[str, _Group]:
    """By what each row is about, without a look at the others."""
    groups: dict[str, _Group] = {}
    for row in bad:
        source, measures, reason = (words(row, key) for key in ("source", "measures", "reason"))
        if (match := _BY_RACK.match(reason)) is not None:
            cause, title = f"circuit:{match[1]}", f"what circuit {match[1]} shows"
        elif (node := _node_of(measures)) is not None:
            cause, title = f"node:{node}", f"node {node}"
        else:
            place = layout.places.get(source)
            cause = f"source:{source}" if place is None else f"host:{place}"
            title = f"{source} ({measures})"
        group = groups.setdefault(cause, _Group(cause, title))
        # A node's own row before those of its GPUs, the worse before the better.
        at = (
            0
            if _GPU.match(measures) is None and group.rows and _worse(row, group.rows[0])
            else len(group.rows)
        )
        group.rows.insert(at, row)
    for group in list(groups.values()):
        if group.cause.startswith("host:"):
            sources = {words(row, "source") for row in group.rows}
            if len(sources) > 1:
                group.title = f"{group.cause.removeprefix('host:')}, which answers for {len(sources)} sources"
            else:
                first = group.rows[0]
                group.title = f"{words(first, 'source')} ({words(first, 'measures')})"
    return groups


def _merged(groups: dict[str, _Group], layout: Layout) -> list[_Group]:
    """Put together what has one cause: racks that went silent, and who disagrees with the dead."""
    _gather_racks(groups, layout)
    for group in list(groups.values()):
        if not all(
            words(row, "reason").endswith(_EXPLAINS) or _BY_RACK.match(words(row, "reason"))
            for row in group.rows
        ):
            continue
        for other in groups.values():
            if other is not group and _near(group, other, layout):
                _absorb(other, group)
                del groups[group.cause]
                break
    return list(groups.values())


def _gather_racks(groups: dict[str, _Group], layout: Layout) -> None:
    """All nodes below a circuit silent at once: that is the circuit's doing, not that of each of them."""
    silent = {
        group.cause.removeprefix("node:")
        for group in groups.values()
        if group.cause.startswith("node:") and any(_SILENT in words(row, "reason") for row in group.rows)
    }
    if len(silent) < _FEWEST_TOGETHER:
        return
    below, all_below = layout.by_circuit(silent), layout.by_circuit(layout.circuits)
    for circuit in sorted(below, key=lambda name: (len(layout.above(name)), name)):
        nodes = below[circuit] & silent
        if len(nodes) < _FEWEST_TOGETHER or len(nodes) < len(all_below[circuit]):
            continue
        whole = _Group(f"nodes:{circuit}", f"all {len(nodes)} nodes of circuit {circuit}")
        _absorb_nodes(whole, nodes, groups)
        meter = layout.meters.get(circuit, "")
        place = layout.places.get(meter)
        dead = groups.get(f"source:{meter}" if place is None else f"host:{place}")
        if dead is not None and dead.circuits(layout) <= {circuit}:
            _absorb(whole, groups.pop(dead.cause))
        silent -= nodes
    # So many at once have something in common, wherever they hang; and of a large site only some are listed.
    if len(silent) >= _MANY:
        shared = [circuit for circuit, nodes in below.items() if silent <= nodes]
        if shared:
            circuit = max(shared, key=lambda name: (len(layout.above(name)), name))
            whole = _Group(f"nodes:{circuit}", f"{len(silent)} nodes below circuit {circuit}")
            _absorb_nodes(whole, silent, groups)


def _absorb_nodes(whole: _Group, nodes: Iterable[str], groups: dict[str, _Group]) -> None:
    for node in sorted(nodes):
        _absorb(whole, groups.pop(f"node:{node}"))
    groups[whole.cause] = whole


def _absorb(group: _Group, other: _Group) -> None:
    group.rows += other.rows
    group.covers |= {f"dead_source:{other.cause}", *other.covers}


def _near(group: _Group, other: _Group, layout: Layout) -> bool:
    """Whether the other's circuits lie above, below or at those of the group, and are worse off."""
    if all(words(row, "reason").endswith(_EXPLAINS) for row in other.rows):
        return False
    own, others = group.circuits(layout), other.circuits(layout)
    return any(a in layout.above(b) or b in layout.above(a) for a in own for b in others)


def _node_of(measures: str) -> str | None:
    match = _NODE.match(measures) or _GPU.match(measures)
    return None if match is None else match[1]


def _worse(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if _GPU.match(words(other, "measures")) is not None:
        return True
    return words(row, "quality") == "invalid" != words(other, "quality")


def _line(row: Mapping[str, Any]) -> str:
    return f"{words(row, 'measures')}: {words(row, 'reason') or words(row, 'quality')}"
