"""A log of jobs in any of the three forms: a CSV of ours, what sacct prints, the Standard Workload Format."""

import itertools
import math
from collections import Counter
from datetime import UTC, tzinfo
from pathlib import Path

from slurm_power.cli.commands.simulations.jobs_file import JobRow, read_jobs
from slurm_power.cli.commands.table_file import opened
from slurm_power.model.job import Flex, Workload
from slurm_power.simulate.job_logs import (
    JobLog,
    JobLogError,
    LoggedJob,
    job_log,
    looks_like,
    read_sacct,
    read_swf,
)

_MOST_PROBLEMS = 20


def read_log(path: Path, zone: tzinfo = UTC, gpus_per_processor: float = 1.0) -> JobLog:
    """The kind is told by how the file begins. Raises TableFileError or JobLogError with all problems."""
    with opened(path) as lines:
        head = list(itertools.islice(lines, 5))
        kind = looks_like(head)
        if kind == "sacct":
            return read_sacct(itertools.chain(head, lines), str(path), zone)
        if kind == "swf":
            return read_swf(itertools.chain(head, lines), str(path), gpus_per_processor)
    return _from_rows(read_jobs(path), str(path))


def _from_rows(rows: list[JobRow], name: str) -> JobLog:
    """Rows of a CSV as a log; every word that is none of ours is told."""
    problems = []
    left_out: Counter[str] = Counter()
    jobs = []
    for number, row in enumerate(rows, start=2):
        if row.workload and row.workload not in list(Workload):
            problems.append(
                f"{name}: row {number}: workload {row.workload!r} is none of {', '.join(Workload)}"
            )
        if row.flex and row.flex not in list(Flex):
            problems.append(f"{name}: row {number}: flex {row.flex!r} is none of {', '.join(Flex)}")
        if problems:
            continue
        if row.end_seconds <= row.start_seconds:
            left_out["ran no time"] += 1
        else:
            jobs.append(_logged(row, number))
    if problems:
        shown = problems[:_MOST_PROBLEMS]
        raise JobLogError([*shown, *(["and more like these"] if len(problems) > len(shown) else [])])
    return job_log(jobs, left_out, name)


def _logged(row: JobRow, number: int) -> LoggedJob:
    """A row of a CSV as a logged job; its number is its id where the log has none."""
    return LoggedJob(
        job_id=row.job or str(number - 1),
        user=row.user,
        account=row.account,
        gpus=max(1, math.ceil(row.gpus)),
        submit_seconds=row.submit_seconds,
        start_seconds=row.start_seconds,
        run_seconds=row.end_seconds - row.start_seconds,
        limit_seconds=row.limit_seconds,
        watts_per_gpu=row.watts_per_gpu,
        workload=Workload(row.workload) if row.workload else Workload.TRAINING,
        flex=Flex(row.flex) if row.flex else None,
    )
