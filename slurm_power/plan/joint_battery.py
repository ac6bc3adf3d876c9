"""All batteries of a site as one, for whoever plans their energy."""

import math
from collections.abc import Mapping

from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kwh_from_joules
from slurm_power.plan.ess_limits import Direction, heat_ratio
from slurm_power.plan.peak_level import Battery
from slurm_power.plan.policy import Policy

# The most that a battery has charged and discharged with so far, watts.
Rated = tuple[float, float]


def joint_battery(snapshot: Snapshot, rated: Mapping[str, Rated], policy: Policy) -> tuple[Battery, float]:
    """What may be commanded now as one battery, and the kWh that are stored in it.

    Counted is what lies between each one's outage reserve and its target charge, health counted in, and the
    power that its temperature leaves.
    """
    ratio = math.sqrt(policy.ess_round_trip_ratio)
    charge = discharge = energy = stored = 0.0
    for name, (charge_watts, discharge_watts) in rated.items():
        reading = snapshot.ess.get(name)
        if reading is None or not reading.usable():
            continue
        ess = snapshot.site.ess[name]
        whole_kwh = reading.energy_rating_kwh * reading.soh_ratio
        span_ratio = max(0.0, ess.target_soc_ratio - ess.reserve_soc_ratio)
        charge += charge_watts * heat_ratio(ess, reading, Direction.CHARGE)
        discharge += discharge_watts * heat_ratio(ess, reading, Direction.DISCHARGE)
        energy += span_ratio * whole_kwh
        stored += min(span_ratio, max(0.0, reading.soc_ratio - ess.reserve_soc_ratio)) * whole_kwh
    battery = Battery(
        charge_watts=charge,
        discharge_watts=discharge,
        energy_kwh=energy,
        charge_ratio=ratio,
        discharge_ratio=ratio,
        wear_per_kwh=policy.ess_wear_per_kwh,
    )
    return battery, stored


def bridge_kwh(snapshot: Snapshot, rated: Mapping[str, Rated], battery: Battery) -> float:
    """What all batteries need to bridge an excess over a limit until job levers have taken over, as stored.

    At most half of what they hold, so that a small battery still trades.
    """
    joules = sum(
        rated[name][1] * snapshot.site.ess[name].bridge_seconds
        for name in rated
        if (reading := snapshot.ess.get(name)) is not None and reading.usable()
    )
    return min(kwh_from_joules(joules) / battery.discharge_ratio, 0.5 * battery.energy_kwh)
