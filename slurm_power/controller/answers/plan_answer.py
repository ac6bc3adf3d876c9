"""The last plan and its prices, cut to what the caller may see: others' jobs are shown without names."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from slurm_power.controller.answers.user_socket import Answer, Caller
from slurm_power.model.action import (
    AdviseBatch,
    ChangeTier,
    HoldJob,
    PauseJob,
    Plan,
    ReleaseJob,
    RelocateJob,
    ResumeJob,
    SetCap,
    SetDischarge,
    SwitchService,
)
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.explain import CircuitPrice, LeverPrice, explain
from slurm_power.plan.policy import Policy
from slurm_power.plan.prices import Price
from slurm_power.wire import Message, encode

if TYPE_CHECKING:
    from slurm_power.controller.daemon import Controller

# An answer is a line, and a screen shows no more: the cheapest of each, and how many were left off.
_MOST_LEVERS = 40
_MOST_CIRCUITS = 50
_MOST_ACTIONS = 200


def plan(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Answer `plan`; with ``explain`` true the prices are worked out as well."""
    answer, prices = _plan(controller, request, caller)
    return answer if prices is None else {**answer, **prices()}


def plan_beside(controller: "Controller", request: Message, caller: Caller) -> Answer:
    """The same, with prices in another thread: at 10,000 nodes they take half a second."""
    answer, prices = _plan(controller, request, caller)
    return answer if prices is None else lambda: encode({"ok": True, **answer, **prices()})


def _plan(
    controller: "Controller", request: Message, caller: Caller
) -> tuple[Message, Callable[[], Message] | None]:
    """The plan, and what works out its prices from what does not change any more."""
    snapshot = controller.planned_on
    answer: Message = {
        "site": controller.config.site.name,
        "mode": controller.mode,
        "at": None,
        "actions": [],
        "actions_left_off": 0,
        "shortfalls": [],
        "notes": [],
        "admission": controller.admission.row(),
        "currency": controller.config.supply.currency,
        "weights_overridden": controller.governance.policy.override_row(),
    }
    if snapshot is None:
        return answer, None
    user = caller.user
    seen = {job.job_id for job in snapshot.jobs if caller.sees_all or job.user == user}
    services = {name for name, one in snapshot.services.items() if one.user == user}
    if caller.sees_all:
        services = {*snapshot.services, *snapshot.service_leases}
    seen |= {f"service:{name}" for name in services}
    found = controller.plan
    moves = [row for action in found.actions if (row := _action(action, snapshot, seen)) is not None]
    answer |= {
        "at": snapshot.at.isoformat(),
        "actions": moves[:_MOST_ACTIONS],
        "actions_left_off": max(0, len(moves) - _MOST_ACTIONS),
        "shortfalls": _shortfalls(controller, found),
        "notes": list(found.notes),
        "admission": controller.admission.row(),
        "fairness": _fairness(controller, snapshot, caller, user),
    }
    if request.get("explain") is not True:
        return answer, None
    price, policy = _energy_price(controller, snapshot), controller.config.policy
    return answer, lambda: _prices(snapshot, found, policy, price, seen)


def _prices(snapshot: Snapshot, found: Plan, policy: Policy, price: float | None, seen: set[str]) -> Message:
    circuits = explain(snapshot, found, policy, energy_price_per_kwh=price)
    return {
        "energy_price_per_kwh": price,
        "circuits": [_circuit(one, seen) for one in circuits[:_MOST_CIRCUITS]],
        "circuits_left_off": max(0, len(circuits) - _MOST_CIRCUITS),
    }


def _energy_price(controller: "Controller", snapshot: Snapshot) -> float | None:
    """What a kWh costs now, None where neither prices nor a tariff say it."""
    (price,) = controller.supply.ahead(
        snapshot,
        snapshot.site.root.name,
        start_seconds=snapshot.at.timestamp(),
        step_seconds=900.0,
        steps=1,
    ).price_per_kwh
    return price


def _shortfalls(controller: "Controller", found: Plan) -> list[dict[str, Any]]:
    since = controller.recorder.short_since
    return [
        {
            "circuit": shortfall.circuit,
            "watts": shortfall.watts,
            "reason": shortfall.reason,
            "from_seconds": shortfall.from_seconds,
            "event_id": shortfall.event_id,
            "since": since[shortfall.circuit].isoformat() if shortfall.circuit in since else None,
        }
        for shortfall in found.shortfalls
    ]


def _fairness(
    controller: "Controller", snapshot: Snapshot, caller: Caller, user: str
) -> dict[str, float | str | None]:
    standing = controller.fairness.standing()
    return {
        "jain_index": round(standing.jain_index, 4),
        "worst_user": standing.worst_user if caller.sees_all or standing.worst_user == user else None,
        "worst_lost_ratio": round(standing.worst_lost_ratio, 4),
        "own_lost_ratio": round(snapshot.debts.get(user, 0.0), 4),
    }


def _action(action: object, snapshot: Snapshot, seen: set[str]) -> dict[str, Any] | None:
    """An action as an answer carries it; None for somebody else's and for what only stays as it was.

    ``seen`` are the jobs of the caller's by their numbers, and the services as ``service:NAME``.
    """
    match action:
        case SetDischarge():
            return {
                "lever": "discharge",
                "subject": action.ess,
                "watts": action.discharge_watts,
                "reason": action.reason,
            }
        case SetCap() if action.job_id in seen:
            lease = snapshot.caps.get(action.job_id)
            changed = lease is None or lease.cap_watts != action.cap_watts
            return {
                "lever": "cap",
                "subject": action.job_id,
                "watts": action.cap_watts,
                "reason": action.reason,
                "changed": changed,
            }
        case HoldJob() if action.job_id in seen:
            return {
                "lever": "hold",
                "subject": action.job_id,
                "watts": action.saved_watts,
                "reason": action.reason,
            }
        case ReleaseJob() if action.job_id in seen:
            return {"lever": "release", "subject": action.job_id, "watts": None, "reason": action.reason}
        case RelocateJob() if action.job_id in seen:
            lever = "relocate" if action.avoid else "give nodes back"
            return {"lever": lever, "subject": action.job_id, "watts": None, "reason": action.reason}
    return _pause(action, seen) or _tier(action, snapshot, seen)


def _pause(action: object, seen: set[str]) -> dict[str, Any] | None:
    match action:
        case PauseJob() if action.job_id in seen:
            return {
                "lever": "pause",
                "subject": action.job_id,
                "watts": action.saved_watts,
                "reason": action.reason,
                "changed": not action.renewed,
            }
        case ResumeJob() if action.job_id in seen:
            return {"lever": "resume", "subject": action.job_id, "watts": None, "reason": action.reason}
    return None


def _tier(action: object, snapshot: Snapshot, seen: set[str]) -> dict[str, Any] | None:
    match action:
        case ChangeTier() if action.job_id in seen:
            return {
                "lever": "change tier",
                "subject": action.job_id,
                "tier": action.tier,
                "watts": action.saved_watts,
                "reason": action.reason,
            }
        case AdviseBatch() if action.job_id in seen:
            return {
                "lever": "advise batch",
                "subject": action.job_id,
                "micro_batch": action.micro_batch,
                "watts": action.saved_watts,
                "reason": action.reason,
                "changed": snapshot.micro_batches.get(action.job_id) != action.micro_batch,
            }
        case SwitchService() if f"service:{action.service}" in seen:
            asked = snapshot.service_leases.get(action.service)
            return {
                "lever": "switch service",
                "subject": action.service,
                "tier": action.tier,
                "watts": action.saved_watts,
                "reason": action.reason,
                "changed": asked is None or asked.tier != action.tier,
            }
        case _:
            return None


def _circuit(one: CircuitPrice, seen: set[str]) -> dict[str, Any]:
    # What is in use and what could be comes first; levers that have nothing to give are only counted.
    rows = [row for row in one.levers if row.price is not None or row.next_price is not None]
    rows += [row for row in one.levers if row.price is None and row.next_price is None]
    return {
        "circuit": one.circuit.name,
        "limit_kind": one.circuit.limit_kind.value,
        "limit_watts": one.limit_watts,
        "target_watts": one.target_watts,
        "load_watts": one.load_watts,
        "natural_watts": one.natural_watts,
        "binding": one.binding,
        "short_watts": one.short_watts,
        "shadow": _price(one.shadow_price),
        "marginal": _lever(one.marginal, seen),
        "next": _lever(one.next, seen),
        "levers": [_lever(row, seen) for row in rows[:_MOST_LEVERS]],
        "levers_left_off": max(0, len(rows) - _MOST_LEVERS),
    }


def _lever(row: LeverPrice | None, seen: set[str]) -> dict[str, Any] | None:
    if row is None:
        return None
    mine = row.job is None or row.job.job_id in seen
    return {
        "lever": row.lever,
        "subject": row.subject if mine else None,
        "user": row.job.user if mine and row.job else None,
        "flex": row.job.flex.value if row.job else None,
        "chosen_watts": round(row.chosen_watts, 1),
        "left_watts": round(row.left_watts, 1),
        "price": _price(row.price),
        "next_price": _price(row.next_price),
        "remark": row.remark,
    }


def _price(price: Price | None) -> dict[str, float] | None:
    if price is None:
        return None
    return {
        "money_per_kwh": round(price.money_per_kwh, 5),
        "work_gpu_hours_per_kwh": round(price.work_gpu_hours_per_kwh, 5),
    }
