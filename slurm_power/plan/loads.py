"""What jobs draw, would draw uncapped, and are about to draw, on each circuit of the tree."""

from collections.abc import Iterable
from dataclasses import dataclass

from slurm_power.model.job import Job, JobState
from slurm_power.model.reading import GpuReading, Quality
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.curves import expected_gpu_watts
from slurm_power.plan.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLoad:
    """One job's draw per GPU; ``circuit_weights``: the watts each circuit sees for one watt per GPU.

    ``gpu_watts`` is the mean over its GPUs now, ``busiest_watts`` the highest of them,
    ``uncapped_watts`` what the mean would be without our cap,
    ``coming_watts`` what is still expected on top while it starts (per GPU, host share included).
    ``reachable`` is False while no node reports its GPUs, and in MIG mode, where a cap on a GPU would meet
    all jobs that share it: such a job cannot be capped.
    ``yielded`` is True where it runs on a node that takes no economic cap: a synchronous job is capped whole.
    ``covered`` is False while a GPU of it does not answer: for records its draw is then unknown.
    """

    job: Job
    reachable: bool
    gpu_watts: float
    busiest_watts: float
    uncapped_watts: float
    coming_watts: float
    cap_watts: float | None
    default_cap_watts: float
    min_cap_watts: float
    circuit_weights: dict[str, float]
    yielded: bool = False
    covered: bool = True


def circuit_weights(snapshot: Snapshot, nodes: Iterable[tuple[str, int]]) -> dict[str, float]:
    """Watts seen by each circuit for one watt per GPU, given (node, GPU count) pairs.

    Each circuit adds its own losses (``overhead_ratio``) on the way up.
    """
    weights: dict[str, float] = {}
    for node, gpu_count in nodes:
        factor = float(gpu_count)
        for name in snapshot.site.circuits_of_node(node):
            factor *= snapshot.site.circuits[name].overhead_ratio
            weights[name] = weights.get(name, 0.0) + factor
    return weights


def job_loads(snapshot: Snapshot, policy: Policy) -> tuple[JobLoad, ...]:
    """The load of every job that has GPUs, in the order of ``snapshot.jobs``."""
    placed = (JobState.STARTING, JobState.RUNNING, JobState.SUSPENDED)
    return tuple(
        _job_load(snapshot, job, policy)
        for job in snapshot.jobs
        if job.state in placed and (job.gpu_count > 0 or job.gpu_uuids)
    )


def expected_watts(snapshot: Snapshot, job: Job, policy: Policy) -> float:
    """The mean draw per GPU to expect of a job: by what jobs like it drew, else by its class.

    For what lasts: holds, coming starts, a job whose GPUs do not answer. A careful figure would hold jobs for
    which there is room, one after the other; when one draws more, caps and batteries are there at once.
    """
    known = snapshot.expected.get(job.job_id)
    return expected_gpu_watts(job.workload, policy) if known is None else known.mean_watts


def _start_watts(snapshot: Snapshot, job: Job, policy: Policy) -> float:
    """The level per GPU to be ready for while a job starts: its 95th percentile, at least its usual step.

    Careful, since it is for seconds, guards limits, and costs nothing once the draw itself is seen.
    """
    known = snapshot.expected.get(job.job_id)
    if known is None:
        return expected_gpu_watts(job.workload, policy)
    return max(known.p95_watts, policy.idle_gpu_watts + known.start_step_watts)


def _job_load(snapshot: Snapshot, job: Job, policy: Policy) -> JobLoad:
    gpus = _gpus(snapshot, job)
    lease = snapshot.caps.get(job.job_id)
    lasting_watts = expected_watts(snapshot, job, policy)
    gpu_watts = sum(gpu.power_watts for gpu in gpus) / len(gpus) if gpus else lasting_watts
    default_cap_watts = min((gpu.default_cap_watts for gpu in gpus), default=lasting_watts)
    uncapped_watts = gpu_watts if lease is None else max(gpu_watts, lease.uncapped_watts)
    coming_watts = 0.0
    if still_starting(snapshot, job, policy) and gpus:
        uncapped_watts = max(uncapped_watts, lasting_watts)
        start_watts = _start_watts(snapshot, job, policy)
        if job.job_id in snapshot.expected:
            # A percentile of what is hardly known may lie where no GPU can go.
            start_watts = min(start_watts, max(default_cap_watts, lasting_watts))
        top_watts = start_watts if lease is None else min(start_watts, lease.cap_watts)
        missing_watts = top_watts - gpu_watts
        # The host follows its GPUs: the share of it that is still to come shrinks with theirs.
        span_watts = max(start_watts - policy.idle_gpu_watts, 1.0)
        host_watts = policy.host_watts_per_gpu * max(0.0, min(1.0, missing_watts / span_watts))
        coming_watts = max(0.0, missing_watts) + host_watts
    return JobLoad(
        job=job,
        reachable=bool(gpus) and not any(gpu.mig_enabled for gpu in gpus),
        gpu_watts=gpu_watts,
        busiest_watts=max((gpu.power_watts for gpu in gpus), default=gpu_watts),
        uncapped_watts=uncapped_watts,
        coming_watts=coming_watts,
        cap_watts=None if lease is None else lease.cap_watts,
        default_cap_watts=default_cap_watts,
        min_cap_watts=max((gpu.min_cap_watts for gpu in gpus), default=0.0),
        circuit_weights=circuit_weights(snapshot, gpu_counts(job)),
        covered=bool(gpus) and len(gpus) == len(job.gpu_uuids) and not any(gpu.error for gpu in gpus),
        yielded=any(node in snapshot.yielded_nodes for node, _ in job.gpus_by_node),
    )


def _gpus(snapshot: Snapshot, job: Job) -> list[GpuReading]:
    return [
        node.gpus[uuid]
        for name, uuids in job.gpus_by_node
        if (node := snapshot.nodes.get(name)) is not None
        for uuid in uuids
        if uuid in node.gpus
    ]


def gpu_counts(job: Job) -> list[tuple[str, int]]:
    """GPUs per node as the nodes reported them, else spread evenly over the nodes the job was given."""
    if job.gpus_by_node:
        return [(node, len(uuids)) for node, uuids in job.gpus_by_node]
    share, rest = divmod(job.gpu_count, len(job.nodes)) if job.nodes else (0, 0)
    return [(node, share + (index < rest)) for index, node in enumerate(job.nodes)]


def still_starting(snapshot: Snapshot, job: Job, policy: Policy) -> bool:
    """Whether a job that has started may not have reached its draw yet."""
    if job.state is JobState.STARTING:
        return True
    if job.state is not JobState.RUNNING or job.started is None:
        return False
    return (snapshot.at - job.started).total_seconds() < policy.start_expected_seconds


def pending_watts(snapshot: Snapshot, job: Job, policy: Policy) -> float:
    """What a pending job would add at the grid connection if it started now, in watts.

    Nobody knows yet where it will run, so the losses of the worst path to the grid connection are used.
    """
    per_gpu = expected_watts(snapshot, job, policy) - policy.idle_gpu_watts + policy.host_watts_per_gpu
    root = snapshot.site.root.name
    worst = max(
        (circuit_weights(snapshot, [(node, 1)]).get(root, 1.0) for node in snapshot.site.nodes()),
        default=1.0,
    )
    known_gpus = sum(len(node.gpus) for node in snapshot.nodes.values())
    gpus = job.gpu_count * job.task_count
    if known_gpus:
        # An array never starts more tasks at once than there are GPUs for.
        gpus = max(job.gpu_count, min(gpus, known_gpus))
    return max(0.0, per_gpu) * gpus * worst


def circuit_watts(snapshot: Snapshot, name: str) -> float | None:
    """A circuit's net draw: its own reading, else the sum of its children with its losses, else None."""
    reading = snapshot.circuits.get(name)
    if reading is not None and reading.quality is not Quality.INVALID:
        return reading.watts
    children = [c.name for c in snapshot.site.circuits.values() if c.parent == name]
    total = 0.0
    for child in children:
        watts = circuit_watts(snapshot, child)
        if watts is None:
            return None
        total += watts
    if not children:
        return None
    discharging = sum(
        ess.discharge_watts
        for key, ess in snapshot.ess.items()
        if snapshot.site.ess[key].circuit == name and ess.quality is not Quality.INVALID
    )
    return total * snapshot.site.circuits[name].overhead_ratio - discharging


def behind_discharge_watts(snapshot: Snapshot, name: str) -> float:
    """What batteries on this circuit or below it feed in now; positive is discharge."""
    return sum(
        ess.discharge_watts
        for key, ess in snapshot.ess.items()
        if name in snapshot.site.path(snapshot.site.ess[key].circuit) and ess.quality is not Quality.INVALID
    )
