"""Keep pending jobs from starting into a limit, no longer than they promised to wait."""

from collections.abc import Sequence

from slurm_power.model.action import HoldJob, ReleaseJob
from slurm_power.model.job import Flex, Job, JobState
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.loads import pending_watts
from slurm_power.plan.policy import Policy

# A job without a time limit promised a share of an unknown time: count on one hour.
_ASSUMED_TIME_LIMIT_SECONDS = 3600.0


def longest_hold_seconds(job: Job) -> float:
    """The longest hold the job's promise allows: the promised slowdown of its time limit."""
    limit_seconds = _ASSUMED_TIME_LIMIT_SECONDS if job.time_limit_seconds is None else job.time_limit_seconds
    return job.flex.max_slowdown_ratio * limit_seconds


def plan_holds(
    snapshot: Snapshot, *, room_watts: float, hold_seconds: float, policy: Policy
) -> tuple[HoldJob | ReleaseJob, ...]:
    """Let pending jobs start in order of submission as far as ``room_watts`` reach; hold the flexible rest.

    ``room_watts`` is the free power at the grid connection with all running jobs uncapped. Jobs held by
    their users or with a later begin of their own do not compete. A held job is let go only with some room
    to spare, so that it does not flap.
    """
    actions: list[HoldJob | ReleaseJob] = []
    spare_watts = policy.release_margin_ratio * snapshot.limit_watts(snapshot.site.root.name)
    for job in _competing(snapshot):
        lease = snapshot.holds.get(job.job_id)
        needed_watts = pending_watts(snapshot, job, policy)
        fits = needed_watts + (0.0 if lease is None else spare_watts) <= room_watts
        # A lease counts earlier holds itself; without one they still count, or a job could wait for ever.
        waited_seconds = (
            snapshot.held_before_seconds.get(job.job_id, 0.0) if lease is None else lease.held_seconds
        )
        patience_seconds = longest_hold_seconds(job) - waited_seconds
        if fits or job.flex is Flex.FLEX0 or patience_seconds <= 0.0:
            room_watts -= needed_watts
            if lease is not None:
                reason = "there is room for it again" if fits else "it has waited as long as was promised"
                actions.append(ReleaseJob(job_id=job.job_id, reason=reason))
            continue
        if lease is None or lease.ends_in_seconds < 0.6 * hold_seconds:
            actions.append(
                HoldJob(
                    job_id=job.job_id,
                    seconds=min(hold_seconds, patience_seconds),
                    reason=f"would add {kilowatts_text(needed_watts)} where"
                    f" {kilowatts_text(max(0.0, room_watts))} are free; {job.flex.value} allows to wait"
                    f" {longest_hold_seconds(job):.0f} s",
                    saved_watts=needed_watts,
                )
            )
    return tuple(actions)


def _competing(snapshot: Snapshot) -> Sequence[Job]:
    pending = [
        job
        for job in snapshot.jobs
        if job.state is JobState.PENDING and job.gpu_count > 0 and not job.held_by_user
    ]
    ready = [
        job
        for job in pending
        if job.job_id in snapshot.holds or job.begin is None or job.begin <= snapshot.at
    ]
    return sorted(ready, key=lambda job: (job.submitted is None, job.submitted or snapshot.at, job.job_id))
