"""Reports of OpenADR 3, as an event's report descriptors ask for them: what is due, and its JSON."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from slurm_power.bridge.meter_history import Measured
from slurm_power.bridge.openadr3_events import ReadEvent
from slurm_power.config.signals import OpenAdr3Signal

Mean = Callable[[datetime, datetime], Awaitable[Measured]]

# Series are written a moment after they are measured.
SETTLE = timedelta(seconds=3)
OPEN_STEP = timedelta(minutes=5)
"""Intervals without an end are reported in steps of so long."""
_ENOUGH_RATIO = 0.9
_POWER = {"W": 1.0, "KW": 1e-3, "MW": 1e-6}
_ENERGY = {"WH": 1.0, "KWH": 1e-3, "MWH": 1e-6}
SUPPORTED = ("USAGE", "DEMAND", "OPERATING_STATE")
# What is older is asked for by nobody any more.
_OLDEST = timedelta(days=2)
_MOST_INTERVALS = 288


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One report: of these times, for this descriptor. ``name`` is the same after every restart."""

    name: str
    descriptor: Mapping[str, Any]
    times: tuple[tuple[int, datetime, datetime], ...]


def due_reports(event: ReadEvent, now: datetime, sent: set[str]) -> Iterator[Due]:
    """The reports of an event that can be given now and are not among ``sent``."""
    for place, descriptor in enumerate(event.report_descriptors):
        if descriptor.get("payloadType") not in SUPPORTED or descriptor.get("historical") is False:
            continue
        for number, times in enumerate(_groups(event, descriptor, now)):
            name = f"{event.event_id}-{place}-{number}"
            last = times[-1][2]
            if name not in sent and last + SETTLE <= now and now - last < _OLDEST:
                yield Due(name=name, descriptor=descriptor, times=times)


def _groups(
    event: ReadEvent, descriptor: Mapping[str, Any], now: datetime
) -> Iterator[tuple[tuple[int, datetime, datetime], ...]]:
    """The intervals of each report. -1 means all of them; without an end they are cut into steps."""
    times: list[tuple[int, datetime, datetime]] = []
    for span in event.spans:
        if span.ends_at is not None:
            times.append((span.interval_id, span.starts_at, span.ends_at))
            continue
        start = span.starts_at
        if now - start > _OLDEST:
            # On the same grid of steps, so that their numbers stay.
            start += ((now - start - _OLDEST) // OPEN_STEP) * OPEN_STEP
        first = round((start - span.starts_at) / OPEN_STEP)
        step = 0
        while start + OPEN_STEP <= now:
            yield ((first + step, start, start + OPEN_STEP),)
            start, step = start + OPEN_STEP, step + 1
        return
    every = _whole(descriptor, "frequency")
    each = _whole(descriptor, "numIntervals")
    size = every if every > 0 else each if each > 0 else len(times)
    size = max(1, min(size, _MOST_INTERVALS))
    start_at = max(0, _whole(descriptor, "startInterval")) if each > 0 else 0
    repeat = _whole(descriptor, "repeat", 1)
    groups = [tuple(times[at : at + size]) for at in range(start_at, len(times), size)]
    if every <= 0 and repeat > 0:
        groups = groups[: max(1, repeat)] if each > 0 else groups
    yield from groups


def _whole(descriptor: Mapping[str, Any], key: str, default: int = -1) -> int:
    value = descriptor.get(key, default)
    return value if type(value) is int else default


async def report_json(
    due: Due, event: ReadEvent, signal: OpenAdr3Signal, mean: Mean, *, curtailed: bool
) -> dict[str, Any]:
    """The report, with what the meter has shown; where it has not, the quality says so."""
    kind = str(due.descriptor["payloadType"])
    known, units = (_ENERGY, "KWH") if kind == "USAGE" else (_POWER, "KW")
    if str(due.descriptor.get("units")).upper() in known:
        units = str(due.descriptor["units"]).upper()
    intervals = []
    for interval_id, start, end in due.times:
        if kind == "OPERATING_STATE":
            values: list[Any] = ["RUNNING_CURTAILED" if curtailed else "RUNNING_NORMAL"]
            payloads = [{"type": kind, "values": values}]
        else:
            payloads = _measured(kind, units, await mean(start, end), (end - start).total_seconds())
        intervals.append(
            {
                "id": interval_id,
                "intervalPeriod": {"start": _text(start), "duration": _duration(end - start)},
                "payloads": payloads,
            }
        )
    descriptor: dict[str, Any] = {"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": kind}
    if kind != "OPERATING_STATE":
        descriptor |= {"units": units, "readingType": "MEAN" if kind == "DEMAND" else "DIRECT_READ"}
    return _report(due.name, event, signal, descriptor, intervals)


def refusal_json(event_id: str, program_id: str, signal: OpenAdr3Signal, version: str) -> dict[str, Any]:
    """That an event is not followed: OpenADR 3 has no opt-out, so the operating state says it."""
    descriptor = {"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": "OPERATING_STATE"}
    interval = {"id": 0, "payloads": [{"type": "OPERATING_STATE", "values": ["RUNNING_OPTED_OUT"]}]}
    return {
        "objectType": "REPORT",
        "programID": program_id,
        "eventID": event_id,
        "clientName": signal.ven_name,
        "reportName": f"{event_id}-not-followed-{version}"[:128],
        "payloadDescriptors": [descriptor],
        "resources": [{"resourceName": signal.resource_name, "intervals": [interval]}],
    }


def _report(
    name: str,
    event: ReadEvent,
    signal: OpenAdr3Signal,
    descriptor: Mapping[str, Any],
    intervals: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "objectType": "REPORT",
        "programID": event.program_id,
        "eventID": event.event_id,
        "clientName": signal.ven_name,
        "reportName": name,
        "payloadDescriptors": [descriptor],
        "resources": [{"resourceName": signal.resource_name, "intervals": intervals}],
    }


def _measured(kind: str, units: str, found: Measured, seconds: float) -> list[dict[str, Any]]:
    if found.watts is None:
        return [{"type": "DATA_QUALITY", "values": ["MISSING"]}]
    if kind == "USAGE":
        value = found.watts * seconds / 3600.0 * _ENERGY[units]
    else:
        value = found.watts * _POWER[units]
    quality = "OK" if found.coverage_ratio >= _ENOUGH_RATIO else "ESTIMATED"
    return [{"type": kind, "values": [round(value, 6)]}, {"type": "DATA_QUALITY", "values": [quality]}]


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _duration(span: timedelta) -> str:
    return f"PT{span.total_seconds():.3f}".rstrip("0").rstrip(".") + "S"
