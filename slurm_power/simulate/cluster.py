"""A machine in virtual time: nodes with GPUs on a tree of circuits, a scheduler, and jobs that do work.

Between two events power is constant, so energy is exact. A job draws its logged watts above idle; a cap takes
watts from its GPU boards and performance by the curve of its workload (`slurm_power.plan.curves`), and the
job runs until its work is done. The scheduler is first come, first served with EASY backfill: the first job
that does not fit gets a reservation by the time limits of those that run, others may pass if they do not
delay it.
"""

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slurm_power.model.job import Flex, Workload
from slurm_power.model.site import Site
from slurm_power.plan.curves import capped_performance_ratio, performance_ratio

Watts = NDArray[np.float64]
# Work left below this is rounding: the job is done.
_DONE_SECONDS = 1e-6
# So many jobs behind the first that does not fit are looked at, as in Slurm's bf_max_job_test.
_MOST_TESTED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What the log does not say. Watts per GPU slot.

    ``idle_watts``: an idle slot with its share of the host. ``board_idle_watts``: the part of it that is the
    GPU board, which a cap counts in: a cap is a share of board idle plus dynamic watts.
    """

    gpus_per_node: int = 8
    idle_watts: float = 250.0
    board_idle_watts: float = 75.0


class Layout:
    """The site's tree as arrays. ``names`` are its circuits, the grid connection first."""

    def __init__(self, site: Site, hardware: Hardware) -> None:
        """Raises ValueError when no circuit feeds a node."""
        root = site.root.name
        self.site, self.hardware = site, hardware
        self.names = (root, *(name for name in site.circuits if name != root))
        self.nodes = site.nodes()
        if not self.nodes:
            raise ValueError("no circuit of the site feeds a node")
        index = {name: number for number, name in enumerate(self.names)}
        leaves = [circuit for circuit in site.circuits.values() if circuit.nodes]
        # One row per circuit that feeds nodes: what each circuit sees of one watt there.
        self._seen = np.zeros((len(leaves), len(self.names)))
        for row, leaf in enumerate(leaves):
            factor = 1.0
            for name in site.path(leaf.name):
                factor *= site.circuits[name].overhead_ratio
                self._seen[row, index[name]] = factor
        leaf_of = {node: row for row, leaf in enumerate(leaves) for node in leaf.nodes}
        self._leaf = np.array([leaf_of[node] for node in self.nodes])
        self.gpus = len(self.nodes) * hardware.gpus_per_node
        counts = np.full(len(self.nodes), hardware.gpus_per_node)
        self.idle_watts: Watts = hardware.idle_watts * self.weights(np.arange(len(self.nodes)), counts)
        # What the grid connection sees of a watt at a GPU nobody has placed yet: on the mean, and at most.
        self.weights_worst = float(self._seen.max())
        self.mean_root_weight = float(self.weights(np.arange(len(self.nodes)), counts)[0]) / self.gpus

    def weights(self, nodes: NDArray[np.intp], gpus: NDArray[np.int64]) -> Watts:
        """Watts that each circuit sees for one watt on each of so many GPUs of these nodes."""
        by_leaf = np.bincount(self._leaf[nodes], weights=gpus, minlength=len(self._seen))
        found: Watts = by_leaf @ self._seen
        return found


@dataclass(slots=True, kw_only=True, eq=False)
class PlantJob:
    """One job. Times in epoch seconds; ``dynamic_watts`` per GPU above idle, uncapped.

    ``eligible_seconds`` is when it starts without control; ``ready_seconds`` when it may start: the same
    where a log is replayed, its submission where the machine's own scheduler decides. ``work_seconds`` is
    what is left at full performance. ``power_ratio`` is the cap as a share of the uncapped board.
    ``lost_seconds`` is slowdown times time so far and ``done_seconds`` performance times time, both since the
    window began; ``held_seconds`` is how long our holds have kept it. ``overlap_gpus``: as it started in the
    log, so many GPUs more were in use than there are.
    """

    job_id: str
    user: str
    account: str
    flex: Flex
    workload: Workload
    gpus: int
    dynamic_watts: float
    submit_seconds: float
    eligible_seconds: float
    ready_seconds: float
    work_seconds: float
    limit_seconds: float | None
    board_idle_watts: float
    overlap_gpus: int = 0
    started_seconds: float | None = None
    ended_seconds: float | None = None
    power_ratio: float = 1.0
    performance: float = 1.0
    watts: float = 0.0
    since_seconds: float = 0.0
    ends_at_seconds: float = math.inf
    lost_seconds: float = 0.0
    done_seconds: float = 0.0
    held_seconds: float = 0.0
    held_since_seconds: float | None = None
    nodes: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    node_gpus: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    weights: Watts = field(default_factory=lambda: np.empty(0))
    root_weight: float = 0.0

    @property
    def board_watts(self) -> float:
        """Uncapped draw of one GPU board."""
        return self.board_idle_watts + self.dynamic_watts

    @property
    def saved_watts(self) -> float:
        """What its cap takes from each of its GPUs now."""
        return self.dynamic_watts - self.watts

    def watts_at(self, power_ratio: float) -> float:
        """Draw above idle per GPU under a cap at this share of the uncapped board."""
        return max(0.0, self.dynamic_watts - (1.0 - min(1.0, power_ratio)) * self.board_watts)


class Cluster:
    """The machine. Call :meth:`advance`, then :meth:`finish_due`, :meth:`submit`, :meth:`start_waiting`.

    ``extra_gpus``: logs overlap by a few seconds here and there. So many more have a place, but only those
    jobs may take one that did so in the log (``overlap_gpus``): ``free_gpus`` is below 0 then.
    """

    def __init__(self, layout: Layout, now_seconds: float, extra_gpus: int = 0) -> None:
        self.layout = layout
        self.now_seconds = now_seconds
        self.running: dict[str, PlantJob] = {}
        self.queue: list[PlantJob] = []
        self.watts: Watts = layout.idle_watts.copy()
        self.uncapped_root_watts = float(layout.idle_watts[0])
        self.extra_gpus = extra_gpus
        self.free_gpus = layout.gpus
        self._free = np.full(len(layout.nodes), layout.hardware.gpus_per_node, dtype=np.int64)
        self._free += extra_gpus // len(layout.nodes)
        self._free[: extra_gpus % len(layout.nodes)] += 1
        self._ends: list[tuple[float, int, PlantJob]] = []
        self._order = itertools.count()
        self._held: dict[str, PlantJob] = {}

    @property
    def used_gpus(self) -> int:
        """GPUs at work."""
        return sum(job.gpus for job in self.running.values())

    @property
    def next_end_seconds(self) -> float:
        """When the next running job ends if nothing changes."""
        while self._ends and self._ends[0][0] != self._ends[0][2].ends_at_seconds:
            heapq.heappop(self._ends)
        return self._ends[0][0] if self._ends else math.inf

    def advance(self, to_seconds: float) -> None:
        """Let time pass; no end may lie between."""
        self.now_seconds = to_seconds

    def finish_due(self) -> list[PlantJob]:
        """End the jobs whose work is done by now, and return them."""
        done = []
        while self.next_end_seconds <= self.now_seconds + _DONE_SECONDS:
            job = heapq.heappop(self._ends)[2]
            self._settle(job)
            job.ended_seconds, job.ends_at_seconds = self.now_seconds, math.inf
            self.watts -= job.watts * job.weights
            self.uncapped_root_watts -= job.dynamic_watts * job.root_weight
            self._free[job.nodes] += job.node_gpus
            self.free_gpus += job.gpus
            job.watts = 0.0
            del self.running[job.job_id]
            done.append(job)
        if not self.running:
            # Nothing runs: what rounding has left behind goes.
            self.watts = self.layout.idle_watts.copy()
            self.uncapped_root_watts = float(self.layout.idle_watts[0])
        return done

    def submit(self, job: PlantJob) -> None:
        """Put a job into the queue."""
        self.queue.append(job)

    def start(self, job: PlantJob) -> None:
        """Start a job now; there must be GPUs for it."""
        job.nodes, job.node_gpus = self._placed(job.gpus)
        self._free[job.nodes] -= job.node_gpus
        self.free_gpus -= job.gpus
        job.weights = self.layout.weights(job.nodes, job.node_gpus)
        job.root_weight = float(job.weights[0])
        if job.started_seconds is None:
            job.started_seconds = self.now_seconds
        job.since_seconds, job.watts = self.now_seconds, job.dynamic_watts
        self.running[job.job_id] = job
        self.watts += job.watts * job.weights
        self.uncapped_root_watts += job.dynamic_watts * job.root_weight
        self._plan_end(job)

    def set_power_ratio(self, job: PlantJob, power_ratio: float, *, locked: bool = False) -> None:
        """Cap a running job at this share of its uncapped board watts; 1 lifts the cap.

        ``locked``: by a clock lock, which costs decoding less than a cap.
        """
        power_ratio = min(1.0, power_ratio)
        if power_ratio == job.power_ratio:
            return
        self._settle(job)
        watts = job.watts_at(power_ratio)
        self.watts += (watts - job.watts) * job.weights
        job.power_ratio, job.watts = power_ratio, watts
        curve = performance_ratio if locked else capped_performance_ratio
        job.performance = curve(job.workload, power_ratio)
        self._plan_end(job)

    def settle_all(self) -> None:
        """Bring every running job's account up to now."""
        for job in self.running.values():
            self._settle(job)

    def start_waiting(self, may_start: Callable[[PlantJob], bool]) -> list[PlantJob]:
        """One pass of the scheduler; ``may_start`` is asked for jobs that would start, and may hold them."""
        started: list[PlantJob] = []
        waiting: list[PlantJob] = []
        shadow_seconds, extra_gpus = math.inf, 0
        blocked, tested = False, 0
        asked: set[str] = set()
        for number, job in enumerate(self.queue):
            if blocked and (self.free_gpus <= 0 or tested >= _MOST_TESTED):
                waiting += self.queue[number:]
                break
            tested += blocked
            asked.add(job.job_id)
            fits = job.gpus <= self.free_gpus + job.overlap_gpus
            if fits and blocked:
                over = self.now_seconds + self._expected_seconds(job) <= shadow_seconds
                fits = over or job.gpus <= extra_gpus
            if fits and may_start(job):
                self._end_hold(job)
                self.start(job)
                started.append(job)
                if blocked and self.now_seconds + self._expected_seconds(job) > shadow_seconds:
                    extra_gpus -= job.gpus
                continue
            waiting.append(job)
            if fits:  # only our hold keeps it
                if job.held_since_seconds is None:
                    job.held_since_seconds = self.now_seconds
                    self._held[job.job_id] = job
                continue
            self._end_hold(job)
            if not blocked:
                blocked = True
                shadow_seconds, extra_gpus = self._reservation(job)
        for job in [job for job in self._held.values() if job.job_id not in asked]:
            self._end_hold(job)
        self.queue = waiting
        return started

    def held_seconds(self, job: PlantJob) -> float:
        """How long our holds have kept a job so far."""
        since = job.held_since_seconds
        return job.held_seconds + (0.0 if since is None else self.now_seconds - since)

    def _end_hold(self, job: PlantJob) -> None:
        job.held_seconds, job.held_since_seconds = self.held_seconds(job), None
        self._held.pop(job.job_id, None)

    def _expected_seconds(self, job: PlantJob) -> float:
        return job.work_seconds if job.limit_seconds is None else job.limit_seconds

    def _reservation(self, job: PlantJob) -> tuple[float, int]:
        """When the job can start by the limits of those that run, and how many GPUs it leaves free then."""
        ends = sorted(
            (max(self.now_seconds, (one.started_seconds or 0.0) + self._expected_seconds(one)), one.gpus)
            for one in self.running.values()
        )
        free = self.free_gpus
        for end, gpus in ends:
            free += gpus
            if free >= job.gpus:
                return end, free - job.gpus
        return math.inf, 0

    def _placed(self, gpus: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """First fit: one node that has room, else the emptiest nodes in their order."""
        if gpus <= self.layout.hardware.gpus_per_node:
            fitting = np.flatnonzero(self._free >= gpus)
            if len(fitting):
                return fitting[:1], np.array([gpus], dtype=np.int64)
        nodes = np.argsort(-self._free, kind="stable")
        reach = np.cumsum(self._free[nodes])
        count = int(np.searchsorted(reach, gpus)) + 1
        taken = self._free[nodes[:count]].copy()
        taken[-1] -= int(reach[count - 1]) - gpus
        return nodes[:count], taken

    def _settle(self, job: PlantJob) -> None:
        seconds = self.now_seconds - job.since_seconds
        job.work_seconds -= seconds * job.performance
        job.done_seconds += seconds * job.performance
        job.lost_seconds += seconds * (1.0 - job.performance)
        job.since_seconds = self.now_seconds

    def _plan_end(self, job: PlantJob) -> None:
        job.ends_at_seconds = self.now_seconds + max(0.0, job.work_seconds) / max(job.performance, 1e-9)
        heapq.heappush(self._ends, (job.ends_at_seconds, next(self._order), job))


def gpus_in_use(jobs: Iterable[PlantJob]) -> dict[float, int]:
    """GPUs in use from each start or end on, when jobs run from ``eligible_seconds`` for ``work_seconds``."""
    changes: dict[float, int] = {}
    for job in jobs:
        end = job.eligible_seconds + job.work_seconds
        changes[job.eligible_seconds] = changes.get(job.eligible_seconds, 0) + job.gpus
        changes[end] = changes.get(end, 0) - job.gpus
    moments = sorted(changes)
    used = itertools.accumulate(changes[moment] for moment in moments)
    return dict(zip(moments, used, strict=True))


def natural_watts(  # noqa: PLR0917  # a grid is three numbers
    layout: Layout,
    jobs: Iterable[PlantJob],
    begin_seconds: float,
    step_seconds: float,
    steps: int,
    watts_per_gpu: Sequence[float] | None = None,
) -> Watts:
    """Mean draw of the grid connection per step with every job as it ran, uncapped. Shape ``(steps,)``.

    Each job from ``eligible_seconds`` for ``work_seconds``, with its dynamic watts or those given for it.
    """
    several = list(jobs)
    starts = np.array([job.eligible_seconds for job in several])
    works = np.array([job.work_seconds for job in several])
    each = [job.dynamic_watts for job in several] if watts_per_gpu is None else watts_per_gpu
    watts = np.array(each) * np.array([job.gpus for job in several]) * layout.mean_root_weight
    rising = _ramp((starts - begin_seconds) / step_seconds, watts, steps)
    falling = _ramp((starts + works - begin_seconds) / step_seconds, watts, steps)
    found: Watts = layout.idle_watts[0] + rising - falling
    return found


def _ramp(at: Watts, watts: Watts, steps: int) -> Watts:
    """Means per step of a sum of steps that rise at ``at`` (in steps)."""
    change = np.zeros(steps + 1)
    clipped = np.clip(at, 0.0, float(steps))
    whole = np.floor(clipped).astype(np.int64)
    part = clipped - whole
    # The rest of the step it rises in, then all of each later one.
    np.add.at(change, whole, watts * (1.0 - part))
    np.add.at(change, np.minimum(whole + 1, steps), watts * part)
    found: Watts = np.cumsum(change)[:steps]
    return found
