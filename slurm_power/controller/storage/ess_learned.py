"""What the battery's desk learns from and asks, all of it in a worker thread: history, tariff, solver."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slurm_power.config import SiteConfig
from slurm_power.model.billing_rules import BillingRules
from slurm_power.model.series import Resolution
from slurm_power.plan.billing_period import (
    STEP_SECONDS,
    BillingPeriod,
    billing_period,
    counted_watts,
    highest,
)
from slurm_power.plan.cycle_budget import TradeBudget
from slurm_power.plan.load_paths import LoadPaths
from slurm_power.plan.peak_level import Battery, Values
from slurm_power.signals.billing_file import read_billing_rules
from slurm_power.store.places import open_series_reader

if TYPE_CHECKING:
    from slurm_power.plan.ess_ahead import Ahead

# What the paths look at: similar moments of a hundred days.
_REPLAYED_DAYS = 100
# The level starts from the weeks of so many days.
_PAST_DAYS = 28.0
_LEAST_COVERAGE = 0.5
_STEP_HOURS = STEP_SECONDS / 3600.0

# Quarters of a stored series in [since, until), NaN where nothing is known: (name, since, until).
ReadQuarters = Callable[[str, float, float], Values]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moment:
    """What the cycle gives the thread. ``fresh_watts``: loads of the quarters since the last time.

    ``end_seconds`` is when the last of them ended; ``prices`` says what energy costs from then on.
    ``running_watts``: the mean load of the quarter that is not over, None where too little of it has come.
    ``bridge_kwh`` is kept for limits, ``budget`` is what trading may use up.
    """

    at_seconds: float
    end_seconds: float
    fresh_watts: tuple[float, ...]
    battery: Battery
    stored_kwh: float
    levels_watts: Mapping[str, float]
    earlier_watts: Mapping[str, list[float]]
    natural_most_watts: float
    prices: Callable[[], Values]
    running_watts: float | None = None
    bridge_kwh: float = 0.0
    budget: TradeBudget | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PastOfPeriod:
    """What is known of a period that has just begun, or that a new controller finds itself in.

    By the name of the charge: where its level starts (None: too little is known), and the highest quarter
    that was imported in the period so far (None: none is known).
    """

    start_watts: Mapping[str, float | None]
    imported_watts: Mapping[str, float | None]
    natural_most_watts: float | None
    days: float


@dataclass(slots=True)
class EssLearned:
    """The load of the grid connection as learned so far. Only ever used by one thread at a time."""

    config: SiteConfig
    read_quarters: ReadQuarters
    loads: LoadPaths | None = None
    is_stopped: bool = False

    @property
    def days(self) -> float:
        """How much of the load is known."""
        return 0.0 if self.loads is None else self.loads.days

    def period(self, moment: Moment) -> BillingPeriod:
        """The period of the moment by the tariff's file as it is now; raises SupplyFileError, ValueError."""
        file = self.config.supply.tariff_file
        rules = BillingRules(name="energy prices") if file is None else read_billing_rules(file)
        return billing_period(rules, moment.at_seconds, self.config.zone, moment.earlier_watts)

    def trades(self, moment: Moment) -> bool:
        """Whether prices alone are a reason to move the batteries, or were one before."""
        from slurm_power.plan.ess_trade import pays  # noqa: PLC0415  # pulls in a solver

        return self.loads is not None or pays(moment.prices(), moment.battery)

    def learn(self, moment: Moment) -> None:
        """Take the quarters since the last time, at first what was stored before.

        Raises StoreError, and InterruptedError when it is stopped meanwhile.
        """
        if self.loads is None:
            loads = LoadPaths(moment.battery, STEP_SECONDS)
            until = moment.end_seconds - STEP_SECONDS * len(moment.fresh_watts)
            for watts in self._stored("load_watts", until - _REPLAYED_DAYS * 86_400.0, until).tolist():
                if self.is_stopped:
                    raise InterruptedError("stopped")
                loads.extend(watts)
            self.loads = loads
        for watts in moment.fresh_watts:
            self.loads.extend(watts)

    def past(self, moment: Moment, period: BillingPeriod) -> PastOfPeriod:
        """Where the levels of a period start; raises StoreError."""
        from slurm_power.plan.ess_ahead import start_levels  # noqa: PLC0415  # pulls in a solver

        before_steps = max(0, round((moment.end_seconds - period.start_seconds) / STEP_SECONDS))
        recent = np.empty(0)
        if self.loads is not None and self.loads.days:
            recent = self.loads.recent(_PAST_DAYS + before_steps * _STEP_HOURS / 24.0)
        before = recent[: max(0, len(recent) - before_steps)]
        starts = start_levels(
            period.charges,
            counted_watts(period, before, min(moment.end_seconds, period.start_seconds), self.config.zone),
            moment.battery,
            step_hours=_STEP_HOURS,
        )
        imported = self._stored("watts", period.start_seconds, moment.end_seconds)
        seen = counted_watts(period, imported, moment.end_seconds, self.config.zone)
        day = recent[-max(round(86_400.0 / STEP_SECONDS), before_steps) :]
        return PastOfPeriod(
            start_watts=starts,
            imported_watts={name: highest(watts) for name, watts in seen.items()},
            natural_most_watts=highest(day),
            days=self.days,
        )

    def ahead(self, moment: Moment, period: BillingPeriod) -> "Ahead | None":
        """What to keep, to trade and to raise in the quarter that begins; None outside the period."""
        from slurm_power.plan.ess_ahead import look_ahead  # noqa: PLC0415  # pulls in a solver

        step = period.step(moment.end_seconds)
        if step is None or self.loads is None or not self.loads.days:
            return None
        return look_ahead(
            self.loads,
            moment.battery,
            period.charges,
            moment.levels_watts,
            step=step,
            step_hours=_STEP_HOURS,
            load_watts=float(self.loads.recent(_STEP_HOURS / 24.0)[-1])
            if moment.running_watts is None
            else moment.running_watts,
            natural_most_watts=moment.natural_most_watts,
            stored_kwh=moment.stored_kwh,
            prices_per_kwh=moment.prices(),
            least_reserve_kwh=moment.bridge_kwh,
            budget=moment.budget,
        )

    def _stored(self, column: str, since: float, until: float) -> Values:
        return self.read_quarters(f"circuit.{self.config.site.root.name}.{column}", since, until)


def quarters_of(state_directory: Path) -> ReadQuarters:
    """Quarters of the series in a state directory; nothing known before the first that is known."""

    def read(name: str, since: float, until: float) -> Values:
        first, count = int(np.ceil(since / STEP_SECONDS)), int(np.floor(until / STEP_SECONDS))
        values = np.full(max(0, count - first), np.nan)
        reader = open_series_reader(state_directory)
        try:
            points = reader.read([name], _moment(since), _moment(until), Resolution.QUARTER_HOUR)
        finally:
            reader.close()
        for point in points.get(name, ()):
            at = int(point.at_seconds // STEP_SECONDS) - first
            if 0 <= at < len(values) and point.mean is not None and point.coverage_ratio >= _LEAST_COVERAGE:
                values[at] = point.mean
        known = np.flatnonzero(~np.isnan(values))
        return values[known[0] :] if len(known) else values[:0]

    return read


def nothing_stored(_name: str, _since: float, _until: float) -> Values:
    """Where series are kept elsewhere: everything is learned anew."""
    return np.empty(0)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
