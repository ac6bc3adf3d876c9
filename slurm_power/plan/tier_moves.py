"""Move running jobs to lighter model tiers that their users consent to, where that is the cheapest lever.

A move saves power by the GPUs that it gives back. The job saves itself, is queued again and goes on with the
other tier: so it is only for what lasts, once for each need, and never back. Until it is done caps bridge it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from slurm_power.model.action import ChangeTier
from slurm_power.model.job import Job, JobState, Workload
from slurm_power.model.progress import JobProgress
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Lost, Snapshot
from slurm_power.model.tier import ANY_TIER, Family, Tier, lighter_choices
from slurm_power.plan.job_table import ASSUMED_TIME_LIMIT_SECONDS, PlacedJobs
from slurm_power.plan.lasting_needs import Need
from slurm_power.plan.loads import LoadTable, added_watts, still_starting, tier_watts, worst_factor
from slurm_power.plan.memo import LastFew
from slurm_power.plan.policy import Policy
from slurm_power.plan.prices import (
    JobWeights,
    quality_loss_ratio,
    tier_slowdown_ratio,
    tier_work_per_hour,
)
from slurm_power.plan.promises import spare_seconds
from slurm_power.plan.site_table import site_table, summed
from slurm_power.plan.slow_levers import Offer, Taken

# A job's word that it can save itself counts for so long.
_HEARD_SECONDS = 900.0
_ROUNDING_SECONDS = 1e-6
# Of more consenting jobs so many are looked at, those first that are as large as what is missing, or less.
_MOST_TRIES = 300
_FITS_RATIO = 1.5
_NO_LOST = Lost()

_consenting: LastFew[tuple[int, ...]] = LastFew(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A lighter tier that a job may be moved to, with what it loses by it."""

    family: Family
    current: Tier
    tier: Tier
    quality_loss: float
    slowdown: float

    @property
    def full_name(self) -> str:
        """The tier's name with its family's."""
        return f"{self.family.name}/{self.tier.name}"

    def words(self) -> str:
        """What changes for the job's user."""
        before, after = self.current, self.tier
        metric = self.family.metric
        quality = "" if after.quality is None else f", {metric} {after.quality.value:g}"
        if before.quality is not None and after.quality is not None:
            quality += f" instead of {before.quality.value:g}"
        gpus = f"on {after.gpu_count} instead of {before.gpu_count} GPUs"
        slower = "" if self.slowdown < 0.005 else f", {self.slowdown:.0%} slower"
        return f"its user consents to {self.full_name}{quality}, {gpus}{slower}"


def choices(snapshot: Snapshot, job: Job) -> tuple[Choice, ...]:
    """The tiers that a job's consent allows, the lightest first; none with more GPUs than it has.

    ``any`` is no consent to another experiment: a training job must name its tiers.
    """
    found = snapshot.catalog.find(job.tier)
    if found is None or found[0].owner:
        return ()
    family, current = found
    allowed = job.tiers_ok
    if Workload.TRAINING in (job.workload, family.workload):
        allowed = tuple(name for name in allowed if name != ANY_TIER)
    return tuple(
        Choice(
            family=family,
            current=current,
            tier=tier,
            quality_loss=quality_loss_ratio(family, current, tier),
            slowdown=tier_slowdown_ratio(current, tier),
        )
        for tier in lighter_choices(
            family, current=current.name, allowed=allowed, min_quality=job.min_quality
        )
        # It keeps its nodes, each with as many GPUs as the others.
        if 0 < tier.gpu_count <= job.gpu_count and tier.gpu_count % max(job.node_count, 1) == 0
    )


def moved_lately(snapshot: Snapshot, job: Job, policy: Policy, *, since_seconds: float = 0.0) -> bool:
    """Whether a job has been asked to move a short while ago, or since a need is known; or is on its way."""
    last = snapshot.tier_moves.get(job.job_id)
    if last is None:
        return False
    return not last.done or last.asked_seconds_ago < max(policy.tier_move_rest_seconds, since_seconds)


def moves_on_their_way(snapshot: Snapshot) -> int:
    """How many jobs that ran have not started yet with the tier that they were asked to take.

    One that was changed while it waited may wait on for days.
    """
    return sum(move.running and not move.done for move in snapshot.tier_moves.values())


class MovableJobs:
    """The running jobs of one snapshot as they could be moved to lighter tiers."""

    def __init__(self, snapshot: Snapshot, table: LoadTable, policy: Policy) -> None:
        self._snapshot, self._table, self._policy = snapshot, table, policy
        self._weights = JobWeights(snapshot, policy)
        self._known: dict[tuple[object, ...], tuple[Choice, ...]] = {}
        self._behind_services = {
            backend.job_id for service in snapshot.services.values() for backend in service.backends
        }

    def rows(self) -> tuple[int, ...]:
        """The placed jobs that name a tier and consent to others."""
        placed = self._table.placed
        return _consenting.of(lambda: _consenting_rows(placed), placed)

    def offers(self, need: Need) -> list[Offer]:
        """What each job that may be moved for a need could give, an offer for each tier."""
        able: list[int] = []
        for row in self._by_size(need):
            if len(able) >= _MOST_TRIES:
                break
            if not self.why_not(row, need):
                able.append(row)
        return [
            offer
            for row in able
            for choice in self._choices(self._table.placed.jobs[row])
            if (offer := self.offer(row, choice, need)) is not None
        ]

    def _by_size(self, need: Need) -> list[int]:
        """The consenting jobs behind a circuit: those no larger than its need first, the largest first."""
        placed, names = self._table.placed, site_table(self._snapshot.site)
        here = placed.weight_circuit == names.index[need.circuit]
        weights = summed(placed.weight_job[here], placed.weight[here], len(placed.jobs))
        rows = np.array(self.rows(), dtype=np.int64)
        watts = (weights * self._table.uncapped_watts)[rows]
        fits = watts <= _FITS_RATIO * need.watts
        order = np.lexsort((np.where(fits, -watts, watts), ~fits))
        found: list[int] = rows[order][weights[rows[order]] > 0.0].tolist()
        return found

    def _choices(self, job: Job) -> tuple[Choice, ...]:
        """The same for all jobs that say the same."""
        key = (job.tier, job.tiers_ok, job.min_quality, job.workload, job.gpu_count)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = choices(self._snapshot, job)
        return found

    def why_not(self, row: int, need: Need) -> str:
        """Why a job cannot be moved for a need, whatever the tier; empty where it can."""
        snapshot, table, policy = self._snapshot, self._table, self._policy
        job = table.placed.jobs[row]
        yielded = bool(snapshot.yielded_nodes.intersection(job.nodes))
        reasons = (
            (snapshot.catalog.find(job.tier) is None, f"{job.tier} is in no catalog of the site"),
            (job.job_id in self._behind_services, "serves for a service, whose gateway moves it"),
            (job.state is not JobState.RUNNING or job.job_id in snapshot.pauses, "does not run"),
            (still_starting(snapshot, job, policy), "has just started"),
            (not table.covered[row], "not all of its GPUs answer"),
            (not job.requeues, "may not be queued again"),
            (not self._may_restart(job), "does not say that it can save itself"),
            (yielded and need.kind is LimitKind.ECONOMIC, "its node is yielded to the administrator"),
            (
                moved_lately(snapshot, job, policy, since_seconds=need.since_seconds),
                "was moved a while ago, or is on its way",
            ),
            (self._benefit_seconds(job, need) < policy.tier_move_least_seconds, "will have ended soon"),
        )
        return next((words for is_so, words in reasons if is_so), "")

    def offer(self, row: int, choice: Choice, need: Need) -> Offer | None:
        """What a job gives with one tier; None where that would break its promise, or saves nothing."""
        policy, job = self._policy, self._table.placed.jobs[row]
        redo = self._redo_seconds(job)
        if not self._promised(job, choice, redo):
            return None
        saved = self._saved_watts(row, choice.tier)
        if saved.get(need.circuit, 0.0) <= 0.0:
            return None
        benefit = self._benefit_seconds(job, need)
        rest = self._rest_seconds(job)
        work = tier_work_per_hour(
            float(job.gpu_count),
            quality_weight=policy.quality_weight,
            quality_loss=choice.quality_loss,
            slowdown=choice.slowdown,
            cost_seconds=policy.tier_move_cost_seconds + redo,
            lasts_seconds=benefit,
            rest_seconds=ASSUMED_TIME_LIMIT_SECONDS if math.isinf(rest) else rest,
        )
        work *= self._weights.work(job)
        return Offer(
            subject=job.job_id,
            tier=choice.full_name,
            gpu_count=choice.tier.gpu_count,
            saved_watts=saved,
            money_per_hour=work * policy.value_per_gpu_hour * self._weights.debt_factor(job),
            work_gpu_hours_per_hour=work,
            lead_seconds=policy.tier_move_lead_seconds,
            word=choice.words(),
            rows=frozenset((row,)),
            counted=True,
        )

    def on_its_way_watts(self) -> dict[str, float]:
        """What moves that were asked for and are not done yet will still take off each circuit.

        A job that has ended its run and waits for the next one has taken more off: it comes back.
        """
        snapshot, found = self._snapshot, dict.fromkeys(self._snapshot.site.circuits, 0.0)
        for job_id, move in snapshot.tier_moves.items():
            there = snapshot.catalog.find(move.tier)
            if move.done or there is None:
                continue
            row = self._table.placed.row.get(job_id)
            if row is None:
                if move.running:
                    back = tier_watts(there[1], self._policy) * worst_factor(snapshot.site)
                    found[snapshot.site.root.name] -= back
                continue
            # What has started since then runs with the new tier, and draws what it draws.
            if self._ran(row) >= move.asked_seconds_ago:
                for name, watts in self._saved_watts(row, there[1]).items():
                    found[name] += watts
        return found

    def _saved_watts(self, row: int, tier: Tier) -> dict[str, float]:
        """What each circuit sees less of a job: all of its draw, less the new tier wherever that comes to.

        Slurm picks its nodes anew, so the whole of it may come behind the same circuit.
        """
        job, policy = self._table.placed.jobs[row], self._policy
        weights = self._table.placed.circuit_weights(row, self._snapshot.site)
        gpus = max(float(job.gpu_count), 1.0)
        new_watts = tier.watts_per_gpu or 0.0
        if job.own_cap_watts is not None:
            new_watts = min(new_watts, job.own_cap_watts)
        old_each = added_watts(float(self._table.uncapped_watts[row]), policy)
        losses = max(1.0, max(weights.values(), default=0.0) / gpus)
        new = tier.gpu_count * added_watts(new_watts, policy) * losses
        return {name: max(0.0, weight * old_each - new) for name, weight in weights.items()}

    def _ran(self, row: int) -> float:
        started = self._table.placed.jobs[row].started
        return 0.0 if started is None else (self._snapshot.at - started).total_seconds()

    def _may_restart(self, job: Job) -> bool:
        """Whether a job goes on after it was queued again: it says so, or it is none that has state."""
        progress = self._progress(job)
        if progress is not None and progress.checkpoints:
            return True
        return job.workload is not Workload.TRAINING

    def _progress(self, job: Job) -> JobProgress | None:
        progress = self._snapshot.progress.get(job.job_id)
        return None if progress is None or progress.age_seconds > _HEARD_SECONDS else progress

    def _redo_seconds(self, job: Job) -> float:
        """The work that is done again: none of what a job saves when asked, else all since its last save."""
        progress = self._progress(job)
        if progress is not None and progress.checkpoints:
            return 0.0
        ran = 0.0 if job.started is None else (self._snapshot.at - job.started).total_seconds()
        if progress is None or not progress.checkpoint_step or not progress.global_batch:
            return max(0.0, ran)
        samples = (progress.step - progress.checkpoint_step) * progress.global_batch
        return min(max(0.0, ran), max(0.0, samples) / max(progress.samples_per_second, 1e-9))

    def _rest_seconds(self, job: Job) -> float:
        if job.time_limit_seconds is None:
            return math.inf
        ran = 0.0 if job.started is None else (self._snapshot.at - job.started).total_seconds()
        return max(0.0, job.time_limit_seconds - ran)

    def _benefit_seconds(self, job: Job, need: Need) -> float:
        """For how long of a need the job would still run."""
        return min(need.lasts_seconds, max(0.0, self._rest_seconds(job) - need.starts_in_seconds))

    def _promised(self, job: Job, choice: Choice, redo_seconds: float) -> bool:
        """Whether a move keeps within the job's class, and its deadline.

        Its consent covers the move itself. That it is slower then, and what it does again, counts like what
        caps and holds have taken: all of it at most the promised share of its time limit.
        """
        share, slower = job.flex.max_slowdown_ratio, choice.slowdown
        rest = self._rest_seconds(job)
        rest = ASSUMED_TIME_LIMIT_SECONDS if math.isinf(rest) else rest
        if slower > share or slower >= 1.0:
            return False
        later = redo_seconds + rest * slower / (1.0 - slower)
        lost = self._snapshot.lost.get(job.job_id, _NO_LOST).seconds
        lost += self._snapshot.held_before_seconds.get(job.job_id, 0.0)
        limit = job.time_limit_seconds
        promised = share * (ASSUMED_TIME_LIMIT_SECONDS if limit is None else limit) - lost
        if later > max(0.0, promised) + _ROUNDING_SECONDS:
            return False
        return later + self._policy.tier_move_cost_seconds <= spare_seconds(self._snapshot, job)


def _consenting_rows(placed: PlacedJobs) -> tuple[int, ...]:
    return tuple(row for row, job in enumerate(placed.jobs) if job.tier and job.tiers_ok)


def move_actions(taken: Sequence[Taken]) -> tuple[ChangeTier, ...]:
    """The moves of running jobs to begin now."""
    return tuple(
        ChangeTier(
            job_id=one.offer.subject,
            tier=one.offer.tier,
            gpu_count=one.offer.gpu_count,
            running=True,
            kind=one.need.kind,
            reason=f"{one.need.why()}: {one.offer.word}",
            saved_watts=one.saved_watts,
        )
        for one in taken
        if one.offer.counted and one.due
    )


def less_relief(needs: Sequence[Need], relief_watts: dict[str, float]) -> tuple[Need, ...]:
    """The needs that are left when what is on its way has come."""
    left = [replace(need, watts=need.watts - relief_watts.get(need.circuit, 0.0)) for need in needs]
    return tuple(need for need in left if need.watts > 0.0)
