"""The running jobs as columns: what a cap could take from each, down to where, at what price."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from slurm_power.model.job import Flex, Job, Workload
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.curves import CAP_CURVES, CURVES, SEGMENTS, Curve, read_backwards
from slurm_power.plan.loads import JobLoad
from slurm_power.plan.policy import Policy
from slurm_power.plan.prices import JobWeights, cap_work_per_kwh

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

STEP_WATTS = 5.0
# Whole steps are found again in spite of rounding.
_ROUNDING_WATTS = 1e-6
# Below this a GPU may be idling at a low clock, which says nothing of its highest.
_BUSY_RATIO = 0.3
_WORKLOADS = tuple(Workload)
_WORKLOAD_PLACES = {workload: place for place, workload in enumerate(Workload)}
_FLEX_PLACES = {flex: place for place, flex in enumerate(Flex)}
_MOST_SEGMENTS = max(len(segments) for segments in SEGMENTS.values())


def _table(pick: str, missing: float) -> Floats:
    rows = [[float(getattr(segment, pick)) for segment in SEGMENTS[workload]] for workload in _WORKLOADS]
    return np.array([row + [missing] * (_MOST_SEGMENTS - len(row)) for row in rows])


# Workload by segment; what a short curve lacks is empty: from 0 to 0.
_HIGH, _LOW, _SLOPE = _table("high", 0.0), _table("low", 0.0), _table("slope", 0.0)


def _promised_ratios(curves: Mapping[Workload, Curve]) -> Floats:
    """The least share of its power that keeps a job's promise, by workload and flex class."""
    return np.array(
        [
            [read_backwards(curves[workload], 1.0 - flex.max_slowdown_ratio) for flex in Flex]
            for workload in Workload
        ]
    )


_PROMISED_RATIOS, _CAP_PROMISED_RATIOS = _promised_ratios(CURVES), _promised_ratios(CAP_CURVES)


class CapColumns:
    """One row per load, in the order of ``loads``; watts are per GPU, as caps are.

    ``drawn_watts`` is the draw to count on now, under the cap that stands. ``floor_watts`` is the lowest cap
    of the job's promise (flex0: infinite, nothing may be taken), ``safety_floor_watts`` the same for a safety
    limit, ``deepest_watts`` what a safety limit may ask of any job: the edge of the cliff. ``high_watts``,
    ``low_watts``, ``money``: rows by segments of the performance curve; ``money`` is per kWh at the job's own
    GPUs.

    Decoding (``locked``) is slowed by a clock lock, which only an economic limit may set: when the controller
    is lost a lock has no safe value to rest at. ``full_hertz`` is the clock without one, 0 where nobody
    knows: then it cannot be locked (``lockable``). A safety limit caps such a job as it caps all others.
    """

    def __init__(self, snapshot: Snapshot, loads: Sequence[JobLoad], policy: Policy) -> None:
        self.loads = loads
        jobs = [load.job for load in loads]
        self.gpus = _floats([job.gpu_count or len(job.gpu_uuids) for job in jobs])
        self.uncapped_watts = _floats([load.uncapped_watts for load in loads])
        self.default_watts = _floats([load.default_cap_watts for load in loads])
        self.capped_watts = _floats([np.inf if load.cap_watts is None else load.cap_watts for load in loads])
        least_watts = _floats([load.min_cap_watts for load in loads])
        busiest_watts = _floats([load.busiest_watts for load in loads])
        coming_watts = _floats([load.gpu_watts + load.coming_watts for load in loads])
        self.yielded = np.array([load.yielded for load in loads], dtype=bool)
        self.reachable = np.array([load.reachable for load in loads], dtype=bool)
        flex = np.array([_FLEX_PLACES[job.flex] for job in jobs], dtype=np.int64)
        self.flex0 = flex == _FLEX_PLACES[Flex.FLEX0]
        self.workload = np.array([_WORKLOAD_PLACES[job.workload] for job in jobs], dtype=np.int64)
        # A start may overshoot the device's own limit for a moment: that is nothing a cap could save.
        self.drawn_watts = np.minimum(np.minimum(coming_watts, self.default_watts), self.capped_watts)
        self.deepest_watts = np.maximum(policy.cap_floor_ratio * self.default_watts, least_watts)
        # A cap is felt by the job's busiest GPU, which the others wait for.
        felt_watts = np.maximum(self.uncapped_watts, np.minimum(busiest_watts, self.default_watts))
        promised_watts = felt_watts * _PROMISED_RATIOS[self.workload, flex]
        self.cap_promised_watts = np.maximum(
            felt_watts * _CAP_PROMISED_RATIOS[self.workload, flex], self.deepest_watts
        )
        self.locked = self.workload == _WORKLOAD_PLACES[Workload.GENERATION]
        self.full_hertz = np.zeros(len(jobs))
        for row in np.flatnonzero(self.locked & self.reachable).tolist():
            self.full_hertz[row] = full_hertz(snapshot, jobs[row])
        self.lockable = ~self.locked | (self.full_hertz > 0.0)
        self.promised_watts = np.where(self.locked, promised_watts, self.cap_promised_watts)
        self.floor_watts = np.where(self.flex0, np.inf, self.promised_watts)
        self.safety_floor_watts = np.where(self.flex0, np.inf, self.cap_promised_watts)
        base_watts = np.maximum(self.uncapped_watts, 1.0)
        self.high_watts = base_watts[:, None] * _HIGH[self.workload]
        self.low_watts = base_watts[:, None] * _LOW[self.workload]
        weights = JobWeights(snapshot, policy)
        worth = policy.value_per_gpu_hour * _floats(
            [weights.work(job) * weights.debt_factor(job) for job in jobs]
        )
        self.money = (
            cap_work_per_kwh(
                _SLOPE[self.workload],
                np.ones((len(jobs), 1)),
                base_watts[:, None],
                np.ones((len(jobs), 1)),
            )
            * worth[:, None]
        )
        self.users, self.name_ranks = _ranks(jobs)

    def slowdowns(self, cap_watts: Floats, by_lock: Bools) -> Floats:
        """Share of performance a cap takes, or where ``by_lock`` a clock lock; 0 where it does not bite."""
        ratios = np.where(self.uncapped_watts > 0.0, cap_watts / np.maximum(self.uncapped_watts, 1e-9), 1.0)
        found = np.zeros(len(ratios))
        for number, workload in enumerate(_WORKLOADS):
            for curves, which in ((CURVES, by_lock), (CAP_CURVES, ~by_lock)):
                of = (self.workload == number) & which
                powers, performances = zip(*reversed(curves[workload]), strict=True)
                found[of] = 1.0 - np.interp(ratios[of], powers, performances)
        return found


def full_hertz(snapshot: Snapshot, job: Job) -> float:
    """The clock of a decoding job without a lock: from before the lock that stands, else its fastest GPU's.

    One node's GPUs tell. 0.0 where nobody knows: they hardly work just now, or stand under a power cap.
    """
    lease = snapshot.caps.get(job.job_id)
    if lease is not None:
        return lease.full_hertz or 0.0
    for name, uuids in job.gpus_by_node:
        node = snapshot.nodes.get(name)
        gpus = [] if node is None else [node.gpus[uuid] for uuid in uuids if uuid in node.gpus]
        clocks = [gpu.sm_clock_hertz for gpu in gpus if gpu.utilization_ratio >= _BUSY_RATIO]
        if clocks:
            return max(clocks)
    return 0.0


def stepped(watts: Floats, floor_watts: Floats) -> Floats:
    """Round down to whole steps, never below the floor: fewer writes, and never less saved than asked."""
    steps = np.floor((watts + _ROUNDING_WATTS) / STEP_WATTS) * STEP_WATTS
    return np.maximum(floor_watts, steps)


def _floats(values: Sequence[float]) -> Floats:
    return np.array(values, dtype=np.float64)


def _ranks(jobs: Sequence[Job]) -> tuple[Ints, Ints]:
    """A number for each job's user, and the job's place by its id: the same in whatever order they come."""
    users = {user: number for number, user in enumerate(sorted({job.user for job in jobs}))}
    places = np.empty(len(jobs), dtype=np.int64)
    places[sorted(range(len(jobs)), key=lambda index: jobs[index].job_id)] = np.arange(len(jobs))
    return np.array([users[job.user] for job in jobs], dtype=np.int64), places
