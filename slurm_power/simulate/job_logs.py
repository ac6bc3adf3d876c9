"""Jobs that have run, from what people have: Slurm's ``sacct``, the Standard Workload Format, rows of a CSV.

Readers take lines, so that whoever opens the file (packed or not) is free. What cannot be used is told all at
once; what is left out on purpose (steps, jobs that never started) is counted in ``notes``.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import TypeVar

from slurm_power.model.job import Flex, Workload
from slurm_power.slurm import admin_comment

Found = TypeVar("Found")

_MOST_PROBLEMS = 20
_SWF_FIELDS = 18
_NOTHING = {"", "Unknown", "None", "N/A", "(null)", "NONE"}
_GPUS = re.compile(r"gres/gpu(?::(?P<type>[^=]+))?=(?P<count>\d+)")
_LIMIT = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)(?:\.\d+)?")
# Epoch seconds reach this in the year 5138; more are milliseconds.
_MOST_EPOCH_SECONDS = 1e11
_NEVER_RAN = "never started"
# No machine lives so long; what is computed by the quarter of an hour between two such times fits nowhere.
_MOST_YEARS = 30
_NEEDED = ("JobID", "User", "Submit", "Start", "End", "State")


class JobLogError(ValueError):
    """The log cannot be used; ``problems`` are sentences for the user, with lines."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(self.problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedJob:
    """One job as it ran, uncapped. Times in epoch seconds.

    ``start_seconds`` is None where the log does not say; ``limit_seconds`` None: no limit known.
    ``watts_per_gpu`` is the draw per GPU above idle, host share included, None: that of its class.
    ``flex`` None: to be drawn for its user.
    """

    job_id: str
    user: str
    gpus: int
    submit_seconds: float
    start_seconds: float | None
    run_seconds: float
    account: str = ""
    limit_seconds: float | None = None
    watts_per_gpu: float | None = None
    workload: Workload = Workload.TRAINING
    flex: Flex | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLog:
    """Jobs in the order of their submission, ids unique; ``notes`` says what was left out and why."""

    jobs: tuple[LoggedJob, ...]
    notes: tuple[str, ...] = ()


def job_log(jobs: Iterable[LoggedJob], left_out: Counter[str], name: str) -> JobLog:
    """Sort, make ids unique, count what was left out. Raises JobLogError when nothing is left."""
    found = sorted(jobs, key=lambda job: (job.submit_seconds, job.start_seconds or 0.0))
    notes = tuple(f"{count} left out: {why}" for why, count in sorted(left_out.items()))
    if not found:
        raise JobLogError([f"{name}: it has no job with GPUs that ran; {'; '.join(notes) or 'it is empty'}"])
    _check_span(found, name)
    times: Counter[str] = Counter()
    unique = []
    for job in found:
        times[job.job_id] += 1
        # A requeued job has one line for each of its runs.
        again = times[job.job_id]
        unique.append(job if again == 1 else replace(job, job_id=f"{job.job_id}#{again}"))
    return JobLog(jobs=tuple(unique), notes=notes)


def _check_span(jobs: list[LoggedJob], name: str) -> None:
    """Raises JobLogError where a time of the log cannot be."""

    def end_seconds(job: LoggedJob) -> float:
        start = job.submit_seconds if job.start_seconds is None else job.start_seconds
        return start + job.run_seconds

    first, last = jobs[0], max(jobs, key=end_seconds)
    if end_seconds(last) > _MOST_EPOCH_SECONDS:
        raise JobLogError(
            [f"{name}: job {last.job_id} ends at {end_seconds(last):.6g} s: is that epoch seconds?"]
        )
    years = (end_seconds(last) - first.submit_seconds) / (365.25 * 86_400.0)
    if years > _MOST_YEARS:
        raise JobLogError(
            [
                (
                    f"{name}: {years:.0f} years lie between the submission of job {first.job_id} and the end"
                    f" of job {last.job_id}; a time is wrong, or cut the log to {_MOST_YEARS} years"
                )
            ]
        )


def read_sacct(lines: Iterable[str], name: str, zone: tzinfo) -> JobLog:
    """Read ``sacct --parsable2`` (or ``--parsable``) with its header line.

    Needed: JobID, User, Submit, Start, End, State and AllocTRES or ReqTRES; used when there: Account,
    Timelimit, Comment, AdminComment (our own tags). Times without a zone are in ``zone``.
    A job that still ran (End is Unknown) is taken to end at its time limit, else when the log ends.
    """
    rows = enumerate(lines, start=1)
    header = next((line for _, line in rows if line.strip()), "").strip().rstrip("|").split("|")
    missing = [column for column in _NEEDED if column not in header]
    if "AllocTRES" not in header and "ReqTRES" not in header:
        missing.append("AllocTRES")
    if missing:
        raise JobLogError(
            [
                (
                    f"{name}: its first line lacks {', '.join(missing)}; write it with sacct --parsable2"
                    " --allocations --format=JobID,User,Account,State,Submit,Start,End,Timelimit,AllocTRES"
                )
            ]
        )
    jobs, left_out = _taken(
        rows,
        name,
        lambda line: _sacct_job(dict(zip(header, line.rstrip("\r\n").split("|"), strict=False)), zone),
    )
    last = max((job.submit_seconds + job.run_seconds for job, _ in jobs), default=0.0)
    last = max([last, *((job.start_seconds or 0.0) + job.run_seconds for job, _ in jobs)])
    return job_log((_ended(job, ends, last) for job, ends in jobs), left_out, name)


def _taken(
    rows: Iterable[tuple[int, str]], name: str, read: Callable[[str], Found | str]
) -> tuple[list[Found], Counter[str]]:
    """What ``read`` makes of the numbered lines, and how many it leaves out, by the reason it gives.

    Raises JobLogError with all lines of which it raises ValueError, up to a number.
    """
    problems: list[str] = []
    left_out: Counter[str] = Counter()
    taken: list[Found] = []
    for number, line in rows:
        if not line.strip():
            continue
        try:
            found = read(line)
        except ValueError as error:
            problems.append(f"{name}: line {number}: {error}")
            if len(problems) == _MOST_PROBLEMS:
                problems.append("and perhaps more: reading stopped here")
                break
            continue
        if isinstance(found, str):
            left_out[found] += 1
        else:
            taken.append(found)
    if problems:
        raise JobLogError(problems)
    return taken, left_out


def _ended(job: LoggedJob, ends: bool, last_seconds: float) -> LoggedJob:
    if ends or job.start_seconds is None:
        return job
    if job.limit_seconds is not None:
        return replace(job, run_seconds=job.limit_seconds)
    return replace(job, run_seconds=max(1.0, last_seconds - job.start_seconds))


def _sacct_job(row: dict[str, str], zone: tzinfo) -> tuple[LoggedJob, bool] | str:
    """A job and whether its end is known, or why the line is left out."""
    job_id = row["JobID"].strip()
    if "." in job_id:
        return "a step"
    state = (row.get("State") or "").split(" ", 1)[0]
    start, end = _moment(row, "Start", zone), _moment(row, "End", zone)
    submit = _moment(row, "Submit", zone)
    if submit is None:
        raise ValueError(f"job {job_id}: Submit {row.get('Submit', '')!r} is no time")
    if start is None or state in ("PENDING", "REVOKED"):
        return _NEVER_RAN
    if end is not None and end <= start:
        return _NEVER_RAN if state.startswith("CANCELLED") else "ran no time"
    gpus = _tres_gpus(row.get("AllocTRES", "")) or _tres_gpus(row.get("ReqTRES", ""))
    if not gpus:
        return "no GPUs"
    if not row["User"].strip():
        raise ValueError(f"job {job_id}: User is empty")
    # A requeued job keeps its first submission; some sites export them the other way round.
    submit = min(submit, start)
    workload, flex = admin_comment.tags(row.get("AdminComment", "") or row.get("Comment", ""))
    job = LoggedJob(
        job_id=job_id,
        user=row["User"].strip(),
        account=(row.get("Account") or "").strip(),
        gpus=gpus,
        submit_seconds=submit,
        start_seconds=start,
        run_seconds=0.0 if end is None else end - start,
        limit_seconds=_limit_seconds(row.get("Timelimit", "")),
        workload=workload or Workload.TRAINING,
        flex=flex,
    )
    return job, end is not None


def _moment(row: dict[str, str], column: str, zone: tzinfo) -> float | None:
    text = (row.get(column) or "").strip()
    if text in _NOTHING:
        return None
    if text.isdigit():  # SLURM_TIME_FORMAT=%s
        if float(text) > _MOST_EPOCH_SECONDS:
            raise ValueError(f"{column} {text!r} is no epoch seconds; are those milliseconds?")
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{column} {text!r} is no time such as 2026-01-31T08:00:00") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()


def _tres_gpus(text: str) -> int:
    """GPUs in a TRES string: the untyped count is their sum; without one the types are added up."""
    typed, untyped = 0, 0
    for match in _GPUS.finditer(text):
        if match["type"]:
            typed += int(match["count"])
        else:
            untyped = int(match["count"])
    return untyped or typed


def _limit_seconds(text: str) -> float | None:
    """``1-12:00:00`` as sacct writes it; None for UNLIMITED, Partition_Limit and nothing."""
    match = _LIMIT.fullmatch(text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    limit = 86400.0 * days + 3600.0 * hours + 60.0 * minutes + seconds
    return limit or None


def read_swf(lines: Iterable[str], name: str, gpus_per_processor: float = 1.0) -> JobLog:
    """Read the Standard Workload Format: 18 numbers a line, ``;`` before comments, -1 for unknown.

    ``; UnixStartTime:`` in the header dates the log, else it begins in 1970. Jobs that were cancelled before
    they started, or with no run time or processors, are left out, and so are the parts of a job that was
    checkpointed (status 2 to 4): its whole has a line of its own.
    """
    begin_seconds = 0.0

    def told() -> Iterator[tuple[int, str]]:
        nonlocal begin_seconds
        for number, line in enumerate(lines, start=1):
            match = re.match(r"\s*;\s*UnixStartTime:\s*(\d+)", line)
            begin_seconds = float(match[1]) if match else begin_seconds
            if begin_seconds > _MOST_EPOCH_SECONDS:
                raise JobLogError(
                    [f"{name}: line {number}: UnixStartTime is no epoch seconds; are those milliseconds?"]
                )
            if not line.lstrip().startswith(";"):
                yield number, line

    jobs, left_out = _taken(told(), name, lambda line: _swf_job(line, begin_seconds, gpus_per_processor))
    return job_log(jobs, left_out, name)


def _swf_job(text: str, begin_seconds: float, gpus_per_processor: float) -> LoggedJob | str:
    words = text.split()
    if len(words) != _SWF_FIELDS:
        raise ValueError(f"{len(words)} fields; the format has {_SWF_FIELDS}")
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"not all of its fields are numbers: {text[:60]!r}") from None
    if not all(abs(value) < 1e12 for value in values):
        raise ValueError("a field is no number that can be")
    job_number, submit, wait, run, used, *_ = values
    asked, limit, status, user, group = values[7], values[8], values[10], values[11], values[12]
    if submit < 0.0:
        raise ValueError("its submit time is negative")
    if submit > _MOST_EPOCH_SECONDS:
        raise ValueError(f"its submit time {submit:.0f} is no seconds; are those milliseconds?")
    processors = used if used > 0.0 else asked
    if status in (2.0, 3.0, 4.0):
        return "a part of a checkpointed job"
    if run <= 0.0 or processors <= 0.0:
        return _NEVER_RAN
    submitted = begin_seconds + submit
    return LoggedJob(
        job_id=f"{job_number:.0f}",
        user=f"{user:.0f}" if user >= 0.0 else "unknown",
        account=f"{group:.0f}" if group >= 0.0 else "",
        gpus=max(1, round(processors * gpus_per_processor)),
        submit_seconds=submitted,
        start_seconds=submitted + wait if wait >= 0.0 else None,
        run_seconds=run,
        limit_seconds=limit if limit > 0.0 else None,
    )


def looks_like(first_lines: Iterable[str]) -> str:
    """``sacct``, ``swf`` or ``csv``, by how a file begins."""
    for line in _told(first_lines):
        if line.startswith(";"):
            return "swf"
        if "|" in line and "JobID" in line:
            return "sacct"
        if "," not in line and len(line.split()) == _SWF_FIELDS:
            return "swf"
        return "csv"
    return "csv"


def _told(lines: Iterable[str]) -> Iterator[str]:
    return (line.strip() for line in lines if line.strip())
