"""Grid events at the controller's socket: announce, cancel, list, and what came of them."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from slurm_power import clock
from slurm_power.controller.answers.asked import need_operator, number, text
from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.controller.events.event_record import EventRecord
from slurm_power.controller.events.external_events import MOST_EVENTS, ExternalName, external_name
from slurm_power.model.grid_event import BaselineMethod, Commitment, LimitEvent
from slurm_power.model.site import Circuit
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.event_baseline import Baseline
from slurm_power.plan.event_target import foreseen_shortfalls, least_ramp_seconds, level_watts
from slurm_power.plan.loads import load_table
from slurm_power.plan.policy import Policy
from slurm_power.wire import Message

if TYPE_CHECKING:
    from slurm_power.controller.daemon import Controller

_LONGEST_EVENT_SECONDS = 366 * 86_400.0
_LONGEST_RAMP_SECONDS = 86_400.0
# With less load known than this, a share of it says nothing.
_LEAST_BASELINE_SECONDS = 60.0
# After short events nothing has piled up that would need the policy's whole time to come back.
_MOST_RECOVER_RATIO = 0.25
_LEVELS = ("limit_watts", "cut_ratio", "cut_watts")


@dataclass(slots=True)
class _Asked:
    """What a request says, as far as it says anything; ``problems`` collects the rest."""

    request: Message
    problems: list[str]

    def between(self, key: str, low: float, high: float, words: str) -> float | None:
        """A number inside its bounds, None where it is missing or wrong."""
        try:
            value = number(self.request, key)
        except RefusedError as error:
            self.problems.append(str(error))
            return None
        if value is None or low <= value <= high:
            return value
        self.problems.append(f"{key}: {words}")
        return None

    def member(self, key: str, kind: Callable[[str], Any], default: Any, known: str) -> Any:
        """A word out of a few."""
        value = self.request.get(key)
        if value is None:
            return default
        try:
            return kind(str(value))
        except ValueError:
            self.problems.append(f"{key}: {value!r} is not one of {known}")
            return default


def add_event(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Lower a circuit's limit for a while; everything wrong with the request is said at once.

    With an ``external_id`` it replaces the event of that id; told again unchanged, nothing happens.
    """
    need_operator(caller, "announce an event")
    asked = _Asked(request, [])
    name = external_name(request, asked.problems)
    known = controller.events.external.find(name.external_id)
    circuit = controller.config.site.circuits.get(str(request.get("circuit")))
    if circuit is None:
        names = ", ".join(controller.config.site.circuits)
        asked.problems.append(f"circuit: {request.get('circuit')!r} is not one of {names}")
    baseline = _baseline(controller, circuit, known)
    limit_watts = _level(asked, circuit, baseline)
    start_seconds = (
        asked.between("start_in_seconds", 0.0, _LONGEST_EVENT_SECONDS, "must be between 0 and a year") or 0.0
    )
    ends = "every event has an end; give seconds between 0 and a year"
    duration_seconds = asked.between("duration_seconds", 1e-9, _LONGEST_EVENT_SECONDS, ends)
    if request.get("duration_seconds") is None:
        asked.problems.append(f"duration_seconds: {ends}")
    a_day = "must be between 0 and a day"
    ramp_seconds = asked.between("ramp_seconds", 0.0, _LONGEST_RAMP_SECONDS, a_day)
    recover_seconds = asked.between("recover_seconds", 0.0, _LONGEST_RAMP_SECONDS, a_day)
    commitment = asked.member("commitment", _commitment, Commitment.MUST, "must, best-effort")
    method = asked.member("baseline", BaselineMethod, BaselineMethod.NOTICE, "notice, start")
    reason = _reason(asked)
    if asked.problems or circuit is None or limit_watts is None or duration_seconds is None:
        raise RefusedError("; ".join(asked.problems))
    ends_seconds = start_seconds + duration_seconds
    settled = _settled(controller, name, known, ends_seconds)
    if settled is not None:
        return settled
    ramp_seconds, recover_seconds = _slides(
        controller.config.policy,
        from_watts=circuit.ceiling_watts if baseline is None else baseline.watts,
        to_watts=limit_watts,
        duration_seconds=duration_seconds,
        ramp_seconds=ramp_seconds,
        recover_seconds=recover_seconds,
    )
    # The level is due at the start; with less notice than the ramp takes, as soon as the ramp is over.
    start_seconds += max(0.0, ramp_seconds - start_seconds)
    if start_seconds >= ends_seconds:
        raise RefusedError(
            f"ramp_seconds: a ramp of {ramp_seconds:g} s would reach the level only when the event is over"
        )
    if known is not None:
        start_seconds, ramp_seconds = _as_begun(known, start_seconds, ramp_seconds)
    event_id = controller.operators.add_event(
        circuit=circuit.name,
        limit_watts=limit_watts,
        start_seconds=start_seconds,
        duration_seconds=ends_seconds - start_seconds,
        reason=reason,
        who=caller.who,
        commitment=commitment,
        cut_ratio=number(request, "cut_ratio"),
        cut_watts=number(request, "cut_watts"),
        baseline_method=method,
        baseline_watts=None if baseline is None else baseline.watts,
        baseline_seconds=0.0 if baseline is None else baseline.seconds,
        ramp_seconds=ramp_seconds,
        recover_seconds=recover_seconds,
        event_id="" if known is None else known.event_id,
        external_id=name.external_id,
        external_version=name.version,
    )
    return {
        "event_id": event_id,
        "limit_watts": limit_watts,
        "baseline_watts": None if baseline is None else baseline.watts,
        "baseline_seconds": 0.0 if baseline is None else baseline.seconds,
        "starts_in_seconds": start_seconds,
        "ends_in_seconds": ends_seconds,
        "ramp_seconds": ramp_seconds,
        "recover_seconds": recover_seconds,
        "shortfall": _foreseen(controller, event_id),
    }


def _baseline(
    controller: "Controller", circuit: Circuit | None, known: EventRecord | None
) -> Baseline | None:
    """The load before an event; one that is changed keeps what was measured before its first notice."""
    if circuit is None:
        return None
    if known is not None and known.circuit == circuit.name and known.baseline_watts is not None:
        return Baseline(watts=known.baseline_watts, seconds=known.baseline_seconds)
    return controller.events.baseline(circuit.name)


def _settled(
    controller: "Controller", name: ExternalName, known: EventRecord | None, ends_seconds: float
) -> Message | None:
    """The answer about an event of others' for which there is nothing to do, None for all other events."""
    if not name.external_id:
        return None
    external = controller.events.external
    if external.withdrawn(name):
        return {"event_id": None, "withdrawn": True}
    if known is None:
        if external.full():
            raise RefusedError(f"{MOST_EVENTS} events of other systems are known; no more are taken")
        return None
    if not external.same(known, name, clock.now() + timedelta(seconds=ends_seconds)):
        return None
    return {"event_id": known.event_id, "limit_watts": known.limit_watts, "unchanged": True}


def _as_begun(known: EventRecord, start_seconds: float, ramp_seconds: float) -> tuple[float, float]:
    """Start and ramp of an event that is changed: one that slides down or runs must not slide down again."""
    in_seconds = (known.starts_at - clock.now()).total_seconds()
    if in_seconds <= known.ramp_seconds and start_seconds <= max(ramp_seconds, 0.0):
        return in_seconds, known.ramp_seconds
    return start_seconds, ramp_seconds


def _foreseen(controller: "Controller", event_id: str) -> dict[str, Any] | None:
    """What of an event will be missing as things stand, None if it can be met."""
    policy = controller.config.policy
    snapshot = controller.snapshot()
    found = foreseen_shortfalls(snapshot, load_table(snapshot, policy), policy)
    return next((asdict(short) for short in found if short.event_id == event_id), None)


def _level(asked: _Asked, circuit: Circuit | None, baseline: Baseline | None) -> float | None:
    """The event's level in watts, None with a problem added."""
    given = [key for key in _LEVELS if asked.request.get(key) is not None]
    before = len(asked.problems)
    limit_watts = asked.between("limit_watts", 0.0, 1e12, "must be a number of watts, 0 or more")
    cut_ratio = asked.between("cut_ratio", 1e-6, 1.0, "must be a share above 0, at most 1")
    cut_watts = asked.between("cut_watts", 1e-6, 1e12, "must be a number of watts above 0")
    if not given:
        asked.problems.append("limit_watts: must be a number of watts, 0 or more; or give a cut")
    elif len(given) > 1:
        asked.problems.append(f"{' and '.join(given)}: give one of them")
    if len(asked.problems) > before or circuit is None:
        return None
    if limit_watts is None:
        if baseline is None or baseline.seconds < _LEAST_BASELINE_SECONDS:
            seen = "none" if baseline is None else f"only {baseline.seconds:.0f} s"
            asked.problems.append(
                f"{given[0]}: {circuit.name} has no baseline yet, {seen} of its load before is known;"
                f" give limit_watts, or wait until {_LEAST_BASELINE_SECONDS:.0f} s are"
            )
            return None
        if cut_watts is not None and cut_watts > baseline.watts:
            asked.problems.append(f"cut_watts: more than the baseline of {baseline.watts:.0f} W")
            return None
        limit_watts = level_watts(baseline.watts, cut_ratio=cut_ratio, cut_watts=cut_watts)
    if limit_watts > circuit.ceiling_watts:
        asked.problems.append(
            f"{given[0]}: {limit_watts:g} W is above the standing limit, {circuit.ceiling_watts:g} W"
        )
        return None
    return limit_watts


def _commitment(word: str) -> Commitment:
    if word == Commitment.LIMIT.value:
        raise ValueError(word)
    return Commitment(word)


def _reason(asked: _Asked) -> str:
    reason = str(asked.request.get("reason") or "").strip()
    if not reason:
        asked.problems.append("reason: missing; it is what users will read")
    elif any("\ud800" <= letter <= "\udfff" for letter in reason):
        asked.problems.append("reason: holds half a character, which cannot be stored")
    return reason


def _slides(
    policy: Policy,
    *,
    from_watts: float,
    to_watts: float,
    duration_seconds: float,
    ramp_seconds: float | None,
    recover_seconds: float | None,
) -> tuple[float, float]:
    """How long the limit slides down and up again: as asked or by the policy, no steeper than the ramps."""
    if recover_seconds is None:
        recover_seconds = min(policy.event_recover_seconds, _MOST_RECOVER_RATIO * duration_seconds)
    fall_watts = max(from_watts, to_watts)
    return (
        max(ramp_seconds or 0.0, least_ramp_seconds(fall_watts, to_watts, policy.ramp_down_watts_per_minute)),
        max(recover_seconds, least_ramp_seconds(to_watts, fall_watts, policy.ramp_up_watts_per_minute)),
    )


def cancel_event(controller: "Controller", request: Message, caller: Caller) -> Message:
    """End an event at once, or let its recovery begin with ``"recover": true``.

    By ``external_id`` for whom has announced it: one that is not known is no error then.
    """
    need_operator(caller, "cancel an event")
    problems: list[str] = []
    name = external_name(request, problems)
    recover = request.get("recover", False)
    if not isinstance(recover, bool):
        problems.append("recover: must be true or false")
    reason = text(request, "reason", problems) if request.get("reason") is not None else ""
    if problems:
        raise RefusedError("; ".join(problems))
    external = controller.events.external
    if name.external_id:
        known = external.find(name.external_id)
        if known is None:
            return {"event_id": None}
    else:
        known = controller.levers.events.get(str(request.get("event_id")))
        if known is None:
            raise RefusedError(f"there is no event {request.get('event_id')}")
    if not name.external_id:
        # Somebody here has decided: its announcer, who will say it again, does not bring it back.
        external.withdraw(known, clock.now())
    controller.operators.cancel_event(known.event_id, caller.who, recover=bool(recover), reason=reason)
    return {"event_id": known.event_id}


def event_row(snapshot: Snapshot, event: LimitEvent) -> dict[str, Any]:
    """An event as the status shows it."""
    ceiling_watts = snapshot.site.circuits[event.circuit].ceiling_watts
    return {**asdict(event), "phase": event.phase(ceiling_watts).value}


def events(controller: "Controller") -> Message:
    """Coming, running and past events, the latest last; no job is in it, so everybody may see it."""
    return {"events": controller.events.rows()}


def event_report(controller: "Controller", request: Message, caller: Caller) -> Message:
    """What came of an event; what single jobs lost only to operators and those whose jobs they are."""
    event_id = str(request.get("event_id"))
    report = controller.events.report(event_id)
    if report is None:
        raise RefusedError(f"nothing is known of an event {event_id}")
    jobs = report.get("jobs", [])
    user = caller.user
    seen = [job for job in jobs if caller.sees_all or job.get("user") == user]
    return {"report": {**report, "jobs": seen, "job_count": len(jobs)}}
