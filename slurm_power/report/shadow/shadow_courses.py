"""Courses of a circuit: as it was, and as the wishes of each second would have made it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import tzinfo

import numpy as np
from numpy.typing import NDArray

from slurm_power.model.billing_rules import BillingRules
from slurm_power.model.series import Point
from slurm_power.model.units import JOULES_PER_KWH
from slurm_power.plan.billing import monthly_bills
from slurm_power.plan.local_calendar import LocalCalendar

Values = NDArray[np.float64]

_QUARTER_SECONDS = 900


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShadowColumns:
    """One circuit on a grid of ``step_seconds`` from ``start_seconds`` (Unix time), each of shape (n,).

    NaN is unknown; ``withheld_watts`` and ``discharge_watts`` are 0 where nothing was wished for, NaN where
    levers were moved or nobody was there. ``withheld_watts``: caps, pauses and lighter tiers. Held starts are
    not in it: in shadow mode such a job starts all the same, and from then on it is caps that are wished for.
    """

    start_seconds: float
    step_seconds: float
    watts: Values
    limit_watts: Values
    withheld_watts: Values
    discharge_watts: Values

    @property
    def unknown_quarters(self) -> tuple[int, int]:
        """How many quarters of an hour have no step that is judged, and how many there are in all."""
        _, means = quarter_means(
            np.where(self.shadowed, self.watts, np.nan), self.start_seconds, self.step_seconds
        )
        return int(np.count_nonzero(~np.isfinite(means))), len(means)

    @property
    def shadowed(self) -> NDArray[np.bool_]:
        """The steps in which it only watched, and knows what was drawn."""
        return np.isfinite(self.withheld_watts) & np.isfinite(self.watts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A course of the circuit: its highest quarter of an hour, how long and how far above its limit.

    ``bill`` is in the tariff's currency, None without a tariff; ``peak_watts`` None where nothing is known.
    """

    name: str
    peak_watts: float | None
    seconds_above: float
    kwh_above: float
    worst_above_watts: float
    kwh: float
    bill: float | None = None


def grid_means(points: Iterable[Point], start_seconds: float, step_seconds: float, count: int) -> Values:
    """Means of the points in each of ``count`` steps, NaN in a step without one."""
    known = [(point.at_seconds, point.mean) for point in points if point.mean is not None]
    at = np.array([seconds for seconds, _ in known], dtype=np.float64)
    step = ((at - start_seconds) // step_seconds).astype(np.int64)
    watts = np.array([mean for _, mean in known], dtype=np.float64)
    inside = (step >= 0) & (step < count)
    sums = np.bincount(step[inside], weights=watts[inside], minlength=count)
    counts = np.bincount(step[inside], minlength=count)
    means = np.full(count, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def carried_watts(wished_watts: Values, step_seconds: float, usable_kwh: float) -> Values:
    """What one charge of the batteries can give of a wished discharge, shape (n,); charging puts it back.

    ``usable_kwh`` is what is in them above their reserve at the start, and the most they take back again.
    """
    left = full = usable_kwh * JOULES_PER_KWH
    carried = np.zeros_like(wished_watts)
    for index, watts in enumerate(np.nan_to_num(wished_watts)):
        joules = min(max(watts * step_seconds, left - full), left)
        left -= joules
        carried[index] = joules / step_seconds
    return carried


def cases(columns: ShadowColumns, usable_kwh: float, bill: "Billing | None" = None) -> tuple[Case, ...]:
    """The circuit as it was, and as it would have been by three ways of counting.

    Steps that were not only watched are left out of all of them, so that they can be compared.
    """
    known = columns.shadowed
    withheld = np.nan_to_num(columns.withheld_watts)
    capped = columns.watts - withheld
    wished = np.where(known, np.nan_to_num(columns.discharge_watts), 0.0)
    courses = {"as it was": columns.watts, "with caps": capped}
    if np.any(wished != 0.0):
        courses["with caps and one charge"] = capped - carried_watts(wished, columns.step_seconds, usable_kwh)
        courses["with caps and a battery never empty"] = capped - wished
    return tuple(
        _case(name, columns, np.where(known, watts, np.nan), bill) for name, watts in courses.items()
    )


def _case(name: str, columns: ShadowColumns, watts: Values, bill: "Billing | None") -> Case:
    above = np.nan_to_num(np.maximum(watts - columns.limit_watts, 0.0))
    quarters = quarter_means(watts, columns.start_seconds, columns.step_seconds)
    step = columns.step_seconds
    return Case(
        name=name,
        peak_watts=float(np.nanmax(quarters[1])) if np.isfinite(quarters[1]).any() else None,
        seconds_above=float(np.count_nonzero(above > 0.0) * step),
        kwh_above=float(above.sum() * step / JOULES_PER_KWH),
        worst_above_watts=float(above.max(initial=0.0)),
        kwh=float(np.nansum(watts) * step / JOULES_PER_KWH),
        bill=None if bill is None else bill.total(*quarters),
    )


def quarter_means(watts: Values, start_seconds: float, step_seconds: float) -> tuple[Values, Values]:
    """Means of the quarters of an hour: (starts in Unix time, watts), NaN where nothing is known."""
    if not len(watts):
        return np.zeros(0), np.zeros(0)
    at = start_seconds + step_seconds * np.arange(len(watts))
    quarter = np.floor(at / _QUARTER_SECONDS).astype(np.int64)
    first = quarter[0]
    count = int(quarter[-1] - first) + 1
    known = np.isfinite(watts)
    sums = np.bincount(quarter[known] - first, weights=watts[known], minlength=count)
    counts = np.bincount(quarter[known] - first, minlength=count)
    means = np.divide(sums, counts, out=np.full(count, np.nan), where=counts > 0)
    return (first + np.arange(count)) * float(_QUARTER_SECONDS), means


@dataclass(frozen=True, slots=True, kw_only=True)
class Billing:
    """A tariff, and the clock that it is read by."""

    rules: BillingRules
    zone: tzinfo

    def total(self, starts: Values, watts: Values) -> float | None:
        """The bill of the quarters of an hour that are known, months in part pro rata; NaN is unknown.

        An unknown quarter is in no part of it: not as energy, not in a mean of demand, not in the share of
        the month that fixed charges are for. None where none is known, or no energy price.
        """
        known = np.isfinite(watts)
        if not known.any():
            return None
        try:
            bills = monthly_bills(
                self.rules,
                LocalCalendar.from_epoch(starts[known], self.zone),
                watts[known],
                float(_QUARTER_SECONDS),
                pro_rata=True,
            )
        except ValueError:
            return None
        return sum(each.total for each in bills.values())
