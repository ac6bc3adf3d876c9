"""Keeps the level that flexible jobs help the batteries to hold: for what the peak of a month costs.

The cycle measures and, where ``policy.peak_jobs`` is "on", hands the planner a level. Which level that is, is
found beside the cycle, once a day, by the same rule that ``simulate jobs`` judges
(:mod:`slurm_power.plan.site_level`). While the tariff is not known or fails nothing changes.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from slurm_power.config import SiteConfig
from slurm_power.controller.governance.fairness_desk import States
from slurm_power.controller.governance.operators import Note
from slurm_power.controller.planning.peak_book import BASE, HOUR_SECONDS, PeakBook
from slurm_power.controller.sensing.load_feed import StepMeans, circuit_loads
from slurm_power.model.jobs_level import JobsLevel
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.base_load import base_load_ahead
from slurm_power.plan.billing_period import BillingPeriod, billing_period, period_label
from slurm_power.plan.charges import DemandCharge
from slurm_power.plan.class_problem import HOURS, DayPrices, base_load_watts
from slurm_power.plan.joint_battery import Rated, joint_battery
from slurm_power.plan.level_levers import cap_room
from slurm_power.plan.loads import circuit_watts, job_loads, load_table
from slurm_power.plan.local_calendar import LocalCalendar
from slurm_power.plan.peak_level import Battery
from slurm_power.plan.policy import PeakJobs, Policy
from slurm_power.plan.site_level import LevelRule, Past, PeakPrice, most_price_per_kwh, start_level
from slurm_power.signals.billing_file import read_billing_rules

SUBJECT = "peak level"
_KEY = "peak_level"
_SAMPLE_SECONDS = 60.0
_DAY_SECONDS = 86_400.0
# The cycle renews what it says each second; without a cycle it soon counts no more.
_VALID_SECONDS = 60.0
# A level that moved by less than this share is no news.
_TOLD_RATIO = 0.01
_RULE = LevelRule()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look has found of one charge. ``lost_gpu_hours``: what the weeks so far would have cost."""

    level_watts: float
    price_per_kwh: float
    lost_gpu_hours: float


class PeakDesk:
    """The level for jobs. ``fault`` is told when the tariff fails, and with "" when all is well.

    Without a tariff with a demand charge there is no level, and none in a month that was not seen from its
    begin: nobody would know what is paid for in any case.
    """

    def __init__(
        self, config: SiteConfig, store: States, *, note: Note, fault: Callable[[str, str], None]
    ) -> None:
        """Go on with what an earlier controller has left in ``store``."""
        self._config, self._store = config, store
        self._root = config.site.root.name
        self._note, self._fault = note, fault
        self._book = PeakBook.from_json(store.state(_KEY))
        self._imports = StepMeans(900.0)
        self._has_begun = False
        self._sampled_seconds = float("-inf")
        self._rated: dict[str, Rated] = {}
        self._period: BillingPeriod | None = None
        self._due = True
        self._problem = ""
        self._at_work: asyncio.Task[None] | None = None
        self.level: JobsLevel | None = None

    def use_policy(self, policy: Policy) -> None:
        """Go by another policy from now on."""
        self._config = replace(self._config, policy=policy)

    # --- from the cycle ---------------------------------------------------------------------------------

    def onto(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with the level, where jobs may serve it: then the batteries hold the same one."""
        level = self.level
        if level is None or self._config.policy.peak_jobs is not PeakJobs.ON:
            return snapshot
        outlook = snapshot.outlook
        if outlook is not None and outlook.level_watts is not None:
            outlook = replace(
                outlook,
                level_watts=min(outlook.level_watts, level.level_watts),
                reserve_ratio=1.0,
                sustain_seconds=HOUR_SECONDS * _RULE.bridge_hours,
            )
        return replace(snapshot, jobs_level=level, outlook=outlook)

    def observe(self, snapshot: Snapshot) -> None:
        """Take one cycle's view of the site; begin to think when an hour is over."""
        if self._config.supply.tariff_file is None:
            return
        at = snapshot.at.timestamp()
        label = period_label(at, self._config.zone)
        # A clock that was set back over the end of a month forgets nothing that is paid for.
        if label > self._book.period:
            self._book.begin(label)
            self._period, self._due = None, True
        self._measure(snapshot, at)
        if at - self._sampled_seconds >= _SAMPLE_SECONDS or at < self._sampled_seconds:
            self._sampled_seconds = at
            self._sample(snapshot, at)
        if self._due and self._at_work is None:
            self._due = False
            self._at_work = asyncio.create_task(self._work(snapshot, at))
        self.level = self._level(snapshot, at)

    async def stop(self) -> None:
        """Wait for the thread at work."""
        if self._at_work is not None:
            await self._at_work

    def _measure(self, snapshot: Snapshot, at: float) -> None:
        """What a whole demand interval has drawn is paid for: no level is below it."""
        interval = 900.0 if self._period is None else self._period.rules.demand_interval_seconds
        if interval != self._imports.step_seconds:
            self._imports, self._has_begun = StepMeans(interval), False
        over = self._imports.add(at, {self._root: circuit_watts(snapshot, self._root)})
        if over is None:
            return
        # The first part of the interval that a start falls into was not seen.
        seen, self._has_begun = self._has_begun, True
        start, watts = over[0] - interval, over[1][self._root]
        if not seen or watts is None or self._period is None:
            return
        for charge in self._period.counting(start):
            if watts > self._book.reached_watts.get(charge.name, 0.0):
                self._book.reached_watts[charge.name] = watts
        self._keep()

    def _sample(self, snapshot: Snapshot, at: float) -> None:
        policy = self._config.policy
        load = circuit_loads(snapshot, job_loads(snapshot, policy))[self._root]
        base = base_load_watts(snapshot, policy)
        if load is None or base is None:
            return
        for name, reading in snapshot.ess.items():
            if reading.usable():
                charge, discharge = self._rated.get(name, (0.0, 0.0))
                self._rated[name] = (
                    max(charge, reading.max_charge_watts),
                    max(discharge, reading.max_discharge_watts),
                )
        room = cap_room(snapshot, load_table(snapshot, policy), policy, cap_floor_ratio=_RULE.cap_floor_ratio)
        row = np.array([load, room.room_watts, room.lost_gpus, room.used_gpus, room.lost_money, base])
        if self._book.sample(at, row):
            self._due = True
            self._keep()

    def _level(self, snapshot: Snapshot, at: float) -> JobsLevel | None:
        """What jobs may do now; pure arithmetic."""
        found = self._binding(at)
        if found is None or not self._book.is_whole or self._book.known_days < _RULE.least_days:
            return None
        charge, watts = found
        return JobsLevel(
            made_at=snapshot.at,
            valid_seconds=_VALID_SECONDS,
            period=self._book.period,
            level_watts=watts,
            most_price_per_kwh=self._book.prices_per_kwh[charge.name],
            cap_floor_ratio=_RULE.cap_floor_ratio,
            hold_room_ratio=_RULE.hold_room_ratio,
            reason=f"{charge.name}: the lowest that jobs and batteries could have held in the weeks before,"
            " as far as it is worth it",
        )

    def _binding(self, at: float) -> tuple[DemandCharge, float] | None:
        """The charge with the lowest level of those that count now, and that level."""
        period = self._period
        if period is None or period.label != self._book.period:
            return None
        known = [
            (
                max(self._book.levels_watts[charge.name], self._book.reached_watts.get(charge.name, 0.0)),
                charge,
            )
            for charge in period.counting(at)
            if charge.name in self._book.levels_watts
        ]
        if not known:
            return None
        watts, charge = min(known, key=lambda one: (one[0], one[1].name))
        return charge, watts

    def _keep(self) -> None:
        self._store.put_state(_KEY, self._book.to_json())

    # --- beside the cycle -------------------------------------------------------------------------------

    async def _work(self, snapshot: Snapshot, at: float) -> None:
        said = ""
        try:
            period = await asyncio.to_thread(self._read, at)
            if period.label == self._book.period:
                self._period = period
                if period.charges and at - self._book.looked_seconds >= _DAY_SECONDS - 1.0:
                    battery, _ = joint_battery(snapshot, self._rated, self._config.policy)
                    past, end = self._book.past(), self._book.end_seconds
                    found = await asyncio.to_thread(self._look, period, past, end, battery, at)
                    self._hear(period, found, at)
        except Exception as error:  # noqa: BLE001  # whatever it is, it costs advice, never the cycle
            said = f"{type(error).__name__}: {error}; meanwhile no job is touched for a peak anew"
        finally:
            self._at_work = None
        if said != self._problem:
            self._problem = said
            self._fault(SUBJECT, said)

    def _read(self, at: float) -> BillingPeriod:
        file = self._config.supply.tariff_file
        if file is None:
            raise ValueError("there is no tariff")
        return billing_period(read_billing_rules(file), at, self._config.zone, self._book.earlier_watts)

    def _look(
        self, period: BillingPeriod, past: Past, end_seconds: float, battery: Battery, at: float
    ) -> dict[str, Found]:
        """Where each charge's level is to be, by name; nothing of one that no known hour counted for."""
        times = end_seconds - HOUR_SECONDS * np.arange(len(past.load_watts), 0, -1, dtype=np.float64)
        if not len(times):
            return {}
        calendar = LocalCalendar.from_epoch(times, self._config.zone)
        windows = {rate.name: rate.windows for rate in period.rules.demand}
        hours_left = (period.end_seconds - at) / HOUR_SECONDS
        found = {}
        for charge in period.charges:
            counting = past.counting(calendar.within(windows[charge.name]))
            if not np.isfinite(counting.load_watts).any():
                continue
            price = PeakPrice(per_kw=charge.price_per_kw, hours_left=hours_left)
            level = max(start_level(counting, battery, _RULE, price), charge.floor_watts)
            over = np.nan_to_num(counting.load_watts, nan=0.0) - level
            shares = np.clip(over / np.maximum(past.cap_room_watts, 1e-9), 0.0, 1.0)
            found[charge.name] = Found(
                level_watts=level,
                price_per_kwh=most_price_per_kwh(counting, level, price),
                lost_gpu_hours=float(shares @ past.lost_gpus) * past.step_hours,
            )
        return found

    def _hear(self, period: BillingPeriod, found: dict[str, Found], at: float) -> None:
        if period.label != self._book.period:
            return
        self._book.looked_seconds = at
        for name, one in found.items():
            before = self._book.levels_watts.get(name)
            reached = self._book.reached_watts.get(name, 0.0)
            level = max(one.level_watts, reached)
            self._book.levels_watts[name] = level
            self._book.prices_per_kwh[name] = one.price_per_kwh
            if before is None or abs(level - before) > _TOLD_RATIO * before:
                self._tell(name, level, reached, one)
        self._keep()

    def _tell(self, name: str, level_watts: float, reached_watts: float, found: Found) -> None:
        days = self._book.known_days
        mode = self._config.policy.peak_jobs
        if mode is PeakJobs.OFF or not self._book.is_whole or days < _RULE.least_days:
            return
        do = "help the batteries to hold" if mode is PeakJobs.ON else "could help the batteries to hold"
        self._note(
            "controller",
            "peak level" if mode is PeakJobs.ON else "peak level (shadow)",
            f"circuit:{self._root}",
            f"{self._book.period}, {name}: jobs {do} {kilowatts_text(level_watts)}"
            f" ({kilowatts_text(reached_watts)} are paid for so far); in the {days:.0f} days before that"
            f" would have cost {found.lost_gpu_hours:.0f} GPU-hours of work, and no cap dearer than"
            f" {found.price_per_kwh:.3g} per kWh",
            details={
                "charge": name,
                "period": self._book.period,
                "level_watts": level_watts,
                "reached_watts": reached_watts,
                "lost_gpu_hours": found.lost_gpu_hours,
                "most_price_per_kwh": found.price_per_kwh,
            },
        )

    # --- for the plan of the day ------------------------------------------------------------------------

    def day_prices(self, prices: DayPrices, at: float) -> DayPrices:
        """The prices with the charge on what the day's highest hour adds to the level that stands.

        Of several charges the dearest counts: the plan of the day knows one peak.
        """
        period = self._period
        if period is None or period.label != self._book.period or not period.charges:
            return prices
        charge = max(period.charges, key=lambda one: one.price_per_kw)
        first = period.step(at)
        if first is None:
            return prices
        starts = [first + 4 * hour for hour in range(HOURS)]
        counts = [at < len(charge.steps) and bool(charge.steps[at : at + 4].any()) for at in starts]
        stands = [
            self._book.reached_watts.get(charge.name, 0.0),
            self._book.levels_watts.get(charge.name, 0.0),
            charge.floor_watts,
        ]
        return replace(
            prices, demand_per_kw=charge.price_per_kw, peak_watts=max(stands), demand_counts=counts
        )

    def base_watts(self, snapshot: Snapshot) -> list[float]:
        """What is forecast to be drawn beside jobs in the next hours; empty where nobody knows."""
        now_watts = base_load_watts(snapshot, self._config.policy)
        rows = self._book.table()
        at = snapshot.at.timestamp()
        if now_watts is None or not len(rows) or not 0.0 <= at - self._book.end_seconds < 2 * HOUR_SECONDS:
            return []
        ahead: list[float] = base_load_ahead(rows[:, BASE], now_watts, HOURS).tolist()
        return ahead
