"""The circuit tree as layers of a hierarchical resource of Slurm (HRES, mode 3), in watts at nodes.

In mode 3 a job asks for watts per node; each layer that holds one of its nodes is charged, up to the root.
Slurm wants one root, every branch equally deep, no two layers with the same nodes, and no constant use
(base) above a layer's count; anything else ends a slurmctld that runs in the foreground. So all of that is
made here, and :func:`broken_rules` looks again.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from slurm_power.model.site import Circuit, LimitKind, Site

# Slurm takes 16 layers one above the other.
MOST_LEVELS = 16
# More than any site draws, and below every number that means something else to Slurm.
MOST_COUNT = 2_147_483_647
STANDING, OTHER = "nodes_at_rest", "other_load"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Some nodes and the watts they may have together; ``count`` None: no limit of its own.

    ``base``: what of the count is in use all the time, by name. ``circuits``: whose limits it carries.
    """

    nodes: frozenset[str]
    count: int | None
    base: Mapping[str, int] = field(default_factory=dict)
    circuits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HresTree:
    """A whole resource, the root first; ``notes`` say what of the site could not be written as it is."""

    resource: str
    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()


class HresError(Exception):
    """The site gives no usable tree; ``problems`` names each with its place in site.toml."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


@dataclass(slots=True, kw_only=True)
class _Part:
    """A subtree while it is made. ``watts``: its limit at nodes, None without one.

    ``other_watts``: what it feeds beside nodes; ``standing_watts``: what its nodes draw without jobs.
    """

    nodes: frozenset[str]
    watts: float | None = None
    other_watts: float = 0.0
    standing_watts: float = 0.0
    circuits: tuple[str, ...] = ()
    children: "list[_Part]" = field(default_factory=list)


def safety_watts(circuit: Circuit) -> float:
    """What a circuit may draw for its breaker's sake."""
    return circuit.ceiling_watts if circuit.limit_kind is LimitKind.SAFETY else circuit.rating_watts


def hres_tree(
    site: Site,
    nodes: Iterable[str],
    *,
    resource: str,
    node_standing_watts: float,
    standing_watts: Mapping[str, float] | None = None,
    limits_watts: Mapping[str, float] | None = None,
    clamp: bool = False,
) -> HresTree:
    """Make the tree of a site for the nodes that Slurm has.

    ``node_standing_watts``: what each node draws while no job runs; ``standing_watts``: what circuits feed
    beside nodes, in watts at the circuit; ``limits_watts``: what circuits may draw now, where that is below
    their safety limits. Raises HresError with all problems; with ``clamp`` a limit below the constant use
    counts as just that use, so that nothing starts there.
    """
    known = frozenset(nodes)
    standing = dict(standing_watts or {})
    problems = [f"there is no [circuit.{name}] for {standing[name]:g} W to stand at" for name in standing]
    problems = [text for name, text in zip(standing, problems, strict=True) if name not in site.circuits]
    if not known:
        problems.append("Slurm has no nodes")
    elif not known & set(site.nodes()):
        problems.append("no node of Slurm is listed in a circuit: write its name into circuit.NAME.nodes")
    if problems:
        raise HresError(problems)
    make = _Maker(site, known, node_standing_watts, standing, limits_watts or {})
    root = make.root()
    problems = [] if clamp else _too_small(tuple(_layers(root)))
    if problems:
        raise HresError(problems)
    root, folded = _even(root)
    notes = [*make.notes(), *folded]
    layers = tuple(_layers(root))
    if clamp:
        layers = tuple(_with_room_for_base(layers))
    tree = HresTree(resource=resource, layers=layers, notes=tuple(notes))
    broken = broken_rules(tree, known)
    if broken:
        raise HresError(broken)
    return tree


class _Maker:
    """Builds parts from circuits: watts at nodes, nodes that Slurm knows, no level that adds nothing."""

    def __init__(
        self,
        site: Site,
        known: frozenset[str],
        node_standing_watts: float,
        standing: Mapping[str, float],
        limits: Mapping[str, float],
    ) -> None:
        self._site, self._known, self._node_watts = site, known, node_standing_watts
        self._standing, self._limits = standing, limits
        # What a circuit sees of a watt at a node below it: of the worst node.
        self._factors: dict[str, float] = {}
        for circuit in site.circuits.values():
            if known.intersection(circuit.nodes):
                for name, factor in site.path_factors(circuit.name):
                    self._factors[name] = max(factor, self._factors.get(name, 1.0))

    def root(self) -> _Part:
        """The whole tree; nodes that no circuit names are charged to the grid connection alone."""
        unlisted = self._known - set(self._site.nodes())
        part = self._part(self._site.root, unlisted)
        assert part is not None  # some node is listed
        return part

    def notes(self) -> list[str]:
        """What is in only one of the two lists of nodes."""
        listed = set(self._site.nodes())
        found = [
            f"circuit.{self._site.circuit_of_node(node)}.nodes: Slurm knows no {node}; it is left out"
            for node in sorted(listed - self._known)
        ]
        unlisted = sorted(self._known - listed)
        if unlisted:
            names = ", ".join(unlisted[:5]) + (f" and {len(unlisted) - 5} more" if len(unlisted) > 5 else "")
            found.append(f"{names}: in no circuit; charged to {self._site.root.name} alone")
        return found

    def _part(self, circuit: Circuit, more: frozenset[str] = frozenset()) -> _Part | None:
        children = [
            part
            for name in self._site.children(circuit.name)
            if (part := self._part(self._site.circuits[name])) is not None
        ]
        own = self._known.intersection(circuit.nodes)
        children += [
            _Part(nodes=group, standing_watts=self._node_watts * len(group)) for group in (own, more) if group
        ]
        if not children:
            return None
        factor = self._factors.get(circuit.name, 1.0)
        limit = min(safety_watts(circuit), self._limits.get(circuit.name, math.inf))
        made = _Part(
            nodes=frozenset().union(*(child.nodes for child in children)),
            watts=limit / factor,
            other_watts=self._standing.get(circuit.name, 0.0) / factor,
            circuits=(circuit.name,),
            children=children,
        )
        return _merged(made, children[0]) if len(children) == 1 else made


def _merged(outer: _Part, inner: _Part) -> _Part:
    """One part for two with the same nodes: Slurm refuses to have both.

    What either feeds beside nodes stays to be seen above, so the inner limit is set beside the outer's own.
    """
    assert outer.watts is not None
    own = outer.other_watts
    return _Part(
        nodes=inner.nodes,
        watts=outer.watts if inner.watts is None else min(outer.watts, inner.watts + own),
        other_watts=own + inner.other_watts,
        standing_watts=inner.standing_watts,
        circuits=(*outer.circuits, *inner.circuits),
        children=inner.children,
    )


def _depth(part: _Part) -> int:
    return 1 + max(map(_depth, part.children)) if part.children else 0


def _even(root: _Part) -> tuple[_Part, list[str]]:
    """Make all branches equally deep; where they cannot be, give up the level above the deepest."""
    notes: list[str] = []
    while True:
        depth = _depth(root)
        fitted = _fitted(root, depth) if depth < MOST_LEVELS else None
        if fitted is not None:
            return fitted, notes
        notes += _fold(root, depth - 1)


def _fitted(part: _Part, height: int) -> _Part | None:
    """The part with every branch ``height`` layers below it, by layers without a limit; None: impossible."""
    if not part.children:
        return _halved(part, height)
    if height == 0:
        return None
    children, short = [], []
    for child in part.children:
        fitted = _fitted(child, height - 1)
        if fitted is None:
            short.append(child)
        else:
            children.append(fitted)
    if short:
        # Too few nodes to part again and again: together they may be enough.
        if len(short) < 2 or not children or height < 2:
            return None
        together = frozenset().union(*(child.nodes for child in short))
        grouped = _fitted(_Part(nodes=together, children=short), height - 1)
        if grouped is None:
            return None
        children.append(grouped)
    return replace(part, children=children)


def _halved(part: _Part, height: int) -> _Part | None:
    if height == 0:
        return part
    if len(part.nodes) < 2**height:
        return None
    names = sorted(part.nodes)
    middle = len(names) // 2
    halves = [_halved(_Part(nodes=frozenset(half)), height - 1) for half in (names[:middle], names[middle:])]
    return replace(part, children=[half for half in halves if half is not None])


def _fold(part: _Part, level: int) -> list[str]:
    """Put the children of the parts at ``level`` in their place, each with its share by nodes."""
    if level > 1:
        return [note for child in part.children for note in _fold(child, level - 1)]
    notes, children = [], []
    for child in part.children:
        if not child.children:
            children.append(child)
            continue
        room = math.inf if child.watts is None else max(0.0, child.watts - _used_watts(child))
        for below in child.children:
            if child.watts is not None:
                share = _used_watts(below) + room * len(below.nodes) / len(child.nodes)
                below.watts = share if below.watts is None else min(below.watts, share)
            children.append(below)
        if child.watts is not None:
            names = " + ".join(child.circuits)
            text = (
                "Slurm wants all branches equally deep, so it has no layer; its limit is shared out by nodes"
            )
            notes.append(f"circuit.{names}: {text}")
        part.other_watts += child.other_watts
    part.children = children
    return notes


def _used_watts(part: _Part) -> float:
    """What a part draws without any job."""
    return part.other_watts + part.standing_watts + sum(map(_used_watts, part.children))


def _layers(root: _Part) -> Iterator[Layer]:
    """Level by level, in the order of node names."""
    level = [root]
    while level:
        for part in sorted(level, key=lambda part: min(part.nodes)):
            base = {STANDING: part.standing_watts, OTHER: part.other_watts}
            yield Layer(
                nodes=part.nodes,
                count=None if part.watts is None else min(MOST_COUNT, max(0, math.floor(part.watts + 1e-6))),
                base={name: math.ceil(watts - 1e-6) for name, watts in base.items() if watts > 0.0},
                circuits=part.circuits,
            )
        level = [child for part in level for child in part.children]


def _above(layers: Sequence[Layer]) -> dict[int, set[int]]:
    """For each layer, by its place, the next larger ones that hold some of its nodes; one, in a tree."""
    holding: dict[str, list[int]] = {}
    for place in sorted(range(len(layers)), key=lambda place: -len(layers[place].nodes)):
        for node in layers[place].nodes:
            holding.setdefault(node, []).append(place)
    found: dict[int, set[int]] = {place: set() for place in range(len(layers))}
    for chain in holding.values():
        for larger, smaller in pairwise(chain):
            found[smaller].add(larger)
    return found


def used_all_the_time(layers: Sequence[Layer]) -> list[int]:
    """What Slurm takes off each layer's count: its own base and those of all layers below it."""
    above = _above(layers)
    used = [sum(layer.base.values()) for layer in layers]
    for place in sorted(range(len(layers)), key=lambda place: len(layers[place].nodes)):
        for larger in above[place]:
            used[larger] += used[place]
    return used


def _with_room_for_base(layers: Sequence[Layer]) -> Iterator[Layer]:
    for layer, used in zip(layers, used_all_the_time(layers), strict=True):
        yield layer if layer.count is None or layer.count >= used else replace(layer, count=used)


def _too_small(layers: Sequence[Layer]) -> list[str]:
    return [
        f"circuit.{' + '.join(layer.circuits)}: {used} W are drawn there without any job,"
        f" its limit leaves {layer.count} W for nodes"
        for layer, used in zip(layers, used_all_the_time(layers), strict=True)
        if layer.count is not None and used > layer.count
    ]


def broken_rules(tree: HresTree, nodes: Iterable[str]) -> list[str]:
    """What Slurm would not bear in a tree, for a cluster of these nodes; empty for each that is made here."""
    known, layers = frozenset(nodes), tree.layers
    if not layers or not all(layer.nodes for layer in layers):
        return ["no layer, or one without nodes"]
    found = []
    everything = frozenset().union(*(layer.nodes for layer in layers))
    if everything - known:
        found.append(f"{min(everything - known)}: no node of Slurm")
    if layers[0].nodes != everything:
        found.append("the first layer does not hold all others")
    if len({layer.nodes for layer in layers}) < len(layers):
        found.append("two layers have the same nodes")
    above = _above(layers)
    if any(
        len(larger) > 1 or any(not layers[place].nodes < layers[one].nodes for one in larger)
        for place, larger in above.items()
    ):
        found.append("two layers overlap")
    depths = Counter(node for layer in layers for node in layer.nodes).values()
    if len(set(depths)) > 1 or max(depths) > MOST_LEVELS:
        found.append(f"branches are {min(depths)} to {max(depths)} layers deep")
    for layer, used in zip(layers, used_all_the_time(layers), strict=True):
        if any(value < 0 for value in layer.base.values()):
            found.append("a base below zero")
        if layer.count is not None and not used <= layer.count <= MOST_COUNT:
            found.append(
                f"a count of {layer.count}, with {used} in use all the time and {MOST_COUNT} at most"
            )
    return found
