"""Who lost what in a span: job records, cut at the span's ends by what the ledger has of their levers."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from slurm_power.model.job import Flex
from slurm_power.model.ledger import LedgerEntry
from slurm_power.report.energy.energy_jobs import JobPages, Run, every_record, moment_of, number_of, run_of
from slurm_power.report.fairness.fairness import EventLoss, JobLoss, event_losses

# Slowdowns are compared with promises: they may meet exactly.
_EXACT = 1e-4
# What the least flexible class allows that allows anything: caps below it break no promise of money.
_LEAST_PROMISE = 0.1
_APPEAL, _ANSWERED = "appeal", "appeal answered"
_LEVERS = {"cap": "cap", "uncap": "cap", "own cap": "cap", "hold": "hold", "release": "hold",
           "pause": "pause", "resume": "pause"}  # fmt: skip
_BEGIN = frozenset({"cap", "hold", "pause"})

Record = Mapping[str, object]


class FairStore(JobPages, Protocol):
    """Records, ledger and small values."""

    def rows(
        self, after_sequence: int = 0, *, since: datetime | None = None, job_id: str | None = None
    ) -> Iterator[tuple[int, LedgerEntry, str]]:
        """Ledger rows as (sequence, entry, stored hash), oldest first."""
        ...

    def state(self, key: str, default: object = None) -> object:
        """What was remembered under a key."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AppealNote:
    """An appeal that was filed in the span; ``answer`` is empty while there is none."""

    appeal_id: str
    at: datetime
    job_id: str
    user: str
    text: str
    answer: str = ""
    answered_by: str = ""
    answered_at: datetime | None = None


@dataclass(slots=True)
class LedgerSpan:
    """What the ledger has of a span: appeals, and caps beyond a class' promise by job."""

    appeals: list[AppealNote] = field(default_factory=list)
    hard_caps: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


def read_ledger(store: FairStore, since: datetime, until: datetime) -> LedgerSpan:
    """Walk the ledger once from ``since`` on; answers count however late they came."""
    found = LedgerSpan()
    filed: dict[str, int] = {}
    for sequence, entry, _ in store.rows(since=since):
        details = entry.details
        if entry.kind == _ANSWERED:
            place = filed.get(str(details.get("appeal_id")))
            if place is not None:
                found.appeals[place] = _answered(found.appeals[place], entry)
        if entry.at >= until:
            continue
        if entry.kind == _APPEAL:
            appeal_id = str(details.get("appeal_id") or sequence)
            filed[appeal_id] = len(found.appeals)
            found.appeals.append(
                AppealNote(
                    appeal_id=appeal_id,
                    at=entry.at,
                    job_id=entry.job_id or "",
                    user=entry.user or "",
                    text=str(details.get("text") or entry.reason),
                )
            )
        slowdown = number_of(details.get("slowdown_ratio")) or 0.0
        hard = slowdown > _LEAST_PROMISE + _EXACT or details.get("limit_kind") == "safety"
        if entry.kind == "cap" and entry.job_id and hard:
            found.hard_caps.setdefault(entry.job_id, []).append((sequence, slowdown))
    return found


def _answered(note: AppealNote, entry: LedgerEntry) -> AppealNote:
    return AppealNote(
        appeal_id=note.appeal_id,
        at=note.at,
        job_id=note.job_id,
        user=note.user,
        text=note.text,
        answer=str(entry.details.get("text") or entry.reason),
        answered_by=entry.actor,
        answered_at=entry.at,
    )


def job_losses(
    store: FairStore, ledger: LedgerSpan, since: datetime, until: datetime, *, now: datetime
) -> Iterator[JobLoss]:
    """What each job that ran or was held in [since, until) had and lost in it."""
    for record in every_record(store):
        found = _loss(store, record, ledger, (since.timestamp(), until.timestamp()), now.timestamp())
        if found is not None:
            yield found


def _loss(
    store: FairStore, record: Record, ledger: LedgerSpan, span: tuple[float, float], now_seconds: float
) -> JobLoss | None:
    run = run_of(record, now_seconds)
    submitted = moment_of(record.get("submitted"))
    first = submitted if submitted is not None else None if run is None else run.start_seconds
    last = _last_seconds(record, run, first, now_seconds)
    if first is None or last < span[0] or first >= span[1]:
        return None
    job_id = str(record.get("job_id"))
    amounts = {
        "cap": number_of(record.get("slowdown_seconds")) or 0.0,
        "pause": number_of(record.get("paused_seconds")) or 0.0,
        "hold": number_of(record.get("held_seconds")) or 0.0,
    }
    shares, method = dict.fromkeys(amounts, 1.0), ""
    if (first < span[0] or last > span[1]) and any(amounts.values()):
        shares, method = _shares(_stood(store.rows(job_id=job_id), run, last), (first, last), span)
    in_run = 0.0 if run is None else run.within(*span)
    gpus = int(number_of(record.get("gpu_count")) or 0)
    flex = str(record.get("flex", ""))
    breaches = _breaches(ledger.hard_caps.get(job_id, ()), flex)
    breached_seconds = number_of(record.get("breached_seconds")) or 0.0
    starts_in = run is not None and submitted is not None and span[0] <= run.start_seconds < span[1]
    given = sum(number_of(record.get(key)) or 0.0 for key in ("saved_watt_seconds", "delayed_watt_seconds"))
    return JobLoss(
        job_id=job_id,
        user=str(record.get("user", "")),
        account=str(record.get("account", "")),
        flex=flex,
        gpu_count=gpus,
        ran_seconds=in_run,
        slowed_seconds=amounts["cap"] * shares["cap"],
        capped_seconds=(number_of(record.get("capped_seconds")) or 0.0) * shares["cap"],
        paused_seconds=amounts["pause"] * shares["pause"],
        held_seconds=amounts["hold"] * shares["hold"],
        waited_seconds=run.start_seconds - submitted if starts_in and run and submitted is not None else None,
        given_joules=given * max(shares.values()) if method else given,
        breached_seconds=breached_seconds if breaches or not method else 0.0,
        breaches=breaches if breached_seconds > 0.0 else (),
        method=method,
    )


def _last_seconds(record: Record, run: Run | None, first: float | None, now_seconds: float) -> float:
    """When a job was over, as far as is known; one that was cancelled before it ran was held at least."""
    if run is not None:
        return run.end_seconds
    if record.get("state") != "ended":
        return now_seconds
    return moment_of(record.get("ended")) or (first or 0.0) + (number_of(record.get("held_seconds")) or 0.0)


def _breaches(caps: Iterable[tuple[int, float]], flex: str) -> tuple[int, ...]:
    """Entries of caps that took more than the class allows."""
    try:
        most = Flex(flex).max_slowdown_ratio
    except ValueError:
        return ()
    return tuple(sequence for sequence, slowdown in caps if slowdown > most + _EXACT)


def _shares(
    stood: Iterable[tuple[str, float, float, float]], life: tuple[float, float], span: tuple[float, float]
) -> tuple[dict[str, float], str]:
    """Which part of its losses lies in the span, by the ledger's lever entries; else by time."""
    whole, inside = dict.fromkeys(("cap", "hold", "pause"), 0.0), dict.fromkeys(("cap", "hold", "pause"), 0.0)
    for lever, start, end, weight in stood:
        whole[lever] += weight * (end - start)
        inside[lever] += weight * max(0.0, min(end, span[1]) - max(start, span[0]))
    first, last = life
    by_time = (min(last, span[1]) - max(first, span[0])) / (last - first) if last > first else 1.0
    shares = {lever: inside[lever] / whole[lever] if whole[lever] > 0.0 else by_time for lever in whole}
    method = "cut by the ledger" if any(whole.values()) else "cut evenly in time"
    return shares, method


def _stood(
    rows: Iterable[tuple[int, LedgerEntry, str]], run: Run | None, last_seconds: float
) -> Iterator[tuple[str, float, float, float]]:
    """(lever, from, until, weight) of what stood on a job; a hold ends with the job's start at the latest."""
    open_: dict[str, tuple[float, float]] = {}
    ends = {"cap": last_seconds, "pause": last_seconds, "hold": last_seconds}
    if run is not None:
        ends["hold"] = run.start_seconds
    for _, entry, _ in rows:
        lever = _LEVERS.get(entry.kind)
        if lever is None:
            continue
        at = entry.at.timestamp()
        if lever in open_:
            since, weight = open_.pop(lever)
            yield lever, since, max(since, min(at, ends[lever])), weight
        if entry.kind in _BEGIN:
            slowdown = number_of(entry.details.get("slowdown_ratio")) if lever == "cap" else 1.0
            open_[lever] = (at, slowdown or 0.0)
    for lever, (since, weight) in open_.items():
        yield lever, since, max(since, ends[lever]), weight


def read_events(store: FairStore, since: datetime, until: datetime) -> list[EventLoss]:
    """What users lost in the grid events that began in the span and are over."""
    past = store.state("events_past", [])
    found: list[EventLoss] = []
    for row in past if isinstance(past, list) else []:
        begun = moment_of(row.get("starts_at")) if isinstance(row, dict) else None
        if begun is None or not since.timestamp() <= begun < until.timestamp():
            continue
        event_id = str(row.get("event_id"))
        report = store.state(f"event_report.{event_id}")
        jobs = report.get("jobs", []) if isinstance(report, dict) else []
        found += event_losses(event_id, [job for job in jobs if isinstance(job, dict)])
    return found
