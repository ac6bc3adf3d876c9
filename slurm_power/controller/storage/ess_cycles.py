"""Counts what batteries use up of the cycles that their site grants to trading; kept over a restart."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

from slurm_power.config import SiteConfig
from slurm_power.controller.governance.fairness_desk import States
from slurm_power.controller.governance.operators import Note
from slurm_power.model.reading import Quality
from slurm_power.model.site import Ess
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kwh_from_joules
from slurm_power.plan.billing_period import STEP_SECONDS
from slurm_power.plan.cycle_budget import CycleBook, CycleRules, TradeBudget

_KEY = "ess_cycles"
# Between two readings that are further apart nobody knows what the battery did.
_LONGEST_SECONDS = 30.0
_KEEP_SECONDS = 30.0
# Below this share of a full cycle nothing is left that would be worth a setpoint.
_NOTHING_RATIO = 1e-3


class EssCycles:
    """The cycle books of a site's batteries. Those without a budget are not counted."""

    def __init__(self, config: SiteConfig, store: States, *, note: Note) -> None:
        """Go on with what an earlier controller has left in ``store``."""
        self._zone = config.zone
        self._store = store
        self._note = note
        self._discharge_ratio = math.sqrt(config.policy.ess_round_trip_ratio)
        self._rules = {
            name: rules for name, ess in config.site.ess.items() if not (rules := cycle_rules(ess)).is_none
        }
        kept = store.state(_KEY) if self._rules else None
        books = kept if isinstance(kept, Mapping) else {}
        self._books = {name: CycleBook.from_json(books.get(name)) for name in self._rules}
        self._read: dict[str, tuple[float, float]] = {}
        self._kept_at = -math.inf
        self._told: dict[str, str] = {}

    def observe(self, snapshot: Snapshot) -> None:
        """Count what was discharged since the last time; measured watts, whoever asked for them."""
        if not self._rules:
            return
        at = snapshot.at.timestamp()
        today = snapshot.at.astimezone(self._zone).date()
        for name, book in self._books.items():
            reading = snapshot.ess.get(name)
            if reading is None or reading.quality is Quality.INVALID:
                continue
            watts = max(0.0, reading.discharge_watts)
            before_at, before_watts = self._read.get(name, (at, watts))
            seconds = at - before_at
            joules = (before_watts + watts) / 2.0 * seconds if 0.0 < seconds <= _LONGEST_SECONDS else 0.0
            book.used(today, kwh_from_joules(joules) / self._discharge_ratio)
            self._read[name] = at, watts
            self._tell(name, snapshot, today.isoformat())
        if abs(at - self._kept_at) >= _KEEP_SECONDS:
            self._kept_at = at
            self._store.put_state(_KEY, {name: book.to_json() for name, book in self._books.items()})

    def budget(self, snapshot: Snapshot) -> TradeBudget | None:
        """What all batteries together may still use up for trading; None where nothing bounds them."""
        found = None
        for name, ess in snapshot.ess.items():
            if not ess.usable():
                continue
            each = self._ahead(name, snapshot)
            if each is None:
                return None
            found = each if found is None else found.plus(each)
        return found

    def saleable_kwh(self, snapshot: Snapshot) -> dict[str, float]:
        """What each battery with a budget may still sell today, in kWh at its terminals."""
        found = {}
        for name in self._rules:
            budget = self._ahead(name, snapshot)
            if budget is not None:
                found[name] = budget.today_kwh * self._discharge_ratio
        return found

    def _ahead(self, name: str, snapshot: Snapshot) -> TradeBudget | None:
        rules, reading = self._rules.get(name), snapshot.ess.get(name)
        if rules is None or reading is None:
            return None
        local = snapshot.at.astimezone(self._zone)
        return self._books[name].ahead(
            local.date(), rules, reading.energy_rating_kwh, _quarters_to_midnight(local)
        )

    def _tell(self, name: str, snapshot: Snapshot, today: str) -> None:
        """A line in the ledger when a day's share is used up."""
        budget = self._ahead(name, snapshot)
        full_kwh = snapshot.ess[name].energy_rating_kwh
        if budget is None or budget.today_kwh > _NOTHING_RATIO * full_kwh or self._told.get(name) == today:
            return
        self._told[name] = today
        book = self._books[name]
        self._note(
            "controller",
            "cycles used",
            f"ess:{name}",
            f"{book.day_kwh / full_kwh:.2f} full cycles today and {book.year_kwh / full_kwh:.1f} this year:"
            " the budget is used up so far, and energy is not sold before tomorrow",
            details={"day_kwh": book.day_kwh, "year_kwh": book.year_kwh, "full_kwh": full_kwh},
        )


def cycle_rules(ess: Ess) -> CycleRules:
    """What the site grants a battery."""
    return CycleRules(per_day=ess.full_cycles_per_day, per_year=ess.full_cycles_per_year)


def _quarters_to_midnight(local: datetime) -> int:
    """Quarters of an hour that still begin today, the running one counted."""
    midnight = (local + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return max(1, math.ceil((midnight.timestamp() - local.timestamp()) / STEP_SECONDS))
