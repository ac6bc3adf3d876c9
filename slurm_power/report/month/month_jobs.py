"""What job records add to a month without us: slowed jobs would have ended earlier, held ones begun so."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from slurm_power.model.job import JobState
from slurm_power.model.site import Site
from slurm_power.ports import LocalStore
from slurm_power.report.month.month_columns import Values

_PAGE = 1000
_PAGES_OVER = 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobShifts:
    """Watts at the grid connection to add to the load as it was reckoned, shape (n,).

    ``slowed_watts`` (never above 0) is what jobs drew after the moment they would have ended without caps.
    ``delayed_watts`` moves what held and paused jobs drew to when they would have drawn it, had each begun
    at once: that is not certain, since Slurm may have had no room for them.
    """

    slowed_watts: Values
    delayed_watts: Values
    slowed_jobs: int
    delayed_jobs: int
    lost_gpu_hours: float
    held_gpu_hours: float


def job_shifts(
    records: Iterable[Mapping[str, Any]],
    *,
    start_seconds: float,
    step_seconds: float,
    steps: int,
    site: Site | None = None,
) -> JobShifts:
    """Look through the records of jobs; those that cannot be read, or ran at another time, add nothing."""
    end_seconds = start_seconds + step_seconds * steps
    # A cumulative sum of these edges is the column: each job costs the same, however long it ran.
    slowed, delayed = _Steps(start_seconds, step_seconds, steps), _Steps(start_seconds, step_seconds, steps)
    slowed_jobs = delayed_jobs = 0
    lost = held = 0.0
    for record in records:
        job = _job(record, site)
        if job is None or job.start_seconds >= end_seconds or job.end_seconds <= start_seconds:
            continue
        if job.slower_seconds > 0.0:
            slowed_jobs += 1
            lost += job.gpu_count * job.slower_seconds / 3600.0
            if job.has_ended:
                slowed.add(job.end_seconds - job.slower_seconds, job.end_seconds, -job.watts)
        if job.held_seconds > 0.0 or job.paused_seconds > 0.0:
            delayed_jobs += 1
            held += job.gpu_count * (job.held_seconds + job.paused_seconds) / 3600.0
            later = job.held_seconds
            delayed.add(job.start_seconds - later, job.start_seconds, job.watts)
            if job.paused_since is not None:
                delayed.add(job.paused_since, job.paused_since + job.paused_seconds, job.watts)
                later += job.paused_seconds
            if job.has_ended:
                delayed.add(job.end_seconds - later, job.end_seconds, -job.watts)
    return JobShifts(
        slowed_watts=slowed.column(),
        delayed_watts=delayed.column(),
        slowed_jobs=slowed_jobs,
        delayed_jobs=delayed_jobs,
        lost_gpu_hours=lost,
        held_gpu_hours=held,
    )


def records_since(store: LocalStore, start_seconds: float) -> Iterator[Mapping[str, Any]]:
    """The records of jobs that may have run after a moment, the last written first, a page at a time.

    A store keeps records for ever, and writes that of a job last soon after its end: when page after page
    ended before, so did the rest.
    """
    before: int | None = None
    pages_over = 0
    while pages_over < _PAGES_OVER and (page := store.latest_jobs(before, _PAGE)):
        before = page[-1][0]
        pages_over += 1
        for _, record in page:
            if not _ended_before(record, start_seconds):
                pages_over = 0
                yield record


def _ended_before(record: Mapping[str, Any], seconds: float) -> bool:
    start = _moment(record.get("started"))
    if start is None or record.get("state") != JobState.ENDED.value:
        return False
    ran = _number(record.get("running_seconds")) or _number(record.get("seconds"))
    return start + ran + _number(record.get("paused_seconds")) < seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    start_seconds: float
    end_seconds: float
    watts: float
    gpu_count: int
    slower_seconds: float
    held_seconds: float
    paused_seconds: float
    paused_since: float | None
    has_ended: bool


def _job(record: Mapping[str, Any], site: Site | None) -> _Job | None:
    start = _moment(record.get("started"))
    ran = _number(record.get("running_seconds")) or _number(record.get("seconds"))
    watts = _number(record.get("mean_watts"))
    if start is None or ran <= 0.0 or watts <= 0.0:
        return None
    paused = _number(record.get("paused_seconds"))
    nodes = record.get("nodes")
    factor = 1.0
    if site is not None and isinstance(nodes, list) and nodes:
        circuit = site.circuit_of_node(str(nodes[0]))
        factor = 1.0 if circuit is None else site.path_factors(circuit)[-1][1]
    return _Job(
        start_seconds=start,
        end_seconds=start + ran + paused,
        watts=watts * factor,
        gpu_count=int(_number(record.get("gpu_count"))),
        # It cannot have been slowed for longer than it ran.
        slower_seconds=min(_number(record.get("slowdown_seconds")), ran),
        held_seconds=_number(record.get("held_seconds")),
        paused_seconds=paused,
        paused_since=_moment(record.get("paused_since")),
        has_ended=record.get("state") == JobState.ENDED.value,
    )


def _number(value: object) -> float:
    return max(0.0, float(value)) if type(value) in (int, float) and np.isfinite(value) else 0.0  # type: ignore[arg-type,call-overload]  # of those types


def _moment(value: object) -> float | None:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment.timestamp()


class _Steps:
    """Constant watts over spans of time, added up as means of steps."""

    def __init__(self, start_seconds: float, step_seconds: float, steps: int) -> None:
        self._start, self._step, self._steps = start_seconds, step_seconds, steps
        self._watts = np.zeros(steps + 1)

    def add(self, since: float, until: float, watts: float) -> None:
        """Add watts over [since, until), as far as that is inside."""
        first = min(max((since - self._start) / self._step, 0.0), float(self._steps))
        last = min(max((until - self._start) / self._step, 0.0), float(self._steps))
        if last <= first:
            return
        low, high = int(first), int(last)
        if low == high:
            self._watts[low] += (last - first) * watts
            return
        self._watts[low] += (low + 1 - first) * watts
        self._watts[low + 1 : high] += watts
        self._watts[high] += (last - high) * watts

    def column(self) -> Values:
        """The sum; what reached beyond the last step is cut off."""
        return self._watts[: self._steps]
