"""Which jobs are about to start, when at the soonest, and what that adds to each circuit of the tree."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from slurm_power.model.forecast import ComingStart
from slurm_power.model.job import Job, JobState
from slurm_power.model.site import Site
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.job_table import gpu_counts
from slurm_power.plan.loads import circuit_weights, expected_watts, still_starting
from slurm_power.plan.policy import Policy


@dataclass(frozen=True, slots=True)
class Room:
    """What a circuit feeds: its GPUs, and the watts it sees at the worst for one watt at a GPU."""

    gpus: int
    watts_per_watt: float


def rooms(site: Site, gpus_by_node: Mapping[str, int]) -> dict[str, Room]:
    """The room of each circuit; once per site and not once per job: a tree may have thousands of nodes."""
    gpus = dict.fromkeys(site.circuits, 0)
    factors = dict.fromkeys(site.circuits, 1.0)
    for circuit in site.circuits.values():
        if not circuit.nodes:
            continue
        count = sum(gpus_by_node.get(node, 0) for node in circuit.nodes)
        factor = 1.0
        for name in site.path(circuit.name):
            factor *= site.circuits[name].overhead_ratio
            gpus[name] += count
            factors[name] = max(factors[name], factor)
    return {name: Room(gpus[name], factors[name]) for name in site.circuits}


def coming_starts(snapshot: Snapshot, policy: Policy, room: Mapping[str, Room]) -> tuple[ComingStart, ...]:
    """Every start that can come or has just come, the soonest first; those nobody can date come last.

    Jobs that their users or an administrator hold, and jobs without GPUs, are not about to start.
    """
    root = snapshot.site.root
    found = [
        _coming(snapshot, job, policy, room, massive_watts=policy.massive_start_ratio * root.ceiling_watts)
        for job in snapshot.jobs
        if job.gpu_count > 0 and not job.held_by_user
        if job.state is JobState.PENDING or still_starting(snapshot, job, policy)
    ]
    return tuple(sorted(found, key=lambda start: (start.lead_seconds is None, start.lead_seconds or 0.0)))


def _coming(
    snapshot: Snapshot, job: Job, policy: Policy, room: Mapping[str, Room], *, massive_watts: float
) -> ComingStart:
    earliest, known_from = _earliest(snapshot, job)
    placed = job.state is not JobState.PENDING and bool(job.nodes or job.gpus_by_node)
    steps = _step_watts(snapshot, job, policy, room, placed=placed)
    lead = None if earliest is None else max(0.0, (earliest - snapshot.at).total_seconds())
    return ComingStart(
        job_id=job.job_id,
        user=job.user,
        name=job.name,
        gpu_count=_gpus(job, room[snapshot.site.root.name].gpus),
        step_watts=steps,
        earliest=earliest,
        lead_seconds=lead,
        known_from=known_from,
        placed=placed,
        massive=steps.get(snapshot.site.root.name, 0.0) >= massive_watts,
    )


def _earliest(snapshot: Snapshot, job: Job) -> tuple[datetime | None, str]:
    """When a job can start at the soonest and who says so: the latest of all that is known."""
    if job.state is JobState.STARTING:
        return snapshot.at, "its prolog runs"
    if job.state is not JobState.PENDING:
        return job.started, "it has started"
    known: list[tuple[datetime, str]] = []
    hold = snapshot.holds.get(job.job_id)
    if hold is not None:
        known.append((snapshot.at + timedelta(seconds=hold.ends_in_seconds), "our hold ends"))
    elif job.begin is not None:
        known.append((job.begin, "its begin time"))
    if job.expected_start is not None and (not known or job.expected_start > known[0][0]):
        known.append((job.expected_start, "Slurm's plan"))
    if not known:
        return None, "nobody yet"
    return max(known, key=lambda one: one[0])


def _gpus(job: Job, site_gpus: int) -> int:
    """GPUs that start together; of an array never more tasks than there are GPUs for."""
    wanted = job.gpu_count * job.task_count
    return max(job.gpu_count, min(wanted, site_gpus)) if site_gpus else wanted


def _step_watts(
    snapshot: Snapshot, job: Job, policy: Policy, room: Mapping[str, Room], *, placed: bool
) -> dict[str, float]:
    """What the start adds to each circuit it may touch."""
    added_watts = max(
        0.0, expected_watts(snapshot, job, policy) - policy.idle_gpu_watts + policy.host_watts_per_gpu
    )
    if placed:
        weights = circuit_weights(snapshot, gpu_counts(job))
    else:
        gpus = _gpus(job, room[snapshot.site.root.name].gpus)
        weights = {
            name: min(gpus, there.gpus) * there.watts_per_watt
            for name, there in room.items()
            if there.gpus > 0
        } or {snapshot.site.root.name: float(gpus)}
    return {name: weight * added_watts for name, weight in weights.items()}
