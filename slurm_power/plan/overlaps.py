"""A service between two tiers: what the new one will draw beside the old one, and the room for it.

A new tier starts before the old one ends, so that both draw for a while: that room is booked. To a lighter
tier caps and batteries may bridge the overlap; to a heavier one there is to be room with nothing capped.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from slurm_power.model.service import Service
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.tier import Family, Tier
from slurm_power.plan.cap_columns import CapColumns
from slurm_power.plan.demands import batteries_behind, expected_circuit_watts, meter_lost
from slurm_power.plan.ess import burst_watts
from slurm_power.plan.event_target import target_watts
from slurm_power.plan.free_gpus import free_gpus
from slurm_power.plan.lasting_needs import natural_watts
from slurm_power.plan.loads import LoadTable, load_table, tier_watts, worst_factor
from slurm_power.plan.policy import Policy
from slurm_power.plan.site_table import site_table

# A gateway says how its service stands every two seconds; what it said half a minute ago says nothing now.
_HEARD_SECONDS = 30.0
# Of what caps could still take within promises, so much counts as a bridge over an overlap.
_BRIDGE_SHARE = 0.5
# Where a job may come to, as the release counts it: twice its even share, on circuits with a tenth of all.
_UNEVEN, _LEAST_SHARE = 2.0, 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A service with the tiers that matter: its own, the one that serves, the one it is to serve with."""

    service: Service
    family: Family
    full: Tier
    serving: Tier
    wanted: Tier

    @property
    def switching(self) -> bool:
        """Whether it is on its way to another tier."""
        return self.service.switching or self.serving.name != self.wanted.name


def standing(snapshot: Snapshot, service: Service) -> Standing | None:
    """How a service stands; None while its gateway is silent, or its family, tiers or power are unknown."""
    family = snapshot.catalog.families.get(service.family)
    if family is None or family.owner or service.age_seconds > _HEARD_SECONDS:
        return None
    lease = snapshot.service_leases.get(service.name)
    full = family.tier(service.full_tier)
    serving = family.tier(service.serving)
    wanted = full if lease is None else family.tier(lease.tier)
    if full is None or serving is None or wanted is None:
        return None
    return Standing(service=service, family=family, full=full, serving=serving, wanted=wanted)


def overlap_room(
    snapshot: Snapshot, policy: Policy, service: Service, tier: str, *, spare_ratio: float = 0.0
) -> float | None:
    """Watts that are missing to run ``tier`` beside what serves now: 0.0 where there is room for both.

    None where the tier, its power, or how the service stands is unknown: then nobody can tell. What other
    services have booked is taken; what this one has is its own.
    """
    one = standing(snapshot, service)
    new = None if one is None else one.family.tier(tier)
    if one is None or new is None or new.watts is None:
        return None
    if new.name == one.serving.name:
        return 0.0
    table = load_table(snapshot, policy)
    bridged = one.serving.watts is not None and new.watts < one.serving.watts
    watts = tier_watts(new, policy)
    for backend in service.backends:
        # Its job has been placed: what it is about to draw is expected of it already.
        if backend.tier == tier and backend.job_id in table.placed.row:
            watts = 0.0
    if watts == 0.0:
        return 0.0
    rooms = _rooms(snapshot, table, policy, bridged=bridged)
    others = booked_by_circuit(snapshot, table, policy, without=service.name)
    missing = 0.0
    for name, needed in anywhere_watts(snapshot, new.gpu_count, watts).items():
        spare = spare_ratio * snapshot.limit_watts(name)
        missing = max(missing, needed + spare + others.get(name, 0.0) - rooms[name])
    return missing


def _rooms(snapshot: Snapshot, table: LoadTable, policy: Policy, *, bridged: bool) -> dict[str, float]:
    """The room on each circuit: with nothing capped, or ``bridged`` by what caps and batteries still can."""
    slack: Mapping[str, float] = {}
    natural = natural_watts(snapshot, table, policy)
    if bridged:
        columns = CapColumns(snapshot, table, policy)
        able = columns.reachable & ~columns.yielded & ~columns.flex0 & ~columns.paused
        floors = np.where(able, columns.floor_watts, columns.drawn_watts)
        slack = columns.circuit_watts(np.maximum(0.0, columns.drawn_watts - floors))
    found = {}
    for circuit in snapshot.site.leaves_first():
        name = circuit.name
        watts = expected_circuit_watts(snapshot, name, table) if bridged else natural[name]
        if watts is None:
            known = circuit.parent is not None and not meter_lost(snapshot, name)
            found[name] = float("inf") if known else 0.0
            continue
        if meter_lost(snapshot, name):
            found[name] = 0.0
            continue
        found[name] = target_watts(snapshot, name, policy) - watts
        if bridged:
            batteries = sum(burst_watts(*battery) for battery in batteries_behind(snapshot, name))
            found[name] += _BRIDGE_SHARE * slack[name] + batteries
    return found


def anywhere_watts(snapshot: Snapshot, gpus: int, watts: float) -> dict[str, float]:
    """What each circuit may see of ``watts`` on ``gpus`` GPUs that nobody has placed yet.

    The grid connection sees all of it, a circuit below up to twice its even share, where that counts at all.
    """
    table, free = site_table(snapshot.site), free_gpus(snapshot)
    losses = worst_factor(snapshot.site)
    root = table.names[table.root]
    found = {root: watts * losses}
    there = float(free[table.root])
    if not 0.0 < there < float("inf"):
        return found
    shares = np.minimum(1.0, _UNEVEN * free / there)
    for number in np.flatnonzero((shares >= _LEAST_SHARE) & (free > 0.0)).tolist():
        if number != table.root:
            most = min(1.0, float(free[number]) / max(gpus, 1))
            found[table.names[number]] = watts * losses * min(float(shares[number]), most)
    return found


def booked_watts(one: Standing, table: LoadTable, policy: Policy) -> float:
    """What the tier that a service is to switch to will add until it has been placed; 0.0 once it has."""
    if one.serving.name == one.wanted.name:
        return 0.0
    coming = [backend for backend in one.service.backends if backend.tier == one.wanted.name]
    if any(backend.job_id in table.placed.row for backend in coming):
        return 0.0
    return tier_watts(one.wanted, policy)


def booked_by_circuit(
    snapshot: Snapshot, table: LoadTable, policy: Policy, *, without: str = ""
) -> dict[str, float]:
    """What services that are being switched have booked on each circuit; ``without`` one of them."""
    found: dict[str, float] = {}
    for name, service in snapshot.services.items():
        one = standing(snapshot, service) if name != without else None
        watts = 0.0 if one is None else booked_watts(one, table, policy)
        if one is None or watts <= 0.0:
            continue
        for circuit, booked in anywhere_watts(snapshot, one.wanted.gpu_count, watts).items():
            found[circuit] = found.get(circuit, 0.0) + booked
    return found
