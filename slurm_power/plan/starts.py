"""Which jobs are about to start, when at the soonest, and what that adds to each circuit of the tree."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from slurm_power.model.forecast import ComingStart
from slurm_power.model.job import Job, JobState
from slurm_power.model.site import Site
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.job_table import gpu_counts
from slurm_power.plan.loads import added_watts, circuit_weights, expected_watts, still_starting
from slurm_power.plan.policy import Policy

_MOST_UNDATED = 500


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
        for name, factor in site.path_factors(circuit.name):
            gpus[name] += count
            factors[name] = max(factors[name], factor)
    return {name: Room(gpus[name], factors[name]) for name in site.circuits}


def coming_starts(snapshot: Snapshot, policy: Policy, room: Mapping[str, Room]) -> tuple[ComingStart, ...]:
    """Every start that can come or has just come, the soonest first; those nobody can date come last.

    Jobs that their users or an administrator hold, and jobs without GPUs, are not about to start. Of those
    nobody can date only the first of the list are there: a queue may be tens of thousands long.
    """
    found: list[ComingStart] = []
    steps: dict[tuple[int, float], Mapping[str, float]] = {}
    undated = 0
    for job in snapshot.jobs:
        if job.gpu_count <= 0 or job.held_by_user:
            continue
        if job.state is not JobState.PENDING and not still_starting(snapshot, job, policy):
            continue
        earliest, known_from = _earliest(snapshot, job)
        undated += earliest is None
        if earliest is not None or undated <= _MOST_UNDATED:
            found.append(_coming(snapshot, job, policy, room, steps, earliest, known_from))
    return tuple(sorted(found, key=lambda start: (start.lead_seconds is None, start.lead_seconds or 0.0)))


def _coming(  # noqa: PLR0917  # one place calls it
    snapshot: Snapshot,
    job: Job,
    policy: Policy,
    room: Mapping[str, Room],
    known_steps: dict[tuple[int, float], Mapping[str, float]],
    earliest: datetime | None,
    known_from: str,
) -> ComingStart:
    root = snapshot.site.root
    placed = job.state is not JobState.PENDING and bool(job.nodes or job.gpus_by_node)
    gpus = _gpus(job, room[root.name].gpus)
    each_watts = added_watts(expected_watts(snapshot, job, policy), policy)
    if placed:
        weights = circuit_weights(snapshot, gpu_counts(job))
        steps: Mapping[str, float] = {name: weight * each_watts for name, weight in weights.items()}
    else:
        # Jobs that are alike add the same wherever they come to.
        if (gpus, each_watts) not in known_steps:
            known_steps[gpus, each_watts] = _unplaced_steps(gpus, each_watts, root.name, room)
        steps = known_steps[gpus, each_watts]
    return ComingStart(
        job_id=job.job_id,
        user=job.user,
        name=job.name,
        gpu_count=gpus,
        step_watts=steps,
        earliest=earliest,
        lead_seconds=None if earliest is None else max(0.0, (earliest - snapshot.at).total_seconds()),
        known_from=known_from,
        placed=placed,
        massive=steps.get(root.name, 0.0) >= policy.massive_start_ratio * root.ceiling_watts,
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


def _unplaced_steps(gpus: int, each_watts: float, root: str, room: Mapping[str, Room]) -> dict[str, float]:
    """What a start adds to each circuit it may come to: as many of its GPUs as are there."""
    weights = {
        name: min(gpus, there.gpus) * there.watts_per_watt for name, there in room.items() if there.gpus > 0
    }
    return {name: weight * each_watts for name, weight in (weights or {root: float(gpus)}).items()}
