"""Which plan a cycle makes: the guard alone every second, the whole one on its beat."""

from collections.abc import Callable
from typing import Protocol

from slurm_power.config import SiteConfig
from slurm_power.controller.garbage import Garbage
from slurm_power.controller.governance.fairness_desk import States
from slurm_power.controller.governance.operators import Note
from slurm_power.controller.planning.day_plan import DayPlanDesk
from slurm_power.controller.planning.peak_desk import PeakDesk
from slurm_power.controller.planning.planner_beat import PlannerBeat
from slurm_power.forecast.supply import SupplyAhead
from slurm_power.model.action import Plan
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.class_problem import HOURS, DayPrices
from slurm_power.plan.planner import guard_cycle, plan_cycle
from slurm_power.plan.policy import Policy


class SupplyPrices(Protocol):
    """Whoever knows what energy will cost."""

    def ahead(
        self, snapshot: Snapshot, circuit: str, *, start_seconds: float, step_seconds: float, steps: int
    ) -> SupplyAhead:
        """The supply of a circuit on a grid of steps."""
        ...


class Planning:
    """The controller's planner. Times are monotonic seconds given by the caller."""

    def __init__(
        self,
        config: SiteConfig,
        store: States,
        *,
        supply: SupplyPrices,
        note: Note,
        fault: Callable[[str, str], None],
    ) -> None:
        """Go on with what an earlier controller has left in ``store``."""
        self._policy = config.policy
        self._supply = supply
        self.garbage = Garbage()
        self._hold_seconds = config.controller.hold_lease_seconds
        self._beat = PlannerBeat(config.controller.planner_seconds)
        self.peak = PeakDesk(config, store, note=note, fault=fault)
        self.day = DayPlanDesk(
            config.policy,
            seconds=config.controller.day_plan_seconds,
            fault=fault,
            prices=self.prices,
            base_watts=self.peak.base_watts,
        )

    def use_policy(self, policy: Policy) -> None:
        """Go by another policy from now on."""
        self._policy = policy
        self.peak.use_policy(policy)
        self.day.use_policy(policy)
        self.again()

    def again(self) -> None:
        """Make the whole plan in the next cycle."""
        self._beat.again()

    def plan(self, snapshot: Snapshot, now_seconds: float) -> Plan:
        """The plan for this cycle."""
        day = self.day.latest(snapshot.at)
        if self._beat.due(snapshot, now_seconds, day):
            return plan_cycle(snapshot, self._policy, hold_seconds=self._hold_seconds, day=day)
        return guard_cycle(snapshot, self._policy)

    def look(self, snapshot: Snapshot, now_seconds: float) -> None:
        """Begin what is thought about beside the cycle, where it is due."""
        self.peak.observe(snapshot)
        self.day.look(snapshot, now_seconds)

    async def stop(self) -> None:
        """Wait for a solver at work, and let Python collect its garbage as before."""
        await self.day.stop()
        await self.peak.stop()
        self.garbage.stop()

    def prices(self, snapshot: Snapshot) -> DayPrices:
        """Energy's price by hour, the policy's where nothing is known; and what a higher peak costs."""
        ahead = self._supply.ahead(
            snapshot,
            snapshot.site.root.name,
            start_seconds=snapshot.at.timestamp(),
            step_seconds=3600.0,
            steps=HOURS,
        )
        usual = self._policy.energy_price_per_kwh
        energy = [usual if price is None else price for price in ahead.price_per_kwh]
        return self.peak.day_prices(DayPrices(energy_per_kwh=energy), snapshot.at.timestamp())
