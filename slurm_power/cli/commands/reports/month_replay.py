"""A month's jobs in the virtual machine, levers off: what held jobs would have drawn had Slurm had room."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from slurm_power.model.job import Flex, JobState, Workload
from slurm_power.model.site import Site
from slurm_power.plan.policy import Policy
from slurm_power.report.month.month import MonthAccount
from slurm_power.report.month.month_columns import Values
from slurm_power.simulate.cluster import Hardware, Layout, PlantJob, gpus_in_use, natural_watts
from slurm_power.simulate.jobs_run import Window, simulate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replay:
    """The load without us by the virtual machine, shape (n,), and how many of the month's jobs it knew."""

    watts: Values
    jobs: int
    left_out: int


def replayed(
    records: Iterable[Mapping[str, Any]], account: MonthAccount, site: Site, policy: Policy
) -> Replay:
    """Run a month's jobs twice and put the difference onto the load as it was reckoned.

    Once each as it started and for as long as it ran; once from the moment it could have started, for as
    long as it would have run uncapped, when the machine has GPUs for it. Both uncapped, so what the machine
    does not know (cooling, hosts, other loads) falls out. Raises ValueError where the site has no nodes or
    too few GPUs for what ran.
    """
    columns = account.columns
    start, end, step = columns.start_seconds, columns.end_seconds, columns.step_seconds
    found = [
        job
        for record in records
        if record.get("started") and (job := _job(record, policy)) is not None
        if job.ran.eligible_seconds < end and job.ran.eligible_seconds + job.ran.work_seconds > start
    ]
    known = [job for job in found if job.ran.gpus > 0 and job.ran.dynamic_watts > 0.0]
    if not known:
        raise ValueError("no job of the month is known well enough")
    per_node = max(math.ceil(job.ran.gpus / job.nodes) for job in known)
    layout = Layout(site, Hardware(gpus_per_node=per_node, board_idle_watts=policy.idle_gpu_watts))
    as_it_was = natural_watts(layout, [job.ran for job in known], start, step, columns.steps)
    # Records round: for a moment jobs may have used more than there is.
    used = gpus_in_use(job.ran for job in known)
    extra = max(0, max(used.values()) - layout.gpus)
    free = [
        replace(job.free, overlap_gpus=max(0, used[job.ran.eligible_seconds] - layout.gpus)) for job in known
    ]
    window = Window(begin_seconds=start, step_seconds=step, steps=columns.steps)
    without = simulate(layout, free, window, extra_gpus=extra).circuit_watts[:, 0]
    watts = np.maximum(account.reckoned_watts + np.where(columns.known, without - as_it_was, 0.0), 0.0)
    return Replay(watts=watts, jobs=len(known), left_out=len(found) - len(known))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One job as it ran, and as it would have, on so many nodes."""

    ran: PlantJob
    free: PlantJob
    nodes: int


def _job(record: Mapping[str, Any], policy: Policy) -> _Job | None:
    try:
        start = datetime.fromisoformat(str(record["started"])).timestamp()
        flex, workload = Flex(record.get("flex", "flex0")), Workload(record.get("workload", "training"))
    except ValueError:
        return None
    ran, gpus = _number(record, "running_seconds"), int(_number(record, "gpu_count"))
    seconds = _number(record, "seconds") or ran
    if ran <= 0.0 or gpus <= 0:
        return None
    drawn = _number(record, "mean_watts")
    uncapped = drawn + (_number(record, "saved_watt_seconds") / seconds if drawn > 0.0 else 0.0)
    nodes = record.get("nodes")
    job = PlantJob(
        job_id=str(record.get("job_id")),
        user=str(record.get("user", "")),
        account=str(record.get("account", "")),
        flex=flex,
        workload=workload,
        gpus=gpus,
        dynamic_watts=max(0.0, uncapped / gpus - policy.idle_gpu_watts),
        submit_seconds=start,
        eligible_seconds=start,
        ready_seconds=start,
        work_seconds=ran,
        limit_seconds=None,
        board_idle_watts=policy.idle_gpu_watts,
    )
    # A job that still runs has no end yet that it could have reached sooner.
    ended = record.get("state") == JobState.ENDED.value
    slower = min(_number(record, "slowdown_seconds"), 0.99 * ran) if ended else 0.0
    could = start - _number(record, "held_seconds")
    free = replace(
        job, submit_seconds=could, eligible_seconds=could, ready_seconds=could, work_seconds=ran - slower
    )
    return _Job(ran=job, free=free, nodes=max(1, len(nodes) if isinstance(nodes, list) else 1))


def _number(record: Mapping[str, Any], key: str) -> float:
    value = record.get(key)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0.0 else 0.0
