"""Other years of a cluster: weeks of its job log drawn with replacement, and what they would have drawn."""

import heapq
from collections.abc import Sequence

import numpy as np

from slurm_power.cli.commands.simulations.jobs_file import JobRow
from slurm_power.plan.peak_level import Values
from slurm_power.simulate.ess import Load

WEEK_SECONDS = 7 * 86_400.0
STEP_SECONDS = 900.0
# The site of the visible job log: idle draw per GPU slot with its share of the host, and the facility.
GPUS, IDLE_WATTS, FACILITY_RATIO = 800, 250.0, 1.15
# 5 January 2023, a Thursday as 1 January 1970 was: weekdays stay what they were.
_FIRST_SECONDS = 1_672_876_800.0
# Until the machine has filled up.
_WARM_UP_DAYS = 2


def redrawn_load(jobs: Sequence[JobRow], seed: int, weeks: int) -> Load:
    """The load in quarters of an hour of ``weeks`` drawn weeks.

    A job that has no room starts when it has, in the order of the drawn starts.
    """
    starts = np.array([job.start_seconds for job in jobs])
    week_of = np.floor(starts / WEEK_SECONDS).astype(np.int64)
    whole = range(int(week_of.min()) + 1, int(week_of.max()))
    by_week = {week: np.flatnonzero(week_of == week) for week in whole}
    drawn = np.random.default_rng(seed).choice(np.array(whole), size=weeks)
    moved = []
    for number, week in enumerate(drawn.tolist()):
        shift = number * WEEK_SECONDS - week * WEEK_SECONDS
        moved += [(float(starts[index]) + shift, int(index)) for index in by_week[week]]
    steps = round(weeks * WEEK_SECONDS / STEP_SECONDS)
    watts = np.full(steps, GPUS * IDLE_WATTS)
    changes, edges = np.zeros(steps + 1), np.zeros(steps + 1)
    for start, end, power in _fitted(sorted(moved), jobs):
        _add(changes, edges, start / STEP_SECONDS, end / STEP_SECONDS, power)
    watts += np.cumsum(changes)[:steps] + edges[:steps]
    skipped = round(_WARM_UP_DAYS * 86_400.0 / STEP_SECONDS)
    times = _FIRST_SECONDS + STEP_SECONDS * np.arange(steps, dtype=np.float64)
    return Load(
        times_seconds=times[skipped:], watts=FACILITY_RATIO * watts[skipped:], step_seconds=STEP_SECONDS
    )


def _fitted(moved: list[tuple[float, int]], jobs: Sequence[JobRow]) -> list[tuple[float, float, float]]:
    """Start, end and watts of each job, with never more than all GPUs taken."""
    running: list[tuple[float, float]] = []
    free, now, found = float(GPUS), 0.0, []
    for wanted, index in moved:
        job, now = jobs[index], max(now, wanted)
        gpus = min(job.gpus, float(GPUS))
        while running and (running[0][0] <= now or free < gpus):
            end, freed = heapq.heappop(running)
            free += freed
            now = max(now, end)
        free -= gpus
        ends = now + job.end_seconds - job.start_seconds
        heapq.heappush(running, (ends, gpus))
        found.append((now, ends, gpus * job.watts_per_gpu))
    return found


def _add(changes: Values, edges: Values, start: float, end: float, power: float) -> None:
    """Add a job's mean power to each step, in units of steps: whole steps as changes, parts as edges."""
    steps = len(edges) - 1
    start, end = min(start, float(steps)), min(end, float(steps))
    first, last = int(start), int(end)
    if first == last:
        edges[first] += power * (end - start)
        return
    edges[first] += power * (first + 1 - start)
    changes[first + 1] += power
    changes[last] -= power
    edges[last] += power * (end - last)
