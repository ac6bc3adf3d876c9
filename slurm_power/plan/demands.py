"""What each circuit draws and is about to draw, and what caps must shed or may give back there.

As columns over the circuits: five hundred of them cost a third of a guard's second one by one.
"""

from collections.abc import Iterable

import numpy as np

from slurm_power.model.reading import EssReading
from slurm_power.model.site import Ess, Site
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.caps import Demand
from slurm_power.plan.ess import burst_watts, sustainable_watts
from slurm_power.plan.event_target import limit_kind, room_watts, standing_watts, target_watts
from slurm_power.plan.job_table import Flags
from slurm_power.plan.loads import LoadTable, behind_discharge_watts, consumer_watts
from slurm_power.plan.memo import LastFew
from slurm_power.plan.policy import Policy
from slurm_power.plan.site_table import Watts, site_table


def meter_lost(snapshot: Snapshot, circuit: str) -> bool:
    """Whether a circuit's own meter says nothing usable, or what stands for it was put together.

    The sum of its children still tells when it is too much; that there is room for more it cannot prove,
    since whatever hangs on the circuit beside them is in nobody's reading.
    """
    reading = snapshot.circuits.get(circuit)
    return reading is not None and (reading.known_watts() is None or reading.estimated)


def batteries_behind(snapshot: Snapshot, circuit: str) -> list[tuple[Ess, EssReading | None]]:
    """The batteries whose power passes through a circuit."""
    return [(snapshot.site.ess[name], snapshot.ess.get(name)) for name in snapshot.site.ess_behind(circuit)]


def expected_circuit_watts(snapshot: Snapshot, circuit: str, table: LoadTable) -> float | None:
    """What a circuit will draw once its starting jobs have come up, at least what it draws now.

    None where nobody knows what it draws. A start that the meter shows already may not have reached the
    nodes' own reports: what is still to come is therefore added to the lower of the last two readings, or it
    would be counted twice.
    """
    watts = float(_expected_watts(snapshot, table)[site_table(snapshot.site).index[circuit]])
    return None if np.isnan(watts) else watts


def circuit_demands(snapshot: Snapshot, table: LoadTable, policy: Policy) -> list[Demand]:
    """What caps must shed on each circuit (> 0), or may give back (< 0), beyond what its batteries carry.

    The leaves come first. What is measured counts against what the batteries can sustain; what is only
    expected, of jobs that are starting, against what they can give at once: caps are quick enough to follow
    when it has come. A circuit of which nobody knows what it draws is full: nothing is given back, and
    nothing more can be asked on a guess.
    """
    site = snapshot.site
    circuits, names = site.leaves_first(), site_table(site).names
    load_watts, expected_watts = _load_watts(snapshot), _expected_watts(snapshot, table)
    ceilings = _ceilings.of(lambda: _ceiling_watts(site), site)
    targets, standing = ceilings * (1.0 - policy.margin_ratio), ceilings.copy()
    asked = _numbers(site, {event.circuit for event in snapshot.events})
    for number in asked:
        targets[number] = target_watts(snapshot, names[number], policy)
        standing[number] = standing_watts(snapshot, names[number])
    sustained, burst = np.zeros((2, len(names)))
    for number in _behind.of(lambda: _numbers(site, _circuits_before_batteries(site)), site):
        batteries = batteries_behind(snapshot, names[number])
        sustained[number] = sum(sustainable_watts(*battery) for battery in batteries)
        burst[number] = sum(burst_watts(*battery) for battery in batteries)
    excess = expected_watts - targets
    room = np.maximum(0.0, -excess - policy.release_margin_ratio * ceilings)
    for number in asked:
        if excess[number] <= 0.0:
            room[number] = room_watts(snapshot, names[number], -float(excess[number]), policy)
    room[_lost(snapshot)] = 0.0
    measured = np.maximum(0.0, load_watts - targets - sustained)
    shed = np.where(excess > 0.0, np.maximum(measured, excess - burst), -room)
    overload = np.fmax(0.0, _lasting_watts(snapshot) - standing)
    known = ~np.isnan(load_watts)
    shed[~known] = overload[~known] = 0.0
    kinds = [circuit.limit_kind for circuit in circuits]
    for number in asked:
        if known[number]:
            kinds[number] = limit_kind(snapshot, circuits[number], float(load_watts[number]))
    return [
        Demand(circuit=name, watts=watts, kind=kind, overload_watts=over)
        for name, watts, kind, over in zip(names, shed.tolist(), kinds, overload.tolist(), strict=True)
    ]


_expected: LastFew[Watts] = LastFew(2, passing=True)
_ceilings: LastFew[Watts] = LastFew(4)
_behind: LastFew[list[int]] = LastFew(4)


def _expected_watts(snapshot: Snapshot, table: LoadTable) -> Watts:
    """By circuit; NaN where nobody knows what it draws."""
    return _expected.of(lambda: _expect(snapshot, table), snapshot, table)


def _expect(snapshot: Snapshot, table: LoadTable) -> Watts:
    site = snapshot.site
    load_watts, before_watts = _load_watts(snapshot), _lasting_watts(snapshot)
    for number in _behind.of(lambda: _numbers(site, _circuits_before_batteries(site)), site):
        before_watts[number] += behind_discharge_watts(snapshot, site_table(site).names[number])
    before_watts = np.fmin(load_watts, before_watts)
    if snapshot.recent_load_watts:
        before_watts[site_table(site).root] = min(snapshot.recent_load_watts[-2:])
    coming_watts = np.fromiter(table.circuit_coming_watts.values(), dtype=float, count=len(load_watts))
    expected: Watts = np.maximum(load_watts, before_watts + coming_watts)
    return expected


def _load_watts(snapshot: Snapshot) -> Watts:
    """What the consumers behind each circuit draw; NaN where nobody knows."""
    known = consumer_watts(snapshot)
    return np.array([known[name] for name in site_table(snapshot.site).names], dtype=float)


def _lasting_watts(snapshot: Snapshot) -> Watts:
    """The lower of the last two readings of each circuit; NaN where nobody knows."""
    return np.array(list(map(snapshot.lasting_watts.get, site_table(snapshot.site).names)), dtype=float)


def _lost(snapshot: Snapshot) -> Flags:
    return np.array([meter_lost(snapshot, name) for name in site_table(snapshot.site).names], dtype=bool)


def _ceiling_watts(site: Site) -> Watts:
    return np.array([circuit.ceiling_watts for circuit in site.leaves_first()])


def _circuits_before_batteries(site: Site) -> set[str]:
    """The circuits through which a battery's power passes."""
    return {circuit for ess in site.ess.values() for circuit in site.path(ess.circuit)}


def _numbers(site: Site, circuits: Iterable[str]) -> list[int]:
    index = site_table(site).index
    return sorted(index[circuit] for circuit in circuits)
