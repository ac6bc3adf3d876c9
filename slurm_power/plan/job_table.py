"""Jobs as columns: the placed ones, and those that wait.

Fifty thousand jobs cost a third of a second as objects, a few milliseconds as columns. The columns of a list
of jobs are made once, since a list stays the same until the workload manager is asked again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from slurm_power.model.job import Flex, Job, JobState, Workload
from slurm_power.model.pool import Pool
from slurm_power.model.site import Site
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.allowed_nodes import allowed_counts
from slurm_power.plan.memo import LastFew
from slurm_power.plan.site_table import Numbers, SiteTable, Watts, site_table, summed

Flags = NDArray[np.bool_]

_PLACED = (JobState.STARTING, JobState.RUNNING, JobState.SUSPENDED)
WORKLOADS = tuple(Workload)
_WORKLOAD_NUMBER = {workload: number for number, workload in enumerate(WORKLOADS)}
FLEXES = tuple(Flex)
_FLEX_NUMBER = {flex: number for number, flex in enumerate(FLEXES)}
_SUBMITTED = attrgetter("submitted")
MOST_SLOWDOWN = np.array([flex.max_slowdown_ratio for flex in FLEXES])
# From the end of a hold to the start of its job: a scheduler's pass, and the prolog.
START_SECONDS = 60.0
# A job without a time limit promised a share of an unknown time: count on one hour.
ASSUMED_TIME_LIMIT_SECONDS = 3600.0


def gpu_counts(job: Job) -> list[tuple[str, int]]:
    """GPUs per node as the nodes reported them, else spread evenly over the nodes the job was given."""
    if job.gpus_by_node:
        return [(node, len(uuids)) for node, uuids in job.gpus_by_node]
    share, rest = divmod(job.gpu_count, len(job.nodes)) if job.nodes else (0, 0)
    return [(node, share + (index < rest)) for index, node in enumerate(job.nodes)]


def site_weights(site: Site, nodes: Iterable[tuple[str, int]]) -> dict[str, float]:
    """Watts seen by each circuit for one watt per GPU, given (node, GPU count) pairs."""
    weights: dict[str, float] = {}
    for node, gpu_count in nodes:
        nearest = site.circuit_of_node(node)
        if nearest is not None:
            for name, factor in site.path_factors(nearest):
                weights[name] = weights.get(name, 0.0) + gpu_count * factor
    return weights


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedJobs:
    """The jobs of one list that are on nodes and have GPUs, in its order.

    ``parts`` are what its nodes reported of each job's GPUs, ``part_job`` whose they are. For one watt per
    GPU of job ``weight_job[i]`` circuit ``weight_circuit[i]`` sees ``weight[i]`` watts, pairs may come twice.
    ``leaf_gpus`` are GPUs in use on the circuit ``leaf`` that feeds their node.
    ``started_at`` is in seconds of the epoch, infinite for a job in its prolog, minus infinite if unknown.
    ``limit_seconds`` is infinite without a time limit, ``ends_by_at`` without a deadline, ``own_cap_watts``
    where the user asks for no cap.
    """

    jobs: tuple[Job, ...]
    row: Mapping[str, int]
    parts: tuple[tuple[str, tuple[str, ...]], ...]
    part_job: Numbers
    weight_job: Numbers
    weight_circuit: Numbers
    weight: Watts
    leaf: Numbers
    leaf_gpus: Watts
    workload: Numbers
    started_at: Watts
    limit_seconds: Watts
    ends_by_at: Watts
    own_cap_watts: Watts
    _weights: dict[int, dict[str, float]]

    def circuit_weights(self, row: int, site: Site) -> dict[str, float]:
        """The watts that each circuit sees for one watt per GPU of one job."""
        found = self._weights.get(row)
        if found is None:
            found = self._weights[row] = site_weights(site, gpu_counts(self.jobs[row]))
        return found

    def circuit_watts(self, watts_per_gpu: Watts, circuits: int) -> Watts:
        """What that many circuits see of jobs that draw ``watts_per_gpu``, by job."""
        each = self.weight * watts_per_gpu[self.weight_job]
        return summed(self.weight_circuit, each, circuits)


_placed: LastFew[PlacedJobs] = LastFew(3)


def placed_jobs(snapshot: Snapshot) -> PlacedJobs:
    """The columns of the snapshot's placed jobs, made once for one list of jobs."""
    jobs, site = snapshot.jobs, snapshot.site
    return _placed.of(lambda: _placed_jobs(jobs, site), jobs, site)


def _placed_jobs(listed: tuple[Job, ...], site: Site) -> PlacedJobs:
    jobs = tuple(job for job in listed if job.state in _PLACED and (job.gpu_count > 0 or job.gpu_uuids))
    table = site_table(site)
    parts: list[tuple[str, tuple[str, ...]]] = []
    part_job: list[int] = []
    leaves: list[int] = []
    counts: list[int] = []
    rows: list[int] = []
    for row, job in enumerate(jobs):
        parts += job.gpus_by_node
        part_job += [row] * len(job.gpus_by_node)
        for node, count in gpu_counts(job):
            leaf = table.leaf_of_node.get(node)
            if leaf is not None:
                leaves.append(leaf)
                counts.append(count)
                rows.append(row)
    at_leaf, leaf_gpus = np.array(leaves, dtype=np.int64), np.array(counts, dtype=float)
    job_of, circuits, weights = spread(table, np.array(rows, dtype=np.int64), at_leaf, leaf_gpus)
    return PlacedJobs(
        jobs=jobs,
        row={job.job_id: row for row, job in enumerate(jobs)},
        parts=tuple(parts),
        part_job=np.array(part_job, dtype=np.int64),
        weight_job=job_of,
        weight_circuit=circuits,
        weight=weights,
        leaf=at_leaf,
        leaf_gpus=leaf_gpus,
        workload=np.array([_WORKLOAD_NUMBER[job.workload] for job in jobs], dtype=np.int64),
        started_at=np.array([_started_at(job) for job in jobs], dtype=float),
        limit_seconds=_or_infinite([job.time_limit_seconds for job in jobs]),
        ends_by_at=np.array([_ends_by_at(job) for job in jobs], dtype=float),
        own_cap_watts=_or_infinite([job.own_cap_watts for job in jobs]),
        _weights={},
    )


def spread(table: SiteTable, rows: Numbers, leaves: Numbers, gpus: Watts) -> tuple[Numbers, Numbers, Watts]:
    """(row, circuit, watts) of so many GPUs of each row at ``leaves``, for every circuit above them."""
    circuits = table.paths[leaves]
    known = circuits >= 0
    row_of = np.broadcast_to(rows[:, None], circuits.shape)
    return row_of[known], circuits[known], (table.factors[leaves] * gpus[:, None])[known]


def _or_infinite(values: list[float | None]) -> Watts:
    found: Watts = np.array(values, dtype=float)  # None becomes NaN
    found[np.isnan(found)] = np.inf
    return found


def _ends_by_at(job: Job) -> float:
    # Most jobs have neither, and there may be 50,000.
    if job.finish_by is None and job.deadline is None:
        return np.inf
    ends_by = job.ends_by
    return np.inf if ends_by is None else ends_by.timestamp()


def _started_at(job: Job) -> float:
    if job.state is JobState.STARTING:
        return np.inf
    if job.state is not JobState.RUNNING or job.started is None:
        return -np.inf
    return job.started.timestamp()


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingJobs:
    """The jobs of one list that wait for GPUs, without those their users hold; the first submitted first.

    ``submitted_at`` and ``begin_at`` are in seconds of the epoch, infinite where unknown and minus infinite
    where a job has no begin of its own; ``patience_seconds`` is the longest hold its promise allows,
    ``latest_start_at`` the moment to which a deadline lets us hold it (see `latest_start_at`).
    ``own_cap_watts`` is infinite where the user asks for no cap.
    """

    jobs: tuple[Job, ...]
    gpus: Watts
    tasks: Watts
    workload: Numbers
    flex: Numbers
    submitted_at: Watts
    begin_at: Watts
    limit_seconds: Watts
    patience_seconds: Watts
    latest_start_at: Watts
    own_cap_watts: Watts
    priority: Watts
    share_row: Numbers
    share_circuit: Numbers
    share: Watts
    _rows: dict[str, int]
    _owners: list[tuple[tuple[tuple[str, str], ...], Numbers]]

    @property
    def owners(self) -> tuple[tuple[tuple[str, str], ...], Numbers]:
        """Users with their accounts, and the number of each job's owner among them; made when asked for."""
        if not self._owners:
            known: dict[tuple[str, str], int] = {}
            numbers = [known.setdefault((job.user, job.account), len(known)) for job in self.jobs]
            self._owners.append((tuple(known), np.array(numbers, dtype=np.int64)))
        return self._owners[0]

    @property
    def row(self) -> Mapping[str, int]:
        """The row of each job by its id; made when somebody asks."""
        if not self._rows:
            self._rows.update({job.job_id: row for row, job in enumerate(self.jobs)})
        return self._rows


_pending: LastFew[PendingJobs] = LastFew(3)


def pending_jobs(snapshot: Snapshot) -> PendingJobs:
    """The columns of the snapshot's waiting jobs, made once for one list of jobs."""
    jobs, site, pools = snapshot.jobs, snapshot.site, snapshot.pools
    return _pending.of(lambda: _pending_jobs(jobs, site_table(site), pools), jobs, site, pools)


def _pending_jobs(listed: tuple[Job, ...], table: SiteTable, pools: Mapping[str, Pool]) -> PendingJobs:
    jobs = [
        job for job in listed if job.state is JobState.PENDING and job.gpu_count > 0 and not job.held_by_user
    ]
    submitted = np.array([_known_or_last(job.submitted) for job in jobs], dtype=float)
    order = np.argsort(submitted, kind="stable")
    in_order = tuple([jobs[number] for number in order.tolist()])
    # Columns are read in the list's own order, in which the jobs lie in memory, and put in order as columns.
    flex = np.array([_FLEX_NUMBER[job.flex] for job in jobs], dtype=np.int64)[order]
    begins = [-np.inf if job.begin is None else job.begin.timestamp() for job in jobs]
    limit_seconds = np.array([_limit_seconds(job.time_limit_seconds) for job in jobs], dtype=float)[order]
    shares = _planned_shares(in_order, table, pools)
    most_hold = _or_infinite([job.max_hold_seconds for job in jobs])[order]
    return PendingJobs(
        jobs=in_order,
        gpus=np.array([job.gpu_count for job in jobs], dtype=float)[order],
        tasks=np.array([job.task_count for job in jobs], dtype=float)[order],
        workload=np.array([_WORKLOAD_NUMBER[job.workload] for job in jobs], dtype=np.int64)[order],
        flex=flex,
        submitted_at=submitted[order],
        begin_at=np.array(begins, dtype=float)[order],
        limit_seconds=limit_seconds,
        patience_seconds=np.minimum(MOST_SLOWDOWN[flex] * limit_seconds, most_hold),
        latest_start_at=_latest_starts(jobs)[order],
        own_cap_watts=_or_infinite([job.own_cap_watts for job in jobs])[order],
        priority=np.array([job.priority or 0.0 for job in jobs], dtype=float)[order],
        share_row=shares[0],
        share_circuit=shares[1],
        share=shares[2],
        _rows={},
        _owners=[],
    )


def _latest_starts(jobs: list[Job]) -> Watts:
    found = np.full(len(jobs), np.inf)
    for row, job in enumerate(jobs):
        if job.finish_by is not None or job.deadline is not None:
            found[row] = latest_start_at(job)
    return found


def _limit_seconds(limit_seconds: float | None) -> float:
    return ASSUMED_TIME_LIMIT_SECONDS if limit_seconds is None else limit_seconds


def _known_or_last(at: datetime | None) -> float:
    return np.inf if at is None else at.timestamp()


def _planned_shares(
    jobs: tuple[Job, ...], table: SiteTable, pools: Mapping[str, Pool]
) -> tuple[Numbers, Numbers, Watts]:
    """What the jobs with planned nodes add to which circuit, each pair once.

    A job that is kept off nodes adds the most it could to each circuit with nodes that are left to it.
    """
    rows, leaves, gpus = [], [], []
    kept = [(row, job) for row, job in enumerate(jobs) if job.avoids]
    for row, job in [(row, job) for row, job in enumerate(jobs) if job.planned_nodes and not job.avoids]:
        for node in job.planned_nodes:
            leaf = table.leaf_of_node.get(node)
            if leaf is not None:
                rows.append(row)
                leaves.append(leaf)
                gpus.append(job.gpu_count / len(job.planned_nodes))
    where = np.array(leaves, dtype=np.int64)
    row_of, circuits, watts = spread(
        table, np.array(rows, dtype=np.int64), where, np.array(gpus, dtype=float)
    )
    for row, job in kept:
        found = worst_shares(job.gpu_count, allowed_counts(job, pools), table)
        row_of = np.append(row_of, np.full(len(found), row))
        circuits = np.append(circuits, np.array(list(found), dtype=np.int64))
        watts = np.append(watts, np.array(list(found.values()), dtype=float))
    pairs, back = np.unique(row_of * len(table.names) + circuits, return_inverse=True)
    sums = summed(back, watts, len(pairs))
    return pairs // len(table.names), pairs % len(table.names), sums


def worst_shares(gpus: float, counts: Mapping[str, int], table: SiteTable) -> dict[int, float]:
    """The most that each circuit may see, for a watt per GPU, of ``gpus`` that start on nodes of ``counts``.

    ``counts``: by node, the GPUs it could give.
    """
    behind: dict[int, float] = {}
    factor: dict[int, float] = {}
    for node, count in counts.items():
        leaf = table.leaf_of_node.get(node)
        if leaf is None:
            continue
        for circuit, each in zip(table.paths[leaf].tolist(), table.factors[leaf].tolist(), strict=True):
            if circuit >= 0:
                behind[circuit] = behind.get(circuit, 0.0) + count
                factor[circuit] = max(factor.get(circuit, 0.0), each)
    return {circuit: min(gpus, most) * factor[circuit] for circuit, most in behind.items()}


def flex_hold_seconds(job: Job) -> float:
    """The longest hold the job's flex class allows: the promised slowdown of its time limit."""
    limit_seconds = ASSUMED_TIME_LIMIT_SECONDS if job.time_limit_seconds is None else job.time_limit_seconds
    return job.flex.max_slowdown_ratio * limit_seconds


def longest_hold_seconds(job: Job) -> float:
    """The longest hold the job's promise allows: its class's, and no longer than its user lets us."""
    by_class = flex_hold_seconds(job)
    return by_class if job.max_hold_seconds is None else min(by_class, job.max_hold_seconds)


def latest_start_at(job: Job) -> float:
    """The last moment, in seconds of the epoch, to which we may hold a job that has a deadline.

    Started then, and some time later since the workload manager takes its time, it ends before its deadline
    by its time limit. Infinite without a deadline; minus infinite with one and no time limit: nobody knows
    how long such a job needs, so it is never held.
    """
    if job.finish_by is None and job.deadline is None:
        return np.inf
    if job.time_limit_seconds is None:
        return -np.inf
    return _ends_by_at(job) - job.time_limit_seconds - START_SECONDS
