"""Let a waiting job start with a lighter tier, with its consent, instead of waiting or making it worse.

Such a job is changed in place: that costs nothing but quality. It is done for a job that we hold, where the
lighter tier fits into the room there is; and for one that may start now, while a shortage that lasts is near
and caps would cost more than the tier does. Holds stay until the change shows; then the release decides.
"""

import numpy as np

from slurm_power.model.action import ChangeTier
from slurm_power.model.job import Job
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.cap_columns import CapColumns
from slurm_power.plan.cap_supply import CapSupply
from slurm_power.plan.job_table import ASSUMED_TIME_LIMIT_SECONDS
from slurm_power.plan.lasting_needs import Need
from slurm_power.plan.loads import added_watts, load_table, worst_factor
from slurm_power.plan.policy import Policy
from slurm_power.plan.prices import JobWeights, tier_work_per_hour
from slurm_power.plan.relocation import Waiting
from slurm_power.plan.site_table import site_table
from slurm_power.plan.tier_moves import Choice, choices, moved_lately
from slurm_power.plan.tier_rows import tier_rows
from slurm_power.plan.tiers import tier_needs

# Each is a call to the workload manager; those behind come with the next plan.
_MOST_CHANGES = 20
_MOST_TRIES = 500


def plan_pending_tiers(
    snapshot: Snapshot, waiting: Waiting, policy: Policy, sent: frozenset[str]
) -> tuple[ChangeTier, ...]:
    """The waiting jobs to change in place; those ``sent`` elsewhere start with what they asked for."""
    if not policy.tier_moves or not snapshot.catalog.families:
        return ()
    rows = tier_rows(waiting.jobs).consenting
    if not rows:
        return ()
    return _Changes(snapshot, waiting, policy).found(rows[:_MOST_TRIES], sent)


class _Changes:
    """The room that is left, and the needs that are ahead, while one job after the other is changed."""

    def __init__(self, snapshot: Snapshot, waiting: Waiting, policy: Policy) -> None:
        self._snapshot, self._waiting, self._policy = snapshot, waiting, policy
        self._weights = JobWeights(snapshot, policy)
        self._left = waiting.left_watts.copy()
        self._root = site_table(snapshot.site).root
        self._losses = worst_factor(snapshot.site)
        table = load_table(snapshot, policy)
        needs, _, _ = tier_needs(snapshot, table, policy, pending=True)
        root = snapshot.site.root.name
        self._need = next((need for need in needs if need.circuit == root), None)
        self._need_watts = 0.0 if self._need is None else self._need.watts
        self._supply = (
            None
            if self._need is None
            else CapSupply(CapColumns(snapshot, table, policy), root, policy, urgent=self._need.urgent)
        )

    def found(self, rows: tuple[int, ...], sent: frozenset[str]) -> tuple[ChangeTier, ...]:
        """The changes of some of the waiting jobs."""
        found: list[ChangeTier] = []
        for row in rows:
            job = self._waiting.jobs.jobs[row]
            if len(found) >= _MOST_CHANGES:
                break
            if job.job_id in sent or moved_lately(self._snapshot, job, self._policy):
                continue
            action = self._of_held(row, job) if self._waiting.binding[row] >= 0 else self._of_free(row, job)
            if action is not None:
                found.append(action)
        return tuple(found)

    def _of_held(self, row: int, job: Job) -> ChangeTier | None:
        """The best tier with which a job that we hold fits into the room, None where none does."""
        binding = int(self._waiting.binding[row])
        before = float(self._waiting.gpus[row] * self._waiting.added_watts[row]) * self._losses
        for choice in sorted(choices(self._snapshot, job), key=_by_quality):
            watts = self._watts(job, choice)
            rows = np.unique([binding, self._root])
            room = self._left[rows] - self._waiting.spare_watts[rows]
            if watts >= before or (watts > room).any() or not self._promised(job, choice):
                continue
            self._left[rows] -= watts
            name = site_table(self._snapshot.site).names[binding]
            reason = f"would add {kilowatts_text(before)} where {name} has no room for it"
            return self._change(
                job, choice, f"{reason}: {choice.words()}", before - watts, LimitKind.ECONOMIC
            )
        return None

    def _of_free(self, row: int, job: Job) -> ChangeTier | None:
        """The tier that costs less than the caps that a start as it is would make deeper."""
        need = self._need
        if need is None or self._supply is None or not self._about_to_start(job, need):
            return None
        before = float(self._waiting.gpus[row] * self._waiting.added_watts[row]) * self._losses
        limit = job.time_limit_seconds or ASSUMED_TIME_LIMIT_SECONDS
        gains = []
        for choice in choices(self._snapshot, job):
            watts = self._watts(job, choice)
            if watts >= before or not self._promised(job, choice):
                continue
            work = self._weights.work(job) * tier_work_per_hour(
                float(job.gpu_count * job.task_count),
                quality_weight=self._policy.quality_weight,
                quality_loss=choice.quality_loss,
                slowdown=choice.slowdown,
                cost_seconds=0.0,
                lasts_seconds=min(need.lasts_seconds, limit),
                rest_seconds=limit,
            )
            money = work * self._policy.value_per_gpu_hour * self._weights.debt_factor(job)
            spared = self._supply.cost_per_hour(self._need_watts + before) - self._supply.cost_per_hour(
                self._need_watts + watts
            )
            gains.append((spared - money, watts, choice))
        best = max(gains, key=lambda one: (one[0], -one[1]), default=None)
        if best is None or best[0] <= 0.0:
            return None
        _, watts, choice = best
        self._need_watts += watts
        return self._change(job, choice, f"{need.why()}: {choice.words()}", before - watts, need.kind)

    def _about_to_start(self, job: Job, need: Need) -> bool:
        """Whether the scheduler expects a job to start before a need is over."""
        if job.expected_start is None:
            return False
        return (job.expected_start - self._snapshot.at).total_seconds() < need.starts_in_seconds + 60.0

    def _watts(self, job: Job, choice: Choice) -> float:
        new_watts = choice.tier.watts_per_gpu or 0.0
        if job.own_cap_watts is not None:
            new_watts = min(new_watts, job.own_cap_watts)
        return choice.tier.gpu_count * job.task_count * added_watts(new_watts, self._policy) * self._losses

    def _promised(self, job: Job, choice: Choice) -> bool:
        """Whether a tier is fast enough for the job's class, and for its deadline by its time limit."""
        slower = choice.slowdown
        return slower <= job.flex.max_slowdown_ratio and (slower <= 0.0 or job.ends_by is None)

    @staticmethod
    def _change(job: Job, choice: Choice, reason: str, saved_watts: float, kind: LimitKind) -> ChangeTier:
        return ChangeTier(
            job_id=job.job_id,
            tier=choice.full_name,
            gpu_count=choice.tier.gpu_count,
            running=False,
            kind=kind,
            reason=reason,
            saved_watts=saved_watts,
        )


def _by_quality(choice: Choice) -> tuple[float, float, str]:
    return (choice.quality_loss, choice.slowdown, choice.tier.name)
