"""Guesses which nodes share a rack: from their features, from the topology, from their names."""

import re
from collections.abc import Callable, Mapping, Sequence

from slurm_power.slurm.found import FoundNode

_FEATURE = re.compile(r"(rack[-_.]?\w+)", re.IGNORECASE)
# r12n03, rack1-node2, r01c02s04: a rack's letter or word and number, then the node's own.
_NAME = re.compile(r"((?:rack|r)[-_]?\d+)[-_.]?[a-z]+[-_]?\d+.*", re.IGNORECASE)


def racks_of(nodes: Sequence[FoundNode], leaves: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return nodes by rack, by the first source that gives each node one of several racks; else nothing."""
    by_leaf = {node: switch for switch, members in leaves.items() for node in members}
    sources: tuple[Callable[[FoundNode], str | None], ...] = (
        _by_feature,
        lambda node: by_leaf.get(node.name),
        _by_name,
    )
    for source in sources:
        racks: dict[str, list[str]] = {}
        for node in nodes:
            rack = source(node)
            if rack is None:
                break
            racks.setdefault(re.sub(r"[^\w-]", "_", rack), []).append(node.name)
        else:
            if len(racks) > 1:
                return {rack: tuple(members) for rack, members in racks.items()}
    return {}


def _by_feature(node: FoundNode) -> str | None:
    matches = [match[1] for feature in node.features if (match := _FEATURE.fullmatch(feature)) is not None]
    return matches[0] if len(matches) == 1 else None


def _by_name(node: FoundNode) -> str | None:
    match = _NAME.fullmatch(node.name)
    return None if match is None else match[1]
