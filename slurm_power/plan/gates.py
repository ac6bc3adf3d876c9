"""Massive starts come up along a ramp: a job starts under a low cap, which rises until it bites no more.

The cap rises only while the job draws all that it allows, since a program may load its data for minutes
before its GPUs do anything, and only into room. All gated jobs that rise share the site's ramp. What comes at
once, hosts and the GPUs' first watts, no cap can hold back: it counts against the rise that the ramp allows
in a minute, and the caps rise into what that leaves. What a gate costs is kept within a small part of the
slowdown that was promised, so a flex0 job is never gated; and every gate ends after a while, whatever the job
does. No prolog waits for it: a cap that is there when the job comes needs nobody's patience.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from slurm_power.model.action import SetCap
from slurm_power.model.job import Flex, Job
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.caps import Demand
from slurm_power.plan.curves import capped_performance_ratio, slowdown_ratio
from slurm_power.plan.job_table import flex_hold_seconds
from slurm_power.plan.loads import LoadTable, circuit_watts, start_watts
from slurm_power.plan.policy import Policy
from slurm_power.plan.promises import spare_seconds
from slurm_power.plan.site_table import Watts

# The longest a gate stands, and the most of the promised slowdown (as time lost) that it may take.
_MOST_SECONDS = 600.0
_PROMISE_SHARE = 0.2
_MINUTE_SECONDS = 60.0
_LEAST_SLOWDOWN_RATIO = 0.01
# A job draws what its cap allows when it is this close to it.
_AT_CAP_RATIO = 0.85
_CYCLE_SECONDS = 1.0
_STEP_WATTS = 5.0
_ROUNDING_WATTS = 1e-6
# A cap this close above the uncapped draw no longer bites.
_LOOSE_RATIO = 1.02


def with_gates(
    snapshot: Snapshot,
    table: LoadTable,
    actions: Sequence[SetCap],
    demands: Sequence[Demand],
    policy: Policy,
) -> tuple[SetCap, ...]:
    """``actions`` with the gates of starting jobs. What a limit takes from one comes before its gate."""
    ramp = policy.start_ramp_watts_per_second
    rows = _gated(snapshot, table, policy) if ramp > 0.0 else []
    if not rows:
        return tuple(actions)
    root = snapshot.site.root.name
    rising = sum(
        table.placed.circuit_weights(row, snapshot.site).get(root, 0.0) for row in rows if _rises(table, row)
    )
    room_watts = {demand.circuit: max(0.0, -demand.watts) for demand in demands}
    room_watts[root] = min(
        room_watts.get(root, math.inf), _left_of_minute_watts(snapshot, table, rows, policy)
    )
    found = {action.job_id: action for action in actions}
    for row in rows:
        job_id = table.placed.jobs[row].job_id
        wish, lease = found.get(job_id), snapshot.caps.get(job_id)
        if lease is not None and lease.lock_hertz is not None:
            continue  # its clock is locked, which a gate does not move
        asked_watts = math.inf if wish is None or wish.cap_watts is None else wish.cap_watts
        if lease is not None and asked_watts < lease.cap_watts:
            continue
        gate = _gate(
            snapshot,
            table,
            row,
            policy,
            watts_per_second=ramp / max(rising, 1e-9),
            room_watts=room_watts,
        )
        # What a limit leaves a job that comes may be more than the floor, which then is too much at once.
        if lease is not None or gate.cap_watts is None or gate.cap_watts < asked_watts:
            found[job_id] = gate if wish is None else replace(gate, kind=wish.kind)
    return tuple(found.values())


def _left_of_minute_watts(snapshot: Snapshot, table: LoadTable, rows: Sequence[int], policy: Policy) -> float:
    """What the ramp still allows the site to rise by, held against its lowest draw of the last minute.

    A cap's change takes ``cap_settle_seconds`` to show, and what shows then is as old when the next one is
    decided: for so long the rise goes on unseen. The first watts of jobs that do not draw yet are kept free,
    up to half of a minute's rise: they come whatever caps do.
    """
    root = snapshot.site.root.name
    now_watts = circuit_watts(snapshot, root)
    if snapshot.least_minute_watts is None or now_watts is None:
        return math.inf
    ramp = policy.start_ramp_watts_per_second
    at_once_watts = sum(
        (_floor_watts(table, row, policy) - policy.idle_gpu_watts + policy.host_watts_per_gpu)
        * table.placed.circuit_weights(row, snapshot.site).get(root, 0.0)
        for row in rows
        if table.cap_watts[row] < np.inf and not _rises(table, row)
    )
    most_watts = ramp * max(0.0, _MINUTE_SECONDS - 2.0 * policy.cap_settle_seconds)
    kept_watts = min(at_once_watts, 0.5 * most_watts)
    return max(0.0, snapshot.least_minute_watts + most_watts - kept_watts - now_watts)


def _gated(snapshot: Snapshot, table: LoadTable, policy: Policy) -> list[int]:
    """The rows of jobs that start, or have started, behind a gate."""
    placed, at_seconds = table.placed, snapshot.at.timestamp()
    age = at_seconds - placed.started_at
    young = table.reachable & (age < _MOST_SECONDS)
    return [row for row in np.flatnonzero(young).tolist() if _behind_gate(snapshot, table, row, age, policy)]


def _behind_gate(snapshot: Snapshot, table: LoadTable, row: int, age: Watts, policy: Policy) -> bool:
    job = table.placed.jobs[row]
    if job.flex is Flex.FLEX0:
        return False
    if table.cap_watts[row] == np.inf and age[row] >= policy.start_expected_seconds:
        return False  # it came up without one, or its gate has opened
    root = snapshot.site.root.name
    weight = table.placed.circuit_weights(row, snapshot.site).get(root, 0.0)
    floor_watts = _floor_watts(table, row, policy)
    top_watts = min(start_watts(snapshot, job, policy), float(table.default_cap_watts[row]))
    if table.cap_watts[row] == np.inf and float(table.busiest_watts[row]) >= _AT_CAP_RATIO * top_watts:
        return False  # it has come up already: a cap now would only make a second rise
    most_seconds = _most_seconds(snapshot, job, floor_watts / max(top_watts, 1.0))
    if most_seconds <= 0.0 or age[row] >= most_seconds:
        return False
    if top_watts <= floor_watts or snapshot.yielded_nodes.intersection(job.nodes):
        return False
    step_watts = (top_watts - policy.idle_gpu_watts + policy.host_watts_per_gpu) * weight
    # What comes in the time a cap takes to show is no step that a gate could spread.
    return step_watts > policy.start_ramp_watts_per_second * policy.cap_settle_seconds


def _most_seconds(snapshot: Snapshot, job: Job, floor_ratio: float) -> float:
    """How long a job may stand behind its gate: as if it stood at the floor all the time."""
    slowdown = 1.0 - capped_performance_ratio(job.workload, floor_ratio)
    promised_seconds = min(flex_hold_seconds(job), spare_seconds(snapshot, job))
    return _PROMISE_SHARE * promised_seconds / max(slowdown, _LEAST_SLOWDOWN_RATIO)


def _floor_watts(table: LoadTable, row: int, policy: Policy) -> float:
    floor_watts = policy.cap_floor_ratio * float(table.default_cap_watts[row])
    return min(max(floor_watts, float(table.min_cap_watts[row])), float(table.own_cap_watts[row]))


def _rises(table: LoadTable, row: int) -> bool:
    """Whether a job draws all that its gate allows."""
    cap_watts = float(table.cap_watts[row])
    return cap_watts < np.inf and float(table.busiest_watts[row]) >= _AT_CAP_RATIO * cap_watts


def _gate(
    snapshot: Snapshot,
    table: LoadTable,
    row: int,
    policy: Policy,
    *,
    watts_per_second: float,
    room_watts: dict[str, float],
) -> SetCap:
    """The cap of a job behind its gate; what it rises by is taken from ``room_watts``."""
    job = table.placed.jobs[row]
    lease = snapshot.caps.get(job.job_id)
    top_watts = max(start_watts(snapshot, job, policy), float(table.uncapped_watts[row]))
    cap_watts = _floor_watts(table, row, policy)
    if lease is not None:
        cap_watts = lease.cap_watts
        if _rises(table, row):
            # The time a job has waited for its data is no ramp it may catch up on.
            most_seconds = max(_CYCLE_SECONDS, _STEP_WATTS / watts_per_second)
            more_watts = watts_per_second * min(lease.changed_seconds_ago, most_seconds)
            weights = table.placed.circuit_weights(row, snapshot.site)
            more_watts = min(more_watts, *(room_watts[name] / weight for name, weight in weights.items()))
            more_watts = _STEP_WATTS * ((more_watts + _ROUNDING_WATTS) // _STEP_WATTS)
            for name, weight in weights.items():
                room_watts[name] -= more_watts * weight
            cap_watts += more_watts
        device_watts = min(float(table.default_cap_watts[row]), float(table.own_cap_watts[row]))
        if cap_watts >= min(_LOOSE_RATIO * top_watts, device_watts):
            return SetCap(
                job_id=job.job_id,
                cap_watts=None,
                kind=LimitKind.ECONOMIC,
                reason="its start is over: the gate is open",
            )
    ramp = kilowatts_text(policy.start_ramp_watts_per_second)
    return SetCap(
        job_id=job.job_id,
        cap_watts=cap_watts,
        kind=LimitKind.ECONOMIC,
        reason=f"it starts behind a gate: the site's draw is to rise by {ramp} a second at most",
        saved_watts=max(0.0, top_watts - cap_watts) * job.gpu_count,
        slowdown_ratio=slowdown_ratio(job.workload, cap_watts, top_watts),
        gate=True,
    )
