"""The billing period that a moment is in: a calendar month of the site's clock, with its demand charges."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

import numpy as np

from slurm_power.model.billing_rules import BillingRules
from slurm_power.plan.billing import period_terms
from slurm_power.plan.charges import DemandCharge, EarlierPeaks
from slurm_power.plan.local_calendar import LocalCalendar
from slurm_power.plan.peak_level import Values

STEP_SECONDS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BillingPeriod:
    """A month: ``label`` such as 2026-01, Unix seconds, and the charges that cost something in it.

    The charges' steps are quarters of an hour from ``start_seconds`` on.
    """

    label: str
    start_seconds: float
    end_seconds: float
    charges: tuple[DemandCharge, ...]
    rules: BillingRules

    def step(self, at_seconds: float) -> int | None:
        """Number of the quarter that a moment is in; None outside the period."""
        if not self.start_seconds <= at_seconds < self.end_seconds:
            return None
        return int((at_seconds - self.start_seconds) // STEP_SECONDS)

    def counting(self, at_seconds: float) -> tuple[DemandCharge, ...]:
        """The charges that a peak at this moment would raise."""
        step = self.step(at_seconds)
        return () if step is None else tuple(charge for charge in self.charges if charge.steps[step])


def period_label(at_seconds: float, zone: tzinfo) -> str:
    """Name of the period that a moment is in."""
    local = datetime.fromtimestamp(at_seconds, zone)
    return f"{local.year:04}-{local.month:02}"


def billing_period(
    rules: BillingRules, at_seconds: float, zone: tzinfo, earlier_peaks_watts: EarlierPeaks
) -> BillingPeriod:
    """The period that a moment is in."""
    local = datetime.fromtimestamp(at_seconds, zone)
    start = datetime(local.year, local.month, 1, tzinfo=zone).timestamp()
    months = local.year * 12 + local.month
    end = datetime(months // 12, months % 12 + 1, 1, tzinfo=zone).timestamp()
    times = np.arange(start, end, STEP_SECONDS)
    terms = period_terms(
        rules,
        LocalCalendar.from_epoch(times, zone),
        STEP_SECONDS,
        # Only the demand charges are asked for, and a tariff need not say what energy costs.
        np.zeros(len(times)),
        earlier_peaks_watts=earlier_peaks_watts,
    )
    return BillingPeriod(
        label=period_label(at_seconds, zone),
        start_seconds=start,
        end_seconds=end,
        charges=tuple(charge for charge in terms.demand if charge.price_per_kw > 0.0),
        rules=rules,
    )


def counted_watts(
    period: BillingPeriod, watts: Values, end_seconds: float, zone: tzinfo
) -> dict[str, Values]:
    """Past quarters as each charge looks at them, by name: NaN outside its hours.

    ``watts``: one a quarter, the last of which ends at ``end_seconds``; may reach back over earlier periods.
    """
    times: Values = end_seconds - STEP_SECONDS * np.arange(len(watts), 0, -1, dtype=np.float64)
    calendar = LocalCalendar.from_epoch(times, zone)
    windows = {rate.name: rate.windows for rate in period.rules.demand}
    return {
        charge.name: np.where(calendar.within(windows[charge.name]), watts, np.nan)
        for charge in period.charges
    }


def highest(values: Sequence[float] | Values) -> float | None:
    """The highest of the known values, None where none is known."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float(known.max()) if len(known) else None
