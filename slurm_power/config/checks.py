"""Checks on the circuit tree that no single field can fail alone: shape, parents, sums, slips of unit."""

import math

from slurm_power.model.site import Circuit, Site

# A GPU node idles near 1 kW and a whole campus stays below a few GW: outside that a unit has slipped.
LEAST_WATTS_PER_NODE = 100.0
LEAST_CIRCUIT_WATTS = 100.0
MOST_CIRCUIT_WATTS = 5e9


def check_tree(site: Site, problems: list[str]) -> None:
    """Add every problem of the tree to ``problems``, each with its path."""
    circuits = site.circuits
    if circuits:
        _check_shape(site, problems)
    feeds: dict[str, str] = {}
    for circuit in circuits.values():
        check_watts(circuit, problems)
        _check_parent(site, circuit, problems)
        for node in circuit.nodes:
            if node in feeds:
                problems.append(f"circuit.{circuit.name}.nodes: {node} already hangs on {feeds[node]}")
            feeds[node] = circuit.name
    problems += [
        f"ess.{ess.name}.circuit: there is no [circuit.{ess.circuit}]"
        for ess in site.ess.values()
        if ess.circuit not in circuits
    ]


def _check_shape(site: Site, problems: list[str]) -> None:
    roots = [circuit.name for circuit in site.circuits.values() if circuit.parent is None]
    if len(roots) != 1:
        found = ", ".join(roots) or "none"
        problems.append(f"circuit: exactly one circuit has no parent, the grid connection; found: {found}")
    for circuit in site.circuits.values():
        seen = {circuit.name}
        parent = circuit.parent
        while parent is not None and parent in site.circuits and parent not in seen:
            seen.add(parent)
            parent = site.circuits[parent].parent
        if parent == circuit.name:
            problems.append(f"circuit.{circuit.name}.parent: goes round in a circle")


def check_watts(circuit: Circuit, problems: list[str]) -> None:
    """Add what is wrong with a circuit's own numbers."""
    path = f"circuit.{circuit.name}."
    least = max(LEAST_CIRCUIT_WATTS, LEAST_WATTS_PER_NODE * len(circuit.nodes))
    for key, watts in (("rating_watts", circuit.rating_watts), ("limit_watts", circuit.limit_watts)):
        if watts is None:
            continue
        if not math.isfinite(watts) or watts < 0.0:
            problems.append(f"{path}{key}: {watts:g} is no amount of power")
        elif watts < least:
            problems.append(
                f"{path}{key}: {watts:g} W is too little for {_what(circuit)};"
                f" is it in kW or MW? (at least {least:g} W)"
            )
        elif watts > MOST_CIRCUIT_WATTS:
            problems.append(f"{path}{key}: {watts:g} W is more than any site draws; is it in mW?")
    if circuit.limit_watts is not None and circuit.limit_watts > circuit.rating_watts:
        problems.append(
            f"{path}limit_watts: {circuit.limit_watts:g} W is above its own rating,"
            f" {circuit.rating_watts:g} W"
        )
    if not 1.0 <= circuit.overhead_ratio <= 3.0:
        problems.append(f"{path}overhead_ratio: {circuit.overhead_ratio:g} is not between 1 and 3")


def _check_parent(site: Site, circuit: Circuit, problems: list[str]) -> None:
    if circuit.parent is None:
        return
    path = f"circuit.{circuit.name}."
    parent = site.circuits.get(circuit.parent)
    if parent is None:
        problems.append(f"{path}parent: there is no [circuit.{circuit.parent}]")
    elif circuit.limit_watts is not None and circuit.limit_watts > parent.ceiling_watts:
        problems.append(
            f"{path}limit_watts: {circuit.limit_watts:g} W is above its parent"
            f" {parent.name}, {parent.ceiling_watts:g} W"
        )
    elif circuit.rating_watts > parent.rating_watts:
        problems.append(
            f"{path}rating_watts: {circuit.rating_watts:g} W is above its parent"
            f" {parent.name}, {parent.rating_watts:g} W"
        )


def _what(circuit: Circuit) -> str:
    if circuit.nodes:
        return f"a circuit that feeds {len(circuit.nodes)} nodes"
    return "a circuit"
