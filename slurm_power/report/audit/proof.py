"""Whether a ledger is whole, in a form that can be printed now and held against the ledger later."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from slurm_power.model.ledger import GENESIS_HASH, LedgerEntry, chained_hash
from slurm_power.report.frame.document_parts import Check, Document


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainProof:
    """What a walk along the whole chain found.

    ``entries`` are those in order, from the first to the one before ``broken_at_sequence``, which is the
    first that was altered, removed or inserted; None for a whole chain. ``last_hash`` is that of the last
    one in order. ``known_hash`` was printed earlier: ``known_at_sequence`` is where it stands now, None
    where it does not, so that the end was cut off or all was written anew.
    """

    entries: int
    first_at: datetime | None
    last_at: datetime | None
    first_hash: str
    last_hash: str
    broken_at_sequence: int | None
    known_hash: str | None = None
    known_at_sequence: int | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing speaks against it."""
        return self.broken_at_sequence is None and (
            self.known_hash is None or self.known_at_sequence is not None
        )

    @property
    def check(self) -> Check:
        """The verdict, as each document has it above its figures."""
        return Check(
            good=self.whole,
            yes="The ledger is whole",
            no="The ledger is not whole",
            detail=f"{self.entries:,} entries in order",
        )

    @property
    def lines(self) -> tuple[str, ...]:
        """The proof in words, with how to check it."""
        return tuple(self._lines())

    def _lines(self) -> Iterator[str]:
        if self.broken_at_sequence is not None:
            yield (
                f"The ledger is NOT whole: entry {self.broken_at_sequence} was altered, removed or inserted."
                f" The {self.entries} entries before it are in order."
            )
        elif self.entries:
            yield f"The ledger is whole: {self.entries} entries, each follows from the one before by SHA-256."
        else:
            yield "The ledger has no entry."
        if self.first_at is not None and self.last_at is not None:
            yield f"First entry {self.first_at.isoformat()}, hash {self.first_hash}"
            yield f"Last entry {self.last_at.isoformat()}, hash {self.last_hash}"
        if self.known_hash is not None:
            yield (
                f"The hash {self.known_hash} is NOT in it: the ledger was cut off or written anew since."
                if self.known_at_sequence is None
                else f"The hash {self.known_hash} is that of entry {self.known_at_sequence}: none before it"
                " was changed since it was noted."
            )
        yield (
            "To check: slurm-power report proof --state DIR --since-hash HASH, with the last hash above."
            " Keep this page where the controller cannot write: the hash is what shows a ledger cut off at"
            " its end, or written anew."
        )


def proof_document(found: ChainProof, *, made_at: datetime) -> Document:
    """The proof as a page of its own, to be kept where the controller cannot write."""
    return Document(
        title="Proof of the ledger",
        labels={"Made": f"{made_at:%Y-%m-%d %H:%M:%S} UTC"},
        checks=(found.check,),
        proof=found.lines,
    )


def chain_proof(rows: Iterable[tuple[int, LedgerEntry, str]], known_hash: str | None = None) -> ChainProof:
    """Walk all rows (sequence, entry, stored hash), oldest first; holds one at a time.

    A row that can no longer be read as an entry counts as altered. ``known_hash`` is a last hash of
    earlier.
    """
    first_at = last_at = None
    first_hash = last_hash = GENESIS_HASH
    entries, known_at, broken = 0, None, None
    if known_hash == GENESIS_HASH:
        known_at = 0
    try:
        for sequence, entry, stored_hash in rows:
            if sequence != entries + 1 or chained_hash(last_hash, entry) != stored_hash:
                broken = entries + 1
                break
            entries, last_at, last_hash = sequence, entry.at, stored_hash
            if entries == 1:
                first_at, first_hash = entry.at, stored_hash
            if stored_hash == known_hash:
                known_at = sequence
    except ValueError:
        broken = entries + 1
    return ChainProof(
        entries=entries,
        first_at=first_at,
        last_at=last_at,
        first_hash=first_hash,
        last_hash=last_hash,
        broken_at_sequence=broken,
        known_hash=known_hash,
        known_at_sequence=known_at,
    )
