"""Keep pending jobs from starting into a limit, no longer than they promised to wait."""

from collections.abc import Mapping

import numpy as np

from slurm_power.model.action import ChangeTier, HoldJob, ReleaseJob, RelocateJob
from slurm_power.model.day_plan import DayPlan
from slurm_power.model.job import Flex
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.fairness import debt_factors
from slurm_power.plan.free_gpus import free_gpus
from slurm_power.plan.job_classes import classes_of
from slurm_power.plan.job_table import (
    FLEXES,
    Flags,
    PendingJobs,
    longest_hold_seconds,
    pending_jobs,
)
from slurm_power.plan.loads import class_watts, known_power, reported_gpus, tier_power, worst_factor
from slurm_power.plan.pending_tiers import plan_pending_tiers
from slurm_power.plan.policy import Policy
from slurm_power.plan.promises import hold_promise
from slurm_power.plan.release import BY_PLAN, FREE, SHORT_OF_GPUS, Budgets, Candidates, Release, release
from slurm_power.plan.relocation import Waiting, plan_relocations
from slurm_power.plan.site_table import Numbers, Watts, site_table
from slurm_power.plan.tier_rows import tier_rows

__all__ = ["longest_hold_seconds", "plan_holds"]

# A job that has waited as long as it promised counts so much more than one that has just come.
_WAITED_WEIGHT = 2.0
# An hour in the queue, up to a day, is worth this share more; so is the highest of Slurm's priorities.
_HOUR_WEIGHT = 0.1
_MOST_HOURS = 24.0
_PRIORITY_WEIGHT = 1.0
# A job that could have started for so long, and was not held, keeps its place before those that are.
_SETTLED_SECONDS = 30.0
# Each hold is a call to the workload manager, and another one each half of its lease. Jobs further back in
# the queue are hardly about to start; where one is, caps are there.
_MOST_HOLDS = 1000
_MOST_CALLS = 250
# Why a job waits, in Slurm's word, that the licences it asks for are not free.
FOR_LICENCES = "Licenses"
# A hold is renewed when less of its lease is left.
_RENEW_RATIO = 0.6


def plan_holds(
    snapshot: Snapshot,
    *,
    room_watts: Mapping[str, float],
    hold_seconds: float,
    policy: Policy,
    day: DayPlan | None = None,
) -> tuple[HoldJob | ReleaseJob | RelocateJob | ChangeTier, ...]:
    """Let the pending jobs start that are worth most of what ``room_watts`` has room for; hold the rest.

    ``room_watts``, by circuit, is the free power with all running jobs uncapped; infinite for no bound. Only
    flexible jobs are held that would start into a circuit without room for them, or that the day's plan lets
    wait: those that only lack GPUs are left to the scheduler. Jobs held by their users or with a later begin
    of their own do not compete. A held job is let go only with some room to spare, so that it does not flap.
    One that is held for a circuit, and could start behind another, is kept off the former; one that could
    start with a lighter model tier, with its user's consent, is changed to that.
    """
    waiting = _Waiting(snapshot, policy)
    budgets = _budgets(snapshot, room_watts, policy)
    if not len(waiting.rows):
        return plan_relocations(snapshot, waiting.found(None, budgets), policy, frozenset())
    found = release(site_table(snapshot.site), budgets, waiting.candidates(snapshot, policy, day))
    actions = waiting.actions(found, hold_seconds=hold_seconds)
    busy = frozenset(action.job_id for action in actions)
    there = waiting.found(found, budgets)
    moved = plan_relocations(snapshot, there, policy, busy)
    sent = frozenset(action.job_id for action in moved)
    return (*actions, *moved, *plan_pending_tiers(snapshot, there, policy, sent))


class _Waiting:
    """The jobs that compete for the room there is, the first submitted first, and our holds on them."""

    def __init__(self, snapshot: Snapshot, policy: Policy) -> None:
        self._site = snapshot.site
        self._jobs = jobs = pending_jobs(snapshot)
        count, at_seconds = len(jobs.jobs), snapshot.at.timestamp()
        held, self._ends_in = np.zeros(count, dtype=bool), np.zeros(count)
        waited = np.zeros(count)
        # A lease counts earlier holds itself; without one they still count, or a job could wait for ever.
        row_of = jobs.row if snapshot.holds or snapshot.held_before_seconds else {}
        for job_id, seconds in snapshot.held_before_seconds.items():
            if (row := row_of.get(job_id)) is not None:
                waited[row] = seconds
        for job_id, lease in snapshot.holds.items():
            if (row := row_of.get(job_id)) is not None:
                held[row], waited[row] = True, lease.held_seconds
                self._ends_in[row] = lease.ends_in_seconds
        able = jobs.begin_at <= at_seconds
        if snapshot.licensed:
            # It waits for watts already, by the workload manager's own account.
            able &= np.array([job.pending_reason != FOR_LICENCES for job in jobs.jobs], dtype=bool)
        self.rows = np.flatnonzero(held | able)
        self._held, self._waited = held, waited
        # Asked to go on with a lighter tier: what it has freed is there for it to come back to.
        self._goes_on = np.zeros(count, dtype=bool)
        for job_id, move in snapshot.tier_moves.items():
            if move.running and not move.done and (row := jobs.row.get(job_id)) is not None:
                self._goes_on[row] = True
        by_deadline = jobs.latest_start_at - at_seconds
        self._patience = np.minimum(jobs.patience_seconds - waited, by_deadline)
        self._late = by_deadline < jobs.patience_seconds - waited
        gpus = jobs.gpus * jobs.tasks
        if reported := reported_gpus(snapshot):
            # An array never starts more tasks at once than there are GPUs for.
            gpus = np.maximum(jobs.gpus, np.minimum(gpus, float(reported)))
        self._gpus = gpus
        self._added = added_watts(snapshot, jobs, policy)

    def candidates(self, snapshot: Snapshot, policy: Policy, day: DayPlan | None) -> Candidates:
        """The same as the release wants them: rows of their own, a value each."""
        jobs, rows = self._jobs, self.rows
        flex0 = jobs.flex == FLEXES.index(Flex.FLEX0)
        number = np.full(len(jobs.jobs), -1, dtype=np.int64)
        number[rows] = np.arange(len(rows))
        here = number[jobs.share_row] >= 0
        shares = jobs.share_row[here]
        placed = np.zeros(len(jobs.jobs), dtype=bool)
        placed[jobs.share_row] = True
        deferred = np.zeros(len(jobs.jobs), dtype=bool)
        if day is not None:
            deferred[rows] = _deferred(jobs, rows, day)
        return Candidates(
            value=self._values(snapshot, policy)[rows],
            gpus=self._gpus[rows],
            added_watts=self._added[rows],
            must=(flex0 | self._goes_on | (self._patience <= 0.0))[rows],
            held=self._held[rows],
            settled=self._settled(snapshot)[rows],
            deferred=deferred[rows],
            placed=placed[rows],
            share_row=number[shares],
            share_circuit=jobs.share_circuit[here],
            share_watts=jobs.share[here] * self._added[shares] * (self._gpus / jobs.gpus)[shares],
            root_factor=worst_factor(self._site),
        )

    def found(self, found: Release | None, budgets: Budgets) -> Waiting:
        """What was found, None for nothing, for those who look for room elsewhere."""
        binding = np.full(len(self._jobs.jobs), FREE, dtype=np.int64)
        if found is not None:
            binding[self.rows] = np.where(found.chosen | ~self._held[self.rows], FREE, found.binding)
        return Waiting(
            jobs=self._jobs,
            binding=binding,
            gpus=self._gpus,
            added_watts=self._added,
            left_watts=budgets.room_watts if found is None else found.left_watts,
            spare_watts=budgets.spare_watts,
        )

    def _settled(self, snapshot: Snapshot) -> Flags:
        free_since = np.maximum(self._jobs.submitted_at, self._jobs.begin_at)
        return ~self._held & (snapshot.at.timestamp() - free_since > _SETTLED_SECONDS)

    def _values(self, snapshot: Snapshot, policy: Policy) -> Watts:
        """What it is worth to let each job start now."""
        jobs = self._jobs
        hours = np.clip((snapshot.at.timestamp() - jobs.submitted_at) / 3600.0, 0.0, _MOST_HOURS)
        most = float(jobs.priority.max()) if len(jobs.priority) else 0.0
        weight = flex_weights(policy)[jobs.flex] * _owner_weights(snapshot, jobs, policy)
        weight *= 1.0 + _HOUR_WEIGHT * hours
        weight *= 1.0 + _WAITED_WEIGHT * np.clip(self._waited / np.maximum(jobs.patience_seconds, 1.0), 0, 1)
        weight *= 1.0 + _PRIORITY_WEIGHT * (jobs.priority / most if most > 0.0 else 0.0)
        return self._gpus * weight

    def actions(self, found: Release, *, hold_seconds: float) -> tuple[HoldJob | ReleaseJob, ...]:
        """Holds to set, renew and end."""
        kept = ~found.chosen & (found.binding != SHORT_OF_GPUS)
        held, ends_in = self._held[self.rows], self._ends_in[self.rows]
        freed = np.flatnonzero(held & ~kept)
        ending = np.flatnonzero(held & kept & (ends_in < _RENEW_RATIO * hold_seconds))
        ending = ending[np.argsort(ends_in[ending], kind="stable")]
        new = np.flatnonzero(kept & ~held)[: max(0, _MOST_HOLDS - int(held.sum()) + len(freed))]
        calls = np.concatenate((freed, ending, new))[:_MOST_CALLS].tolist()
        return tuple(self._action(found, number, hold_seconds=hold_seconds) for number in calls)

    def _action(self, found: Release, number: int, *, hold_seconds: float) -> HoldJob | ReleaseJob:
        row = int(self.rows[number])
        job, patience_seconds = self._jobs.jobs[row], float(self._patience[row])
        if found.chosen[number] or found.binding[number] == SHORT_OF_GPUS:
            reason = "there is room for it again"
            if patience_seconds <= 0.0:
                late = "it must start now to end in time" if self._late[row] else ""
                reason = late or "it has waited as long as was promised"
            return ReleaseJob(job_id=job.job_id, reason=reason)
        needed_watts = float(self._gpus[row] * self._added[row] * worst_factor(self._site))
        return HoldJob(
            job_id=job.job_id,
            seconds=min(hold_seconds, patience_seconds),
            reason=f"{self._why(found, number, needed_watts)}; {hold_promise(job)}",
            saved_watts=needed_watts,
        )

    def _why(self, found: Release, number: int, needed_watts: float) -> str:
        binding = int(found.binding[number])
        if binding == BY_PLAN:
            return f"would add {kilowatts_text(needed_watts)} in an hour that the day's plan keeps for others"
        table = site_table(self._site)
        free = kilowatts_text(max(0.0, float(found.left_watts[binding])))
        where = "" if binding == table.root else f" on {table.names[binding]}"
        return f"would add {kilowatts_text(needed_watts)} where {free} are free{where}"


def flex_weights(policy: Policy) -> Watts:
    """How much the work of each flex class counts, in the order of the classes."""
    return np.array([getattr(policy, f"{flex.value}_weight") for flex in FLEXES])


def _owner_weights(snapshot: Snapshot, jobs: PendingJobs, policy: Policy) -> Watts:
    """How much each job counts for its account, and the more the more its owners have lost to us lately."""
    accounts = policy.weights_of_accounts()
    users = debt_factors(snapshot.debts, policy)
    in_debt = debt_factors(snapshot.account_debts, policy)
    if not (accounts or users or in_debt):
        return np.ones(len(jobs.jobs))
    owners, owner = jobs.owners
    each = [
        accounts.get(account, 1.0) * max(users.get(user, 1.0), in_debt.get(account, 1.0))
        for user, account in owners
    ]
    return np.array(each, dtype=float)[owner]


def added_watts(snapshot: Snapshot, jobs: PendingJobs, policy: Policy) -> Watts:
    """What each GPU of a job and its share of the host would add where it runs."""
    watts = class_watts(jobs.workload, policy)
    row_of = jobs.row if snapshot.expected else {}
    for job_id, known in snapshot.expected.items():
        if (row := row_of.get(job_id)) is not None:
            watts[row] = known.mean_watts
    if snapshot.catalog.families:
        # Tens of thousands may name a tier: by tier, and what is known better by job.
        for rows in tier_rows(jobs).by_tier.values():
            one = tier_power(snapshot, jobs.jobs[rows[0]])
            if one is not None:
                watts[rows] = one.mean_watts
        for job_id, known in snapshot.expected.items():
            if known.own_seconds > 0.0 and (row := row_of.get(job_id)) is not None:
                found = known_power(snapshot, jobs.jobs[row])
                watts[row] = known.mean_watts if found is None else found.mean_watts
    watts = np.minimum(watts, jobs.own_cap_watts)
    return np.maximum(0.0, watts - policy.idle_gpu_watts + policy.host_watts_per_gpu)


def _deferred(jobs: PendingJobs, rows: Numbers, day: DayPlan) -> Flags:
    """The last jobs of each class, as many as the day's plan lets wait in this hour."""
    classes = classes_of(jobs)
    found = np.zeros(len(rows), dtype=bool)
    numbers = classes.number[rows]
    for key, count in day.deferred.items():
        number = classes.index.get(key)
        if number is not None and count > 0:
            found[np.flatnonzero(numbers == number)[-count:]] = True
    return found


def _budgets(snapshot: Snapshot, room_watts: Mapping[str, float], policy: Policy) -> Budgets:
    table = site_table(snapshot.site)
    limits = np.array([snapshot.limit_watts(name) for name in table.names])
    return Budgets(
        room_watts=np.array([room_watts[name] for name in table.names]),
        spare_watts=policy.release_margin_ratio * limits,
        free_gpus=free_gpus(snapshot),
    )
