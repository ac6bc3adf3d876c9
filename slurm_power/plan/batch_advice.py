"""Advise trainings to take smaller micro-batches, where their own words show that this is cheaper than a cap.

The global batch stays: a job adds up more of the smaller ones. A smaller one lowers the peak draw, and often
costs energy per sample, so nobody is advised to try: only a micro-batch that a job has run with before, and
that drew clearly less, is ever asked for.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from slurm_power.model.action import AdviseBatch, SetCap
from slurm_power.model.job import JobState, Workload
from slurm_power.model.job_curve import BatchPoint
from slurm_power.model.progress import JobProgress
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.cap_columns import CapColumns
from slurm_power.plan.demands import meter_lost
from slurm_power.plan.event_target import target_watts
from slurm_power.plan.job_table import FLEXES, MOST_SLOWDOWN
from slurm_power.plan.lasting_needs import Need, natural_watts, present_needs
from slurm_power.plan.learned_curve import batch_slowdown, largest_batch
from slurm_power.plan.loads import LoadTable
from slurm_power.plan.policy import Policy
from slurm_power.plan.prices import JobWeights, batch_work_per_hour
from slurm_power.plan.slow_levers import Offer, Taken, taken_offers

# A job's word on its batches counts for so long.
_HEARD_SECONDS = 60.0
# A draw that is less by no more than this is noise.
_LEAST_SAVED_RATIO = 0.04
_MOST_AT_ONCE = 20
_EXACT = 1e-9


def plan_batch_advice(
    snapshot: Snapshot,
    table: LoadTable,
    caps: Sequence[SetCap],
    policy: Policy,
    *,
    begin: bool,
) -> tuple[AdviseBatch, ...]:
    """Advice to give, renew and take back. ``caps`` are those of this cycle.

    Without ``begin`` what stands is renewed. Costs nothing where no job tells of its batches.
    """
    if not snapshot.learned and not snapshot.micro_batches:
        return ()
    advice = BatchAdvice(snapshot, table, policy)
    if not begin:
        return tuple(advice.renewed(job_id) for job_id in sorted(snapshot.micro_batches))
    taken = advice.taken(caps)
    given = {one.offer.subject: advice.given(one) for one in taken}
    room = None if taken else advice.room_watts()
    kept = [advice.standing(job_id, room) for job_id in sorted(snapshot.micro_batches) if job_id not in given]
    return (*kept, *given.values())


class BatchAdvice:
    """The trainings of one snapshot that follow advice on their micro-batch."""

    def __init__(self, snapshot: Snapshot, table: LoadTable, policy: Policy) -> None:
        self._snapshot, self._table, self._policy = snapshot, table, policy
        self._weights = JobWeights(snapshot, policy)

    def taken(self, caps: Sequence[SetCap]) -> tuple[Taken, ...]:
        """The advice to begin with now: what is cheaper than the caps that it spares."""
        needs = present_needs(self._snapshot, self._table, self._policy)
        if not needs:
            return ()
        columns = CapColumns(self._snapshot, self._table, self._policy)
        capped = {one.job_id: one for one in caps if one.cap_watts is not None}

        def offers(need: Need) -> Iterable[Offer]:
            for job_id in sorted(self._snapshot.learned):
                if not self.why_not(job_id, need.kind):
                    yield from self.offers(job_id, columns, capped)

        return taken_offers(needs, offers, columns, self._policy, most=_MOST_AT_ONCE)

    def why_not(self, job_id: str, kind: LimitKind) -> str:
        """Why a job cannot be given advice now; empty where it can."""
        snapshot, row = self._snapshot, self._table.placed.row.get(job_id)
        progress = self._progress(job_id)
        if row is None:
            return "does not run"
        job = self._table.placed.jobs[row]
        reasons = (
            (job.workload is not Workload.TRAINING, "is no training"),
            (job.state is not JobState.RUNNING or job_id in snapshot.pauses, "does not run"),
            (progress is None, "tells of no micro-batch that it could change"),
            (not self._table.covered[row], "not all of its GPUs answer"),
            (
                kind is LimitKind.ECONOMIC and bool(snapshot.yielded_nodes.intersection(job.nodes)),
                "its node is yielded to the administrator",
            ),
            (
                snapshot.advised_seconds.get(job_id, np.inf) < self._policy.batch_dwell_seconds,
                "was advised a moment ago",
            ),
        )
        return next((words for is_so, words in reasons if is_so), "")

    def points(self, job_id: str) -> list[tuple[BatchPoint, BatchPoint, float]]:
        """Smaller micro-batches that draw clearly less: each with that of now, and the slowdown in all."""
        curve, progress = self._snapshot.learned.get(job_id), self._progress(job_id)
        if curve is None or progress is None:
            return []
        now = curve.batch(self._snapshot.micro_batches.get(job_id, progress.micro_batch or 0))
        full = largest_batch(curve)
        if now is None or full is None:
            return []
        return [
            (point, now, batch_slowdown(curve, point.micro_batch))
            for point in curve.batches
            if point.micro_batch < now.micro_batch
            and point.gpu_watts < (1.0 - _LEAST_SAVED_RATIO) * now.gpu_watts
            and _fits(progress, point.micro_batch)
        ]

    def offers(self, job_id: str, columns: CapColumns, capped: Mapping[str, SetCap]) -> Iterable[Offer]:
        """What a job gives with each smaller batch that keeps its promise, beside its cap of this cycle."""
        row = self._table.placed.row[job_id]
        job, policy = self._table.placed.jobs[row], self._policy
        before = self._slowdown_now(job_id)
        promised = float(MOST_SLOWDOWN[FLEXES.index(job.flex)])
        if job.ends_by is not None:
            promised = min(promised, float(columns.allowed_slowdowns[row]))
        by_cap = self._by_cap(row, columns, capped.get(job_id))
        gpus = float(job.gpu_count or len(job.gpu_uuids))
        weights = self._table.placed.circuit_weights(row, self._snapshot.site)
        for point, now, slowdown in self.points(job_id):
            # A job under a cap is slowed by both.
            if 1.0 - (1.0 - slowdown) * (1.0 - by_cap) > promised + _EXACT:
                continue
            work = batch_work_per_hour(gpus, max(0.0, slowdown - before)) * self._weights.work(job)
            saved = now.gpu_watts - point.gpu_watts
            yield Offer(
                subject=job_id,
                tier=str(point.micro_batch),
                gpu_count=job.gpu_count,
                saved_watts={name: weight * saved for name, weight in weights.items()},
                money_per_hour=work * policy.value_per_gpu_hour * self._weights.debt_factor(job),
                work_gpu_hours_per_hour=work,
                lead_seconds=0.0,
                word=f"by its own words micro-batches of {point.micro_batch} draw"
                f" {now.gpu_watts - point.gpu_watts:.0f} W a GPU less, {slowdown:.0%} slower",
                counted=True,
            )

    def _by_cap(self, row: int, columns: CapColumns, planned: SetCap | None) -> float:
        cap_watts = float(columns.capped_watts[row])
        if planned is not None and planned.cap_watts is not None:
            cap_watts = min(cap_watts, planned.cap_watts)
        if not np.isfinite(cap_watts):
            return 0.0
        rows = np.array([row])
        return float(columns.slowdowns(rows, np.array([cap_watts]), np.array([False]))[0])

    def given(self, one: Taken) -> AdviseBatch:
        """New advice."""
        micro_batch = int(one.offer.tier)
        curve = self._snapshot.learned[one.offer.subject]
        return AdviseBatch(
            job_id=one.offer.subject,
            micro_batch=micro_batch,
            kind=one.need.kind,
            reason=f"{one.need.why()}: {one.offer.word}",
            saved_watts=one.saved_watts,
            slowdown_ratio=batch_slowdown(curve, micro_batch),
        )

    def renewed(self, job_id: str) -> AdviseBatch:
        """What a job is advised already."""
        micro_batch = self._snapshot.micro_batches[job_id]
        return AdviseBatch(
            job_id=job_id,
            micro_batch=micro_batch,
            kind=LimitKind.ECONOMIC,
            reason="its advice stands",
            slowdown_ratio=self._slowdown_now(job_id),
        )

    def standing(self, job_id: str, room_watts: dict[str, float] | None) -> AdviseBatch:
        """Renew advice, or take it back: what comes back with it is taken from ``room_watts``."""
        why = self._why_not_longer(job_id)
        if not why and room_watts is not None and self._fits_back(job_id, room_watts):
            why = "there is room for its full draw again"
        if not why:
            return self.renewed(job_id)
        return AdviseBatch(job_id=job_id, micro_batch=None, kind=LimitKind.ECONOMIC, reason=why)

    def _why_not_longer(self, job_id: str) -> str:
        row = self._table.placed.row.get(job_id)
        if row is None:
            return "it does not run any more"
        progress = self._progress(job_id)
        if progress is None:
            return "it tells of its micro-batch no longer"
        if not _fits(progress, self._snapshot.micro_batches[job_id]):
            return "that does not go with its batch any more"
        promised = float(MOST_SLOWDOWN[FLEXES.index(self._table.placed.jobs[row].flex)])
        if self._slowdown_now(job_id) > promised + _EXACT:
            return "it turned out slower than was promised"
        return ""

    def _fits_back(self, job_id: str, room_watts: dict[str, float]) -> bool:
        if self._snapshot.advised_seconds.get(job_id, np.inf) < self._policy.batch_dwell_seconds:
            return False
        curve = self._snapshot.learned.get(job_id)
        now = None if curve is None else curve.batch(self._snapshot.micro_batches[job_id])
        full = None if curve is None else largest_batch(curve)
        more = 0.0 if now is None or full is None else max(0.0, full.gpu_watts - now.gpu_watts)
        weights = self._table.placed.circuit_weights(self._table.placed.row[job_id], self._snapshot.site)
        if any(more * weight > room_watts.get(name, 0.0) for name, weight in weights.items()):
            return False
        for name, weight in weights.items():
            room_watts[name] = room_watts.get(name, 0.0) - more * weight
        return True

    def room_watts(self) -> dict[str, float]:
        """The room on each circuit with nothing capped, and some to spare."""
        natural = natural_watts(self._snapshot, self._table, self._policy)
        root, found = self._snapshot.site.root.name, {}
        for name, watts in natural.items():
            spare = self._policy.release_margin_ratio * self._snapshot.limit_watts(name)
            target = target_watts(self._snapshot, name, self._policy)
            unknown = 0.0 if name == root or meter_lost(self._snapshot, name) else np.inf
            found[name] = unknown if watts is None else target - watts - spare
        return found

    def _slowdown_now(self, job_id: str) -> float:
        curve, advised = self._snapshot.learned.get(job_id), self._snapshot.micro_batches.get(job_id)
        return 0.0 if curve is None or advised is None else batch_slowdown(curve, advised)

    def _progress(self, job_id: str) -> JobProgress | None:
        """A job's latest word, where it is fresh and says what its batches are."""
        found = self._snapshot.progress.get(job_id)
        if found is None or found.age_seconds > _HEARD_SECONDS:
            return None
        return found if found.micro_batch and found.max_micro_batch and found.global_batch else None


def _fits(progress: JobProgress, micro_batch: int) -> bool:
    """Whether a job can take so many at a time and still keep its global batch."""
    most, whole = progress.max_micro_batch or 0, progress.global_batch or 0
    return 0 < micro_batch <= most and whole % micro_batch == 0
