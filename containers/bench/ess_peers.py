"""What a battery's dispatch is held against: the plain ratchet, a naive control, and a perfect forecast."""

import numpy as np

from slurm_power.plan.load_paths import FORECAST, LoadPaths
from slurm_power.plan.lp_ess import PaidPeak, best_course
from slurm_power.plan.peak_level import Battery, Values, least_level
from slurm_power.simulate.ess import Load, Tariffed

# What the naive control believes that a kilowatt of the month's peak and a kilowatt-hour cost.
DEMAND_PRICE_PER_KW, ENERGY_PRICE_PER_KWH = 15.0, 0.10


class PerfectPaths(LoadPaths):
    """The true next day as the only path."""

    def __init__(self, battery: Battery, step_seconds: float, watts: Values) -> None:
        """``watts``: the whole load on the planning grid."""
        super().__init__(battery, step_seconds)
        self._truth, self._count = watts, 0

    @property
    def days(self) -> float:
        """How much has come."""
        return self._count / self._day_steps

    @property
    def source(self) -> str:
        """Who has known."""
        return FORECAST

    def extend(self, watts: float) -> None:
        """Count the step."""
        del watts
        self._count += 1

    def paths(self, now_watts: float | None = None) -> Values | None:
        """Shape (steps, 1); shorter at the end of the load."""
        del now_watts
        return self._truth[self._count - 1 : self._count - 1 + self.horizon_steps, None].copy()

    def expected(self, now_watts: float | None = None) -> Values | None:
        """The truth; shape (steps,)."""
        found = self.paths(now_watts)
        return None if found is None else found[:, 0]


def plain_ratchet(load: Load, battery: Battery, tariffed: Tariffed, start_kwh: float) -> Values:
    """The import in watts under a level that starts at the lower of two optima and rises when it must.

    The optima are those of the last 28 and 7 days. Recharging stays below the level and below the highest
    load of the month and the last day. Shape (n,).
    """
    hours, watts = load.step_hours, load.watts
    day, half = round(24 / hours), 0.5 * battery.energy_kwh
    imported, stored = watts.copy(), start_kwh
    for _, steps in tariffed.months:
        spans = [watts[max(0, steps.start - days * day) : steps.start] for days in (28, 7)]
        level = min(
            least_level(span, battery, stored_kwh=half, end_stored_kwh=half, step_hours=hours)
            for span in spans
        )
        highest = 0.0
        for step in range(steps.start, steps.stop):
            now = float(watts[step])
            highest = max(highest, now)
            if now > level:
                power = min(now - level, battery.discharge_bound_watts(stored, hours))
            else:
                natural = max(highest, float(watts[max(0, step - day) : step + 1].max()))
                room = max(0.0, min(level, natural) - now)
                power = -min(room, battery.charge_bound_watts(stored, hours))
            stored = battery.after(stored, power, hours)
            imported[step] = now - power
            level = max(level, float(imported[step]))
    return imported


def naive_control(load: Load, battery: Battery, tariffed: Tariffed, start_kwh: float) -> Values:
    """The import in watts of an hourly plan for the next day, which is taken to be as the last; shape (n,).

    The load now is known, the month's peak so far is paid, and what is left after a day has a value.
    """
    hours, watts = load.step_hours, load.watts
    day, hour = round(24 / hours), round(1 / hours)
    imported, stored = watts.copy(), start_kwh
    plan, planned_at = np.zeros(0), 0
    for _, steps in tariffed.months:
        peak = 0.0
        for step in range(steps.start, steps.stop):
            if step < day:
                peak = max(peak, float(watts[step]))
                continue
            if not len(plan) or step - planned_at >= hour:
                ahead = watts[step - day : step].copy()
                ahead[0] = watts[step]
                course = best_course(
                    ahead,
                    np.full(day, ENERGY_PRICE_PER_KWH),
                    [
                        PaidPeak(
                            price_per_kw=DEMAND_PRICE_PER_KW, steps=np.ones(day, dtype=bool), least_watts=peak
                        )
                    ],
                    battery,
                    stored_kwh=stored,
                    step_hours=hours,
                    end_value_per_kwh=ENERGY_PRICE_PER_KWH * battery.discharge_ratio,
                )
                plan, planned_at = np.zeros(day) if course is None else course.discharge_watts, step
            wanted = float(plan[step - planned_at])
            power = (
                min(wanted, battery.discharge_bound_watts(stored, hours))
                if wanted > 0.0
                else -min(-wanted, battery.charge_bound_watts(stored, hours))
            )
            stored = battery.after(stored, power, hours)
            imported[step] = float(watts[step]) - power
            peak = max(peak, float(imported[step]))
    return imported
