"""Answers to users and operators, cut to what the caller may see."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from slurm_power import clock
from slurm_power.controller.answers.asked import need_operator, number
from slurm_power.controller.answers.event_answer import (
    add_event,
    cancel_event,
    event_report,
    events,
)
from slurm_power.controller.answers.expect_answer import expect
from slurm_power.controller.answers.forecast_answer import forecast
from slurm_power.controller.answers.governance_answers import (
    appeal,
    appeal_answer,
    appeals,
    control,
    policy,
    policy_sign,
    release_all,
    weights,
)
from slurm_power.controller.answers.jobs_answer import jobs
from slurm_power.controller.answers.live_answer import live
from slurm_power.controller.answers.plan_answer import plan_beside
from slurm_power.controller.answers.status_answer import status
from slurm_power.controller.answers.tier_answers import advise, lineage, service
from slurm_power.controller.answers.user_socket import Answer, Caller, RefusedError
from slurm_power.controller.answers.web_answer import web_login, web_redeem
from slurm_power.controller.governance.alert_desk import alerts
from slurm_power.controller.jobs.job_hint import job_hint
from slurm_power.controller.sensing.sources import row_message
from slurm_power.model.ledger import LedgerEntry
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
    "status": status,
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
