"""The whole site at a glance, for everybody: circuits, batteries, nodes, and the caller's jobs."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from slurm_power import __version__
from slurm_power.controller.answers.event_answer import event_row
from slurm_power.controller.answers.governance_answers import iso_or_none
from slurm_power.controller.answers.standing_answer import standing_of, standing_row
from slurm_power.controller.answers.tier_answers import service_rows
from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.controller.jobs.job_row import job_row
from slurm_power.model.job import Job
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.loads import JobLoad, job_loads
from slurm_power.wire import Message

if TYPE_CHECKING:
    from slurm_power.controller.daemon import Controller

# The loop waits while rows are made, 35 microseconds each.
MOST_JOBS = 1000
_MOST_NAMED = 200


def status(controller: "Controller", request: Message, caller: Caller) -> Message:
    """The whole site at a glance; other users' jobs only for operators. Raises RefusedError.

    ``job_ids`` (200 at most) names the only jobs to be told; else ``most_jobs`` (0 to 1,000) bounds them:
    those that are capped, held or paused come first, then those that draw most, then the others.
    """
    job_ids, most_jobs = _wishes(request)
    snapshot = controller.snapshot()
    user = caller.user  # asked once: behind it may be a directory service
    seen = {job.job_id: job for job in snapshot.jobs if caller.sees_all or job.user == user}
    loads = {load.job.job_id: load for load in job_loads(snapshot, controller.config.policy)}
    if job_ids is None:
        told = _foremost(controller, snapshot, seen, loads, most_jobs)
    else:
        told = [seen[job_id] for job_id in job_ids if job_id in seen]
    software = controller.node_software()
    return {
        "version": __version__,
        "site": snapshot.site.name,
        "currency": controller.config.supply.currency,
        "at": snapshot.at.isoformat(),
        "mode": controller.mode,
        "paused_until": iso_or_none(controller.control.paused_until),
        "standing": standing_row(standing_of(controller, snapshot)),
        "uptime_seconds": round(controller.uptime_seconds(), 1),
        "jobs_age_seconds": snapshot.jobs_age_seconds,
        "circuits": [_circuit(snapshot, name) for name in snapshot.site.circuits],
        "ess": [
            {
                **asdict(ess),
                "circuit": snapshot.site.ess[name].circuit,
                "setpoint_watts": snapshot.setpoints.get(name) or None,
            }
            for name, ess in snapshot.ess.items()
        ],
        "level": _level(snapshot),
        "peak_jobs": _peak_jobs(controller),
        "admission": controller.admission.row(),
        "nodes": [
            {
                "name": node.name,
                "age_seconds": round(node.age_seconds, 2),
                "gpu_count": len(node.gpus),
                "gpu_watts": sum(gpu.power_watts for gpu in node.gpus.values()),
                "connected": node.name in software,
                "software": software.get(node.name, ""),
            }
            for node in snapshot.nodes.values()
        ],
        "yields": [
            {
                "node": record.node,
                "ends_in_seconds": (record.ends_at - snapshot.at).total_seconds(),
                "who": record.who,
                "reason": record.reason,
            }
            for record in controller.levers.yields.values()
        ],
        "jobs": [job_row(controller, snapshot, job, loads.get(job.job_id)) for job in told],
        "jobs_left_off": len(seen) - len(told),
        "leases": [
            {"node": node, **{key: lease.get(key) for key in _LEASE_KEYS}}
            for node, leases in controller.telemetry.node_leases().items()
            for lease in leases
            if caller.sees_all or lease.get("job_id") in seen
        ],
        "services": service_rows(controller, None if caller.sees_all else user),
        "events": [event_row(snapshot, event) for event in snapshot.events],
        "shortfalls": [asdict(shortfall) for shortfall in controller.plan.shortfalls],
    }


def _wishes(request: Message) -> tuple[tuple[str, ...] | None, int]:
    """Which jobs are asked for, None for all, and how many at most."""
    job_ids, most_jobs = request.get("job_ids"), request.get("most_jobs", MOST_JOBS)
    problems = []
    if job_ids is not None and (not isinstance(job_ids, list) or len(job_ids) > _MOST_NAMED):
        problems.append(f"job_ids: must be a list of {_MOST_NAMED} job ids at most")
    if type(most_jobs) is not int or not 0 <= most_jobs <= MOST_JOBS:
        problems.append(f"most_jobs: not a whole number from 0 to {MOST_JOBS}")
    if problems or type(most_jobs) is not int:
        raise RefusedError("; ".join(problems))
    return tuple(dict.fromkeys(map(str, job_ids))) if isinstance(job_ids, list) else None, most_jobs


def _foremost(
    controller: "Controller",
    snapshot: Snapshot,
    seen: Mapping[str, Job],
    loads: Mapping[str, JobLoad],
    most_jobs: int,
) -> list[Job]:
    """The jobs to be told, in Slurm's order; which are left off is said in `status`."""
    if len(seen) <= most_jobs:
        return list(seen.values())
    touched = controller.levers.caps.keys() | snapshot.holds.keys() | snapshot.pauses.keys()

    def rank(job_id: str) -> tuple[bool, float]:
        load = loads.get(job_id)
        return job_id in touched, -1.0 if load is None else load.gpu_watts * load.job.gpu_count

    chosen = set(nlargest(most_jobs, seen, key=rank))
    return [job for job_id, job in seen.items() if job_id in chosen]


_LEASE_KEYS = (
    *("lease_id", "uuid", "job_id", "kind", "state"),
    *("lever", "cap_watts", "lock_hertz", "remaining_seconds"),
)


def _level(snapshot: Snapshot) -> dict[str, Any] | None:
    """What the batteries hold the grid connection to, None where there is no such level."""
    outlook = snapshot.outlook
    if outlook is None or not outlook.counts_at(snapshot.at):
        return None
    return {
        "circuit": snapshot.site.root.name,
        "period": outlook.period,
        "level_watts": outlook.level_watts,
        "natural_most_watts": outlook.natural_most_watts,
        "trade_watts": outlook.trade_watts,
        "reason": outlook.level_reason,
        "trade_reason": outlook.trade_reason,
    }


def _peak_jobs(controller: "Controller") -> dict[str, Any]:
    """Whether jobs help to hold the month's peak, and at which level they would; None: at none."""
    level = controller.planning.peak.level
    return {
        "mode": controller.config.policy.peak_jobs.value,
        "level_watts": None if level is None else level.level_watts,
        "most_price_per_kwh": None if level is None else level.most_price_per_kwh,
        "reason": "" if level is None else level.reason,
    }


def _circuit(snapshot: Snapshot, name: str) -> dict[str, Any]:
    circuit = snapshot.site.circuits[name]
    reading = snapshot.circuits.get(name)
    return {
        "name": name,
        "parent": circuit.parent,
        "watts": reading.known_watts() if reading else None,
        "quality": reading.quality.value if reading else None,
        "age_seconds": round(reading.age_seconds, 2)
        if reading and math.isfinite(reading.age_seconds)
        else None,
        "source": reading.source if reading else None,
        "reason": reading.reason if reading else "not metered",
        "limit_watts": snapshot.limit_watts(name),
        "limit_kind": circuit.limit_kind.value,
        "rating_watts": circuit.rating_watts,
    }
