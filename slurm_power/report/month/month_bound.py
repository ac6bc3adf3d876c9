"""The bill of a battery that knew the whole month beforehand: what no controller can beat with it."""

import math

from slurm_power.plan.billing import Bill
from slurm_power.plan.charges import Month, demand_charges, import_prices
from slurm_power.plan.lp_ess import PaidPeak, best_course
from slurm_power.plan.peak_level import Battery
from slurm_power.report.month.month import MonthAccount

# A battery that has hardly moved does not show what it can do.
_LEAST_CYCLES = 0.5


def battery_bound(account: MonthAccount) -> Bill | None:
    """The lowest bill of the month without us, but with the batteries (taken as one) and perfect foresight.

    What they can do is what they did: the highest mean power of a step, and what a full charge gave. None
    where they moved too little to tell, without a bill, and where the solver finds none.
    """
    battery = _battery(account)
    basis = account.basis
    if battery is None or basis.rules is None or account.bill_without is None:
        return None
    month = Month.of(basis.calendar, basis.step_seconds, pro_rata=False)
    prices = basis.prices_per_kwh
    if prices is None:
        prices = import_prices(basis.rules, month, account.import_kwh)
    load = account.natural_watts
    half_kwh = 0.5 * battery.energy_kwh
    course = best_course(
        load,
        prices,
        [
            PaidPeak(price_per_kw=charge.price_per_kw, steps=charge.steps, least_watts=charge.floor_watts)
            for charge in demand_charges(basis.rules, month, basis.earlier_peaks_watts)
        ],
        battery,
        stored_kwh=half_kwh,
        step_hours=basis.step_seconds / 3600.0,
        end_stored_kwh=half_kwh,
    )
    return None if course is None else basis.bill(load - course.discharge_watts)


def _battery(account: MonthAccount) -> Battery | None:
    watts = account.columns.discharge_watts
    moved = [one for one in account.batteries.values() if (one.full_cycles or 0.0) >= _LEAST_CYCLES]
    if not moved or len(moved) < len(account.batteries) or not watts.min() < 0.0 < watts.max():
        return None
    charged = sum(one.charged_kwh for one in moved)
    lost = sum(one.lost_kwh or 0.0 for one in moved)
    ratio = math.sqrt(min(1.0, max(0.5, 1.0 - lost / charged)))
    return Battery(
        charge_watts=-float(watts.min()),
        discharge_watts=float(watts.max()),
        # What is stored for each kWh given, times the share of a full charge that was used.
        energy_kwh=sum(
            one.discharged_kwh / ratio / (one.full_cycles or 1.0) * one.used_soc_ratio for one in moved
        ),
        charge_ratio=ratio,
        discharge_ratio=ratio,
    )
