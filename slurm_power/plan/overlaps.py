"""A service between two tiers: what the new one will draw beside the old one, and the room for it.

A new tier starts before the old one ends, so that both draw for a while: that room is booked. To a lighter
tier caps and batteries may bridge the overlap; to a heavier one there is to be room with nothing capped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from slurm_power.model.job import JobState
from slurm_power.model.service import BackendState, Service
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.tier import Family, Tier
from slurm_power.plan.cap_columns import CapColumns
from slurm_power.plan.demands import batteries_behind, expected_circuit_watts, meter_lost
from slurm_power.plan.ess import burst_watts
from slurm_power.plan.event_target import limit_kind, target_watts
from slurm_power.plan.free_gpus import free_gpus
from slurm_power.plan.lasting_needs import natural_watts
from slurm_power.plan.loads import LoadTable, load_table, tier_watts, worst_factor
from slurm_power.plan.memo import LastFew
from slurm_power.plan.policy import Policy
from slurm_power.plan.site_table import site_table

# A gateway says how its service stands every two seconds; what it said half a minute ago says nothing now.
_HEARD_SECONDS = 30.0
# Of what caps could still take within promises, so much counts as a bridge over an overlap.
_BRIDGE_SHARE = 0.5
# Where a job may come to, as the release counts it: twice its even share, on circuits with a tenth of all.
_UNEVEN, _LEAST_SHARE = 2.0, 0.2
_ROUNDING_WATTS = 1e-6


_RUNS = frozenset({JobState.STARTING, JobState.RUNNING, JobState.SUSPENDED})
_running: LastFew[frozenset[str]] = LastFew(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """What the tier that a service is to switch to will add, on so many GPUs."""

    gpu_count: int
    watts: float


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
    return Overlaps(snapshot, policy).missing_watts(service, tier, spare_ratio=spare_ratio)


class Overlaps:
    """The room for overlaps in one snapshot; looked up once, however many services ask."""

    def __init__(self, snapshot: Snapshot, policy: Policy) -> None:
        self._snapshot, self._policy = snapshot, policy
        self._table = load_table(snapshot, policy)

    def missing_watts(self, service: Service, tier: str, *, spare_ratio: float = 0.0) -> float | None:
        """See `overlap_room`."""
        snapshot, policy = self._snapshot, self._policy
        one = standing(snapshot, service)
        new = None if one is None else one.family.tier(tier)
        if one is None or new is None or new.watts is None:
            return None
        # Where its job has been placed, what it is about to draw is expected of it already.
        placed = self._table.placed.row
        coming = any(backend.tier == tier and backend.job_id in placed for backend in service.backends)
        if coming or new.name == one.serving.name:
            return 0.0
        bridged = one.serving.watts is not None and new.watts < one.serving.watts
        rooms = self._bridged if bridged else self._free
        own: dict[str, float] = {}
        if (booked := self._bookings.get(service.name)) is not None:
            own = self._anywhere(booked.gpu_count, booked.watts)
        missing = 0.0
        saves_more = bridged and tier_watts(one.serving, policy) >= 2.0 * tier_watts(new, policy)
        for name, needed in self._anywhere(new.gpu_count, tier_watts(new, policy)).items():
            others = self._booked.get(name, 0.0) - own.get(name, 0.0)
            spare = spare_ratio * snapshot.limit_watts(name)
            room = rooms[name]
            if saves_more and room < 0.0:
                # A limit that is missed in any case is missed by more for a moment, and then by less or not.
                room = max(room, self._below_breaker(name))
            missing = max(missing, needed + spare + others - room)
        # Sums of many numbers: what is missing by rounding alone is there.
        return missing if missing > _ROUNDING_WATTS else 0.0

    @cached_property
    def _bookings(self) -> dict[str, Booking]:
        return bookings(self._snapshot, self._table, self._policy)

    @cached_property
    def _booked(self) -> dict[str, float]:
        return _by_circuit(self._snapshot, self._bookings)

    @cached_property
    def _shares(self) -> dict[str, tuple[float, float]]:
        return likely_shares(self._snapshot)

    def _anywhere(self, gpus: int, watts: float) -> dict[str, float]:
        return anywhere_watts(self._snapshot, self._shares, gpus, watts)

    @cached_property
    def _free(self) -> dict[str, float]:
        return self._rooms(natural_watts(self._snapshot, self._table, self._policy))

    @cached_property
    def _bridged(self) -> dict[str, float]:
        """With what caps and batteries can still carry for a while."""
        snapshot, table = self._snapshot, self._table
        columns = CapColumns(snapshot, table, self._policy)
        able = columns.reachable & ~columns.yielded & ~columns.flex0 & ~columns.paused
        floors = np.where(able, columns.floor_watts, columns.drawn_watts)
        slack = columns.circuit_watts(np.maximum(0.0, columns.drawn_watts - floors))
        now = {name: expected_circuit_watts(snapshot, name, table) for name in snapshot.site.circuits}
        found = self._rooms(now)
        for name in snapshot.site.circuits:
            if not meter_lost(snapshot, name):
                batteries = sum(burst_watts(*battery) for battery in batteries_behind(snapshot, name))
                found[name] += _BRIDGE_SHARE * slack[name] + batteries
        return found

    def _below_breaker(self, name: str) -> float:
        """The room up to what the circuit itself bears, where no more than money is at stake; else none."""
        snapshot, circuit = self._snapshot, self._snapshot.site.circuits[name]
        watts = expected_circuit_watts(snapshot, name, self._table)
        if watts is None or meter_lost(snapshot, name):
            return float("-inf")
        if limit_kind(snapshot, circuit, watts) is not LimitKind.ECONOMIC:
            return float("-inf")
        bears_watts = circuit.rating_watts
        if circuit.limit_kind is LimitKind.SAFETY:
            bears_watts = circuit.ceiling_watts
        return bears_watts * (1.0 - self._policy.margin_ratio) - watts

    def _rooms(self, drawn: Mapping[str, float | None]) -> dict[str, float]:
        """What is free below each target; a circuit that nothing measures bounds nothing below the root."""
        found = {}
        for circuit in self._snapshot.site.leaves_first():
            name = circuit.name
            watts, lost = drawn[name], meter_lost(self._snapshot, name)
            if watts is None:
                found[name] = float("inf") if circuit.parent is not None and not lost else 0.0
            else:
                found[name] = 0.0 if lost else target_watts(self._snapshot, name, self._policy) - watts
        return found


def likely_shares(snapshot: Snapshot) -> dict[str, tuple[float, float]]:
    """By circuit: the share of what nobody has placed yet that it may get, and its free GPUs.

    The grid connection sees all of it, a circuit below up to twice its even share, where that counts at all.
    """
    table, free = site_table(snapshot.site), free_gpus(snapshot)
    found = {table.names[table.root]: (1.0, float("inf"))}
    there = float(free[table.root])
    if not 0.0 < there < float("inf"):
        return found
    shares = np.minimum(1.0, _UNEVEN * free / there)
    for number in np.flatnonzero((shares >= _LEAST_SHARE) & (free > 0.0)).tolist():
        if number != table.root:
            found[table.names[number]] = (float(shares[number]), float(free[number]))
    return found


def anywhere_watts(
    snapshot: Snapshot, shares: Mapping[str, tuple[float, float]], gpus: int, watts: float
) -> dict[str, float]:
    """What each circuit may see of ``watts`` on ``gpus`` GPUs, by `likely_shares`."""
    losses = worst_factor(snapshot.site)
    return {name: watts * losses * min(share, free / max(gpus, 1)) for name, (share, free) in shares.items()}


def booked_watts(one: Standing, table: LoadTable, policy: Policy) -> float:
    """What the tier that a service is to switch to will add until it has been placed; 0.0 once it has."""
    if one.serving.name == one.wanted.name:
        return 0.0
    coming = [backend for backend in one.service.backends if backend.tier == one.wanted.name]
    if any(backend.job_id in table.placed.row for backend in coming):
        return 0.0
    return tier_watts(one.wanted, policy)


def bookings(snapshot: Snapshot, table: LoadTable, policy: Policy) -> dict[str, Booking]:
    """What services that are being switched have booked, by service.

    Only who serves with a job that runs, and each job for one service: what a gateway says takes room from
    everybody, so it has to be of somebody's own.
    """
    found: dict[str, Booking] = {}
    spoken_for: set[str] = set()
    for name, service in sorted(snapshot.services.items()):
        one = standing(snapshot, service)
        watts = 0.0 if one is None else booked_watts(one, table, policy)
        if one is None or watts <= 0.0:
            continue
        behind = _serving_jobs(snapshot, one) - spoken_for
        if behind:
            spoken_for |= behind
            found[name] = Booking(gpu_count=one.wanted.gpu_count, watts=watts)
    return found


def _serving_jobs(snapshot: Snapshot, one: Standing) -> set[str]:
    """The running jobs that serve for a service now."""
    jobs = snapshot.jobs
    there = _running.of(lambda: frozenset(job.job_id for job in jobs if job.state in _RUNS), jobs)
    return {
        backend.job_id
        for backend in one.service.backends
        if backend.tier == one.serving.name and backend.state is not BackendState.STOPPED
    } & there


def booked_by_circuit(snapshot: Snapshot, table: LoadTable, policy: Policy) -> dict[str, float]:
    """What services that are being switched have booked on each circuit."""
    return _by_circuit(snapshot, bookings(snapshot, table, policy))


def _by_circuit(snapshot: Snapshot, booked: Mapping[str, Booking]) -> dict[str, float]:
    found: dict[str, float] = {}
    shares = likely_shares(snapshot) if booked else {}
    for one in booked.values():
        for circuit, watts in anywhere_watts(snapshot, shares, one.gpu_count, one.watts).items():
            found[circuit] = found.get(circuit, 0.0) + watts
    return found
