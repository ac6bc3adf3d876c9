"""Forecasts as they were given, held against what came: rows, errors, and announced massive starts."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from slurm_power.model.forecast import CircuitForecast
from slurm_power.model.ledger import LedgerEntry

# Unix seconds, and the load from then until the next point (None: unknown).
TruePoint = tuple[float, float | None]

# (longest report, lead): of so short a report it is shown what was forecast so long before.
_LEADS_SECONDS = ((180.0, 10.0), (900.0, 30.0), (7_200.0, 300.0))
_LONGEST_LEAD_SECONDS = 3_600.0
# So much of a step's time has to be known to judge its forecast.
_LEAST_KNOWN_RATIO = 0.5
# So much of the announced step has to be in a forecast to say that the start is seen in it.
_SEEN_RATIO = 0.5
# How long before and after a start its level is taken, and how long a start takes.
_LEVEL_SECONDS = 5.0
_ARRIVAL_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRow:
    """What was forecast of [at, at + step), ``lead_seconds`` before it began, and what came; Unix seconds.

    ``true_watts`` is the mean of what came, ``naive_watts`` the mean of the step before the forecast was
    issued: "as it was". None is unknown.
    """

    issued_seconds: float
    lead_seconds: float
    at_seconds: float
    step_seconds: float
    p10_watts: float
    p50_watts: float
    p90_watts: float
    true_watts: float | None
    naive_watts: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnouncedStart:
    """A massive start: when it was announced, what it was to add, and what it did add; Unix seconds.

    ``seen_seconds`` is when the first forecast was issued that shows it; None if none did before it came.
    ``came_seconds`` None: it has not started, or not been held against what came yet.
    """

    job_id: str
    announced_seconds: float
    step_watts: float
    came_seconds: float | None = None
    came_watts: float | None = None
    seen_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastTrace:
    """A circuit's forecasts of ``lead_seconds`` before, its true load, and its massive starts."""

    circuit: str
    lead_seconds: float
    truth: tuple[TruePoint, ...]
    rows: tuple[TraceRow, ...]
    starts: tuple[AnnouncedStart, ...] = ()

    @property
    def judged(self) -> tuple[TraceRow, ...]:
        """The rows whose outcome is known."""
        return tuple(row for row in self.rows if row.true_watts is not None and row.naive_watts is not None)

    @property
    def mae_watts(self) -> float | None:
        """Mean error of the forecasts."""
        return _mean([abs(row.p50_watts - (row.true_watts or 0.0)) for row in self.judged])

    @property
    def naive_mae_watts(self) -> float | None:
        """Mean error of "as it was" at the same moments."""
        return _mean([abs((row.naive_watts or 0.0) - (row.true_watts or 0.0)) for row in self.judged])

    @property
    def coverage_ratio(self) -> float | None:
        """How many outcomes lay inside the 80 % band."""
        return _mean([row.p10_watts <= (row.true_watts or 0.0) <= row.p90_watts for row in self.judged])


def forecast_trace(
    circuit: str,
    forecasts: Iterable[CircuitForecast],
    truth: Sequence[TruePoint],
    starts: Iterable[AnnouncedStart] = (),
    *,
    lead_seconds: float | None = None,
) -> ForecastTrace:
    """Hold forecasts of one circuit (those of others are left out) against its true load, oldest first.

    The load is what a forecast speaks of: import, plus what batteries gave, plus what caps withheld. By
    default the lead fits the length of the truth: 10 s for some minutes, an hour for a day.
    """
    own = sorted(
        (each for each in forecasts if each.circuit == circuit), key=lambda each: each.issued_seconds
    )
    level = _Level(truth)
    lead = _lead(level.span_seconds) if lead_seconds is None else lead_seconds
    rows = [row for each in own if (row := _row(each, lead, level)) is not None]
    return ForecastTrace(
        circuit=circuit,
        # The steps of a forecast may be longer than the lead asked for.
        lead_seconds=rows[0].lead_seconds if rows else lead,
        truth=tuple(truth),
        rows=tuple(rows),
        starts=tuple(_followed(start, own, level) for start in starts),
    )


def announced_starts(entries: Iterable[LedgerEntry], circuit: str) -> tuple[AnnouncedStart, ...]:
    """The massive starts in a ledger that reach a circuit, by what was announced last of each."""
    found: dict[str, AnnouncedStart] = {}
    for entry in entries:
        job_id, details = entry.job_id, entry.details
        if job_id is None:
            continue
        if entry.kind == "massive start ahead":
            steps = details.get("step_watts")
            step = steps.get(circuit) if isinstance(steps, dict) else None
            if isinstance(step, int | float):
                found[job_id] = AnnouncedStart(
                    job_id=job_id, announced_seconds=entry.at.timestamp(), step_watts=float(step)
                )
        elif entry.kind == "massive start" and job_id in found:
            ahead = details.get("announced_seconds")
            if isinstance(ahead, int | float):
                came = found[job_id].announced_seconds + float(ahead)
                found[job_id] = replace(found[job_id], came_seconds=came)
    return tuple(found.values())


class _Level:
    """The true load as means over any span of time."""

    def __init__(self, truth: Sequence[TruePoint]) -> None:
        self._seconds = [seconds for seconds, _ in truth]
        self._watts = [watts for _, watts in truth]

    @property
    def span_seconds(self) -> float:
        """From the first to the last point."""
        return self._seconds[-1] - self._seconds[0] if self._seconds else 0.0

    def mean(self, start: float, end: float) -> float | None:
        """The mean over a span; None where it is not inside the truth, or too little of it is known."""
        if len(self._seconds) < 2:
            return None
        spacing = self.span_seconds / (len(self._seconds) - 1)
        if start < self._seconds[0] or end > self._seconds[-1] + 1.5 * spacing:
            return None
        first, last = bisect_left(self._seconds, start), bisect_left(self._seconds, end)
        # A span between two points has the value of the earlier one.
        points = self._watts[first:last] or self._watts[first - 1 : first]
        known = [watts for watts in points if watts is not None]
        return sum(known) / len(known) if len(known) >= _LEAST_KNOWN_RATIO * len(points) and known else None


def _lead(span_seconds: float) -> float:
    return next((lead for longest, lead in _LEADS_SECONDS if span_seconds <= longest), _LONGEST_LEAD_SECONDS)


def _row(forecast: CircuitForecast, lead_seconds: float, level: _Level) -> TraceRow | None:
    """The step that begins ``lead_seconds`` after the forecast, or next after that; None beyond its end."""
    step = forecast.step_seconds
    index = -int(-lead_seconds // step)
    if not 0 <= index < len(forecast.p50_watts):
        return None
    at = forecast.issued_seconds + index * step
    return TraceRow(
        issued_seconds=forecast.issued_seconds,
        lead_seconds=index * step,
        at_seconds=at,
        step_seconds=step,
        p10_watts=forecast.p10_watts[index],
        p50_watts=forecast.p50_watts[index],
        p90_watts=forecast.p90_watts[index],
        true_watts=level.mean(at, at + step),
        naive_watts=level.mean(forecast.issued_seconds - step, forecast.issued_seconds),
    )


def _followed(start: AnnouncedStart, forecasts: Sequence[CircuitForecast], level: _Level) -> AnnouncedStart:
    """When a start was first seen in a forecast, and what it added when it came."""
    seen = next(
        (
            each.issued_seconds
            for each in forecasts
            if start.came_seconds is None or each.issued_seconds < start.came_seconds
            if each.issued_seconds >= start.announced_seconds - each.step_seconds
            if _rises(each, start, level)
        ),
        None,
    )
    if start.came_seconds is None:
        return replace(start, seen_seconds=seen)
    before = level.mean(start.came_seconds - _LEVEL_SECONDS, start.came_seconds)
    arrived = start.came_seconds + _ARRIVAL_SECONDS
    after = level.mean(arrived, arrived + _LEVEL_SECONDS)
    came = None if before is None or after is None else after - before
    return replace(start, seen_seconds=seen, came_watts=came)


def _rises(forecast: CircuitForecast, start: AnnouncedStart, level: _Level) -> bool:
    """Whether a forecast shows the better part of a start's step above the load of its moment."""
    base = level.mean(forecast.issued_seconds - forecast.step_seconds, forecast.issued_seconds)
    if base is None:
        base = forecast.p50_watts[0]
    return max(forecast.p50_watts) - base >= _SEEN_RATIO * start.step_watts


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
