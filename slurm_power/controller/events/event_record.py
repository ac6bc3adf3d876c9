"""A grid event as the controller keeps it, with wall times."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from slurm_power.controller.jobs.plain_record import dated, plain
from slurm_power.model.grid_event import BaselineMethod, Commitment, LimitEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """A temporary limit somebody asked for.

    One that is relative to a baseline has a ``cut_ratio`` or ``cut_watts``; ``limit_watts`` is what that
    comes to with the baseline as it is known. ``baseline_seconds`` is how much load that was measured over.
    ``external_id`` is its name where it was announced by another system, ``external_version`` which state
    of it this is.
    """

    event_id: str
    circuit: str
    limit_watts: float
    starts_at: datetime
    ends_at: datetime
    reason: str
    announced_at: datetime | None = None
    commitment: Commitment = Commitment.MUST
    cut_ratio: float | None = None
    cut_watts: float | None = None
    baseline_method: BaselineMethod = BaselineMethod.NOTICE
    baseline_watts: float | None = None
    baseline_seconds: float = 0.0
    ramp_seconds: float = 0.0
    recover_seconds: float = 0.0
    external_id: str = ""
    external_version: str = ""

    def view(self, at: datetime) -> LimitEvent:
        """The event as the snapshot shows it."""
        return LimitEvent(
            event_id=self.event_id,
            circuit=self.circuit,
            limit_watts=self.limit_watts,
            starts_in_seconds=(self.starts_at - at).total_seconds(),
            ends_in_seconds=(self.ends_at - at).total_seconds(),
            reason=self.reason,
            commitment=self.commitment,
            baseline_watts=self.baseline_watts,
            ramp_seconds=self.ramp_seconds,
            recover_seconds=self.recover_seconds,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, with wall times."""
        fields: dict[str, Any] = plain(self)
        return fields

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "EventRecord":
        """Take back what ``to_json`` gave, or an earlier version's that knew fewer fields."""
        record = cls(**dated(stored))
        return replace(
            record,
            commitment=Commitment(record.commitment),
            baseline_method=BaselineMethod(record.baseline_method),
        )
