"""What was done in a month, from the ledger: each lever's use, and grid events with what came of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from slurm_power.model.ledger import LedgerEntry
from slurm_power.ports import Records

_PAST_KEY = "events_past"
# Utilities take a reduction for delivered from here on.
DELIVERED_RATIO = 0.95
# What begins the use of a lever, by the kind of the ledger's entry.
LEVERS: Mapping[str, str] = {
    "discharge": "battery gives",
    "charge": "battery charges",
    "cap": "power cap on a job",
    "hold": "start of a job held",
    "pause": "job paused",
    "relocate": "job moved to other nodes",
    "change tier": "job's model tier changed",
    "switch service": "service's model tier changed",
    "advise batch": "batch size advised",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """A grid event as its report tells it; None where that is not known."""

    event_id: str
    circuit: str
    starts_at: datetime
    ends_at: datetime
    state: str
    promised_watts: float | None
    delivered_watts: float | None
    delivered_kwh: float | None
    coverage_ratio: float | None
    delivered: bool


@dataclass(slots=True, kw_only=True)
class LeverUse:
    """How often a lever was used, on how many jobs, for how many users, and the most it was worth at once."""

    name: str
    times: int = 0
    jobs: int = 0
    users: int = 0
    most_watts: float | None = None


def event_rows(
    store: Records, *, circuit: str | None, start_seconds: float, end_seconds: float
) -> tuple[EventRow, ...]:
    """The events that ended in a span; those that cannot be read are left out."""
    past = store.state(_PAST_KEY, [])
    rows = []
    for report in past if isinstance(past, list) else []:
        try:
            row = _event_row(report)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
        if start_seconds <= row.ends_at.timestamp() < end_seconds and circuit in (None, row.circuit):
            rows.append(row)
    return tuple(sorted(rows, key=lambda row: row.starts_at))


def _event_row(report: Mapping[str, Any]) -> EventRow:
    result = report["result"]
    numbers = {
        key: float(result[key]) if isinstance(result.get(key), int | float) else None
        for key in ("promised_watts", "delivered_watts", "delivered_kwh", "delivered_ratio", "coverage_ratio")
    }
    ratio = numbers.pop("delivered_ratio")
    kept = result.get("minutes_above_target") == 0 and bool(numbers["coverage_ratio"])
    cancelled = report["state"] == "cancelled"
    return EventRow(
        event_id=str(report["event_id"]),
        circuit=str(report["circuit"]),
        starts_at=datetime.fromisoformat(report["starts_at"]).astimezone(UTC),
        ends_at=datetime.fromisoformat(report["ends_at"]).astimezone(UTC),
        state=str(report["state"]),
        # An event that names a level and no reduction is delivered by staying below it.
        delivered=not cancelled and (ratio >= DELIVERED_RATIO if ratio is not None else kept),
        **numbers,
    )


def lever_uses(entries: Iterable[LedgerEntry], start: datetime, end: datetime) -> list[LeverUse]:
    """Count the beginnings of each lever's use in [start, end); entries come one at a time."""
    uses = {kind: LeverUse(name=name) for kind, name in LEVERS.items()}
    jobs: dict[str, set[str]] = {kind: set() for kind in LEVERS}
    users: dict[str, set[str]] = {kind: set() for kind in LEVERS}
    for entry in entries:
        use = uses.get(entry.kind)
        if use is None or not start <= entry.at < end:
            continue
        use.times += 1
        if entry.job_id is not None:
            jobs[entry.kind].add(entry.job_id)
        if entry.user is not None:
            users[entry.kind].add(entry.user)
        if entry.saved_watts is not None:
            use.most_watts = max(abs(entry.saved_watts), use.most_watts or 0.0)
    for kind, use in uses.items():
        use.jobs, use.users = len(jobs[kind]), len(users[kind])
    return [use for use in uses.values() if use.times]
