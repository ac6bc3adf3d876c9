"""One grid event as it is followed: its record, its account, what was announced, and its report."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from slurm_power.controller.events.event_record import EventRecord
from slurm_power.model.action import Shortfall
from slurm_power.model.grid_event import Phase
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.event_account import EventAccount, EventResult

log = logging.getLogger(__name__)


@dataclass(slots=True)
class FollowedEvent:
    """An event that is coming, running or recovering, and what is known of it so far."""

    record: EventRecord
    account: EventAccount
    phase: Phase = Phase.COMING
    soc: dict[str, list[float]] = field(default_factory=dict)
    announced: list[dict[str, Any]] = field(default_factory=list)
    told: Shortfall | None = None
    told_at: datetime | None = None
    seen_at: datetime | None = None

    def result(self) -> EventResult:
        """What has come of it so far."""
        return self.account.result(
            limit_watts=self.record.limit_watts, baseline_watts=self.record.baseline_watts
        )

    def report(self, state: str = "") -> dict[str, Any]:
        """The report for the utility; ``state``: what became of it, where its phase does not say."""
        record = self.record
        return {
            "event_id": record.event_id,
            "external_id": record.external_id,
            "circuit": record.circuit,
            "state": state or self.phase.value,
            "reason": record.reason,
            "commitment": record.commitment.value,
            "announced_at": None if record.announced_at is None else record.announced_at.isoformat(),
            "starts_at": record.starts_at.isoformat(),
            "ends_at": record.ends_at.isoformat(),
            "ramp_seconds": record.ramp_seconds,
            "recover_seconds": record.recover_seconds,
            "limit_watts": record.limit_watts,
            "cut_ratio": record.cut_ratio,
            "cut_watts": record.cut_watts,
            "baseline_watts": record.baseline_watts,
            "baseline_method": _method_text(record),
            "baseline_seconds": record.baseline_seconds,
            "soc_ratio": {name: {"before": soc[0], "after": soc[1]} for name, soc in self.soc.items()},
            "shortfalls_announced": self.announced,
            "result": asdict(self.result()),
            "jobs": self.account.jobs(),
            "minutes": self.account.minutes(),
        }

    def to_json(self) -> dict[str, Any]:
        """What must survive a restart."""
        return {
            "record": self.record.to_json(),
            "account": self.account.to_json(),
            "phase": self.phase.value,
            "soc": self.soc,
            "announced": self.announced,
        }


def result_text(result: EventResult) -> str:
    """What an event has delivered, in one line."""
    if result.delivered_watts is None or result.promised_watts is None:
        return "how much was delivered is not known"
    points = result.over_curtailment_points or 0.0
    above = result.above_target_ratio or 0.0
    return (
        f"delivered {kilowatts_text(result.delivered_watts)} of {kilowatts_text(result.promised_watts)},"
        f" {points:.1f} points too much, at most {100.0 * above:.1f} % above the target"
    )


def baseline_text(record: EventRecord) -> str:
    """The load before an event, with how it was measured."""
    if record.baseline_watts is None:
        return "an unknown load"
    return f"{kilowatts_text(record.baseline_watts)} ({_method_text(record)})"


def _method_text(record: EventRecord) -> str:
    """The method in words a utility can check."""
    if record.baseline_watts is None:
        return "none: no load before was known"
    return (
        f"mean metered draw of {record.baseline_seconds / 60.0:.0f} min before the"
        f" {record.baseline_method.value}, without battery charging, without earlier events"
    )


def brief(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a list of events shows of a report."""
    left_out = ("jobs", "minutes", "soc_ratio")
    return {key: value for key, value in report.items() if key not in left_out}


def taken_up(stored: object) -> dict[str, FollowedEvent]:
    """The events an earlier controller has followed; one that cannot be read is left out, and begins anew."""
    found = {}
    for event_id, kept in (stored if isinstance(stored, dict) else {}).items():
        try:
            found[event_id] = FollowedEvent(
                record=EventRecord.from_json(kept["record"]),
                account=EventAccount.from_json(kept["account"]),
                phase=Phase(kept["phase"]),
                soc=kept["soc"],
                announced=kept["announced"],
            )
        except (KeyError, TypeError, ValueError) as error:
            log.error("event %s: its account cannot be taken up: %s", event_id, error)
    return found
