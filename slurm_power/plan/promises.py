"""What users let us do to their jobs beside their flex class: how long to hold, by when to have ended.

A deadline binds every lever that is there for money. What a job still needs is its time limit, and what we
have taken from it so far: more than it needs, since its limit is its user's own upper bound.
"""

from datetime import datetime

import numpy as np

from slurm_power.model.job import Job
from slurm_power.model.snapshot import Lost, Snapshot
from slurm_power.plan.job_table import MOST_SLOWDOWN, PlacedJobs, flex_hold_seconds
from slurm_power.plan.learned_curve import batch_slowdown
from slurm_power.plan.site_table import Numbers, Watts

_NO_LOST = Lost()


def hold_promise(job: Job) -> str:
    """Which promise bounds a hold, in words for its owner."""
    by_class = flex_hold_seconds(job)
    if job.max_hold_seconds is not None and job.max_hold_seconds < by_class:
        found = f"its user allows to hold it for {job.max_hold_seconds:.0f} s"
    else:
        found = f"{job.flex.value} allows to wait {by_class:.0f} s"
    return f"{found}, {deadline_words(job)}" if job.ends_by is not None else found


def deadline_words(job: Job) -> str:
    """By when a job is to have ended, in words; empty without a deadline."""
    ends_by = job.ends_by
    return "" if ends_by is None else f"and it is to end by {ends_by:%Y-%m-%dT%H:%M:%SZ}"


def spare_seconds(snapshot: Snapshot, job: Job) -> float:
    """How much later than by its time limit a placed job may end, by its deadline; at least 0.

    Infinite without a deadline; 0 where nobody knows how long it needs.
    """
    ends_by = job.ends_by
    if ends_by is None:
        return np.inf
    if job.time_limit_seconds is None:
        return 0.0
    needed_seconds = _needed_seconds(snapshot.at, job) + snapshot.lost.get(job.job_id, _NO_LOST).seconds
    return max(0.0, (ends_by - snapshot.at).total_seconds() - needed_seconds)


def _needed_seconds(at: datetime, job: Job) -> float:
    limit_seconds = job.time_limit_seconds or 0.0
    ran_seconds = 0.0 if job.started is None else max(0.0, (at - job.started).total_seconds())
    return max(0.0, limit_seconds - ran_seconds)


def allowed_slowdowns(snapshot: Snapshot, placed: PlacedJobs, flex: Numbers) -> Watts:
    """The largest slowdown that the promises of each placed job allow for money (``flex`` by class number).

    A job that needs N seconds and has T left until its deadline may be slowed by 1 - N / T: it then ends in
    time even if it runs slowed until its end. As it goes on so, that share stays the same.
    """
    allowed: Watts = MOST_SLOWDOWN[flex]
    rows = np.flatnonzero(placed.ends_by_at < np.inf).tolist()
    for row in rows:
        job = placed.jobs[row]
        left_seconds = placed.ends_by_at[row] - snapshot.at.timestamp()
        share = spare_seconds(snapshot, job) / left_seconds if left_seconds > 0.0 else 0.0
        allowed[row] = min(allowed[row], share)
    for job_id, micro_batch in snapshot.micro_batches.items():
        number, curve = placed.row.get(job_id), snapshot.learned.get(job_id)
        if number is not None and curve is not None:
            # What a smaller micro-batch costs it already is no longer there for a cap to take.
            taken = min(0.99, batch_slowdown(curve, micro_batch))
            allowed[number] = max(0.0, (allowed[number] - taken) / (1.0 - taken))
    return allowed
