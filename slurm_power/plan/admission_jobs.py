"""What running jobs have as licences against what they draw: the load without one, and corrections. Pure.

A job's licence is what it adds at the circuit of the budget: each GPU above idle, with its share of the host.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from slurm_power.model.action import Action, Plan, SetCap
from slurm_power.model.job import Job, JobState
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.holds import FOR_LICENCES, added_watts
from slurm_power.plan.job_table import pending_jobs
from slurm_power.plan.loads import LoadTable, class_watts, consumer_watts, expected_watts, load_table
from slurm_power.plan.policy import Policy
from slurm_power.plan.site_table import Watts, site_table, summed

# A licence is corrected when it is wrong by this share and by more than the quantum.
_WRONG_RATIO = 0.1
# A job's own draw counts after so long.
_OWN_SECONDS = 60.0


def _at_circuit(table: LoadTable, snapshot: Snapshot, circuit: str) -> Watts:
    """What the circuit sees of one watt on each GPU of each placed job."""
    names = site_table(snapshot.site).names
    here = table.placed.weight_circuit == names.index(circuit)
    jobs = len(table.placed.jobs)
    return summed(table.placed.weight_job[here], table.placed.weight[here], jobs)


def drawn_watts(snapshot: Snapshot, circuit: str, policy: Policy) -> dict[str, float]:
    """What each running job adds to the circuit now, by job; a job that nobody sees as it is expected."""
    table = load_table(snapshot, policy)
    usual = class_watts(table.placed.workload, policy)
    above = np.maximum(0.0, table.gpu_watts - policy.idle_gpu_watts)
    share = np.clip(above / np.maximum(usual - policy.idle_gpu_watts, 1.0), 0.0, 1.0)
    watts = (above + policy.host_watts_per_gpu * share) * _at_circuit(table, snapshot, circuit)
    return dict(zip((job.job_id for job in table.placed.jobs), watts.tolist(), strict=True))


def other_watts(
    snapshot: Snapshot, circuit: str, licences: Mapping[str, int], policy: Policy
) -> float | None:
    """What the circuit draws beside what licences stand for; None where nobody knows.

    What a job draws beyond its licence is in it. What it draws below is not taken off: it may come back.
    """
    load_watts = consumer_watts(snapshot).get(circuit)
    if load_watts is None:
        return None
    drawn = drawn_watts(snapshot, circuit, policy)
    counted = sum(min(watts, licences.get(job_id, 0)) for job_id, watts in drawn.items())
    return max(0.0, load_watts - counted)


def largest_waiting(snapshot: Snapshot, policy: Policy, *, factor: float) -> tuple[str, float]:
    """The largest job that waits for licences and has waited as long as it promised, with what it adds.

    "" for none. ``factor``: what the circuit sees of a watt at a node.
    """
    jobs, at_seconds = pending_jobs(snapshot), snapshot.at.timestamp()
    if not len(jobs.jobs):
        return "", 0.0
    since = np.maximum(jobs.submitted_at, jobs.begin_at)
    over = (at_seconds - since >= jobs.patience_seconds) & (jobs.begin_at <= at_seconds)
    over &= np.array([job.pending_reason == FOR_LICENCES for job in jobs.jobs], dtype=bool)
    watts = np.where(over, jobs.gpus * added_watts(snapshot, jobs, policy) * factor, 0.0)
    row = int(np.argmax(watts))
    return (jobs.jobs[row].job_id, float(watts[row])) if watts[row] > 0.0 else ("", 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A running job's licence that is to become ``watts``; ``capped``: because of a cap of ours."""

    job_id: str
    watts: int
    was_watts: int
    capped: bool
    reason: str


def full_watts(
    snapshot: Snapshot, circuit: str, licences: Mapping[str, int], policy: Policy
) -> dict[str, int]:
    """What each running job that has a licence would add without a cap of ours, by job."""
    table = load_table(snapshot, policy)
    weights = _at_circuit(table, snapshot, circuit)
    return {
        job.job_id: _added(_expected(snapshot, job, policy), float(weights[row]), policy)
        for row, job in enumerate(table.placed.jobs)
        if job.job_id in licences and job.state is JobState.RUNNING and job.started is not None
    }


def _expected(snapshot: Snapshot, job: Job, policy: Policy) -> float:
    """Watts per GPU without a cap of ours; a cap of its user's own stays."""
    watts = expected_watts(snapshot, job, policy)
    own_cap_watts = job.own_cap_watts
    return watts if own_cap_watts is None else min(watts, own_cap_watts)


def _added(gpu_watts: float, weight: float, policy: Policy) -> int:
    """What GPUs add that draw so much; ``weight``: what the circuit sees of a watt on each of them."""
    return math.ceil(max(0.0, gpu_watts - policy.idle_gpu_watts + policy.host_watts_per_gpu) * weight)


def understated(
    snapshot: Snapshot, licences: Mapping[str, int], full: Mapping[str, int]
) -> tuple[float, float]:
    """How much more jobs would add than their licences say, and for how long at most, in seconds.

    It stays so when nobody gives their licences back, until they end.
    """
    watts, seconds = 0.0, 0.0
    jobs = {job.job_id: job for job in snapshot.jobs if job.job_id in full}
    for job_id, job in jobs.items():
        missing = full[job_id] - licences[job_id]
        if missing <= _WRONG_RATIO * licences[job_id] or job.started is None:
            continue
        watts += missing
        limit = job.time_limit_seconds
        ends = math.inf if limit is None else limit - (snapshot.at - job.started).total_seconds()
        seconds = max(seconds, ends)
    return watts, seconds


def corrections(
    snapshot: Snapshot,
    circuit: str,
    licences: Mapping[str, int],
    policy: Policy,
    *,
    follow_seconds: float,
    quantum_watts: int,
    uncapping: frozenset[str] = frozenset(),
) -> tuple[Correction, ...]:
    """Licences of running jobs that differ from what these draw; those that grow first, then the largest.

    A cap counts once it has stood for ``follow_seconds``, a gate never. ``uncapping`` are jobs whose cap is
    about to go.
    """
    table = load_table(snapshot, policy)
    weights = _at_circuit(table, snapshot, circuit)
    found = []
    for job_id, full in full_watts(snapshot, circuit, licences, policy).items():
        cap, licence = snapshot.caps.get(job_id), licences[job_id]
        standing = cap is not None and cap.changed_seconds_ago >= follow_seconds
        capped = standing and job_id not in uncapping
        watts = full
        reason = "what it draws" if job_id not in uncapping else "its cap is about to go"
        if cap is not None and capped:
            watts = min(watts, _added(cap.cap_watts, float(weights[table.placed.row[job_id]]), policy))
            reason = f"its cap of {cap.cap_watts:.0f} W a GPU"
        off = watts - licence
        if abs(off) <= max(quantum_watts, _WRONG_RATIO * licence):
            continue
        known = snapshot.expected.get(job_id)
        learned = known is not None and known.own_seconds >= max(_OWN_SECONDS, follow_seconds)
        if off < 0 and not (capped or learned):
            continue
        if off > 0 and cap is not None and not (capped or job_id in uncapping):
            continue  # what its new cap leaves is not seen yet
        found.append(Correction(job_id=job_id, watts=watts, was_watts=licence, capped=capped, reason=reason))
    return tuple(sorted(found, key=lambda one: (one.watts < one.was_watts, -abs(one.watts - one.was_watts))))


def lifts(plan: Plan, snapshot: Snapshot, lowered: frozenset[str]) -> frozenset[str]:
    """The jobs in ``lowered`` whose cap the plan would raise or lift."""
    return frozenset(
        action.job_id
        for action in plan.actions
        if isinstance(action, SetCap) and action.job_id in lowered and _raises(action, snapshot)
    )


def _raises(action: SetCap, snapshot: Snapshot) -> bool:
    lease = snapshot.caps.get(action.job_id)
    return lease is not None and (action.cap_watts is None or action.cap_watts > lease.cap_watts)


def waiting(plan: Plan, snapshot: Snapshot, jobs: frozenset[str]) -> Plan:
    """The plan with the caps of ``jobs`` renewed as they are, in place of being raised or lifted."""
    if not jobs:
        return plan
    return replace(plan, actions=tuple(_waiting(action, snapshot, jobs) for action in plan.actions))


def _waiting(action: Action, snapshot: Snapshot, jobs: frozenset[str]) -> Action:
    if not isinstance(action, SetCap) or action.job_id not in jobs or not _raises(action, snapshot):
        return action
    lease = snapshot.caps[action.job_id]
    return replace(
        action,
        cap_watts=lease.cap_watts,
        kind=lease.kind,
        lock_hertz=lease.lock_hertz,
        full_hertz=lease.full_hertz,
        reason="its licence is given back before its cap is",
    )
