"""What a battery will do next, in one word with its reason, for pictures of the site."""

from typing import Any

from slurm_power.model.action import Plan, SetDischarge
from slurm_power.model.grid_event import LimitEvent
from slurm_power.model.reading import EssReading, Quality
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kilowatts_text


def ess_next(snapshot: Snapshot, plan: Plan, name: str, *, controls: bool) -> dict[str, Any]:
    """``does``: discharge, charge, hold level, rest or nothing; with ``watts``, ``in_seconds``, ``reason``.

    First comes what the plan asks of it now, then the next event, then what it is to do for money.
    """
    reading = snapshot.ess[name]
    if not reading.usable():
        return _word("nothing", _why_not(reading))
    found = (
        _planned(plan, name)
        or _for_event(snapshot, name, reading)
        or _for_money(snapshot)
        or _word("rest", "nothing asks for it")
    )
    if controls or found["does"] == "rest":
        return found
    return _word("nothing", f"nothing is controlled; it would {found['does']}: {found['reason']}")


def _word(
    does: str, reason: str, watts: float | None = None, in_seconds: float | None = None
) -> dict[str, Any]:
    return {"does": does, "watts": watts, "in_seconds": in_seconds, "reason": reason}


def _why_not(reading: EssReading) -> str:
    if reading.quality is Quality.INVALID:
        return "it is silent"
    if reading.alarms:
        return ", ".join(reading.alarms)
    return "operated locally" if not reading.remote else "it was not commissioned"


def _planned(plan: Plan, name: str) -> dict[str, Any] | None:
    for action in plan.actions:
        if isinstance(action, SetDischarge) and action.ess == name and action.discharge_watts:
            does = "discharge" if action.discharge_watts > 0.0 else "charge"
            return _word(does, action.reason, abs(action.discharge_watts), 0.0)
    return None


def _for_event(snapshot: Snapshot, name: str, reading: EssReading) -> dict[str, Any] | None:
    """The next event above the battery that asks for less than is drawn now."""
    above = snapshot.site.path(snapshot.site.ess[name].circuit)
    coming = [event for event in snapshot.events if event.circuit in above and event.starts_in_seconds > 0.0]
    for event in sorted(coming, key=lambda event: event.starts_in_seconds):
        missing_watts = _missing_watts(snapshot, event)
        if missing_watts > 0.0:
            in_seconds = max(0.0, event.starts_in_seconds - event.ramp_seconds)
            watts = min(missing_watts, reading.max_discharge_watts)
            return _word("discharge", f"event {event.event_id}: {event.reason}", watts, in_seconds)
    return None


def _missing_watts(snapshot: Snapshot, event: LimitEvent) -> float:
    seen = snapshot.circuits.get(event.circuit)
    watts = None if seen is None else seen.known_watts()
    return 0.0 if watts is None else watts - event.limit_watts


def _for_money(snapshot: Snapshot) -> dict[str, Any] | None:
    outlook = snapshot.outlook
    if outlook is None or not outlook.counts_at(snapshot.at):
        return None
    if outlook.trade_watts:
        does = "discharge" if outlook.trade_watts > 0.0 else "charge"
        return _word(does, outlook.trade_reason, abs(outlook.trade_watts), 0.0)
    if outlook.level_watts is None:
        return None
    level = kilowatts_text(outlook.level_watts)
    reason = f"{snapshot.site.root.name} is held to {level} in {outlook.period}: {outlook.level_reason}"
    return _word("hold level", reason, outlook.level_watts, 0.0)
