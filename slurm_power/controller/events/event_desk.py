"""Follows grid events from notice to report: baselines, accounts, and what is foreseen to be missing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from slurm_power import clock
from slurm_power.controller.events.event_record import EventRecord
from slurm_power.controller.events.external_events import ExternalEvents
from slurm_power.controller.events.followed_event import (
    FollowedEvent,
    baseline_text,
    brief,
    result_text,
    taken_up,
)
from slurm_power.controller.governance.operators import Note
from slurm_power.controller.levers.levers import LeverState
from slurm_power.model.action import Shortfall
from slurm_power.model.grid_event import BaselineMethod, Commitment, LimitEvent, Phase
from slurm_power.model.job import JobState
from slurm_power.model.site import Site
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.event_account import EventAccount, JobTouched, Sample
from slurm_power.plan.event_baseline import Baseline, RecentLoad
from slurm_power.plan.event_target import RAMP_EVENT_ID, level_watts, ramp_floor_watts, ramp_limit_watts
from slurm_power.plan.loads import behind_discharge_watts, circuit_watts
from slurm_power.plan.policy import Policy
from slurm_power.ports import Records

_OPEN_KEY = "events_open"
_PAST_KEY = "events_past"
_MOST_PAST = 500
_KEEP_SECONDS = 10.0
# A reading stands for no longer than this, however late the next cycle is.
_LONGEST_SAMPLE_SECONDS = 5.0
_RAMP_SECONDS = 60.0
_RAMP_BUCKET_SECONDS = 5.0
# After an event, a cancelled one above all, its caps are let go over some time.
_AFTER_SECONDS = 60.0
# What is foreseen is told again when it has changed by so much, and is over when it was gone for so long.
_CHANGED_RATIO = 0.2
_MOVED_SECONDS = 600.0
_GONE_SECONDS = 60.0
_PLACED = (JobState.STARTING, JobState.RUNNING)


class EventDesk:
    """Beside the control loop, in each cycle. ``note`` writes a ledger entry."""

    def __init__(self, site: Site, policy: Policy, levers: LeverState, store: Records, note: Note) -> None:
        self._site = site
        self._policy = policy
        self._levers = levers
        self._store = store
        self._note = note
        self._before = {name: RecentLoad(policy.event_baseline_seconds) for name in site.circuits}
        self._minute = RecentLoad(_RAMP_SECONDS, bucket_seconds=_RAMP_BUCKET_SECONDS)
        self._behind: dict[str, frozenset[str]] = {}
        self._touched_at: dict[str, float] = {}
        self._last_at: datetime | None = None
        self._kept_at: datetime | None = None
        self._open = taken_up(store.state(_OPEN_KEY))
        self.external = ExternalEvents(levers, store)

    def use_policy(self, policy: Policy) -> None:
        """Go by another policy from now on."""
        self._policy = policy

    def baseline(self, circuit: str) -> Baseline | None:
        """The mean draw of a circuit before now, without what batteries took up, without earlier events."""
        return self._before[circuit].mean(clock.now().timestamp())

    def onto(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with the site's own ramps at the grid connection, where it has any."""
        policy, now_seconds = self._policy, snapshot.at.timestamp()
        up, down = policy.ramp_up_watts_per_minute, policy.ramp_down_watts_per_minute
        if up is None and down is None and policy.start_ramp_watts_per_second <= 0.0:
            return snapshot
        mean_watts = self._minute.mean_of_last(_RAMP_SECONDS, now_seconds)
        edges = self._minute.range_of_last(_RAMP_SECONDS, now_seconds)
        if mean_watts is None or edges is None:
            return snapshot
        least_watts, most_watts = edges
        events = snapshot.events
        if up is not None:
            ramp = LimitEvent(
                event_id=RAMP_EVENT_ID,
                circuit=self._site.root.name,
                limit_watts=ramp_limit_watts(mean_watts, up, least_minute_watts=least_watts),
                starts_in_seconds=0.0,
                ends_in_seconds=_RAMP_SECONDS,
                reason=f"the load may rise by {kilowatts_text(up)} a minute",
            )
            events = (*events, ramp)
        floor_watts = None
        if down is not None:
            floor_watts = ramp_floor_watts(mean_watts, down, most_minute_watts=most_watts)
        return replace(snapshot, events=events, least_minute_watts=least_watts, ramp_floor_watts=floor_watts)

    def follow(self, snapshot: Snapshot, shortfalls: Sequence[Shortfall]) -> None:
        """Take one cycle, with what the plan foresees."""
        at = snapshot.at
        passed = 0.0 if self._last_at is None else (at - self._last_at).total_seconds()
        seconds = min(max(0.0, passed), _LONGEST_SAMPLE_SECONDS)
        self._last_at = at
        self._remember(snapshot, seconds)
        foreseen = {short.event_id: short for short in shortfalls if short.event_id}
        for event_id in list(self._levers.events):
            self._look(snapshot, event_id, seconds)
            self._tell(self._open[event_id], foreseen.get(event_id), at)
        for event_id in [known for known in self._open if known not in self._levers.events]:
            self._finish(self._open.pop(event_id), at)
        due = self._kept_at is None or not 0.0 <= (at - self._kept_at).total_seconds() < _KEEP_SECONDS
        if due and self._open:
            self._kept_at = at
            self.keep()

    def keep(self) -> None:
        """Put down what must survive a restart."""
        self._store.put_state(
            _OPEN_KEY,
            {event_id: followed.to_json() for event_id, followed in self._open.items()},
        )

    def _remember(self, snapshot: Snapshot, seconds: float) -> None:
        if seconds <= 0.0:
            return
        at_seconds = snapshot.at.timestamp()
        touched = {
            event.circuit
            for event in snapshot.events
            if event.commitment is not Commitment.LIMIT
            and event.phase(self._ceiling_watts(event.circuit)) is not Phase.COMING
        }
        self._touched_at |= dict.fromkeys(touched, at_seconds)
        touched |= {name for name, at in self._touched_at.items() if 0.0 <= at_seconds - at < _AFTER_SECONDS}
        for name, reading in snapshot.circuits.items():
            watts = reading.known_watts()
            if watts is None:
                continue
            if name == self._site.root.name:
                self._minute.add(at_seconds, watts, seconds)
            path = self._site.path(name)
            if not any(other in path or name in self._site.path(other) for other in touched):
                # A battery that is filled up for an event must not raise what the event is held against.
                charging_watts = max(0.0, -behind_discharge_watts(snapshot, name))
                self._before[name].add(at_seconds, watts - charging_watts, seconds)

    def _ceiling_watts(self, circuit: str) -> float:
        return self._site.circuits[circuit].ceiling_watts

    def _look(self, snapshot: Snapshot, event_id: str, seconds: float) -> None:
        at = snapshot.at
        record = self._levers.events[event_id]
        followed = self._open.get(event_id)
        if followed is None:
            followed = FollowedEvent(
                record, EventAccount((record.ends_at - record.starts_at).total_seconds())
            )
            self._open[event_id] = followed
        phase = record.view(at).phase(self._ceiling_watts(record.circuit))
        if phase is Phase.COMING and record.baseline_method is BaselineMethod.START:
            record = self._levers.events[event_id] = self._rebased(record)
        if followed.record.ends_at != record.ends_at:
            followed.account.duration_seconds = (record.ends_at - record.starts_at).total_seconds()
        followed.record = record
        if followed.phase is Phase.COMING and phase is not Phase.COMING:
            self._begin(followed)
        if phase in (Phase.RECOVERING, Phase.OVER) and followed.phase in (Phase.RAMP, Phase.RUNNING):
            self._end(followed)
        followed.phase = phase
        if phase is not Phase.COMING:
            self._add(followed, snapshot, seconds)

    def _rebased(self, record: EventRecord) -> EventRecord:
        """An event that is held against the load before its start, with what is known of that now."""
        found = self.baseline(record.circuit)
        if found is None:
            return record
        limit_watts = record.limit_watts
        if record.cut_ratio is not None or record.cut_watts is not None:
            limit_watts = level_watts(found.watts, cut_ratio=record.cut_ratio, cut_watts=record.cut_watts)
        return replace(
            record, limit_watts=limit_watts, baseline_watts=found.watts, baseline_seconds=found.seconds
        )

    def _add(self, followed: FollowedEvent, snapshot: Snapshot, seconds: float) -> None:
        record, circuit = followed.record, followed.record.circuit
        here = [
            job
            for job in snapshot.jobs
            if job.state in _PLACED and not self._nodes_behind(circuit).isdisjoint(job.nodes)
        ]
        touched = [
            JobTouched(
                job_id=job.job_id,
                user=job.user,
                gpu_count=job.gpu_count,
                slowdown_ratio=cap.slowdown_ratio,
            )
            for job in here
            if (cap := self._levers.caps.get(job.job_id)) is not None
        ]
        if circuit == self._site.root.name:
            # Holds keep starts off the grid connection; no other circuit knows what would have come to it.
            touched += [
                JobTouched(job_id=job.job_id, user=job.user, gpu_count=job.gpu_count, held=True)
                for job in snapshot.jobs
                if job.job_id in snapshot.holds
            ]
        ceiling_watts = self._ceiling_watts(circuit)
        followed.account.add(
            Sample(
                at_seconds=(snapshot.at - record.starts_at).total_seconds(),
                seconds=seconds,
                watts=circuit_watts(snapshot, circuit),
                target_watts=min(ceiling_watts, record.view(snapshot.at).limit_at(0.0, ceiling_watts)),
                discharge_watts=behind_discharge_watts(snapshot, circuit),
                running_gpus=sum(job.gpu_count for job in here),
                touched=touched,
            )
        )
        for name, reading in snapshot.ess.items():
            if circuit in self._site.path(self._site.ess[name].circuit) and reading.usable():
                first = followed.soc.get(name, [reading.soc_ratio])[0]
                followed.soc[name] = [first, reading.soc_ratio]

    def _nodes_behind(self, circuit: str) -> frozenset[str]:
        """The computers that a circuit feeds, by whatever way."""
        if circuit not in self._behind:
            self._behind[circuit] = frozenset(
                node
                for other in self._site.circuits.values()
                if circuit in self._site.path(other.name)
                for node in other.nodes
            )
        return self._behind[circuit]

    def _begin(self, followed: FollowedEvent) -> None:
        record = followed.record
        text = f"from {baseline_text(record)} to {kilowatts_text(record.limit_watts)}: {record.reason}"
        self._about(record, "event begins", text, limit_watts=round(record.limit_watts))

    def _end(self, followed: FollowedEvent) -> None:
        record = followed.record
        result = followed.result()
        text = f"{record.reason}; {result_text(result)}"
        self._about(record, "event over", text, **_rounded(asdict(result)))
        self._store.put_state(_report_key(record.event_id), followed.report())

    def _finish(self, followed: FollowedEvent, at: datetime) -> None:
        """The event is gone from the levers: it is over, or was cancelled."""
        record = followed.record
        cancelled = at < record.ends_at
        if not cancelled and followed.phase in (Phase.COMING, Phase.RAMP, Phase.RUNNING):
            self._end(followed)
        if not cancelled and record.recover_seconds > 0.0:
            result = followed.result()
            rebound = "unknown" if result.rebound_watts is None else kilowatts_text(result.rebound_watts)
            text = f"the load is free again; rebound above the load before: {rebound}"
            self._about(record, "event recovered", text, rebound_watts=result.rebound_watts)
        report = followed.report("cancelled" if cancelled else Phase.OVER.value)
        self._store.put_state(_report_key(record.event_id), report)
        past = [*self._past(), brief(report)]
        self._store.put_state(_PAST_KEY, past[-_MOST_PAST:])
        self.keep()

    def _tell(self, followed: FollowedEvent, short: Shortfall | None, at: datetime) -> None:
        """Write down what will be missing, as soon as it is foreseen; again when it changes much."""
        told, record = followed.told, followed.record
        if short is None:
            gone = followed.seen_at is None or (at - followed.seen_at).total_seconds() >= _GONE_SECONDS
            if told is not None and gone:
                followed.told = None
                if followed.phase in (Phase.COMING, Phase.RAMP):
                    self._about(record, "shortfall ahead over", "as things stand now it can be met")
            return
        followed.seen_at = at
        if told is not None and followed.told_at is not None:
            moved = abs((at - followed.told_at).total_seconds() + short.from_seconds - told.from_seconds)
            same = abs(short.watts - told.watts) <= _CHANGED_RATIO * max(short.watts, told.watts)
            if same and moved < _MOVED_SECONDS:
                return
            if (at - followed.told_at).total_seconds() < _GONE_SECONDS:
                return
        followed.told, followed.told_at = short, at
        row = {
            "at": at.isoformat(),
            "watts": round(short.watts),
            "from_at": (at + timedelta(seconds=short.from_seconds)).isoformat(),
            "reason": short.reason,
        }
        followed.announced.append(row)
        text = f"{kilowatts_text(short.watts)} will be missing from {short.from_seconds:.0f} s from now on"
        self._about(record, "shortfall ahead", f"{text}: {short.reason}", **row)

    def _about(self, record: EventRecord, kind: str, text: str, **details: Any) -> None:
        self._note(
            "controller",
            kind,
            f"circuit:{record.circuit}",
            text,
            details={"event_id": record.event_id, **details},
        )

    def _past(self) -> list[dict[str, Any]]:
        found = self._store.state(_PAST_KEY, [])
        return list(found) if isinstance(found, list) else []

    def rows(self) -> list[dict[str, Any]]:
        """One row for each event that is known, past ones first."""
        now = [brief(one.report()) for one in self._open.values()]
        return [*self._past(), *now]

    def report(self, event_id: str) -> dict[str, Any] | None:
        """The report of an event, as far as it has come; None for an unknown one."""
        followed = self._open.get(event_id)
        if followed is not None:
            return followed.report()
        found = self._store.state(_report_key(event_id))
        return dict(found) if isinstance(found, dict) else None


def _report_key(event_id: str) -> str:
    return f"event_report.{event_id}"


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in values.items()}
