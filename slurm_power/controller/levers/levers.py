"""What the controller has set and still holds: caps, holds, setpoints, grid events. Survives a restart."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from slurm_power.controller.events.event_record import EventRecord
from slurm_power.controller.jobs.plain_record import dated, plain
from slurm_power.controller.levers.move_book import MoveBook
from slurm_power.controller.levers.pause_book import PauseBook
from slurm_power.model.action import HoldJob, ReleaseJob, SetCap, SetDischarge
from slurm_power.model.job import JobState
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import CapLease, HoldLease
from slurm_power.telemetry import Levers

# A cap's dead time and time constant, the meter's averaging interval and its poll, with some to spare.
_SHOWS_AFTER_SECONDS = 2.5
# Jobs that are on their nodes, or may be for all we know.
_CAPPED_STATES = (JobState.STARTING, JobState.RUNNING, JobState.SUSPENDED)


# Not frozen: thousands may be renewed each second, and hardly anything else of a record ever changes.
@dataclass(slots=True, kw_only=True)
class CapRecord:
    """A cap on a job; ``changed_at`` is when its value last changed, ``renewed_at`` when it was last sent.

    One that is its user's ``own`` is in no snapshot: no limit asks for it.
    """

    cap_watts: float
    kind: LimitKind
    uncapped_watts: float
    lowered_watts: float
    slowdown_ratio: float
    reason: str
    changed_at: datetime
    renewed_at: datetime
    lock_hertz: float | None = None
    full_hertz: float | None = None
    gate: bool = False
    own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRecord:
    """A hold on a job. ``held_seconds`` counts earlier holds that have ended, without this one.

    ``saved_watts`` is what the job would add if it ran.
    """

    since: datetime
    ends_at: datetime
    held_seconds: float
    reason: str
    saved_watts: float = 0.0

    def total_seconds(self, at: datetime) -> float:
        """All our holds on the job so far."""
        return self.held_seconds + (min(at, self.ends_at) - self.since).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class YieldRecord:
    """A node left to its administrator for a while."""

    node: str
    ends_at: datetime
    who: str
    reason: str


class LeverState:
    """The controller's own leases. Every change goes through here; ``to_json`` is what is kept on disk."""

    def __init__(self) -> None:
        self.caps: dict[str, CapRecord] = {}
        self.holds: dict[str, HoldRecord] = {}
        self.held_before: dict[str, float] = {}
        self.paused = PauseBook()
        self.moves = MoveBook()
        self.setpoints: dict[str, float] = {}
        self.events: dict[str, EventRecord] = {}
        self.yields: dict[str, YieldRecord] = {}
        self._event_count = 0

    def view(self, at: datetime) -> Levers:
        """The levers as the snapshot shows them."""
        return Levers(
            caps={
                job_id: CapLease(
                    job_id=job_id,
                    cap_watts=cap.cap_watts,
                    kind=cap.kind,
                    uncapped_watts=cap.uncapped_watts,
                    changed_seconds_ago=(at - cap.changed_at).total_seconds(),
                    lowered_watts=cap.lowered_watts,
                    lock_hertz=cap.lock_hertz,
                    full_hertz=cap.full_hertz,
                )
                for job_id, cap in self.caps.items()
                if not cap.own
            },
            holds={
                job_id: HoldLease(
                    job_id=job_id,
                    held_seconds=hold.total_seconds(at),
                    ends_in_seconds=(hold.ends_at - at).total_seconds(),
                )
                for job_id, hold in self.holds.items()
            },
            held_before_seconds=dict(self.held_before),
            pauses=self.paused.view(at),
            lost=self.paused.lost_view(at, self.caps) if self.paused.counts else {},
            relocations=self.moves.view(at),
            yielded_nodes=frozenset(self.yields),
            setpoints=dict(self.setpoints),
            events=tuple(event.view(at) for event in self.events.values()),
        )

    def capped(self, action: SetCap, draw_watts: float, at: datetime) -> bool:
        """Note a cap that was sent; True if it is new or has changed, False for a mere renewal."""
        old = self.caps.get(action.job_id)
        if old is not None and old.cap_watts != action.cap_watts:
            slowed_seconds = old.slowdown_ratio * (at - old.changed_at).total_seconds()
            self.paused.add_lost(action.job_id, slowed_seconds)
        if action.cap_watts is None:
            self.caps.pop(action.job_id, None)
            return old is not None
        if old is not None and old.cap_watts == action.cap_watts:
            old.renewed_at, old.own = at, action.own
            return False
        standing_watts, old_reason = (math.inf, "") if old is None else (old.cap_watts, old.reason)
        before_watts = min(draw_watts, standing_watts)
        # Below 0 where the change gives back, which is no more than the job draws without it.
        lowered_watts = before_watts - min(action.cap_watts, max(draw_watts, before_watts))
        if old is not None and (at - old.changed_at).total_seconds() < _SHOWS_AFTER_SECONDS:
            # Changes in quick succession are all still on their way to the meter.
            lowered_watts += old.lowered_watts
        self.caps[action.job_id] = CapRecord(
            cap_watts=action.cap_watts,
            kind=action.kind,
            uncapped_watts=draw_watts if old is None else max(old.uncapped_watts, draw_watts),
            lowered_watts=lowered_watts,
            slowdown_ratio=action.slowdown_ratio,
            reason=action.reason if action.own or action.cap_watts < standing_watts else old_reason,
            changed_at=at,
            renewed_at=at,
            lock_hertz=action.lock_hertz,
            full_hertz=action.full_hertz,
            gate=action.gate,
            own=action.own,
        )
        return True

    def held(self, action: HoldJob, at: datetime) -> bool:
        """Note a hold; True if it is new."""
        old = self.holds.get(action.job_id)
        ends_at = at + timedelta(seconds=action.seconds)
        if old is None:
            earlier = self.held_before.get(action.job_id, 0.0)
            self.holds[action.job_id] = HoldRecord(
                since=at,
                ends_at=ends_at,
                held_seconds=earlier,
                reason=action.reason,
                saved_watts=action.saved_watts,
            )
            return True
        self.holds[action.job_id] = replace(
            old, ends_at=ends_at, reason=action.reason, saved_watts=action.saved_watts
        )
        return False

    def released(self, action: ReleaseJob, at: datetime) -> bool:
        """Note a released hold, remembering how long the job has waited for us; always news."""
        self._end_hold(action.job_id, at)
        return True

    def _end_hold(self, job_id: str, at: datetime) -> None:
        hold = self.holds.pop(job_id, None)
        if hold is not None:
            self.held_before[job_id] = hold.total_seconds(at)

    def held_seconds(self, job_id: str, at: datetime) -> float:
        """How long we have kept a job waiting in all."""
        hold = self.holds.get(job_id)
        return self.held_before.get(job_id, 0.0) if hold is None else hold.total_seconds(at)

    def discharged(self, action: SetDischarge) -> bool:
        """Note a setpoint; 0 means that the battery is left to itself. The recorder says what is news."""
        self.setpoints[action.ess] = action.discharge_watts
        return True

    def add_event(
        self,
        *,
        circuit: str,
        limit_watts: float,
        starts_at: datetime,
        ends_at: datetime,
        reason: str,
        event_id: str = "",
        **more: Any,
    ) -> str:
        """Add a temporary limit, with ``more`` of its record, or replace ``event_id``; returns its id."""
        if not event_id:
            self._event_count += 1
            event_id = f"ev-{self._event_count}"
        self.events[event_id] = EventRecord(
            event_id=event_id,
            circuit=circuit,
            limit_watts=limit_watts,
            starts_at=starts_at,
            ends_at=ends_at,
            reason=reason,
            **more,
        )
        return event_id

    def end_event(self, event_id: str, at: datetime) -> bool:
        """End a running event now, its recovery follows; False where it does not run."""
        event = self.events.get(event_id)
        if event is None or not event.starts_at <= at < event.ends_at:
            return False
        self.events[event_id] = replace(event, ends_at=at)
        return True

    def follow(self, states: Mapping[str, JobState], at: datetime) -> None:
        """Drop what jobs need no more. ``states`` holds all known jobs; one that is missing has ended.

        A cap ends with its run: a job that was requeued starts its next one uncapped.
        """
        self.moves.follow(states)
        for job_id in {*self.caps, *self.holds, *self.held_before}:
            state = states.get(job_id, JobState.ENDED)
            if state not in _CAPPED_STATES:
                self.caps.pop(job_id, None)
            if state in (JobState.STARTING, JobState.RUNNING, JobState.ENDED):
                self._end_hold(job_id, at)
            if state is JobState.ENDED:
                self.held_before.pop(job_id, None)

    def let_go(self, at: datetime) -> None:
        """Forget every lever: all have been given back. Events stay."""
        self.caps.clear()
        self.setpoints.clear()
        self.moves.let_go()
        for job_id in list(self.holds):
            self._end_hold(job_id, at)
        for job_id in list(self.paused.pauses):
            self.paused.resumed(job_id, at)

    def expire(self, at: datetime) -> list[EventRecord]:
        """Drop what has ended by itself; return the events whose recovery is over, too."""
        for job_id in [job_id for job_id, hold in self.holds.items() if hold.ends_at <= at]:
            self._end_hold(job_id, at)
        over = [event for event in self.events.values() if event.view(at).over_in_seconds(math.inf) <= 0.0]
        for event in over:
            del self.events[event.event_id]
        return over

    def expire_yields(self, at: datetime) -> list[YieldRecord]:
        """Take back the nodes whose time is over; return what ended."""
        over = [record for record in self.yields.values() if record.ends_at <= at]
        for record in over:
            del self.yields[record.node]
        return over

    def to_json(self) -> dict[str, object]:
        """Everything that must survive a restart, with wall times."""
        return {
            "caps": {job_id: plain(cap) for job_id, cap in self.caps.items()},
            "holds": {job_id: plain(hold) for job_id, hold in self.holds.items()},
            "held_before": self.held_before,
            **self.rest_to_json(),
        }

    def rest_to_json(self) -> dict[str, object]:
        """What of it is small: nothing that is renewed for thousands of jobs."""
        return {
            "paused": self.paused.to_json(),
            "moves": self.moves.to_json(),
            "setpoints": dict(self.setpoints),
            "events": {event_id: event.to_json() for event_id, event in self.events.items()},
            "event_count": self._event_count,
            "yields": {node: plain(record) for node, record in self.yields.items()},
        }

    @classmethod
    def from_json(cls, stored: Any, at: datetime, cap_lease_seconds: float) -> "LeverState":
        """Take over from an earlier controller; caps whose leases have run out meanwhile are forgotten.

        Setpoints are kept: the next cycle either renews or releases them.
        """
        state = cls()
        if not isinstance(stored, dict):
            return state
        for job_id, cap in stored["caps"].items():
            record = CapRecord(**{**dated(cap), "kind": LimitKind(cap["kind"])})
            if (at - record.renewed_at).total_seconds() < cap_lease_seconds:
                state.caps[job_id] = record
        for job_id, hold in stored["holds"].items():
            record_of_hold = HoldRecord(**dated(hold))
            if record_of_hold.ends_at > at:
                state.holds[job_id] = record_of_hold
            else:
                state.held_before[job_id] = record_of_hold.total_seconds(at)
        state.held_before |= stored["held_before"]
        state.paused = PauseBook.from_json(stored.get("paused"))
        state.moves = MoveBook.from_json(stored.get("moves"))
        state.setpoints = dict(stored["setpoints"])
        state.events = {key: EventRecord.from_json(event) for key, event in stored["events"].items()}
        state._event_count = stored["event_count"]
        state.yields = {key: YieldRecord(**dated(record)) for key, record in stored.get("yields", {}).items()}
        return state


def changed_keys(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """The keys under which there is another object than before, or one is missing.

    Caps and holds are replaced when they change; a renewal of a cap is none.
    """
    found = [key for key, value in now.items() if before.get(key) is not value]
    return found + [key for key in before if key not in now]
