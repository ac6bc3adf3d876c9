"""What the meter said around a grid event, and on the days before at the same hours."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from slurm_power.model.series import Point, Resolution
from slurm_power.ports import SeriesReader
from slurm_power.report.energy.energy_jobs import moment_of
from slurm_power.report.event.day_baseline import DayLoad
from slurm_power.report.site_facts import SiteFacts

# Weekdays and weekends alike: so many days hold ten of a weekend's.
_DAYS_BACK = 45
_STEP_SECONDS = 900.0
# The hours before, for the same-day adjustment: three, ending one hour before the event or its ramp.
_BEFORE_SECONDS, _BEFORE_GAP_SECONDS = 3 * 3600.0, 3600.0
_AROUND_SECONDS = 3600.0
_MOST_SPAN = timedelta(days=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventTimes:
    """When an event was announced, came, held and was recovered from, in Unix seconds."""

    announced: float | None
    ramp: float
    start: float
    end: float
    recovered: float

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> "EventTimes":
        """From an event's report; raises ValueError for what is none."""
        start, end = moment_of(report.get("starts_at")), moment_of(report.get("ends_at"))
        if start is None or end is None or end <= start:
            raise ValueError(f"the record of event {report.get('event_id')} cannot be read")
        recover = float(report.get("recover_seconds") or 0.0)
        return cls(
            announced=moment_of(report.get("announced_at")),
            ramp=start - float(report.get("ramp_seconds") or 0.0),
            start=start,
            end=end,
            # The limit rises, and then stays at the load before for as long again.
            recovered=end + 2.0 * recover,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterInterval:
    """The mean draw of one interval, None where nothing was read; ``estimated_ratio`` of what was."""

    start_seconds: float
    length_seconds: float
    mean_watts: float | None
    coverage_ratio: float
    estimated_ratio: float


def meter_intervals(
    reader: SeriesReader, circuit: str, times: EventTimes, interval_seconds: float
) -> list[MeterInterval]:
    """Intervals of the clock from an hour before the event to an hour after it, at most three days."""
    first = (times.ramp - _AROUND_SECONDS) // interval_seconds * interval_seconds
    last = min(times.recovered + _AROUND_SECONDS, first + _MOST_SPAN.total_seconds())
    names = (f"circuit.{circuit}.watts", f"circuit.{circuit}.estimated_ratio")
    found, resolution = _finest(reader, names, first, last, interval_seconds)
    rows = []
    at = first
    while at < last:
        end = at + interval_seconds
        watts, coverage = mean_between(found[names[0]], resolution, at, end)
        estimated, _ = mean_between(found[names[1]], resolution, at, end)
        rows.append(
            MeterInterval(
                start_seconds=at,
                length_seconds=interval_seconds,
                mean_watts=watts,
                coverage_ratio=coverage,
                estimated_ratio=estimated or 0.0,
            )
        )
        at = end
    return rows


def _finest(
    reader: SeriesReader, names: Sequence[str], first: float, last: float, interval_seconds: float
) -> tuple[Mapping[str, Sequence[Point]], Resolution]:
    """Minutes where they are kept still; quarters where they are not and an interval is no shorter."""
    span = (datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC))
    found = reader.read(names, *span, Resolution.MINUTE)
    if found[names[0]] or interval_seconds < Resolution.QUARTER_HOUR:
        return found, Resolution.MINUTE
    return reader.read(names, *span, Resolution.QUARTER_HOUR), Resolution.QUARTER_HOUR


def mean_between(
    points: Sequence[Point], resolution: int, first: float, last: float
) -> tuple[float | None, float]:
    """The mean of points over [first, last) and the share of it that was read."""
    weighted = seen = 0.0
    for point in points:
        seconds = min(point.at_seconds + resolution, last) - max(point.at_seconds, first)
        if seconds > 0.0 and point.mean is not None:
            weighted += point.mean * point.coverage_ratio * seconds
            seen += point.coverage_ratio * seconds
    return (weighted / seen if seen > 0.0 else None), min(1.0, seen / (last - first))


def mean_before(
    reader: SeriesReader, site: SiteFacts, circuit: str, at: float, seconds: float
) -> float | None:
    """The mean draw of the ``seconds`` before a moment, without what batteries behind it took up."""
    batteries = [name for name, where in site.ess.items() if _behind(site, where, circuit)]
    names = [f"circuit.{circuit}.watts", *(f"ess.{name}.discharge_watts" for name in batteries)]
    span = (datetime.fromtimestamp(at - seconds, UTC), datetime.fromtimestamp(at, UTC))
    found = reader.read(names, *span, Resolution.MINUTE)
    given: dict[float, float] = {}
    for name in names[1:]:
        for point in found[name]:
            given[point.at_seconds] = given.get(point.at_seconds, 0.0) + (point.mean or 0.0)
    net = [
        point._replace(mean=point.mean - max(0.0, -given.get(point.at_seconds, 0.0)))
        for point in found[names[0]]
        if point.mean is not None
    ]
    return mean_between(net, Resolution.MINUTE, at - seconds, at)[0]


def _behind(site: SiteFacts, where: str | None, circuit: str) -> bool:
    while where is not None and where != circuit:
        where = site.parents.get(where)
    return where == circuit


def event_days(
    reader: SeriesReader,
    site: SiteFacts,
    circuit: str,
    times: EventTimes,
    others: Sequence[EventTimes],
) -> tuple[DayLoad, list[DayLoad]]:
    """The event's own day, and the days before at the same hours of the site's clock.

    A day that has no such hour, since its clock was changed, is left out. Read day by day.
    """
    local = datetime.fromtimestamp(times.start, site.zone)
    length = times.end - times.start
    lead = times.start - times.ramp
    touched = [
        (
            datetime.fromtimestamp(one.ramp, site.zone).date(),
            datetime.fromtimestamp(one.end, site.zone).date(),
        )
        for one in others
    ]
    own = _day(reader, circuit, local.date(), times.start, lengths=(length, lead))
    days = []
    for back in range(1, _DAYS_BACK + 1):
        # Of the local clock on purpose: the same hour of another day.
        wall = local.replace(tzinfo=None) - timedelta(days=back)
        start = wall.replace(tzinfo=site.zone, fold=0)
        if datetime.fromtimestamp(start.timestamp(), site.zone).replace(tzinfo=None) != wall:
            continue
        found = _day(reader, circuit, wall.date(), start.timestamp(), lengths=(length, lead))
        had = any(first <= wall.date() <= last for first, last in touched)
        days.append(replace(found, had_event=had))
    return own, days


def _day(
    reader: SeriesReader, circuit: str, day: date, start: float, *, lengths: tuple[float, float]
) -> DayLoad:
    """One day; ``lengths`` of the event and of its ramp."""
    length, lead = lengths
    before_end = start - lead - _BEFORE_GAP_SECONDS
    before = before_end - _BEFORE_SECONDS
    name = f"circuit.{circuit}.watts"
    span = (datetime.fromtimestamp(before, UTC), datetime.fromtimestamp(start + length, UTC))
    points = reader.read([name], *span, Resolution.QUARTER_HOUR)[name]
    watts = [mean_between(points, Resolution.QUARTER_HOUR, *edges) for edges in _steps(start, start + length)]
    early = [mean_between(points, Resolution.QUARTER_HOUR, *edges) for edges in _steps(before, before_end)]
    read = [coverage for _, coverage in (*watts, *early)]
    return DayLoad(
        day=day,
        watts=[mean for mean, _ in watts],
        before_watts=[mean for mean, _ in early],
        coverage_ratio=sum(read) / len(read),
    )


def _steps(first: float, last: float) -> list[tuple[float, float]]:
    """Equal steps of at most a quarter of an hour."""
    count = max(1, math.ceil((last - first) / _STEP_SECONDS - 1e-9))
    width = (last - first) / count
    return [(first + width * n, first + width * (n + 1)) for n in range(count)]
