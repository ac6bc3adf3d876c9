"""A log of jobs that have run as CSV; every bad row is named at once."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from slurm_power.cli.commands.table_file import TableFileError, opened

COLUMNS = ("submit", "start", "end", "reqt", "gpus", "kw_per_gpu", "user")
# These may be there too.
MORE_COLUMNS = ("account", "name", "workload", "tier", "gpu_type", "flex", "job")
_MOST_PROBLEMS = 20
# Epoch seconds reach this in the year 5138.
_MOST = 1e11
# Far above what any GPU draws with its share of the host: a column in watts reads 50 and more.
_MOST_KW_PER_GPU = 20.0


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job: times in epoch seconds, its limit in seconds, its draw per GPU in watts."""

    user: str
    gpus: float
    limit_seconds: float
    watts_per_gpu: float
    submit_seconds: float
    start_seconds: float
    end_seconds: float
    account: str = ""
    name: str = ""
    workload: str = ""
    tier: str = ""
    gpu_type: str = ""
    flex: str = ""
    job: str = ""


def read_jobs(path: Path) -> list[JobRow]:
    """All jobs of a file, .gz or not, with the columns ``COLUMNS`` in any order. Raises TableFileError."""
    with opened(path) as lines:
        return _rows(csv.DictReader(lines, strict=True), str(path))


def _rows(table: "csv.DictReader[str]", name: str) -> list[JobRow]:
    missing = [column for column in COLUMNS if column not in (table.fieldnames or ())]
    if missing:
        raise TableFileError(
            [f"{name}: row 1 lacks {', '.join(missing)}; it has to name {', '.join(COLUMNS)}"]
        )
    jobs: list[JobRow] = []
    problems: list[str] = []
    for number, row in enumerate(table, start=2):
        try:
            if any(row.get(None) or ()):
                raise ValueError("has more columns than row 1 names; is a comma within a number?")
            jobs.append(_job(row))
        except ValueError as error:
            problems.append(f"{name}: row {number}: {error}")
            if len(problems) == _MOST_PROBLEMS:
                problems.append("and perhaps more: reading stopped here")
                break
    if problems:
        raise TableFileError(problems)
    if not jobs:
        raise TableFileError([f"{name}: it has no jobs"])
    return jobs


def _job(row: dict[str, str]) -> JobRow:
    job = JobRow(
        user=(row["user"] or "").strip(),
        gpus=_number(row, "gpus"),
        limit_seconds=_number(row, "reqt"),
        watts_per_gpu=1_000.0 * _number(row, "kw_per_gpu", zero=True),
        submit_seconds=_number(row, "submit", zero=True),
        start_seconds=_number(row, "start", zero=True),
        end_seconds=_number(row, "end", zero=True),
        **{column: (row.get(column) or "").strip() for column in MORE_COLUMNS},
    )
    if job.watts_per_gpu > 1_000.0 * _MOST_KW_PER_GPU:
        raise ValueError(f"kw_per_gpu {row['kw_per_gpu']!r} is more than a GPU can draw; are those watts?")
    if not job.user:
        raise ValueError("user is empty")
    if not job.submit_seconds <= job.start_seconds <= job.end_seconds:
        raise ValueError("submit, start and end are not in this order")
    return job


def _number(row: dict[str, str], column: str, *, zero: bool = False) -> float:
    text = (row[column] or "").strip()
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{column} {text!r} is no number") from None
    if not math.isfinite(value) or value > _MOST or value < 0.0 or (value == 0.0 and not zero):
        raise ValueError(
            f"{column} {text!r} has to be {'0 or more' if zero else 'more than 0'} (to {_MOST:g})"
        )
    return value
