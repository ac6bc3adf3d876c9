"""An event of OpenADR 2.0b into windows for the site."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from slurm_power.bridge.grid_events import Level, Window, printable
from slurm_power.bridge.openadr2_line import text_at
from slurm_power.bridge.openadr3_time import TimeError, duration_seconds, moment
from slurm_power.bridge.openadr_levels import EventError, check_meant, simple_level
from slurm_power.config.signals import OpenAdr2Signal
from slurm_power.model.site import Circuit

_SCALES = {"none": 1.0, "": 1.0, "m": 1e-3, "c": 1e-2, "d": 0.1, "k": 1e3, "M": 1e6, "G": 1e9}
_MOST_INTERVALS = 500
_UNSETTLED = ("createdDateTime", "eventStatus", "currentValue")
CANCELLED, COMPLETED = "cancelled", "completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event2:
    """An event as its descriptor says it. ``content`` tells two states of it apart."""

    event_id: str
    modification: int
    status: str
    answer_wanted: bool
    test: bool
    content: str
    element: Any


def event_of(element: Any) -> Event2:
    """Read the descriptor of an oadrEvent that the schema has passed."""
    descriptor = "eiEvent/eventDescriptor"
    test = text_at(element, f"{descriptor}/testEvent", "false").lower()
    status = text_at(element, f"{descriptor}/eventStatus")
    return Event2(
        event_id=text_at(element, f"{descriptor}/eventID"),
        modification=int(text_at(element, f"{descriptor}/modificationNumber", "0")),
        status=status,
        answer_wanted=text_at(element, "oadrResponseRequired") == "always",
        test=test not in ("", "false"),
        content=hashlib.sha256("\0".join(_settled(element.find("{*}eiEvent"))).encode()).hexdigest()[:24],
        element=element,
    )


def _settled(element: Any) -> Iterator[str]:
    """Names and texts of an event but for what changes by itself while it goes on."""
    name = str(element.tag).rpartition("}")[2]
    if name in _UNSETTLED:
        return
    yield name
    yield (element.text or "").strip()
    for part in element.iterchildren("{*}*"):
        yield from _settled(part)


def windows_of(
    event: Event2, signal: OpenAdr2Signal, circuit: Circuit, now: datetime
) -> tuple[list[Window], list[str]]:
    """The windows of an event and notes on what of it is not followed; raises EventError."""
    element = event.element.find("{*}eiEvent")
    period = "eiActivePeriod/properties"
    notes: list[str] = []
    try:
        start = moment(text_at(element, f"{period}/dtstart/date-time"), "dtstart")
        seconds = seconds_of(text_at(element, f"{period}/duration/duration"), "duration")
        spread = text_at(element, f"{period}/tolerance/tolerate/startafter")
        late = seconds_of(spread, "startafter") if spread else 0.0
    except TimeError as error:
        raise EventError(str(error)) from None
    if start is None:
        raise EventError("dtstart: there is no such time")
    start += timedelta(seconds=min(late, 86_400.0) * _share(signal.ven_name, event.event_id))
    # Without a duration an event lasts until it is taken back.
    end = None if seconds == 0.0 or math.isinf(seconds) else _plus(start, seconds)
    priority = int(text_at(element, "eventDescriptor/priority", "0") or 0) or None
    comment = printable(text_at(element, "eventDescriptor/vtnComment") or event.event_id, 60)
    found: list[Window] = []
    followed = False
    for number, one in enumerate(element.iterfind("{*}eiEventSignals/{*}eiEventSignal")):
        name, kind = _named(one)
        if not _is_followed(name, kind):
            notes.append(f"signal {printable(name, 30)} {printable(kind, 30)} is not followed")
            continue
        followed = True
        for place, (value, begin, finish) in enumerate(_intervals(one, start, end)):
            level = _level(value, one, signal=signal, circuit=circuit, notes=notes)
            if level is None:
                continue
            check_meant(level, begin, finish, signal=signal, circuit=circuit, now=now)
            found.append(
                Window(
                    event_id=event.event_id,
                    part=f"{number}-{place}",
                    version=f"{event.modification} {begin} {finish} {level.words()}",
                    starts_at=begin,
                    ends_at=begin if finish is None else finish,
                    until_revoked=finish is None,
                    level=level,
                    reason=f"{signal.name}: {comment} ({name} {value:g})",
                    priority=priority,
                    joined=finish is not None and finish != end,
                )
            )
    if not followed:
        raise EventError("; ".join(notes) or "it has no signal")
    return found, notes


def _named(one: Any) -> tuple[str, str]:
    """Name and type of a signal; VTNs that also speak 2.0a write its lower-case ``simple``."""
    name = text_at(one, "signalName")
    return "SIMPLE" if name == "simple" else name, text_at(one, "signalType")


def _is_followed(name: str, kind: str) -> bool:
    return (
        (name == "SIMPLE" and kind == "level")
        or (name == "LOAD_DISPATCH" and kind in ("setpoint", "delta", "multiplier"))
        or (
            name == "LOAD_CONTROL"
            and kind in ("x-loadControlCapacity", "x-loadControlPercentOffset", "x-loadControlSetpoint")
        )
    )


def _intervals(
    one: Any, start: datetime, end: datetime | None
) -> Iterator[tuple[float, datetime, datetime | None]]:
    """Value, begin and end of each interval; None: until the event is taken back."""
    intervals = list(one.iterfind("{*}intervals/{*}interval"))
    if not 0 < len(intervals) <= _MOST_INTERVALS:
        raise EventError(f"it has {len(intervals)} intervals, not 1 to {_MOST_INTERVALS}")
    begin = start
    for number, interval in enumerate(intervals):
        try:
            length = seconds_of(text_at(interval, "duration/duration"), f"interval {number}")
            value = float(text_at(interval, "signalPayload/payloadFloat/value"))
        except (TimeError, ValueError) as error:
            raise EventError(f"interval {number}: {error}") from None
        if not math.isfinite(value):
            raise EventError(f"interval {number}: {value} is no number")
        last = number == len(intervals) - 1
        finish = end if last and (length == 0.0 or end is None) else _plus(begin, length)
        if end is None and last and length > 0.0:
            finish = None
        if finish is not None and end is not None:
            finish = min(finish, end)
        if finish is None or finish > begin:
            yield value, begin, finish
        if finish is None:
            return
        begin = finish


def _level(
    value: float, one: Any, *, signal: OpenAdr2Signal, circuit: Circuit, notes: list[str]
) -> Level | None:
    """What a value asks for, None where it asks for nothing; raises EventError."""
    name, kind = _named(one)
    if name == "SIMPLE":
        return simple_level(value, f"{value:g}", signal)
    if kind in ("setpoint", "x-loadControlSetpoint"):
        return Level(limit_watts=value * _watts(one))
    if kind == "x-loadControlCapacity":
        if not 0.0 <= value <= 1.0:
            raise EventError(f"{kind}: {value:g} is not between 0 and 1")
        return Level(limit_watts=value * circuit.ceiling_watts)
    change = {
        "delta": value,
        "multiplier": value - 1.0,
        "x-loadControlPercentOffset": value / 100.0,
    }[kind]
    if change >= 0.0:
        if change > 0.0:
            notes.append("a wish for more load is not followed")
        return None
    return Level(cut_watts=-change * _watts(one)) if kind == "delta" else Level(cut_ratio=-change)


def _watts(one: Any) -> float:
    """Watts per unit of a signal's values; raises EventError where it does not say its unit."""
    for kind in ("powerReal", "customUnit"):
        found = one.find(f"{{*}}{kind}")
        if found is not None and text_at(found, "itemUnits") == "W":
            scale = text_at(found, "siScaleCode", "none")
            if scale in _SCALES:
                return _SCALES[scale]
    raise EventError("its values have no unit of real power (powerReal in W)")


def seconds_of(text: str, where: str) -> float:
    """Seconds of a duration; some VTNs write none at all, or a bare P, for 0."""
    return 0.0 if text in ("", "P", "PT") else duration_seconds(text, where)


def _share(ven_name: str, event_id: str) -> float:
    """Where in a random time this VEN begins, 0 to 1: the same after each restart."""
    digest = hashlib.sha256(f"{ven_name}\0{event_id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _plus(at: datetime, seconds: float) -> datetime:
    try:
        return (at + timedelta(seconds=seconds)).astimezone(UTC)
    except OverflowError:
        raise EventError("it ends after all calendars") from None
