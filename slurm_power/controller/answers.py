"""Answers to users and operators, cut to what the caller may see."""

import math
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from slurm_power import __version__, clock
from slurm_power.controller.alert_desk import alerts
from slurm_power.controller.asked import need_operator, number
from slurm_power.controller.event_answer import (
    add_event,
    cancel_event,
    event_report,
    event_row,
    events,
)
from slurm_power.controller.expect_answer import expect
from slurm_power.controller.forecast_answer import forecast
from slurm_power.controller.governance_answers import (
    appeal,
    appeal_answer,
    appeals,
    control,
    iso_or_none,
    policy,
    policy_sign,
    release_all,
    weights,
)
from slurm_power.controller.job_hint import job_hint
from slurm_power.controller.job_row import job_row
from slurm_power.controller.jobs_answer import jobs
from slurm_power.controller.live_answer import live
from slurm_power.controller.plan_answer import plan_beside
from slurm_power.controller.sources import row_message
from slurm_power.controller.standing_answer import standing_of, standing_row
from slurm_power.controller.tier_answers import advise, lineage, service, service_rows
from slurm_power.controller.user_socket import Answer, Caller, RefusedError
from slurm_power.controller.web_answer import web_login, web_redeem
from slurm_power.model.ledger import LedgerEntry
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.loads import job_loads
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


def answer(controller: "Controller", request: Message, caller: Caller) -> Answer:
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
        known = controller.operators.forget_node(node, caller.who)
    except StoreError as error:
        raise RefusedError(f"nothing was forgotten: {error}") from None
    if not known:
        raise RefusedError(f"no key is pinned for {node!r}")
    return {}


def status(controller: "Controller", caller: Caller) -> Message:
    """The whole site at a glance; other users' jobs only for operators."""
    snapshot = controller.snapshot()
    user = caller.user  # asked once: behind it may be a directory service
    seen = {job.job_id: job for job in snapshot.jobs if caller.sees_all or job.user == user}
    loads = {load.job.job_id: load for load in job_loads(snapshot, controller.config.policy)}
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
        "jobs": [job_row(controller, snapshot, job, loads.get(job_id)) for job_id, job in seen.items()],
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


def job(controller: "Controller", request: Message, caller: Caller) -> Message:
    """The record of one job, also of one that has ended; empty for what is unknown or somebody else's."""
    job_id = str(request.get("job_id"))
    record = dict(controller.recorder.job_record(job_id)) or controller.store.job(job_id)
    return {"record": record if caller.sees_all or record.get("user") == caller.user else {}}


def sources(controller: "Controller") -> Message:
    """Every source with its quality; no job and no user is in it, so everybody may see it."""
    rows = controller.sources.latest
    return {"sources": [row_message(row) for row in (controller.source_rows() if rows is None else rows)]}


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
        visible_to=None if caller.sees_all else caller.user,
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
    controller.operators.yield_node(node=node, seconds=seconds, reason=reason, who=caller.who)
    return {}


_HANDLERS: dict[str, Callable[["Controller", Message, Caller], Answer]] = {
    "status": lambda controller, _, caller: status(controller, caller),
    "live": live,
    "sources": lambda controller, _, __: sources(controller),
    "signals": signals,
    "alerts": alerts,
    "ledger": ledger,
    "job": job,
    "job_hint": job_hint,
    "jobs": jobs,
    "expect": expect,
    "forecast": forecast,
    "plan": plan_beside,
    "event": add_event,
    "cancel_event": cancel_event,
    "events": lambda controller, _, __: events(controller),
    "event_report": event_report,
    "yield": yield_node,
    "forget_node": _forget_node,
    "control": control,
    "release_all": release_all,
    "weights": weights,
    "policy": policy,
    "policy_sign": policy_sign,
    "appeal": appeal,
    "appeal_answer": appeal_answer,
    "appeals": lambda controller, _, caller: appeals(controller, caller),
    "service": service,
    "advise": advise,
    "lineage": lineage,
    "web_login": lambda controller, _, caller: web_login(controller, caller),
    "web_redeem": web_redeem,
}
