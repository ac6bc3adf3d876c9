"""What a year's ledger says to an auditor: changes of policy, operators' deeds, limits exceeded, appeals.

Every table here is made from ledger entries alone, so that whoever has the entries can make it again.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from slurm_power.model.appeal import APPEAL, APPEAL_ANSWERED
from slurm_power.model.ledger import GENESIS_HASH, LedgerEntry, chained_hash
from slurm_power.model.series import Point
from slurm_power.report.frame.document import Column, Table, Value, number_column

Row = tuple[int, LedgerEntry, str]
_POLICY = frozenset({"policy recorded", "policy changed", "policy signed"})
# Who is named so has decided it; a user's word to a job of their own (``user:``) is no deed on the site.
_OPERATORS = ("operator:", "signal:")
_SHORT, _SHORT_OVER = "shortfall", "shortfall over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Year:
    """A year by UTC, half open."""

    number: int

    @property
    def start(self) -> datetime:
        """Its first moment."""
        return datetime(self.number, 1, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment after it."""
        return datetime(self.number + 1, 1, 1, tzinfo=UTC)

    def has(self, at: datetime) -> bool:
        """Whether a moment lies in it."""
        return self.start <= at < self.end


@dataclass(slots=True, kw_only=True)
class Part:
    """A part of the chain: how many entries, and number and hash of its first and its last."""

    entries: int = 0
    first_sequence: int | None = None
    last_sequence: int | None = None
    first_hash: str | None = None
    last_hash: str | None = None

    def add(self, sequence: int, stored_hash: str) -> None:
        """Take one more entry."""
        if not self.entries:
            self.first_sequence, self.first_hash = sequence, stored_hash
        self.entries += 1
        self.last_sequence, self.last_hash = sequence, stored_hash

    def row(self) -> dict[str, Any]:
        """It as plain values."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True, kw_only=True)
class YearChain:
    """The chain before a year, within and after it. ``broken_at`` is the first entry that is not in order."""

    year: Year
    before: Part = field(default_factory=Part)
    within: Part = field(default_factory=Part)
    after: Part = field(default_factory=Part)
    broken_at: int | None = None
    first_at: datetime | None = None
    last_at: datetime | None = None

    @property
    def hash_before(self) -> str:
        """The hash that the year's first entry is chained to."""
        return self.before.last_hash or GENESIS_HASH


def year_chain(rows: Iterable[Row], year: Year) -> YearChain:
    """Walk the whole ledger once. The year is one piece of it, from its first entry to its last.

    A clock that was set back puts entries of another year between those; they belong to the piece.
    """
    found = YearChain(year=year)
    last_hash, last_sequence = GENESIS_HASH, 0
    try:
        for sequence, entry, stored_hash in rows:
            right = sequence == last_sequence + 1 and chained_hash(last_hash, entry) == stored_hash
            if not right and found.broken_at is None:
                found.broken_at = last_sequence + 1
            last_hash, last_sequence = stored_hash, sequence
            found.first_at = found.first_at or entry.at
            found.last_at = entry.at
            if year.has(entry.at):
                if found.after.entries:
                    _join(found)
                found.within.add(sequence, stored_hash)
            elif found.within.entries:
                found.after.add(sequence, stored_hash)
            else:
                found.before.add(sequence, stored_hash)
    except ValueError:
        # An entry that cannot be read as one: what is behind it cannot be reached.
        if found.broken_at is None:
            found.broken_at = last_sequence + 1
    return found


def _join(found: YearChain) -> None:
    """What seemed to come after the year lies within it."""
    found.within.entries += found.after.entries
    found.within.last_sequence, found.within.last_hash = found.after.last_sequence, found.after.last_hash
    found.after = Part()


def ledger_line(row: Row) -> str:
    """One entry as a line of ``ledger.jsonl``; ``canonical`` is the text that was hashed, to the letter."""
    sequence, entry, stored_hash = row
    line = {"sequence": sequence, "hash": stored_hash, "canonical": entry.canonical()}
    return json.dumps(line, separators=(",", ":")) + "\n"


def entry_of(canonical: str) -> LedgerEntry:
    """The entry that a canonical text is of; raises ValueError for anything else."""
    try:
        fields = json.loads(canonical)
        entry = LedgerEntry(**{**fields, "at": datetime.fromisoformat(fields["at"])})
        text = entry.canonical()
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"no ledger entry: {error}") from None
    if text != canonical:
        raise ValueError("no ledger entry in its canonical form")
    return entry


def ledger_table(rows: Iterable[Row]) -> Table:
    """Entries as a table."""
    return Table(
        name="ledger",
        title="Ledger",
        columns=(
            *_columns("sequence", "at", "actor", "kind", "subject", "reason", "job_id", "user"),
            number_column("saved", "W"),
            *_columns("details", "hash"),
        ),
        rows=tuple(
            (
                sequence,
                entry.at,
                entry.actor,
                entry.kind,
                entry.subject,
                entry.reason,
                entry.job_id,
                entry.user,
                entry.saved_watts,
                json.dumps(dict(entry.details), sort_keys=True),
                stored_hash,
            )
            for sequence, entry, stored_hash in rows
        ),
    )


def _columns(*headings: str) -> tuple[Column, ...]:
    kinds = {"sequence": "number", "at": "time"}
    return tuple(Column(heading=one, kind=kinds.get(one, "text")) for one in headings)  # type: ignore[arg-type]  # words of Column's own


class Findings:
    """Collects the tables while entries pass by, oldest first."""

    def __init__(self) -> None:
        self._policy: list[tuple[Value, ...]] = []
        self._deeds: list[tuple[Value, ...]] = []
        self._limits: list[list[Value]] = []
        self._short: dict[str, list[Value]] = {}
        self._appeals: dict[str, list[Value]] = {}
        self.unsigned: set[str] = set()
        self.open_appeals = 0

    def add(self, row: Row) -> None:
        """Take one entry."""
        sequence, entry, _ = row
        if entry.kind in _POLICY:
            self._policy += self._policy_rows(sequence, entry)
        if entry.actor.startswith(_OPERATORS):
            details = json.dumps(dict(entry.details), sort_keys=True)
            self._deeds.append(
                (sequence, entry.at, entry.actor, entry.kind, entry.subject, entry.reason, details)
            )
        if entry.kind in (_SHORT, _SHORT_OVER):
            self._limit(sequence, entry)
        if entry.kind in (APPEAL, APPEAL_ANSWERED):
            self._appeal(sequence, entry)

    def _policy_rows(self, sequence: int, entry: LedgerEntry) -> Iterator[tuple[Value, ...]]:
        details = entry.details
        signed = details.get("signed")
        mark = str(details.get("fingerprint") or "")
        if entry.kind == "policy changed" and signed is False:
            self.unsigned.add(mark)
        if entry.kind == "policy signed":
            marks = details.get("fingerprints")
            self.unsigned -= {str(one) for one in marks} if isinstance(marks, list) else set()
        head = (sequence, entry.at, entry.actor, entry.kind)
        tail = ("" if signed is None else bool(signed), entry.reason, mark)
        changes = details.get("changes")
        if not isinstance(changes, dict) or not changes:
            yield (*head, "", "", "", *tail)
            return
        for key, change in changes.items():
            old, new = (change.get("old"), change.get("new")) if isinstance(change, dict) else (None, None)
            yield (*head, str(key), _word(old), _word(new), *tail)

    def _limit(self, sequence: int, entry: LedgerEntry) -> None:
        circuit = entry.subject.removeprefix("circuit:")
        begun = self._short.pop(circuit, None)
        if entry.kind == _SHORT:
            row: list[Value] = [circuit, sequence, entry.at, None, None, entry.reason]
            self._limits.append(row)
            self._short[circuit] = row
        elif begun is not None:
            since = begun[2]
            begun[3] = entry.at
            begun[4] = (entry.at - since).total_seconds() if isinstance(since, datetime) else None
        else:
            self._limits.append([circuit, sequence, None, entry.at, None, "it began before"])

    def _appeal(self, sequence: int, entry: LedgerEntry) -> None:
        appeal_id = str(entry.details.get("appeal_id") or f"entry {sequence}")
        if entry.kind == APPEAL:
            self._appeals[appeal_id] = [
                appeal_id,
                entry.job_id,
                entry.user,
                entry.at,
                entry.reason,
                *[None] * 4,
            ]
            return
        # One from before the year has its own words in that year's export.
        row = self._appeals.setdefault(appeal_id, [appeal_id, entry.job_id, entry.user, *[None] * 6])
        row[5:] = [entry.at, entry.actor, entry.reason, _number(entry.details.get("waited_seconds"))]

    def tables(self) -> tuple[Table, ...]:
        """All tables, in the order in which they are read."""
        self.open_appeals = sum(row[5] is None for row in self._appeals.values())
        policy = ("sequence", "at", "actor", "kind", "key", "old", "new", "signed", "reason", "fingerprint")
        deeds = ("sequence", "at", "actor", "kind", "subject", "reason", "details")
        return (
            Table(
                name="policy-changes",
                title="Changes of the policy",
                columns=_columns(*policy),
                rows=tuple(self._policy),
            ),
            Table(
                name="deeds",
                title="Deeds of operators and signals",
                columns=_columns(*deeds),
                rows=tuple(self._deeds),
            ),
            Table(
                name="limits-exceeded",
                title="Limits that could not be held",
                columns=(
                    *_columns("circuit", "sequence"),
                    Column(heading="since", kind="time"),
                    Column(heading="until", kind="time"),
                    number_column("length", "s", digits=0),
                    Column(heading="reason"),
                ),
                rows=tuple(tuple(row) for row in self._limits),
                note="As the guard wrote them down: more was drawn than all levers together could hold.",
            ),
            Table(
                name="appeals",
                title="Appeals and answers",
                columns=(
                    *_columns("appeal", "job_id", "user", "at", "text"),
                    Column(heading="answered", kind="time"),
                    *_columns("answered_by", "answer"),
                    number_column("waited", "s", digits=0),
                ),
                rows=tuple(tuple(row) for row in self._appeals.values()),
            ),
        )


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def measured_excesses(circuits: Mapping[str, tuple[Sequence[Point], Sequence[Point]]]) -> Table:
    """Quarter hours whose mean draw was above the mean limit; draws and limits by circuit, on one grid."""
    rows: list[tuple[Value, ...]] = []
    for name, (draws, limits) in sorted(circuits.items()):
        limit_at = {point.at_seconds: point.mean for point in limits}
        for point in draws:
            limit_watts = limit_at.get(point.at_seconds)
            if point.mean is not None and limit_watts is not None and point.mean > limit_watts:
                at = datetime.fromtimestamp(point.at_seconds, UTC)
                rows.append((name, at, point.mean, limit_watts, point.most, point.coverage_ratio))
    return Table(
        name="limits-measured",
        title="Quarter hours above their limit, by the meters",
        columns=(
            Column(heading="circuit"),
            Column(heading="from", kind="time"),
            number_column("mean", "W", digits=0),
            number_column("limit", "W", digits=0),
            number_column("highest", "W", digits=0),
            number_column("covered", digits=2),
        ),
        rows=tuple(rows),
        note="From the stored series, which no hash chains. The limit is the mean of that quarter hour.",
    )
