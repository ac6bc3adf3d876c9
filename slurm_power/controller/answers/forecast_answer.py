"""The forecast as users and operators are told it: a circuit, what comes, who says so and how it did."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.forecast.messages import forecast_message
from slurm_power.model.forecast import ComingStart, Reach
from slurm_power.wire import Message

if TYPE_CHECKING:
    from slurm_power.controller.daemon import Controller

# Beyond so many coming starts nobody reads on; the massive ones come first.
_MOST_STARTS = 200


def forecast(controller: "Controller", request: Message, caller: Caller) -> Message:
    """What is expected of a circuit, the grid connection if none is named; raises RefusedError.

    Loads are everybody's; of other users' jobs only the watts are told.
    """
    site = controller.config.site
    asked = request.get("circuit")
    name = site.root.name if asked is None else str(asked)
    if name not in site.circuits:
        raise RefusedError(f"circuit: {name!r} is not one of {', '.join(site.circuits)}")
    desk, at = controller.forecasts, controller.now()
    seconds = at.timestamp()
    found = {reach: desk.forecast(name, reach, seconds) for reach in Reach}
    # Limits and prices ahead hardly change in a second: dashboards ask often.
    snapshot = controller.planned_on or controller.snapshot()
    supply = {
        reach.value: controller.supply.ahead(
            snapshot,
            name,
            start_seconds=each.issued_seconds,
            step_seconds=each.step_seconds,
            steps=len(each.p50_watts),
        ).as_message()
        for reach, each in found.items()
        if each is not None
    }
    return {
        "site": site.name,
        "at": at.isoformat(),
        "circuit": name,
        "circuits": list(site.circuits),
        "limit_watts": snapshot.limit_watts(name),
        "label": desk.label(name).value,
        "forecasts": {
            reach.value: None if each is None else forecast_message(each) for reach, each in found.items()
        },
        "history": {reach.value: _history(controller, name, reach) for reach in Reach},
        "supply": supply,
        "starts": _starts(desk.starts, caller),
        "worker": desk.worker(seconds),
    }


def _history(controller: "Controller", circuit: str, reach: Reach) -> dict[str, Any] | None:
    course = controller.forecasts.course(circuit, reach)
    if not course.values:
        return None
    return {
        "end_seconds": course.end_seconds,
        "step_seconds": course.step_seconds,
        "watts": [None if value is None else round(value, 1) for value in course.values],
    }


def _starts(starts: Sequence[ComingStart], caller: Caller) -> list[dict[str, Any]]:
    user = caller.user  # asked once: behind it may be a directory service
    ordered = sorted(starts, key=lambda start: not start.massive)[:_MOST_STARTS]
    return [start_row(start, visible=caller.sees_all or start.user == user) for start in ordered]


def start_row(start: ComingStart, *, visible: bool) -> dict[str, Any]:
    """A coming start; whose it is only where that is ``visible``."""
    return {
        "job_id": start.job_id if visible else "",
        "user": start.user if visible else "",
        "name": start.name if visible else "",
        "gpu_count": start.gpu_count,
        "step_watts": {name: round(watts, 1) for name, watts in start.step_watts.items()},
        "earliest": None if start.earliest is None else start.earliest.isoformat(),
        "lead_seconds": None if start.lead_seconds is None else round(start.lead_seconds, 1),
        "known_from": start.known_from,
        "placed": start.placed,
        "massive": start.massive,
    }
