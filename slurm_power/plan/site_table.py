"""The electrical tree as columns: circuits are numbers, and what a node feeds is a row."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slurm_power.model.site import Site
from slurm_power.plan.memo import LastFew

Numbers = NDArray[np.int64]
Watts = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteTable:
    """``names``: the circuits, the leaves first, the grid connection last; their index is their number.

    ``paths`` (circuits x depth): numbers of the circuits from each one up to the grid connection, filled up
    with -1. ``factors``, of the same shape: watts each of them sees for one watt drawn at the first.
    ``leaf_of_node``: by node, the number of the circuit that feeds it.
    """

    names: tuple[str, ...]
    index: Mapping[str, int]
    paths: Numbers
    factors: Watts
    leaf_of_node: Mapping[str, int]

    @property
    def root(self) -> int:
        """The number of the grid connection."""
        return len(self.names) - 1


_tables: LastFew[SiteTable] = LastFew(4)


def site_table(site: Site) -> SiteTable:
    """The columns of a site, made once."""
    return _tables.of(lambda: _table(site), site)


def _table(site: Site) -> SiteTable:
    names = tuple(circuit.name for circuit in site.leaves_first())
    index = {name: number for number, name in enumerate(names)}
    depth = max(len(site.path(name)) for name in names)
    paths = np.full((len(names), depth), -1, dtype=np.int64)
    factors = np.zeros((len(names), depth))
    for number, name in enumerate(names):
        for level, (above, factor) in enumerate(site.path_factors(name)):
            paths[number, level], factors[number, level] = index[above], factor
    return SiteTable(
        names=names,
        index=index,
        paths=paths,
        factors=factors,
        leaf_of_node={
            node: index[nearest]
            for node in site.nodes()
            if (nearest := site.circuit_of_node(node)) is not None
        },
    )


def summed(where: Numbers, values: Watts, count: int) -> Watts:
    """The sum of ``values`` for each of ``count`` numbers in ``where``."""
    return np.bincount(where, weights=values, minlength=count).astype(np.float64)
