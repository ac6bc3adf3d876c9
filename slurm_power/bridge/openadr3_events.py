"""An event of OpenADR 3 as JSON into windows for the site, prices for its feeds, and what is not followed."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from slurm_power.bridge.grid_events import Level, Price, Window, plain_id, printable
from slurm_power.bridge.openadr3_time import Span, TimeError, spans
from slurm_power.bridge.openadr_levels import EventError, check_meant, simple_level
from slurm_power.config.signals import OpenAdr3Signal
from slurm_power.model.site import Circuit

_POWER_UNITS = {"W": 1.0, "KW": 1e3, "MW": 1e6}
_ENERGY_UNITS = {"KWH": 1.0, "MWH": 1e-3, "WH": 1e3}
_LIMITS = ("IMPORT_CAPACITY_LIMIT", "DISPATCH_SETPOINT", "IMPORT_CAPACITY_SUBSCRIPTION")
_RELATIVE = "DISPATCH_SETPOINT_RELATIVE"
_GRANTED = "IMPORT_CAPACITY_RESERVATION"
_FOLLOWED = frozenset({*_LIMITS, _RELATIVE, _GRANTED, "SIMPLE", "PRICE", "GHG"})
# What concerns no site that only draws power, or only informs.
_QUIET = ("EXPORT_", "IMPORT_CAPACITY_AVAILABLE", "IMPORT_CAPACITY_RESERVATION_FEE", "ALERT_")
_MOST_PRICE = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadEvent:
    """One event as the site understands it. ``notes`` are parts of it that are not followed."""

    event_id: str
    program_id: str
    windows: tuple[Window, ...]
    spans: tuple[Span, ...]
    prices: tuple[Price, ...]
    carbon: tuple[Price, ...]
    report_descriptors: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]


def read_event(
    event: Mapping[str, Any],
    program: Mapping[str, Any],
    signal: OpenAdr3Signal,
    circuit: Circuit,
    *,
    first_seen: datetime,
    now: datetime,
) -> ReadEvent:
    """Understand one event; raises EventError for one that cannot be meant: none of it is followed."""
    event_id = event.get("id")
    if not isinstance(event_id, str) or not event_id:
        raise EventError("an event has no id")
    try:
        found = spans(event, first_seen=first_seen, ven_name=signal.ven_name)
    except TimeError as error:
        raise EventError(str(error)) from None
    reader = _Reader(event, program, signal, circuit, now)
    windows: list[Window] = []
    prices: list[Price] = []
    carbon: list[Price] = []
    for span in found:
        windows += reader.windows(span)
        prices += reader.feed(span, "PRICE", _ENERGY_UNITS)
        carbon += reader.feed(span, "GHG", {"": 1.0, "GHG": 1.0, "G/KWH": 1.0})
    descriptors = event.get("reportDescriptors") or []
    asked = [one for one in descriptors if isinstance(one, Mapping)] if isinstance(descriptors, list) else []
    return ReadEvent(
        event_id=event_id,
        program_id=str(event.get("programID")),
        windows=tuple(_merged(windows)),
        spans=tuple(found),
        prices=tuple(prices),
        carbon=tuple(carbon),
        report_descriptors=tuple(asked),
        notes=tuple(reader.notes),
    )


class _Reader:
    """The parts of one event into our terms; ``notes`` collects what is left aside."""

    def __init__(
        self,
        event: Mapping[str, Any],
        program: Mapping[str, Any],
        signal: OpenAdr3Signal,
        circuit: Circuit,
        now: datetime,
    ) -> None:
        self._id = str(event["id"])
        self._modified = str(event.get("modificationDateTime", ""))
        self._signal = signal
        self._circuit = circuit
        self._now = now
        self._units = {**_units(program), **_units(event)}
        self._priority = _priority(event.get("priority"))
        name = printable(event.get("eventName") or self._id, 60)
        self._reason = f"{signal.name}: {name}"
        self.notes: list[str] = []

    def windows(self, span: Span) -> Iterator[Window]:
        """The levels of one interval, each for its part of the time; raises EventError."""
        granted = next((values for kind, values in _payloads(span.payloads) if kind == _GRANTED), [0.0])
        for kind, values in _payloads(span.payloads):
            if kind not in _FOLLOWED and not kind.startswith(_QUIET):
                self._note(f"{printable(kind, 40)} is not followed")
            if kind not in _LIMITS and kind not in ("SIMPLE", _RELATIVE):
                continue
            for number, value, start, end in _parts(span, values):
                level = self._level(kind, value, granted)
                if level is None or (end is not None and end <= start):
                    continue
                check_meant(level, start, end, signal=self._signal, circuit=self._circuit, now=self._now)
                part = f"{span.number}" if len(values) == 1 else f"{span.number}v{number}"
                yield Window(
                    event_id=self._id,
                    part=f"{part}-{plain_id(kind)}",
                    version=f"{self._modified} {start.isoformat()} {end and end.isoformat()} {level.words()}",
                    starts_at=start,
                    ends_at=start if end is None else end,
                    until_revoked=end is None,
                    level=level,
                    reason=f"{self._reason} ({kind} {printable(value, 20)})",
                    priority=self._priority,
                )

    def _level(self, kind: str, value: Any, granted: Sequence[Any]) -> Level | None:
        """What a payload asks for, None where it asks for nothing; raises EventError."""
        number = _number(value, kind)
        if kind == "SIMPLE":
            return simple_level(number, printable(value, 20), self._signal)
        if kind == _RELATIVE:
            if number >= 0.0:
                if number:
                    self._note("a wish for more load is not followed")
                return None
            if self._units.get(kind) == "PERCENT":
                return Level(cut_ratio=-number / 100.0)
            return Level(cut_watts=-number * self._factor(kind))
        watts = number * self._factor(kind)
        if kind == "IMPORT_CAPACITY_SUBSCRIPTION" and granted[:1] not in ([], [0.0]):
            watts += _number(granted[0], _GRANTED) * self._factor(_GRANTED)
        return Level(limit_watts=watts)

    def _factor(self, kind: str) -> float:
        unit = self._units.get(kind, "")
        if unit not in _POWER_UNITS:
            raise EventError(
                f"{kind}: its unit is {printable(unit, 20)!r}, not one of {', '.join(_POWER_UNITS)};"
                " the payload descriptor of event or program has to say it"
            )
        return _POWER_UNITS[unit]

    def feed(self, span: Span, kind: str, units: Mapping[str, float]) -> Iterator[Price]:
        """Prices or intensities of one interval; what is no number is a note."""
        for payload, values in _payloads(span.payloads):
            if payload != kind:
                continue
            unit = self._units.get(kind, "KWH" if kind == "PRICE" else "")
            if unit not in units or span.ends_at is None:
                self._note(f"{kind} with unit {printable(unit, 20)!r} or without an end is not followed")
                return
            for _, value, start, end in _parts(span, values):
                try:
                    number = _number(value, kind) * units[unit]
                except EventError as error:
                    self._note(str(error))
                    continue
                if abs(number) > _MOST_PRICE or (kind == "GHG" and number < 0.0):
                    self._note(f"{kind}: {number:g} cannot be true")
                elif end is not None and end > start:
                    yield Price(starts_at=start, ends_at=end, value=number)

    def _note(self, text: str) -> None:
        if text not in self.notes and len(self.notes) < 10:
            self.notes.append(text)


def _payloads(payloads: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
    for one in payloads:
        if not isinstance(one, Mapping) or not isinstance(one.get("type"), str):
            raise EventError("payloads: must be objects with type and values")
        values = one.get("values")
        if not isinstance(values, list) or not values or len(values) > 1000:
            raise EventError(f"payloads: {printable(one['type'], 40)} has no list of values")
        yield one["type"], values


def _parts(span: Span, values: Sequence[Any]) -> Iterator[tuple[int, Any, datetime, datetime | None]]:
    """Several values share the interval evenly."""
    if len(values) == 1:
        yield 0, values[0], span.starts_at, span.ends_at
        return
    if span.ends_at is None:
        raise EventError("several values in an interval without an end")
    step = (span.ends_at - span.starts_at) / len(values)
    for number, value in enumerate(values):
        yield number, value, span.starts_at + number * step, span.starts_at + (number + 1) * step


def _number(value: Any, kind: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise EventError(f"{kind}: {printable(value, 20)!r} is no number")
    return float(value)


def _units(holder: Mapping[str, Any]) -> dict[str, str]:
    """The unit of each payload type, as event or program describe it."""
    listed = holder.get("payloadDescriptors")
    found = {}
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, Mapping) and isinstance(one.get("payloadType"), str) and one.get("units"):
            found[one["payloadType"]] = str(one["units"]).upper()
    return found


def _priority(value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise EventError(f"priority: {printable(value, 20)!r} is no whole number from 0 on")
    return value


def _merged(windows: list[Window]) -> Iterator[Window]:
    """Join windows that follow each other at once: one where the level is the same, else marked as joined."""
    last: Window | None = None
    for window in windows:
        if last is not None and not last.until_revoked and last.ends_at == window.starts_at:
            if last.level == window.level and not window.until_revoked:
                version = f"{last.version.rpartition(' until ')[0] or last.version} until {window.ends_at}"
                last = replace(last, ends_at=window.ends_at, version=version)
                continue
            last = replace(last, joined=True)
        if last is not None:
            yield last
        last = window
    if last is not None:
        yield last
