"""Turn powerctld's store into the values of a report."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from slurm_power.model.forecast import CircuitForecast
from slurm_power.model.ledger import LedgerEntry
from slurm_power.ports import SeriesReader, Store
from slurm_power.report.audit.proof import chain_proof
from slurm_power.report.data import (
    DEFAULT_SETTLE_SECONDS,
    Decision,
    EventSpan,
    JobSummary,
    ReportData,
    Series,
    judge,
)
from slurm_power.report.live.trace import announced_starts, forecast_trace

# A job that ended and one that nobody lists any more need no restoring: their devices were given back.
_ENDED = "ended"


def report_data(
    store: Store,
    recorded: SeriesReader,
    *,
    circuit: str | None = None,
    title: str = "Power report",
    settle_seconds: float = DEFAULT_SETTLE_SECONDS,
    forecasts: Sequence[CircuitForecast] = (),
) -> ReportData:
    """Collect a report; raises ValueError when the store has no series of the circuit.

    ``forecasts`` are those that were given meanwhile, if somebody kept them: they are held against the truth.
    """
    names = recorded.names()
    circuits = [name.removeprefix("circuit.").removesuffix(".watts") for name in names if _is_circuit(name)]
    if circuit is None:
        circuit = max(circuits, key=lambda name: _mean(recorded, name), default=None)
    if circuit is None or circuit not in circuits:
        known = ", ".join(circuits) or "none"
        raise ValueError(f"no series of circuit {circuit!r}; there are: {known}")
    started, series = _series(recorded, circuit, [name for name in names if name.startswith("ess.")])
    entries = list(store.entries())
    jobs = tuple(_job(job_id, record) for job_id, record in store.jobs().items())
    decisions = tuple(
        Decision(
            at=entry.at,
            actor=entry.actor,
            kind=entry.kind,
            subject=entry.subject,
            reason=entry.reason,
            saved_watts=entry.saved_watts,
        )
        for entry in entries
    )
    data = ReportData(
        title=title,
        circuit=circuit,
        started=started,
        series=series,
        jobs=jobs,
        decisions=decisions,
        events=_events(store, started),
        proof=chain_proof(store.rows()).lines,
        verdict=judge(
            series,
            settle_seconds=settle_seconds,
            unfinished=tuple(f"job {job.job_id} is {job.state}" for job in jobs if job.state != _ENDED),
            unrestored=_unrestored(decisions, jobs),
        ),
    )
    starts = announced_starts(entries, circuit)
    if not forecasts and not starts:
        return data
    return replace(data, forecast=forecast_trace(circuit, forecasts, data.truth, starts))


def _is_circuit(name: str) -> bool:
    return name.startswith("circuit.") and name.endswith(".watts") and not name.endswith(".limit_watts")


def _samples(recorded: SeriesReader, name: str) -> list[tuple[float, float | None]]:
    return [(point.at_seconds, point.mean) for point in recorded.read([name])[name]]


def _mean(recorded: SeriesReader, circuit: str) -> float:
    values = [value for _, value in _samples(recorded, f"circuit.{circuit}.watts") if value is not None]
    return sum(values) / len(values) if values else 0.0


def _series(recorded: SeriesReader, circuit: str, ess_names: list[str]) -> tuple[datetime, Series]:
    """Join the columns on the circuit's own rows; several batteries add up, their charge is averaged."""
    rows = _samples(recorded, f"circuit.{circuit}.watts")
    if not rows:
        raise ValueError(f"the series of circuit {circuit!r} has no values any more")
    started = rows[0][0]
    moments = [at for at, _ in rows]

    def column(name: str) -> list[float | None]:
        found = dict(_samples(recorded, name))
        return [found.get(at) for at in moments]

    def joined(suffix: str, *, mean: bool) -> tuple[float | None, ...]:
        columns = [column(name) for name in ess_names if name.endswith(suffix)]
        joined_rows = zip(*columns, strict=True) if columns else ([] for _ in moments)
        known = [[value for value in row if value is not None] for row in joined_rows]
        return tuple((sum(row) / (len(row) if mean else 1)) if row else None for row in known)

    return datetime.fromtimestamp(started, UTC), Series(
        seconds=tuple(at - started for at in moments),
        import_watts=tuple(value for _, value in rows),
        limit_watts=tuple(column(f"circuit.{circuit}.limit_watts")),
        ess_discharge_watts=joined(".discharge_watts", mean=False),
        withheld_watts=tuple(column("caps.withheld_watts")),
        soc_ratio=joined(".soc_ratio", mean=True),
    )


def _job(job_id: str, record: dict[str, object]) -> JobSummary:
    def number(key: str) -> float | None:
        value = record.get(key)
        return float(value) if isinstance(value, int | float) else None

    ran_seconds = number("seconds")
    slow_seconds = number("slowdown_seconds") or 0.0
    return JobSummary(
        job_id=job_id,
        user=str(record.get("user", "")),
        name=str(record.get("name", "")),
        state=str(record.get("state", "")),
        workload=str(record.get("workload", "")),
        flex=str(record.get("flex", "")),
        gpu_count=int(number("gpu_count") or 0),
        energy_joules=number("energy_joules"),
        mean_watts=number("mean_watts"),
        peak_watts=number("peak_watts"),
        lowest_cap_watts=number("lowest_cap_watts"),
        slowdown_ratio=slow_seconds / ran_seconds if ran_seconds else 0.0,
        held_seconds=number("held_seconds") or 0.0,
        coverage_ratio=number("coverage_ratio"),
    )


def _events(store: Store, started: datetime) -> tuple[EventSpan, ...]:
    """Events as they were announced; one that was cancelled ends there."""
    spans: dict[str, EventSpan] = {}
    for entry in store.entries():
        details = entry.details
        numbers = [details.get(key) for key in ("limit_watts", "start_seconds", "duration_seconds")]
        if entry.kind == "event cancelled":
            _cut(spans, entry, (entry.at - started).total_seconds())
        announced = entry.kind in ("event", "event changed")
        if not announced or not all(isinstance(number, int | float) for number in numbers):
            continue
        limit_watts, start_in, duration = (float(str(number)) for number in numbers)
        start = (entry.at - started).total_seconds() + start_in
        event_id = str(details.get("event_id", entry.at))
        spans[event_id] = EventSpan(
            circuit=entry.subject.removeprefix("circuit:"),
            limit_watts=limit_watts,
            start_seconds=start,
            end_seconds=start + duration,
            reason=entry.reason,
        )
    return tuple(spans.values())


def _cut(spans: dict[str, EventSpan], entry: LedgerEntry, end_seconds: float) -> None:
    for event_id, span in spans.items():
        same = span.circuit == entry.subject.removeprefix("circuit:") and span.reason == entry.reason
        if same and span.end_seconds > end_seconds:
            spans[event_id] = replace(span, end_seconds=max(span.start_seconds, end_seconds))


def _unrestored(decisions: tuple[Decision, ...], jobs: tuple[JobSummary, ...]) -> tuple[str, ...]:
    """What the ledger's last word leaves changed: caps and holds of live jobs, batteries not at rest."""
    last: dict[tuple[str, str], str] = {}
    groups = {"cap": "cap", "uncap": "cap", "own cap": "cap", "hold": "hold", "release": "hold"}
    groups |= {"discharge": "setpoint", "charge": "setpoint", "rest": "setpoint"}
    for decision in decisions:
        if decision.kind in groups:
            last[decision.subject, groups[decision.kind]] = decision.kind
    gone = {f"job:{job.job_id}" for job in jobs if job.state == _ENDED}
    return tuple(
        f"{group} on {subject}"
        for (subject, group), kind in last.items()
        if kind in ("cap", "hold", "discharge", "charge") and subject not in gone
    )
