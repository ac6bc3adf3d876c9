"""Which running jobs may be stopped, for how long, at what price, and what comes back when they go on."""

import math
from dataclasses import dataclass

from slurm_power.model.action import SetCap
from slurm_power.model.job import Flex, Job, JobState, Workload
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Lost, Snapshot
from slurm_power.plan.curves import capped_performance_ratio, performance_ratio
from slurm_power.plan.loads import JobLoad, LoadTable, loads_of
from slurm_power.plan.policy import Policy
from slurm_power.plan.prices import JobWeights, Price, pause_price
from slurm_power.plan.promises import spare_seconds

_FLEXES = tuple(Flex)
_NO_LOST = Lost()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A running job that may be paused: what a circuit sees less of it, for how long, at what price.

    ``gpu_watts`` is what each of its GPUs would draw less than under its cap.
    """

    load: JobLoad
    gpu_watts: float
    saved_watts: float
    lasts_seconds: float
    price: Price

    @property
    def money_per_hour(self) -> float:
        """What its pause costs in an hour."""
        return self.price.money_per_kwh * self.saved_watts / 1000.0


def may_be_paused(job: Job, policy: Policy) -> bool:
    """Whether the site and the job's promise allow to pause it at all.

    Inference is not: whoever waits for its answers would see it fail.
    """
    if not policy.pause_flex or job.workload is Workload.INFERENCE:
        return False
    return _FLEXES.index(job.flex) >= _FLEXES.index(Flex(policy.pause_flex))


def pausable_seconds(snapshot: Snapshot, job: Job, policy: Policy) -> float:
    """How long a job may be stopped from now on: its promises, and the longest pause of the site.

    With a share r of the time promised, L lost in E since the start: the t with L + t = r (E + t).
    """
    share = job.flex.max_slowdown_ratio
    if job.started is None or share <= 0.0:
        return 0.0
    since_seconds = (snapshot.at - job.started).total_seconds()
    lost_seconds = snapshot.lost.get(job.job_id, _NO_LOST).seconds
    by_promise = (share * since_seconds - lost_seconds) / (1.0 - share)
    # Its workload manager stops the clock of its time limit as long as it is stopped.
    by_deadline = spare_seconds(snapshot, job)
    return max(0.0, min(by_promise, by_deadline, policy.pause_most_seconds))


class Pausable:
    """The jobs of one snapshot as they could be paused."""

    def __init__(self, snapshot: Snapshot, policy: Policy) -> None:
        self._snapshot, self._policy = snapshot, policy
        self.weights = JobWeights(snapshot, policy)

    def why_not(self, load: JobLoad, kind: LimitKind) -> str:
        """Why a job cannot be paused now for a limit of that kind; empty where it can."""
        snapshot, policy, job = self._snapshot, self._policy, load.job
        lost = snapshot.lost.get(job.job_id, _NO_LOST)
        reasons = (
            (not may_be_paused(job, policy), "may not be paused"),
            (job.job_id in snapshot.pauses, "is paused"),
            (job.state is not JobState.RUNNING or load.coming_watts > 0.0, "does not run at its full draw"),
            (not _all_told(load), "not all of its nodes report its GPUs"),
            (load.yielded and kind is LimitKind.ECONOMIC, "its node is yielded to the administrator"),
            (lost.resumed_seconds_ago < policy.pause_rest_seconds, "has been paused a moment ago"),
            (
                pausable_seconds(snapshot, job, policy) < policy.pause_least_seconds,
                "has run too short for a pause within its promise",
            ),
            (load.gpu_watts <= policy.paused_gpu_watts, "draws no more than a stopped job"),
        )
        return next((words for is_so, words in reasons if is_so), "")

    def candidate(self, load: JobLoad, circuit: str, planned: SetCap | None) -> Candidate:
        """A job that may be paused, as one circuit sees it. What its ``planned`` cap saves is not counted."""
        lasts_seconds = pausable_seconds(self._snapshot, load.job, self._policy)
        cap_watts = load.cap_watts if planned is None else planned.cap_watts
        drawn_watts = load.gpu_watts if cap_watts is None else min(load.gpu_watts, cap_watts)
        gpu_watts = max(0.0, drawn_watts - self._policy.paused_gpu_watts)
        saved_watts = gpu_watts * load.circuit_weights[circuit]
        price = pause_price(
            self._policy,
            self.weights,
            load.job,
            performance=_performance(
                load, cap_watts, by_lock=planned is not None and planned.lock_hertz is not None
            ),
            saved_watts=saved_watts,
            lasts_seconds=lasts_seconds,
        )
        return Candidate(
            load=load, gpu_watts=gpu_watts, saved_watts=saved_watts, lasts_seconds=lasts_seconds, price=price
        )


def _all_told(load: JobLoad) -> bool:
    """Whether every node of a job reports its GPUs: each is to hold its lease."""
    there = {node for node, _ in load.job.gpus_by_node}
    return load.reachable and load.covered and there == set(load.job.nodes)


def _performance(load: JobLoad, cap_watts: float | None, *, by_lock: bool) -> float:
    """The share of its full speed that its cap leaves to a job."""
    if cap_watts is None or load.uncapped_watts <= 0.0:
        return 1.0
    curve = performance_ratio if by_lock else capped_performance_ratio
    return curve(load.job.workload, min(1.0, cap_watts / load.uncapped_watts))


def paused_watts(snapshot: Snapshot, table: LoadTable, policy: Policy) -> dict[str, float]:
    """What each circuit would see more if all paused and just resumed jobs drew their own.

    Hosts are counted in: they follow their GPUs. What a cap withholds from a job is known without this.
    """
    watts = dict.fromkeys(snapshot.site.circuits, 0.0)
    if not snapshot.pauses and not snapshot.lost:
        return watts
    for load, drawn_watts in coming_back(snapshot, table, policy):
        if load.cap_watts is not None:
            continue
        for name, weight in load.circuit_weights.items():
            watts[name] += missing_watts(load, drawn_watts, policy) * weight
    return watts


def coming_back(snapshot: Snapshot, table: LoadTable, policy: Policy) -> list[tuple[JobLoad, float]]:
    """Jobs that are paused or have just been resumed, with what each GPU of them drew before."""
    before = {job_id: lease.drawn_watts for job_id, lease in snapshot.pauses.items()}
    for job_id, lost in snapshot.lost.items():
        if lost.resumed_seconds_ago < policy.start_expected_seconds:
            before.setdefault(job_id, lost.resumed_watts)
    rows = [row for row, job in enumerate(table.placed.jobs) if job.job_id in before] if before else []
    found = []
    for load in loads_of(snapshot, table, rows):
        cap_watts = math.inf if load.cap_watts is None else load.cap_watts
        found.append((load, min(before[load.job.job_id], cap_watts)))
    return found


def missing_watts(load: JobLoad, drawn_watts: float, policy: Policy) -> float:
    """What a GPU and its share of the host would draw more at what it drew before."""
    missing = max(0.0, drawn_watts - load.gpu_watts)
    span_watts = max(drawn_watts - policy.idle_gpu_watts, 1.0)
    return missing + policy.host_watts_per_gpu * min(1.0, missing / span_watts)
