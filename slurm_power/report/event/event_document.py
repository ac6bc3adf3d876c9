"""The report on a grid event: for the utility what was asked and delivered, for the site its cost, too."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from slurm_power.report.audit.proof import ChainProof
from slurm_power.report.energy.energy_jobs import number_of
from slurm_power.report.event.event_methods import MethodRow
from slurm_power.report.event.event_reading import EventTimes, MeterInterval
from slurm_power.report.frame.document import (
    Block,
    Check,
    Column,
    Document,
    Paragraph,
    Section,
    Table,
    Tile,
    Value,
    kilo,
    number_column,
    percent,
    table_csv,
)
from slurm_power.report.site_facts import SiteFacts

_SURE_RATIO = 0.95
# Means of meters are no more exact than this.
_EXACT = 0.001
_KILO = 1000.0
_UNPROVEN = (
    "Made of powerctld's own account of the event: neither stored series nor ledger were read."
    " What is settled by is made with --state."
)
_JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """One ledger entry about the event."""

    sequence: int
    at: datetime
    actor: str
    kind: str
    reason: str
    stored_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventReport:
    """What the document is made of; ``report``: the event's own account; ``for_utility``: without jobs.

    ``proof`` None: made of powerctld's answer alone, without stored series and ledger; it says so.
    """

    report: Mapping[str, Any]
    times: EventTimes
    intervals: Sequence[MeterInterval]
    methods: Sequence[MethodRow]
    ledger: Sequence[LedgerLine]
    site: SiteFacts
    proof: ChainProof | None
    made_at: datetime
    for_utility: bool


def event_document(event: EventReport) -> Document:
    """The report; what people have named stands in it as it is, the frame makes it harmless."""
    report = event.report
    intervals = _intervals(event)
    sections = [
        Section(title="Asked and delivered", blocks=(_asked(event), _performance(event))),
        Section(
            title="Baseline",
            blocks=(
                Paragraph(f"The baseline that counts: {report.get('baseline_method') or 'unknown'}."),
                _methods(event),
            ),
        ),
        *([] if event.proof is None else [Section(title="Metered intervals", blocks=(intervals,))]),
        Section(title="Data quality", blocks=_quality(event)),
    ]
    if not event.for_utility:
        sections.append(Section(title="What jobs lost", blocks=(_jobs(event),)))
    if event.proof is not None:
        sections.append(Section(title="Ledger", blocks=(_ledger(event),)))
        sections.append(Section(title="Signatures", blocks=(_signatures(),)))
    digest = hashlib.sha256(table_csv(intervals).encode()).hexdigest()
    return Document(
        title=f"Grid event {report.get('event_id')} at {event.site.name}",
        subtitle=str(report.get("reason", "")),
        checks=tuple(_checks(event)),
        tiles=tuple(_tiles(event)),
        sections=tuple(sections),
        proof=(
            (_UNPROVEN,)
            if event.proof is None
            else (*event.proof.lines, f"SHA-256 of the metered intervals (intervals.csv): {digest}")
        ),
        labels={
            "Site": event.site.name,
            "Circuit": str(report.get("circuit", "")),
            "State": str(report.get("state", "")),
            "From": _local(event, event.times.start),
            "Until": _local(event, event.times.end),
            "Notice": "unknown" if event.times.announced is None else _local(event, event.times.announced),
            "For": "the utility" if event.for_utility else "the site",
            "Made": f"{event.made_at:%Y-%m-%d %H:%M:%S} UTC",
        },
    )


def _local(event: EventReport, seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, event.site.zone):%Y-%m-%d %H:%M:%S %Z}"


def _result(event: EventReport, key: str) -> float | None:
    found = event.report.get("result")
    return number_of(found.get(key)) if isinstance(found, dict) else None


def _checks(event: EventReport) -> Iterator[Check]:
    delivered, promised = _result(event, "delivered_watts"), _result(event, "promised_watts")
    known = delivered is not None and promised is not None
    yield Check(
        good=known and (delivered or 0.0) >= (1.0 - _EXACT) * (promised or 0.0),
        yes="What was asked was delivered",
        no="Less was delivered than asked" if known else "What was delivered is not known",
        detail=f"{(delivered or 0.0) / _KILO:.1f} kW of {(promised or 0.0) / _KILO:.1f} kW" if known else "",
    )
    above = _result(event, "minutes_above_target") or 0.0
    yield Check(
        good=not above,
        yes="No minute was above the level once it was reached",
        no="Minutes were above the level after it was reached",
        detail=f"{above:.0f} minutes by more than 1 %",
    )
    coverage = _result(event, "coverage_ratio") or 0.0
    yield Check(
        good=coverage >= _SURE_RATIO,
        yes="The event was metered",
        no="An estimate: less than 95 % of the event was metered",
        detail=f"{100.0 * coverage:.1f} % of it",
    )
    if event.proof is not None:
        yield event.proof.check


def _tiles(event: EventReport) -> Iterator[Tile]:
    delivered, ratio = _result(event, "delivered_watts"), _result(event, "delivered_ratio")
    if delivered is not None:
        remark = "" if ratio is None else f"{100.0 * ratio:.1f} % of what was asked"
        yield Tile(name="Delivered", value=f"{delivered / _KILO:.1f} kW", remark=remark)
    kwh = _result(event, "delivered_kwh")
    if kwh is not None:
        yield Tile(name="Energy", value=f"{kwh:.2f} kWh", remark="less than the baseline")
    over = _result(event, "over_curtailment_points")
    if over is not None:
        yield Tile(name="Over-delivery", value=f"{over:.1f} %", remark="of the baseline, on the mean")
    reached = _result(event, "time_to_target_seconds")
    yield Tile(
        name="Reached after",
        value="not for good" if reached is None else f"{reached:.0f} s",
        remark="of the start",
    )


def _asked(event: EventReport) -> Table:
    report = event.report
    cut_ratio, cut_watts = number_of(report.get("cut_ratio")), number_of(report.get("cut_watts"))
    asked = "a level"
    if cut_ratio is not None:
        asked = f"{100.0 * cut_ratio:.1f} % below the baseline"
    elif cut_watts is not None:
        asked = f"{cut_watts / _KILO:.1f} kW below the baseline"
    firm = "must" if report.get("commitment") == "must" else "best effort"
    limit, baseline = number_of(report.get("limit_watts")), number_of(report.get("baseline_watts"))
    rows: tuple[tuple[Value, ...], ...] = (
        ("asked", f"{asked}, {firm}"),
        ("level (kW)", kilo(limit)),
        ("baseline (kW)", kilo(baseline)),
        ("reduction asked (kW)", kilo(_result(event, "promised_watts"))),
        ("reduction delivered (kW)", kilo(_result(event, "delivered_watts"))),
        ("delivered of asked (%)", percent(_result(event, "delivered_ratio"))),
        ("energy not drawn (kWh)", _result(event, "delivered_kwh")),
    )
    return _pairs("delivered", "Requested against delivered", rows)


def _performance(event: EventReport) -> Table:
    report = event.report
    rows: tuple[tuple[Value, ...], ...] = (
        ("ramp down to the start (s)", number_of(report.get("ramp_seconds"))),
        ("recovery after the end (s)", number_of(report.get("recover_seconds"))),
        ("level reached for good, after the start (s)", _result(event, "time_to_target_seconds")),
        ("most a minute was above the level (kW)", kilo(_result(event, "above_target_watts"))),
        ("minutes above the level by more than 1 %", _result(event, "minutes_above_target")),
        ("over-delivery, mean (% of the baseline)", _result(event, "over_curtailment_points")),
        ("over-delivery, worst minute (% of the baseline)", _result(event, "worst_over_curtailment_points")),
        ("rebound above the baseline (kW)", kilo(_result(event, "rebound_watts"))),
        ("steepest rise afterwards (kW a minute)", kilo(_result(event, "steepest_rise_watts"))),
        ("batteries gave (kWh)", _result(event, "ess_discharged_kwh")),
        ("batteries took (kWh)", _result(event, "ess_charged_kwh")),
    )
    return _pairs("performance", "Ramp, level and recovery", rows)


def _pairs(name: str, title: str, rows: tuple[tuple[Value, ...], ...]) -> Table:
    columns = (Column(heading="What"), number_column("Value", digits=2))
    return Table(name=name, title=title, columns=columns, rows=rows)


def _methods(event: EventReport) -> Table:
    return Table(
        name="baselines",
        title="What each baseline says",
        columns=(
            Column(heading="Baseline"),
            Column(heading="Counts"),
            number_column("Load without the event", "kW", digits=2),
            number_column("Delivered", "kW", digits=2),
            number_column("Of asked", "%", digits=1),
            Column(heading="How"),
        ),
        rows=tuple(
            (
                row.name,
                row.counts,
                kilo(row.baseline_watts),
                kilo(row.delivered_watts),
                percent(row.delivered_ratio),
                row.remark,
            )
            for row in event.methods
        ),
        note=(
            "The first is settled by; the others are what the stored series say by other methods. Adjustment"
            " by the three hours that end one hour before the ramp. Holidays are not known and count by"
            " their weekday."
        ),
    )


def _intervals(event: EventReport) -> Table:
    baseline, limit = (number_of(event.report.get(key)) for key in ("baseline_watts", "limit_watts"))

    def row(one: MeterInterval) -> tuple[Value, ...]:
        part = _part(event.times, one.start_seconds + 0.5 * one.length_seconds)
        less = None if baseline is None or one.mean_watts is None else baseline - one.mean_watts
        read = one.length_seconds * one.coverage_ratio
        kwh = None if one.mean_watts is None else one.mean_watts * read / _JOULES_PER_KWH
        return (
            datetime.fromtimestamp(one.start_seconds, UTC),
            datetime.fromtimestamp(one.start_seconds + one.length_seconds, UTC),
            part,
            kilo(one.mean_watts),
            kwh,
            kilo(baseline),
            kilo(limit) if part == "event" else None,
            kilo(less) if part == "event" else None,
            100.0 * one.coverage_ratio,
            100.0 * one.estimated_ratio,
        )

    return Table(
        name="intervals",
        title="The meter",
        columns=(
            Column(heading="From", kind="time"),
            Column(heading="Until", kind="time"),
            Column(heading="Part"),
            number_column("Mean draw", "kW", digits=3),
            number_column("Energy read", "kWh", digits=3),
            number_column("Baseline", "kW", digits=3),
            number_column("Level", "kW", digits=3),
            number_column("Reduction", "kW", digits=3),
            number_column("Read", "%", digits=1),
            number_column("Of that estimated", "%", digits=1),
        ),
        rows=tuple(row(one) for one in event.intervals),
        note="Intervals of the clock, in UTC; one belongs to the part that its middle is in.",
    )


def _part(times: EventTimes, middle: float) -> str:
    if middle < times.ramp:
        return "before"
    if middle < times.start:
        return "ramp"
    if middle < times.end:
        return "event"
    return "recovery" if middle < times.recovered else "after"


def _quality(event: EventReport) -> tuple[Block, ...]:
    during = [one for one in event.intervals if _part(event.times, one.start_seconds) == "event"]
    read = sum(one.coverage_ratio for one in during) / len(during) if during else None
    guess = sum(one.estimated_ratio for one in during) / len(during) if during else None
    rows: tuple[tuple[Value, ...], ...] = (
        ("metered, as it was followed (%)", percent(_result(event, "coverage_ratio"))),
        ("metered, in the stored series (%)", percent(read)),
        ("of that put together from what the circuit feeds (%)", percent(guess)),
        ("load before it was measured over (s)", number_of(event.report.get("baseline_seconds"))),
    )
    told = event.report.get("shortfalls_announced")
    said = [row for row in told if isinstance(row, dict)] if isinstance(told, list) else []
    blocks: list[Block] = [_pairs("quality", "How sure the figures are", rows)]
    if said:
        columns = (Column(heading="Told at"), number_column("Missing", "kW", digits=1),
                   Column(heading="From"), Column(heading="Why"))  # fmt: skip
        found = tuple(
            (
                str(row.get("at", "")),
                kilo(number_of(row.get("watts"))),
                str(row.get("from_at", "")),
                str(row.get("reason", "")),
            )
            for row in said
        )
        blocks.append(Table(name="shortfalls", title="What was told ahead", columns=columns, rows=found))
    return tuple(blocks)


def _jobs(event: EventReport) -> Table:
    listed = event.report.get("jobs")
    jobs = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    return Table(
        name="jobs",
        title="Jobs that caps or holds touched, whatever these were for",
        columns=(
            Column(heading="Job"),
            Column(heading="User"),
            number_column("GPUs", digits=0),
            number_column("Lost", "GPU-hours", digits=3),
            number_column("Capped", "s", digits=0),
            number_column("Worst slowdown", "%", digits=1),
            number_column("Held", "s", digits=0),
        ),
        rows=tuple(
            (
                str(row.get("job_id", "")),
                str(row.get("user", "")),
                number_of(row.get("gpu_count")),
                number_of(row.get("lost_gpu_hours")),
                number_of(row.get("capped_seconds")),
                percent(number_of(row.get("worst_slowdown_ratio"))),
                number_of(row.get("held_seconds")),
            )
            for row in jobs
        ),
    )


def _ledger(event: EventReport) -> Table:
    who = () if event.for_utility else (Column(heading="By"),)
    return Table(
        name="ledger",
        title="What the ledger has of the event",
        columns=(
            number_column("Entry", digits=0),
            Column(heading="Time", kind="time"),
            *who,
            Column(heading="Kind"),
            Column(heading="Words"),
            Column(heading="Hash"),
        ),
        rows=tuple(
            (
                line.sequence,
                line.at,
                *(() if event.for_utility else (line.actor,)),
                line.kind,
                line.reason,
                line.stored_hash,
            )
            for line in event.ledger
        ),
    )


def _signatures() -> Table:
    columns = tuple(Column(heading=name) for name in ("For", "Name", "Date", "Signature"))
    rows = (("the site", "", "", ""), ("the utility", "", "", ""))
    note = "Signed with the last hash of the proof and the SHA-256 of the intervals below."
    return Table(name="signatures", title="Signed", columns=columns, rows=rows, note=note)
