"""Which plan a cycle makes: the guard alone every second, the whole one on its beat."""

from collections.abc import Callable

from slurm_power.config import SiteConfig
from slurm_power.controller.day_plan import DayPlanDesk
from slurm_power.controller.planner_beat import PlannerBeat
from slurm_power.model.action import Plan
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.planner import guard_cycle, plan_cycle


class Planning:
    """The controller's planner. Times are monotonic seconds given by the caller."""

    def __init__(self, config: SiteConfig, *, fault: Callable[[str, str], None]) -> None:
        self._policy = config.policy
        self._hold_seconds = config.controller.hold_lease_seconds
        self._beat = PlannerBeat(config.controller.planner_seconds)
        self.day = DayPlanDesk(config.policy, seconds=config.controller.day_plan_seconds, fault=fault)

    def plan(self, snapshot: Snapshot, now_seconds: float) -> Plan:
        """The plan for this cycle."""
        day = self.day.latest(snapshot.at)
        if self._beat.due(snapshot, now_seconds, day):
            return plan_cycle(snapshot, self._policy, hold_seconds=self._hold_seconds, day=day)
        return guard_cycle(snapshot, self._policy)
