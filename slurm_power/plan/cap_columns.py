"""The running jobs as columns: what a cap could take from each, down to where, at what price."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from slurm_power.model.job import Flex, Job, Workload
from slurm_power.model.snapshot import CapLease, Snapshot
from slurm_power.plan.cap_leases import cap_leases
from slurm_power.plan.curves import CAP_CURVES, CURVES, SEGMENTS, Curve, read_backwards
from slurm_power.plan.job_table import MOST_SLOWDOWN, WORKLOADS, PlacedJobs
from slurm_power.plan.learned_columns import own_curves
from slurm_power.plan.loads import LoadTable
from slurm_power.plan.memo import LastFew
from slurm_power.plan.policy import Policy
from slurm_power.plan.prices import JobWeights, cap_work_per_kwh
from slurm_power.plan.promises import allowed_slowdowns
from slurm_power.plan.site_table import site_table, summed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

STEP_WATTS = 5.0
# Whole steps are found again in spite of rounding.
_ROUNDING_WATTS = 1e-6
# Below this a GPU may be idling at a low clock, which says nothing of its highest.
_BUSY_RATIO = 0.3
_WORKLOAD_PLACES = {workload: place for place, workload in enumerate(WORKLOADS)}
_FLEX_PLACES = {flex: place for place, flex in enumerate(Flex)}
_MOST_SEGMENTS = max(len(segments) for segments in SEGMENTS.values())


def _table(pick: str, missing: float) -> Floats:
    rows = [[float(getattr(segment, pick)) for segment in SEGMENTS[workload]] for workload in WORKLOADS]
    return np.array([row + [missing] * (_MOST_SEGMENTS - len(row)) for row in rows])


# Workload by segment; what a short curve lacks is empty: from 0 to 0.
_HIGH, _LOW, _SLOPE = _table("high", 0.0), _table("low", 0.0), _table("slope", 0.0)


def _promised_ratios(curves: Mapping[Workload, Curve]) -> Floats:
    """The least share of its power that keeps a job's promise, by workload and flex class."""
    return np.array(
        [
            [read_backwards(curves[workload], 1.0 - flex.max_slowdown_ratio) for flex in Flex]
            for workload in WORKLOADS
        ]
    )


_PROMISED_RATIOS, _CAP_PROMISED_RATIOS = _promised_ratios(CURVES), _promised_ratios(CAP_CURVES)


@dataclass(frozen=True, slots=True, kw_only=True)
class _JobColumns:
    """What does not change about a list of placed jobs.

    ``user`` and ``account`` are numbers of ``users`` and ``accounts``, ``name_rank`` is a job's place by its
    id: the same in whatever order they come. ``pair_row`` and ``pair_weight`` are sorted by circuit, then
    row, and those of circuit number c begin at ``begins[c]``.
    """

    gpus: Floats
    flex: Ints
    user: Ints
    users: tuple[str, ...]
    account: Ints
    accounts: tuple[str, ...]
    name_rank: Ints
    pair_row: Ints
    pair_circuit: Ints
    pair_weight: Floats
    begins: Ints


_jobs: LastFew[_JobColumns] = LastFew(3)


def _job_columns(placed: PlacedJobs, circuits: int) -> _JobColumns:
    jobs = placed.jobs
    user, users = _numbered([job.user for job in jobs])
    account, accounts = _numbered([job.account for job in jobs])
    ranks = np.empty(len(jobs), dtype=np.int64)
    ranks[sorted(range(len(jobs)), key=lambda row: jobs[row].job_id)] = np.arange(len(jobs))
    pairs, place = np.unique(placed.weight_circuit * len(jobs) + placed.weight_job, return_inverse=True)
    circuit, row = np.divmod(pairs, max(1, len(jobs)))
    return _JobColumns(
        gpus=_floats([job.gpu_count or len(job.gpu_uuids) for job in jobs]),
        flex=np.array([_FLEX_PLACES[job.flex] for job in jobs], dtype=np.int64),
        user=user,
        users=users,
        account=account,
        accounts=accounts,
        name_rank=ranks,
        pair_row=row,
        pair_circuit=circuit,
        pair_weight=summed(place, placed.weight, len(pairs)),
        begins=np.searchsorted(circuit, np.arange(circuits + 1)),
    )


def _numbered(names: Sequence[str]) -> tuple[Ints, tuple[str, ...]]:
    """A number for each name, in the names' order."""
    known = tuple(sorted(set(names)))
    places = {name: number for number, name in enumerate(known)}
    return np.array([places[name] for name in names], dtype=np.int64), known


class CapColumns:
    """One row per placed job, in the order of ``table``; watts are per GPU, as caps are.

    ``drawn_watts`` is the draw to count on now, under the cap that stands. ``floor_watts`` is the lowest cap
    of the job's promise (flex0: infinite, nothing may be taken), ``safety_floor_watts`` the same for a safety
    limit, ``deepest_watts`` what a safety limit may ask of any job: the edge of the cliff.
    ``allowed_slowdowns`` is what its promises allow, ``natural_watts`` its draw without any cap.
    ``high_watts``, ``low_watts``, ``money``: rows by segments of the performance curve; the last per kWh at
    the job's own GPUs.

    Decoding (``locked``) is slowed by a clock lock, which only an economic limit may set: when the controller
    is lost a lock has no safe value to rest at. A safety limit caps such a job as it caps all others.
    """

    def __init__(self, snapshot: Snapshot, table: LoadTable, policy: Policy) -> None:
        self._snapshot, self._policy = snapshot, policy
        self._circuits = site_table(snapshot.site).index
        self.placed = placed = table.placed
        self.leases = cap_leases(snapshot)
        static = _jobs.of(lambda: _job_columns(placed, len(self._circuits)), placed, snapshot.site)
        self._static = static
        self.gpus, self.users, self.name_ranks = static.gpus, static.user, static.name_rank
        self.uncapped_watts = table.uncapped_watts
        self.natural_watts = np.maximum(table.natural_watts, 1.0)
        self._base_watts = self.natural_watts[:, None]
        self.default_watts = table.default_cap_watts
        self.capped_watts = table.cap_watts
        self.reachable = table.reachable
        self.yielded = np.zeros(len(placed.jobs), dtype=bool)
        if snapshot.yielded_nodes:
            away = [node in snapshot.yielded_nodes for node, _ in placed.parts]
            self.yielded[placed.part_job[away]] = True
        self.paused = np.zeros(len(placed.jobs), dtype=bool)
        if snapshot.pauses:
            self.paused[:] = [job.job_id in snapshot.pauses for job in placed.jobs]
        own = np.isfinite(table.own_cap_watts)
        self.allowed_slowdowns = allowed = allowed_slowdowns(snapshot, placed, static.flex)
        # From a job that must end in time at full speed money takes nothing either.
        self.flex0 = (static.flex == _FLEX_PLACES[Flex.FLEX0]) | (allowed <= 0.0)
        self.workload = placed.workload
        # A start may overshoot the device's own limit for a moment: that is nothing a cap could save.
        coming_watts = np.minimum(table.gpu_watts + table.coming_watts, table.own_cap_watts)
        self.drawn_watts = np.minimum(np.minimum(coming_watts, self.default_watts), self.capped_watts)
        self.deepest_watts = np.maximum(policy.cap_floor_ratio * self.default_watts, table.min_cap_watts)
        # A cap is felt by the job's busiest GPU, which the others wait for.
        felt_watts = np.maximum(self.uncapped_watts, np.minimum(table.busiest_watts, self.default_watts))
        promised_watts = felt_watts * _PROMISED_RATIOS[self.workload, static.flex]
        cap_promised_watts = felt_watts * _CAP_PROMISED_RATIOS[self.workload, static.flex]
        own_promises = np.flatnonzero(own | (allowed < MOST_SLOWDOWN[static.flex]))
        if len(own_promises):
            for promise, curves in ((promised_watts, CURVES), (cap_promised_watts, CAP_CURVES)):
                promise[own_promises] = self._least_watts(own_promises, felt_watts, allowed, curves)
        self._own = own_curves(snapshot.learned, placed, _MOST_SEGMENTS)
        if self._own is not None:
            learned = self._own.rows
            cap_promised_watts[learned] = self._own_least_watts(felt_watts[learned], allowed[learned])
        self.cap_promised_watts = np.maximum(cap_promised_watts, self.deepest_watts)
        # A cap that its user asks for is a power limit: such a job is not locked beside it.
        self.locked = (self.workload == _WORKLOAD_PLACES[Workload.GENERATION]) & ~own
        self.promised_watts = np.where(self.locked, promised_watts, self.cap_promised_watts)
        self.floor_watts = np.where(self.flex0, np.inf, self.promised_watts)
        self.safety_floor_watts = np.where(self.flex0, np.inf, self.cap_promised_watts)

    def _least_watts(
        self, rows: Ints, felt_watts: Floats, allowed: Floats, curves: Mapping[Workload, Curve]
    ) -> Floats:
        """The least draw that keeps the allowed slowdown of some rows, each with its own.

        Under a cap of its user's own a job stands further down its curve, where a watt costs more.
        """
        base_watts = np.maximum(felt_watts[rows], self.natural_watts[rows])
        full = np.minimum(felt_watts[rows] / base_watts, 1.0)
        found = np.empty(len(rows))
        for number, kind in enumerate(WORKLOADS):
            of = self.workload[rows] == number
            powers, performances = zip(*reversed(curves[kind]), strict=True)
            least = np.interp(full[of], powers, performances) * (1.0 - allowed[rows][of])
            found[of] = np.interp(least, performances, powers) * base_watts[of]
        return found

    def _own_least_watts(self, felt_watts: Floats, allowed: Floats) -> Floats:
        """The same of the jobs whose own curve was learned."""
        assert self._own is not None
        places = np.arange(len(self._own.rows))
        base_watts = np.maximum(felt_watts, self.natural_watts[self._own.rows])
        full = np.minimum(felt_watts / base_watts, 1.0)
        least = self._own.performance_at(places, full) * (1.0 - allowed)
        return self._own.power_for(places, least) * base_watts

    def _stretches(self, of_class: Floats, pick: str) -> Floats:
        """One figure of the stretches of each job's curve: its own where that was learned."""
        found: Floats = of_class[self.workload]
        if self._own is not None:
            found[self._own.rows] = getattr(self._own, pick)
        return found

    @cached_property
    def high_watts(self) -> Floats:
        """Where each stretch of a job's curve begins."""
        return self._base_watts * self._stretches(_HIGH, "high")

    @cached_property
    def low_watts(self) -> Floats:
        """Where each stretch of a job's curve ends."""
        return self._base_watts * self._stretches(_LOW, "low")

    @cached_property
    def money(self) -> Floats:
        """The price of each stretch of a job's curve."""
        ones = np.ones((1, 1))
        work = cap_work_per_kwh(self._stretches(_SLOPE, "slope"), ones, self._base_watts, ones)
        return work * self.worth[:, None]

    def slope(self, row: int, power_ratio: float, *, downwards: bool) -> float:
        """Performance a job loses per share of power there: of the next watt, or of the last one taken."""
        stretches = [self._stretches(of, pick)[row] for of, pick in ((_LOW, "low"), (_SLOPE, "slope"))]
        found = 0.0
        for low, slope in zip(*(one.tolist() for one in stretches), strict=True):
            found = slope or found
            if (power_ratio > low) if downwards else (power_ratio >= low):
                break
        return found

    @cached_property
    def worth(self) -> Floats:
        """What an hour of each job's work is worth: by flex class, account and what its owner has lost."""
        static, policy, weights = self._static, self._policy, JobWeights(self._snapshot, self._policy)
        work = _floats([weights.flex_weight(flex) for flex in Flex])[static.flex]
        work *= _floats([weights.account_weight(account) for account in static.accounts])[static.account]
        users = _floats([weights.user_factor(user) for user in static.users])
        accounts = _floats([weights.account_factor(account) for account in static.accounts])
        return policy.value_per_gpu_hour * (work * np.maximum(users[static.user], accounts[static.account]))

    @property
    def root(self) -> str:
        """The grid connection, which is on every job's path."""
        return self._snapshot.site.root.name

    def lease(self, row: int) -> CapLease:
        """The cap that stands on a job."""
        return self._snapshot.caps[self.placed.jobs[row].job_id]

    def members(self, circuit: str) -> tuple[Ints, Floats]:
        """The rows of the jobs behind a circuit, and what it sees of a watt on each of their GPUs."""
        static, number = self._static, self._circuits[circuit]
        those = slice(static.begins[number], static.begins[number + 1])
        return static.pair_row[those], static.pair_weight[those]

    def behind(self, circuits: Iterable[str]) -> Bools:
        """Which jobs are behind any of these circuits."""
        found = np.zeros(len(self.gpus), dtype=bool)
        for circuit in circuits:
            found[self.members(circuit)[0]] = True
        return found

    def circuit_watts(self, watts_per_gpu: Floats) -> dict[str, float]:
        """What each circuit sees of so many watts on each GPU, by job."""
        static = self._static
        each = static.pair_weight * watts_per_gpu[static.pair_row]
        sums = summed(static.pair_circuit, each, len(self._circuits)).tolist()
        return dict(zip(self._circuits, sums, strict=True))

    def circuit_weights(self, row: int) -> Mapping[str, float]:
        """The watts that each circuit sees for one watt per GPU of one job."""
        return self.placed.circuit_weights(row, self._snapshot.site)

    def full_hertz(self, concerned: Bools) -> Floats:
        """The clock without a lock of decoding jobs, 0 where nobody knows: then it cannot be locked.

        It is looked for among the ``concerned``; known of those under a lock.
        """
        found = np.where(self.locked & self.reachable, self.leases.full_hertz, 0.0)
        free = concerned & self.locked & self.reachable & ~np.isfinite(self.capped_watts)
        for row in np.flatnonzero(free).tolist():
            found[row] = full_hertz(self._snapshot, self.placed.jobs[row])
        return found

    def slowdowns(self, rows: Ints, cap_watts: Floats, by_lock: Bools) -> Floats:
        """Share of performance a cap takes, or where ``by_lock`` a clock lock; 0 where it does not bite.

        One value for each of ``rows``, as ``cap_watts`` and ``by_lock`` have.
        """
        uncapped_watts, workload = self.uncapped_watts[rows], self.workload[rows]
        base_watts = np.maximum(uncapped_watts, np.where(uncapped_watts > 0.0, self.natural_watts[rows], 0.0))
        full = np.where(uncapped_watts > 0.0, uncapped_watts / np.maximum(base_watts, 1e-9), 1.0)
        ratios = np.where(uncapped_watts > 0.0, cap_watts / np.maximum(base_watts, 1e-9), 1.0)
        found = np.zeros(len(ratios))
        for number, kind in enumerate(WORKLOADS):
            for curves, which in ((CURVES, by_lock), (CAP_CURVES, ~by_lock)):
                of = (workload == number) & which
                powers, performances = zip(*reversed(curves[kind]), strict=True)
                left = np.interp(ratios[of], powers, performances)
                found[of] = 1.0 - np.minimum(1.0, left / np.interp(full[of], powers, performances))
        if self._own is not None:
            of = (self._own.place[rows] >= 0) & ~by_lock
            places = self._own.place[rows[of]]
            left = self._own.performance_at(places, ratios[of])
            found[of] = 1.0 - np.minimum(1.0, left / self._own.performance_at(places, full[of]))
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
