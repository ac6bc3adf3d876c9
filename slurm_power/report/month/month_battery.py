"""What a battery did in a span of time: what went through it, what was lost, how far that wore it."""

from dataclasses import dataclass

import numpy as np

from slurm_power.model.units import JOULES_PER_KWH
from slurm_power.report.month.month_columns import Battery


@dataclass(frozen=True, slots=True, kw_only=True)
class BatteryAccount:
    """Energy at the terminals in kWh, health at the end (None where it was not recorded).

    ``full_cycles`` is the sum of all falls of the state of charge, in parts of the full charge; None where
    it is not known; ``used_soc_ratio`` is from its lowest to its highest. ``lost_kwh`` is what went in, less
    what came out, less what is stored more than at the begin; None where how much a full charge holds cannot
    be told from the month.
    """

    discharged_kwh: float
    charged_kwh: float
    full_cycles: float | None
    lost_kwh: float | None
    soh_ratio: float | None
    used_soc_ratio: float
    coverage_ratio: float


def battery_account(battery: Battery, step_seconds: float) -> BatteryAccount:
    """Add a battery's steps up; unknown ones count as rest."""
    watts = battery.discharge_watts
    known = ~np.isnan(watts)
    kwh = np.where(known, watts, 0.0) * step_seconds / JOULES_PER_KWH
    discharged, charged = float(kwh[kwh > 0.0].sum()), float(-kwh[kwh < 0.0].sum())
    soc = battery.soc_ratio[~np.isnan(battery.soc_ratio)]
    steps = np.diff(soc)
    falls, rises = float(-steps[steps < 0.0].sum()), float(steps[steps > 0.0].sum())
    lost = None
    if falls > 0.0 and rises > 0.0:
        # What leaves the store is more than what comes out, what enters it less than what goes in: the true
        # content lies between the two, and their middle errs by half the losses of what is stored more.
        full_kwh = (discharged / falls + charged / rises) / 2.0
        lost = charged - discharged - full_kwh * float(soc[-1] - soc[0])
    health = battery.soh_ratio[~np.isnan(battery.soh_ratio)]
    return BatteryAccount(
        discharged_kwh=discharged,
        charged_kwh=charged,
        full_cycles=falls if len(soc) > 1 else None,
        lost_kwh=lost,
        soh_ratio=float(health[-1]) if len(health) else None,
        used_soc_ratio=float(np.ptp(soc)) if len(soc) else 0.0,
        coverage_ratio=float(known.mean()) if len(known) else 0.0,
    )
