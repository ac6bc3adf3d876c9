"""The times of OpenADR 3: durations, defaults, "now", "for ever", loops, random starts into plain spans."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_DURATION = re.compile(
    r"(?P<minus>-?)P(?=\d|T\d)(?:(?P<years>\d+)Y)?(?:(?P<months>\d+)M)?(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
_DAY = 86_400.0
_SECONDS = {
    "years": 365 * _DAY,
    "months": 30 * _DAY,
    "weeks": 7 * _DAY,
    "days": _DAY,
    "hours": 3600.0,
    "minutes": 60.0,
    "seconds": 1.0,
}
# P9999Y is for ever by agreement; nobody means the rest of such durations either.
_FOR_EVER_YEARS = 1000
_NOW = "0001-01-01"
_MOST_LETTERS = 64
MOST_SPANS = 2000


class TimeError(ValueError):
    """Times that cannot be meant; the text says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One interval of an event: [starts_at, ends_at), None: for ever. ``number`` counts loops, too."""

    number: int
    interval_id: int
    starts_at: datetime
    ends_at: datetime | None
    payloads: Sequence[Any]


def duration_seconds(value: Any, where: str) -> float:
    """Seconds of an ISO 8601 duration, inf for P9999Y; a year has 365 days, a month 30. Raises TimeError."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) and len(value) <= _MOST_LETTERS else None
    if found is None:
        raise TimeError(f"{where}: {value!r} is no duration such as PT1H")
    if found["minus"]:
        raise TimeError(f"{where}: {value!r} is negative")
    if int(found["years"] or 0) >= _FOR_EVER_YEARS:
        return math.inf
    return sum(float(found[unit] or 0.0) * seconds for unit, seconds in _SECONDS.items())


def moment(value: Any, where: str) -> datetime | None:
    """A moment in RFC 3339, None for "0001-01-01", which means now. Raises TimeError."""
    if isinstance(value, str) and len(value) <= _MOST_LETTERS:
        if value.startswith(_NOW):
            return None
        try:
            found = datetime.fromisoformat(value)
            if found.tzinfo is not None:
                return found.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise TimeError(f"{where}: {value!r} is no time with its zone")


def spans(event: Mapping[str, Any], *, first_seen: datetime, ven_name: str) -> list[Span]:
    """The intervals of an event in the order of their times; raises TimeError.

    ``first_seen`` is when this event was first read, which is what "now" means. What begins at random is
    moved by an offset that follows from the names of VEN and event: the same after each restart.
    """
    default = _period(event, "intervalPeriod")
    cursor = first_seen
    if default.get("start") is not None:
        cursor = moment(default["start"], "intervalPeriod.start") or first_seen
    shift = _shift(default, "intervalPeriod", event, ven_name)
    found: list[Span] = []
    listed = event.get("intervals") or []
    if not isinstance(listed, list) or len(listed) > MOST_SPANS:
        raise TimeError(f"intervals: must be a list of at most {MOST_SPANS}")
    for number, interval in enumerate(listed):
        where = f"intervals.{number}"
        if not isinstance(interval, Mapping):
            raise TimeError(f"{where}: must be an object")
        own = _period(interval, f"{where}.intervalPeriod")
        if own.get("randomizeStart") is not None:
            shift = _shift(own, f"{where}.intervalPeriod", event, ven_name)
        if own.get("start") is not None:
            cursor = moment(own["start"], f"{where}.intervalPeriod.start") or cursor
        duration = own.get("duration", default.get("duration"))
        if duration is None:
            if len(listed) > 1 or event.get("duration") is None:
                raise TimeError(f"{where}: nothing says how long it lasts")
            duration = event["duration"]
        seconds = duration_seconds(duration, f"{where}.intervalPeriod.duration")
        start = _plus(cursor, shift, where)
        ends_at = None if math.isinf(seconds) else _plus(start, seconds, where)
        payloads = interval.get("payloads")
        if not isinstance(payloads, list):
            raise TimeError(f"{where}.payloads: must be a list")
        interval_id = interval.get("id")
        if type(interval_id) is not int:
            interval_id = number
        found.append(
            Span(number=number, interval_id=interval_id, starts_at=start, ends_at=ends_at, payloads=payloads)
        )
        if ends_at is None:
            break
        cursor = _plus(cursor, seconds, where)
    return _for_duration(found, event.get("duration"))


def _for_duration(found: list[Span], duration: Any) -> list[Span]:
    """Cut the intervals, or repeat them, to the event's own duration."""
    if duration is None or not found or found[-1].ends_at is None:
        return found
    begin, end = found[0].starts_at, found[-1].ends_at
    seconds = duration_seconds(duration, "duration")
    round_seconds = (end - begin).total_seconds()
    if seconds == 0.0 or round_seconds <= 0.0:
        return found if seconds else []
    repeated: list[Span] = []
    for lap in range(MOST_SPANS):
        for span in found:
            past = timedelta(seconds=lap * round_seconds)
            if span.starts_at + past - begin >= timedelta(seconds=min(seconds, 366 * _DAY)):
                return repeated
            last = span.ends_at + past if span.ends_at is not None else None
            if last is not None and not math.isinf(seconds):
                last = min(last, _plus(begin, seconds, "duration"))
            repeated.append(
                Span(
                    number=len(repeated),
                    interval_id=span.interval_id,
                    starts_at=span.starts_at + past,
                    ends_at=last,
                    payloads=span.payloads,
                )
            )
            if len(repeated) >= MOST_SPANS:
                return repeated
    return repeated


def _period(holder: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    period = holder.get("intervalPeriod")
    if period is None:
        return {}
    if not isinstance(period, Mapping):
        raise TimeError(f"{where}: must be an object")
    return period


def _shift(period: Mapping[str, Any], where: str, event: Mapping[str, Any], ven_name: str) -> float:
    """Seconds by which starts are moved, evenly distributed over VENs between minus and plus the bound."""
    if period.get("randomizeStart") is None:
        return 0.0
    bound = min(duration_seconds(period["randomizeStart"], f"{where}.randomizeStart"), _DAY)
    digest = hashlib.sha256(f"{ven_name}\0{event.get('id')}".encode("utf-8", "surrogatepass")).digest()
    return bound * (2.0 * int.from_bytes(digest[:8], "big") / 2**64 - 1.0)


def _plus(at: datetime, seconds: float, where: str) -> datetime:
    try:
        return at + timedelta(seconds=seconds)
    except OverflowError:
        raise TimeError(f"{where}: ends after all calendars") from None
