"""Says how batteries are used for money: the level of a month's peak, trading, and what limits them.

The cycle only does arithmetic: it measures, and raises a level that could not be held. Everything else, from
the tariff's file to the solver, is asked once a quarter of an hour in a thread that holds up nobody. While
that fails, or too little is known, the level follows what is drawn: the plain ratchet.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from slurm_power.config import SiteConfig
from slurm_power.controller.governance.fairness_desk import States
from slurm_power.controller.governance.operators import Note
from slurm_power.controller.planning.planning import SupplyPrices
from slurm_power.controller.sensing.load_feed import StepMeans, circuit_loads
from slurm_power.controller.storage.ess_book import LevelBook, earlier_peaks, unknown_charges
from slurm_power.controller.storage.ess_cycles import EssCycles
from slurm_power.controller.storage.ess_learned import (
    EssLearned,
    Moment,
    PastOfPeriod,
    ReadQuarters,
    nothing_stored,
    quarters_of,
)
from slurm_power.controller.storage.ess_limits import EssLimits
from slurm_power.controller.storage.ess_prices import EssPrices
from slurm_power.model.outlook import EssOutlook
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.billing_period import STEP_SECONDS, BillingPeriod, period_label
from slurm_power.plan.joint_battery import Rated, bridge_kwh, joint_battery
from slurm_power.plan.load_paths import LEAST_DAYS
from slurm_power.plan.loads import circuit_watts, job_loads
from slurm_power.plan.policy import Policy

if TYPE_CHECKING:
    from slurm_power.plan.ess_ahead import Ahead

SUBJECT = "battery level"
_KEY = "ess_level"
# The cycle renews what it says each second; without a cycle it soon counts no more.
_VALID_SECONDS = 60.0
# What the thread said holds for the quarter it was asked for, and one more.
_AHEAD_SECONDS = 2.0 * STEP_SECONDS + 60.0
_DAY_STEPS = round(86_400.0 / STEP_SECONDS)
_MOST_MISSED = 7 * _DAY_STEPS
# A load above the level is looked at again within its quarter, but not oftener, and not a few seconds of it.
_LOOK_SECONDS = 300.0
# A demand interval of which this share was not seen raises no level.
_MOST_UNSEEN = 0.1
# Rises below this share of a level are not worth a line in the ledger.
_TOLD_RATIO = 0.01
_BILLED = "billed in this month already, as site.toml says"
_LOAD, _IMPORT = "load", "import"


class EssDesk:
    """The level by billing period. ``fault`` is told when it only follows, and with "" when all is well.

    Without a demand charge there is no level, and an outlook only while prices are a reason to trade.
    """

    def __init__(
        self,
        config: SiteConfig,
        store: States,
        *,
        supply: SupplyPrices,
        note: Note,
        fault: Callable[[str, str], None],
        read_quarters: ReadQuarters | None = None,
    ) -> None:
        """Go on with what an earlier controller has left in ``store``."""
        self._config = config
        self._root = config.site.root.name
        self._store = store
        self._prices = EssPrices(config, supply)
        self._limits = EssLimits(note=note)
        self._cycles = EssCycles(config, store, note=note)
        self._note = note
        self._fault = fault
        if read_quarters is None:
            here = config.store.series_url is None
            read_quarters = quarters_of(config.controller.state_directory) if here else nothing_stored
        self._learned = EssLearned(config, read_quarters)
        self._book = LevelBook.from_json(store.state(_KEY))
        self._told_watts = dict(self._book.levels_watts)
        self._is_old_book = bool(self._book.levels_watts)
        self._loads = StepMeans(STEP_SECONDS)
        self._imports = StepMeans(STEP_SECONDS)
        self._first_seconds = math.inf
        self._end_seconds = -math.inf
        self._fresh: list[float] = []
        self._day: list[float] = []
        self._rated: dict[str, Rated] = {}
        self._due = True
        self._period: BillingPeriod | None = None
        self._started = ""
        self._unbooked: list[tuple[float, float]] = []
        self._ahead: Ahead | None = None
        self._ahead_at = -math.inf
        self._thought_at = -math.inf
        self._problem = ""
        self._at_work: asyncio.Task[None] | None = None
        self.outlook: EssOutlook | None = None

    def use_policy(self, policy: Policy) -> None:
        """Go by another policy from now on."""
        self._config = replace(self._config, policy=policy)

    # --- from the cycle ---------------------------------------------------------------------------------

    def onto(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with the outlook, and with what the batteries may do by their own limits."""
        limited = self._limits.onto(snapshot)
        return limited if self.outlook is None else replace(limited, outlook=self.outlook)

    def observe(self, snapshot: Snapshot) -> None:
        """Take one cycle's view of the site; begin to think when a quarter of an hour is over."""
        self._cycles.observe(snapshot)
        if not self._config.site.ess or not self._prices.has_source:
            return
        at = snapshot.at.timestamp()
        self._first_seconds = min(self._first_seconds, at)
        self._rate(snapshot)
        self._due = self._measure(snapshot, at) or self._due
        self._turn_period(at)
        self._due = self._due or self._is_above(at)
        if self._due and self._at_work is None and self._rated:
            self._due = False
            self._think(snapshot, at)
        self.outlook = self._outlook(snapshot, at)

    async def stop(self) -> None:
        """Have the thread at work end soon, and wait for it."""
        self._learned.is_stopped = True
        if self._at_work is not None:
            await self._at_work

    def _rate(self, snapshot: Snapshot) -> None:
        """Keep the most that each battery can do: a full one says that it cannot charge now."""
        for name, reading in snapshot.ess.items():
            if reading.usable():
                charge_watts, discharge_watts = self._rated.get(name, (0.0, 0.0))
                self._rated[name] = (
                    max(charge_watts, reading.max_charge_watts),
                    max(discharge_watts, reading.max_discharge_watts),
                )

    def _measure(self, snapshot: Snapshot, at: float) -> bool:
        """Add to the running means; whether a quarter of an hour is over."""
        interval = 900.0 if self._period is None else self._period.rules.demand_interval_seconds
        if interval != self._imports.step_seconds:
            self._imports, self._first_seconds = StepMeans(interval), at
        paid = self._imports.add(at, {_IMPORT: circuit_watts(snapshot, self._root)})
        if paid is not None and (imported := paid[1][_IMPORT]) is not None:
            start = paid[0] - interval
            if self._first_seconds <= start + _MOST_UNSEEN * interval:
                self._imported(start, imported)
        load = circuit_loads(snapshot, job_loads(snapshot, self._config.policy))[self._root]
        quarter = self._loads.add(at, {_LOAD: load})
        if quarter is None:
            return False
        self._quarter(quarter[0], quarter[1][_LOAD])
        return True

    def _is_above(self, at: float) -> bool:
        """Whether this quarter runs above the level, and that was not looked at lately."""
        level = None if self.outlook is None else self.outlook.level_watts
        running = self._loads.running(_LOAD, at, _LOOK_SECONDS)
        if level is None or running is None or running - level <= _TOLD_RATIO * level:
            return False
        return at - self._thought_at >= _LOOK_SECONDS

    def _quarter(self, end_seconds: float, load_watts: float | None) -> None:
        missed = 0
        if self._end_seconds != -math.inf:
            missed = round((end_seconds - self._end_seconds) / STEP_SECONDS) - 1
        if missed < 0:
            # The clock was set back: that quarter is known already.
            return
        gap = [math.nan] * min(missed, _MOST_MISSED)
        fresh = [*self._fresh, *gap, math.nan if load_watts is None else load_watts]
        self._fresh = fresh[-_MOST_MISSED:]
        self._end_seconds = end_seconds
        if load_watts is not None:
            self._day = [*self._day, load_watts][-_DAY_STEPS:]
            if period_label(end_seconds - STEP_SECONDS, self._config.zone) == self._book.period:
                self._book.drew(load_watts)

    def _turn_period(self, at: float) -> None:
        label = period_label(at, self._config.zone)
        if label == self._book.period:
            return
        if self._book.period > label:
            # The clock was set back over the end of a month; what is paid for is not forgotten for that.
            return
        self._book.begin(label)
        self._told_watts, self._unbooked = {}, []
        self._period, self._started, self._ahead = None, "", None
        self._is_old_book = False
        self._keep()

    def _imported(self, start_seconds: float, watts: float) -> None:
        """A demand interval is over: what was drawn from the grid is paid for."""
        if period_label(start_seconds, self._config.zone) != self._book.period:
            return
        if self._period is None:
            self._unbooked = [*self._unbooked, (start_seconds, watts)][-_MOST_MISSED:]
            return
        for charge in self._period.counting(start_seconds):
            peaks = self._book.peaks_watts
            peaks[charge.name] = max(peaks.get(charge.name, 0.0), watts)
            if charge.name in self._book.levels_watts or self._started or self._problem:
                self._raise(charge.name, watts, "what the battery could not hold was drawn, and is paid for")
        self._keep()

    def _raise(self, name: str, watts: float, reason: str) -> None:
        if not self._book.raised(name, watts, reason):
            return
        told = self._told_watts.get(name)
        if told is not None and watts - told <= _TOLD_RATIO * told:
            return
        self._told_watts[name] = watts
        kind = "level" if told is None else "level raised"
        where = (
            kilowatts_text(watts) if told is None else f"{kilowatts_text(told)} to {kilowatts_text(watts)}"
        )
        self._note(
            "controller",
            kind,
            f"circuit:{self._root}",
            f"{self._book.period}, {name}: {where}; {reason}",
            details={"charge": name, "period": self._book.period, "level_watts": watts, "before_watts": told},
        )

    def _keep(self) -> None:
        self._store.put_state(_KEY, self._book.to_json())

    # --- beside the cycle -------------------------------------------------------------------------------

    def _think(self, snapshot: Snapshot, at: float) -> None:
        self._thought_at = at
        if self._end_seconds == -math.inf:
            self._end_seconds = math.floor(at / STEP_SECONDS) * STEP_SECONDS
        fresh, self._fresh = tuple(self._fresh), []
        battery, stored_kwh = joint_battery(snapshot, self._rated, self._config.policy)
        moment = Moment(
            at_seconds=at,
            end_seconds=self._end_seconds,
            fresh_watts=fresh,
            battery=battery,
            stored_kwh=stored_kwh,
            levels_watts=dict(self._book.levels_watts),
            earlier_watts=earlier_peaks(
                self._book, self._config.supply.billed_peaks_kw, period_label(at, self._config.zone)
            ),
            natural_most_watts=self._natural_watts(),
            prices=lambda: self._prices.ahead(snapshot, at),
            running_watts=self._loads.running(_LOAD, at, _LOOK_SECONDS),
            bridge_kwh=bridge_kwh(snapshot, self._rated, battery),
            budget=self._cycles.budget(snapshot),
        )
        self._at_work = asyncio.create_task(self._work(moment))

    async def _work(self, moment: Moment) -> None:
        said, has_learned = "", False
        try:
            period = await asyncio.to_thread(self._learned.period, moment)
            self._begin(period)
            is_used = bool(period.charges) or await asyncio.to_thread(self._learned.trades, moment)
            if is_used:
                await asyncio.to_thread(self._learned.learn, moment)
                has_learned = True
                if self._started != period.label and not moment.battery.is_none:
                    past = await asyncio.to_thread(self._learned.past, moment, period)
                    self._start(period, past)
                    moment = replace(
                        moment,
                        levels_watts=dict(self._book.levels_watts),
                        natural_most_watts=self._natural_watts(),
                    )
                ahead = await asyncio.to_thread(self._learned.ahead, moment, period)
                self._hear(period, ahead, moment)
            said = unknown_charges(self._config.supply.billed_peaks_kw, period)
        except Exception as error:  # noqa: BLE001  # whatever it is, it costs advice, never the cycle
            said = f"{type(error).__name__}: {error}; meanwhile the level only follows what is drawn"
            if not has_learned:
                self._fresh = [*moment.fresh_watts, *self._fresh][-_MOST_MISSED:]
        finally:
            self._at_work = None
        if said != self._problem and not self._learned.is_stopped:
            self._problem = said
            self._fault(SUBJECT, said)

    def _begin(self, period: BillingPeriod) -> None:
        """Take what the tariff says now; another month may have begun meanwhile."""
        if period.label != self._book.period:
            return
        self._period = period
        names = {charge.name for charge in period.charges}
        for name in self._book.levels_watts.keys() - names:
            del self._book.levels_watts[name]
        waiting, self._unbooked = self._unbooked, []
        for start_seconds, watts in waiting:
            self._imported(start_seconds, watts)

    def _start(self, period: BillingPeriod, past: PastOfPeriod) -> None:
        if period.label != self._book.period:
            return
        self._started = period.label
        if past.natural_most_watts is not None:
            self._book.drew(past.natural_most_watts)
        for charge in period.charges:
            name = charge.name
            billed = 1000.0 * self._config.supply.billed_peaks_kw.get(name, {}).get(period.label, 0.0)
            if billed > self._book.levels_watts.get(name, 0.0) and self._is_old_book:
                self._raise(name, billed, _BILLED)
            if self._is_old_book and name in self._book.levels_watts:
                continue
            start = past.start_watts.get(name)
            measured = past.imported_watts.get(name), self._book.peaks_watts.get(name)
            known = [watts for watts in (*measured, billed) if watts]
            if known:
                self._book.peaks_watts[name] = max(known)
            if start is not None and start >= max(known, default=0.0):
                self._raise(
                    name, start, f"what the battery could have held in the weeks before{_short(past)}"
                )
            elif known:
                why = _BILLED if max(known) == billed else "the highest quarter of an hour so far"
                self._raise(name, max(known), f"{why}{_short(past)}")
        self._keep()

    def _hear(self, period: BillingPeriod, ahead: "Ahead | None", moment: Moment) -> None:
        if ahead is None or period.label != self._book.period:
            return
        self._ahead, self._ahead_at = ahead, moment.end_seconds
        for name, watts in ahead.levels_watts.items():
            self._raise(
                name,
                watts,
                "after moments like this one the battery would have run empty at the level before"
                f" (by {ahead.source})",
            )
        if ahead.levels_watts:
            self._keep()

    # --- for plans and answers --------------------------------------------------------------------------

    def _natural_watts(self) -> float:
        return max([self._book.natural_most_watts, *self._day])

    def _outlook(self, snapshot: Snapshot, at: float) -> EssOutlook | None:
        """What the guard is to do now; pure arithmetic."""
        period = self._period
        if period is None or period.label != self._book.period:
            return None
        ahead = self._ahead if 0.0 <= at - self._ahead_at <= _AHEAD_SECONDS else None
        if not period.charges and (ahead is None or ahead.trade_watts is None):
            return None
        known = {
            charge.name: self._book.levels_watts[charge.name]
            for charge in period.counting(at)
            if charge.name in self._book.levels_watts
        }
        binding = min(known, key=lambda name: known[name], default=None)
        natural = self._natural_watts()
        return EssOutlook(
            made_at=snapshot.at,
            valid_seconds=_VALID_SECONDS,
            period=period.label,
            level_watts=None if binding is None else known[binding],
            # Before anything was drawn nothing is known, and nothing is charged that might be a peak.
            natural_most_watts=natural,
            reserve_ratio=1.0 if ahead is None else ahead.reserve_ratio,
            trade_watts=None if ahead is None else ahead.trade_watts,
            saleable_kwh=self._cycles.saleable_kwh(snapshot),
            level_reason="" if binding is None else f"{binding}: {self._book.reasons.get(binding, '')}",
            trade_reason="" if ahead is None or ahead.trade_watts is None else self._prices.reason,
        )


def _short(past: PastOfPeriod) -> str:
    """Says so where too little is known for more than following what is drawn."""
    if past.days >= LEAST_DAYS:
        return ""
    return (
        f" ({past.days:.1f} days of load are known; before {LEAST_DAYS:.0f} it rises only when the battery"
        " cannot hold it)"
    )
