"""Answers to users and operators, cut to what the caller may see."""

import math
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from slurm_power import __version__, clock
from slurm_power.controller.asked import need_operator, number
from slurm_power.controller.event_answer import (
    add_event,
    cancel_event,
    event_report,
    event_row,
    events,
)
from slurm_power.controller.expect_answer import expect, expected_row
from slurm_power.controller.forecast_answer import forecast
from slurm_power.controller.job_hint import job_hint
from slurm_power.controller.jobs_answer import jobs
from slurm_power.controller.plan_answer import plan
from slurm_power.controller.sources import row_message
from slurm_power.controller.tier_answers import advise, lineage, service, service_rows
from slurm_power.controller.user_socket import Caller, RefusedError
from slurm_power.model.job import Job
from slurm_power.model.ledger import LedgerEntry
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.loads import JobLoad, job_loads
from slurm_power.ports import StoreError
from slurm_power.wire import Message

if TYPE_CHECKING:
    from slurm_power.controller.daemon import Controller

_MOST_ENTRIES = 1000
_MOST_ANSWER_BYTES = 900_000
# The guard waits while entries are checked; the rest of a long ledger is checked cycle by cycle.
_MOST_CHECKED = 1000
_LONGEST_LOOK_SECONDS = 100 * 366 * 86_400.0
_LONGEST_YIELD_SECONDS = 7 * 86_400.0


def answer(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Answer one request of docs/protocol.md; raises RefusedError."""
    operation = request.get("op")
    handler = _HANDLERS.get(operation) if isinstance(operation, str) else None
    if handler is None:
        raise RefusedError(f"unknown request {operation!r}; known: {', '.join(_HANDLERS)}")
    return handler(controller, request, caller)


def _forget_node(controller: "Controller", request: Message, caller: Caller) -> Message:
    need_operator(caller, "forget a node's key")
    node = str(request.get("node"))
    try:
        known = controller.forget_node(node, caller.user)
    except StoreError as error:
        raise RefusedError(f"nothing was forgotten: {error}") from None
    if not known:
        raise RefusedError(f"no key is pinned for {node!r}")
    return {}


def _control(controller: "Controller", request: Message, caller: Caller) -> Message:
    if caller.uid != 0:
        raise RefusedError("only root may switch the control on or off")
    if not isinstance(request.get("enabled"), bool):
        raise RefusedError("enabled: must be true or false")
    controller.switch_control(enabled=bool(request["enabled"]), who=caller.user)
    return {"mode": controller.mode}


def status(controller: "Controller", caller: Caller) -> Message:
    """The whole site at a glance; other users' jobs only for operators."""
    snapshot = controller.snapshot()
    user = caller.user  # asked once: behind it may be a directory service
    seen = {job.job_id: job for job in snapshot.jobs if caller.operator or job.user == user}
    loads = {load.job.job_id: load for load in job_loads(snapshot, controller.config.policy)}
    software = controller.node_software()
    return {
        "version": __version__,
        "site": snapshot.site.name,
        "at": snapshot.at.isoformat(),
        "mode": controller.mode,
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
        "jobs": [_job(controller, snapshot, job, loads.get(job_id)) for job_id, job in seen.items()],
        "leases": [
            {"node": node, **{key: lease.get(key) for key in _LEASE_KEYS}}
            for node, leases in controller.telemetry.node_leases().items()
            for lease in leases
            if caller.operator or lease.get("job_id") in seen
        ],
        "services": service_rows(controller, None if caller.operator else user),
        "events": [event_row(snapshot, event) for event in snapshot.events],
        "shortfalls": [asdict(shortfall) for shortfall in controller.plan.shortfalls],
    }


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


def _job(controller: "Controller", snapshot: Snapshot, job: Job, load: JobLoad | None) -> dict[str, Any]:
    cap = controller.levers.caps.get(job.job_id)
    hold = snapshot.holds.get(job.job_id)
    pause = snapshot.pauses.get(job.job_id)
    record = controller.recorder.job_record(job.job_id)
    held = controller.levers.holds.get(job.job_id)
    return {
        "job_id": job.job_id,
        "user": job.user,
        "account": job.account,
        "name": job.name,
        "state": job.state.value,
        "workload": job.workload.value,
        "flex": job.flex.value,
        "max_hold_seconds": job.max_hold_seconds,
        "finish_by": None if job.finish_by is None else job.finish_by.isoformat(),
        "deadline": None if job.deadline is None else job.deadline.isoformat(),
        "own_cap_watts": job.own_cap_watts,
        "tier": job.tier or None,
        "tiers_ok": list(job.tiers_ok),
        "progress": _progress(snapshot, job),
        "min_quality": job.min_quality,
        "gpu_count": job.gpu_count,
        "nodes": list(job.nodes),
        "gpu_watts": load.gpu_watts * job.gpu_count if load is not None and load.reachable else None,
        "energy_joules": record.get("energy_joules"),
        "coverage_ratio": record.get("coverage_ratio"),
        "cap_watts": cap.cap_watts if cap else None,
        "lock_hertz": cap.lock_hertz if cap else None,
        "cap_kind": cap.kind.value if cap else None,
        "cap_reason": cap.reason if cap else "",
        "cap_is_own": cap.own if cap else False,
        "slowdown_ratio": cap.slowdown_ratio if cap else 0.0,
        "held_seconds": controller.levers.held_seconds(job.job_id, snapshot.at),
        "hold_ends_in_seconds": hold.ends_in_seconds if hold else None,
        "hold_reason": held.reason if held else "",
        "paused_seconds": pause.paused_seconds if pause else None,
        "pause_reason": controller.levers.paused.reason(job.job_id),
        "pending_reason": job.pending_reason,
        **expected_row(snapshot.expected.get(job.job_id)),
    }


def _progress(snapshot: Snapshot, job: Job) -> dict[str, Any] | None:
    """What a job tells of itself, None where it tells nothing."""
    word = snapshot.progress.get(job.job_id)
    return None if word is None else asdict(word)


def job(controller: "Controller", request: Message, caller: Caller) -> Message:
    """The record of one job, also of one that has ended; empty for what is unknown or somebody else's."""
    job_id = str(request.get("job_id"))
    record = dict(controller.recorder.job_record(job_id)) or controller.store.job(job_id)
    return {"record": record if caller.operator or record.get("user") == caller.user else {}}


def sources(controller: "Controller") -> Message:
    """Every source with its quality; no job and no user is in it, so everybody may see it."""
    return {"sources": [row_message(row) for row in controller.source_rows()]}


def signals(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Take what powerbridge tells of its signals."""
    need_operator(caller, "tell of signals")
    controller.sources.signals.take(request.get("signals"), clock.monotonic())
    return {}


def ledger(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Ledger entries the caller may see, oldest first, cut to what fits into a line."""
    since_seconds = number(request, "since_seconds")
    after = int(number(request, "after_sequence") or 0)
    job_id = request.get("job_id")
    since = None
    if since_seconds is not None:
        if since_seconds < 0.0:
            raise RefusedError(f"since_seconds: {since_seconds:g} s ago is in the future")
        since = controller.now() - timedelta(seconds=min(since_seconds, _LONGEST_LOOK_SECONDS))
    rows = controller.store.rows(
        after,
        since=since,
        job_id=None if job_id is None else str(job_id),
        visible_to=None if caller.operator else caller.user,
        most=_MOST_ENTRIES + 1,
    )
    entries: list[dict[str, Any]] = []
    size = 0
    more = False
    for sequence, entry, stored_hash in rows:
        size += len(entry.canonical()) + 120
        if len(entries) >= _MOST_ENTRIES or size > _MOST_ANSWER_BYTES:
            more = True
            break
        entries.append({**_entry(entry), "sequence": sequence, "hash": stored_hash})
    return {
        "entries": entries,
        "more": more,
        "broken_at_sequence": controller.store.broken_at_sequence(_MOST_CHECKED),
        "checked_sequence": controller.store.checked_sequence,
    }


def _entry(entry: LedgerEntry) -> dict[str, Any]:
    return {
        "at": entry.at.isoformat(),
        "actor": entry.actor,
        "kind": entry.kind,
        "subject": entry.subject,
        "reason": entry.reason,
        "job_id": entry.job_id,
        "user": entry.user,
        "saved_watts": entry.saved_watts,
        "details": dict(entry.details),
    }


def yield_node(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Leave a node to its administrator for a while, or take it back; all problems are said at once."""
    need_operator(caller, "yield a node")
    problems = []
    node = str(request.get("node"))
    if node not in controller.config.site.nodes():
        problems.append(f"node: {node!r} is on no circuit of site.toml")
    seconds = number(request, "seconds")
    if seconds is None or not 0.0 <= seconds <= _LONGEST_YIELD_SECONDS:
        problems.append("seconds: a node is yielded for a time; give seconds up to a week, 0 takes it back")
    reason = str(request.get("reason") or "").strip()
    if not reason or any("\ud800" <= letter <= "\udfff" for letter in reason):
        problems.append("reason: missing or no text; it is what users will read")
    if problems or seconds is None:
        raise RefusedError("; ".join(problems))
    controller.operators.yield_node(node=node, seconds=seconds, reason=reason, who=caller.user)
    return {}


_HANDLERS: dict[str, Callable[["Controller", Message, Caller], Message]] = {
    "status": lambda controller, _, caller: status(controller, caller),
    "sources": lambda controller, _, __: sources(controller),
    "signals": signals,
    "ledger": ledger,
    "job": job,
    "job_hint": job_hint,
    "jobs": jobs,
    "expect": expect,
    "forecast": forecast,
    "plan": plan,
    "event": add_event,
    "cancel_event": cancel_event,
    "events": lambda controller, _, __: events(controller),
    "event_report": event_report,
    "yield": yield_node,
    "forget_node": _forget_node,
    "control": _control,
    "service": service,
    "advise": advise,
    "lineage": lineage,
}
