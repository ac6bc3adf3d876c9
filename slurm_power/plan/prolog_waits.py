"""Starts that no cap can hold back wait in the prolog, one after the other as the site's ramp takes them.

This is the fallback behind `slurm_power.plan.gates`: for GPUs that take no cap (in MIG mode, without the
lever), for yielded nodes, and where what comes at once is more than caps could keep free. A wait is bounded
three ways: by ``policy.prolog_wait_seconds``, by a small part of the wait that the job's class promised, and
by the node itself. A flex0 job promised nothing, so it never waits. When a bound is over the job starts,
whatever the ramp says.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from slurm_power.model.job import Flex, Job
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.job_table import gpu_counts, longest_hold_seconds
from slurm_power.plan.loads import circuit_watts, circuit_weights, start_watts, worst_factor
from slurm_power.plan.policy import Policy
from slurm_power.plan.promises import spare_seconds

# No prolog waits longer than this, whatever anybody writes.
MOST_WAIT_SECONDS = 60.0
# A wait below this is not worth the asking.
LEAST_WAIT_SECONDS = 1.0
# The most of the wait that was promised that a prolog may take, as a gate's.
_PROMISE_SHARE = 0.2
_MINUTE_SECONDS = 60.0
_ROUNDING_WATTS = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a start adds at the grid connection at once, in watts, and why no cap spreads it."""

    watts: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A job whose prolog waits: its step, since when (seconds of any one clock), and for how long at most."""

    job_id: str
    step_watts: float
    since_seconds: float
    most_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A job that goes on; ``in_turn`` is False where its time was over before its turn came."""

    job_id: str
    waited_seconds: float
    in_turn: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The waiting, who came first ahead, and the watts let go that the ramp has not caught up with yet."""

    waiting: tuple[Waiting, ...] = ()
    ahead_watts: float = 0.0
    at_seconds: float = 0.0


def step_beyond_caps(snapshot: Snapshot, job: Job, asking: Collection[str], policy: Policy) -> Step | None:
    """The step of a job on the nodes ``asking`` if no cap can spread it along the ramp, else None.

    None as well for what the ramp takes within the time that a cap would need to show.
    """
    ramp = policy.start_ramp_watts_per_second
    if ramp <= 0.0 or job.flex is Flex.FLEX0 or job.gpu_count <= 0:
        return None
    weight = _root_weight(snapshot, job)
    top_watts = start_watts(snapshot, job, policy)
    step_watts = _added_watts(top_watts, policy) * weight
    nodes = {*job.nodes, *asking}
    own = {uuid for _, uuids in job.gpus_by_node for uuid in uuids}
    reported = [gpu for node in nodes if node in snapshot.nodes for gpu in snapshot.nodes[node].gpus.values()]
    gpus = [gpu for gpu in reported if not own or gpu.uuid in own]
    # Where nobody knows what is there, there is no reason to keep anybody waiting.
    if step_watts <= ramp * policy.cap_settle_seconds or not gpus:
        return None
    if snapshot.yielded_nodes.intersection(nodes):
        return Step(watts=step_watts, reason="its node is yielded, so no cap spreads its start")
    if any(gpu.mig_enabled or gpu.min_cap_watts >= gpu.max_cap_watts for gpu in gpus):
        return Step(watts=step_watts, reason="its GPUs take no cap that could spread its start")
    least_default_watts = min(gpu.default_cap_watts for gpu in gpus)
    floor_watts = max(policy.cap_floor_ratio * least_default_watts, *(gpu.min_cap_watts for gpu in gpus))
    at_once_watts = _added_watts(min(floor_watts, top_watts), policy) * weight
    # What gates keep free of a minute's rise for first watts, at most.
    kept_watts = 0.5 * ramp * max(0.0, _MINUTE_SECONDS - 2.0 * policy.cap_settle_seconds)
    if at_once_watts > kept_watts:
        return Step(watts=at_once_watts, reason="the lowest cap still lets more through than the ramp takes")
    return None


def most_wait_seconds(snapshot: Snapshot, job: Job, policy: Policy) -> float:
    """How long a job's prolog may wait; 0.0 for not at all. Holds that are over count against the promise."""
    held_seconds = snapshot.held_before_seconds.get(job.job_id, 0.0)
    promised_seconds = min(longest_hold_seconds(job), spare_seconds(snapshot, job))
    left_seconds = min(_PROMISE_SHARE * promised_seconds, promised_seconds - held_seconds)
    most_seconds = min(policy.prolog_wait_seconds, MOST_WAIT_SECONDS, left_seconds)
    return most_seconds if most_seconds >= LEAST_WAIT_SECONDS else 0.0


def minute_room_watts(snapshot: Snapshot, policy: Policy) -> float:
    """What the ramp still allows the site to rise by at its meter, against the last minute's least.

    Infinite where nobody knows.
    """
    now_watts = circuit_watts(snapshot, snapshot.site.root.name)
    if snapshot.least_minute_watts is None or now_watts is None:
        return math.inf
    return snapshot.least_minute_watts + policy.start_ramp_watts_per_second * _MINUTE_SECONDS - now_watts


def joined(queue: Queue, waiting: Waiting) -> Queue:
    """The queue with one more at its end; one that is there already keeps its place and its time."""
    if any(one.job_id == waiting.job_id for one in queue.waiting):
        return queue
    return replace(queue, waiting=(*queue.waiting, waiting))


def advanced(
    queue: Queue, now_seconds: float, *, watts_per_second: float, room_watts: float = math.inf
) -> tuple[Queue, tuple[Release, ...]]:
    """Let go who may go at ``now_seconds``, and who has waited for as long as he may.

    The first goes when the ramp has caught up with all that was let go before him and the meter shows room
    (``room_watts``, see `minute_room_watts`) for his step. A step above half of a minute's rise, which may
    never find so much room, asks for that half.
    """
    passed_seconds = max(0.0, now_seconds - queue.at_seconds)
    ahead_watts = max(0.0, queue.ahead_watts - watts_per_second * passed_seconds)
    half_minute_watts = 0.5 * watts_per_second * _MINUTE_SECONDS
    left: list[Waiting] = []
    gone: list[Release] = []
    for one in queue.waiting:
        waited_seconds = max(0.0, now_seconds - one.since_seconds)
        # Nobody overtakes: small steps in a row would keep a large one waiting to its bound.
        in_turn = (
            not left
            and ahead_watts <= _ROUNDING_WATTS
            and room_watts >= min(one.step_watts, half_minute_watts)
        )
        if not in_turn and waited_seconds < one.most_seconds:
            left.append(one)
            continue
        ahead_watts += one.step_watts
        room_watts -= one.step_watts
        gone.append(Release(job_id=one.job_id, waited_seconds=waited_seconds, in_turn=in_turn))
    return Queue(waiting=tuple(left), ahead_watts=ahead_watts, at_seconds=now_seconds), tuple(gone)


def without(queue: Queue, job_id: str) -> Queue:
    """The queue without a job that has gone away: it takes nothing of the ramp."""
    return replace(queue, waiting=tuple(one for one in queue.waiting if one.job_id != job_id))


def _root_weight(snapshot: Snapshot, job: Job) -> float:
    """Watts at the grid connection for one watt on each of the job's GPUs."""
    root = snapshot.site.root.name
    placed = circuit_weights(snapshot, gpu_counts(job)).get(root, 0.0)
    return placed or job.gpu_count * worst_factor(snapshot.site)


def _added_watts(gpu_watts: float, policy: Policy) -> float:
    return max(0.0, gpu_watts - policy.idle_gpu_watts + policy.host_watts_per_gpu)
