"""All batteries of a site as one, for whoever plans their energy."""

import math
from collections.abc import Mapping

from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.peak_level import Battery
from slurm_power.plan.policy import Policy

# The most that a battery has charged and discharged with so far, watts.
Rated = tuple[float, float]


def joint_battery(snapshot: Snapshot, rated: Mapping[str, Rated], policy: Policy) -> tuple[Battery, float]:
    """What may be commanded now as one battery, and the kWh that are stored in it.

    Counted is what lies between each one's outage reserve and its target charge, health counted in.
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
        charge += charge_watts
        discharge += discharge_watts
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
