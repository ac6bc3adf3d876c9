"""Ledger entries: who was touched, why, and what it was worth; chained by hash so that none can vanish."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

GENESIS_HASH = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One decision or event.

    ``actor`` is who acted (``guard``, ``planner``, ``powerd.c1``, ``operator:root``), ``kind`` a short word
    (``cap``, ``uncap``, ``hold``, ``release``, ``discharge``, ``event``, ``drift``, ``restore``, ...),
    ``subject`` what was acted upon (``job:17``, ``ess:battery``, ``circuit:grid``, ``gpu:GPU-...``).
    """

    at: datetime
    actor: str
    kind: str
    subject: str
    reason: str
    job_id: str | None = None
    user: str | None = None
    saved_watts: float | None = None
    details: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Bring into the form that every store gives back: else the chain would not hold there.

        Halves of surrogate pairs, which bytes that were no text leave, are replaced. No number is None, and
        minus zero is zero.
        """
        if self.saved_watts is not None:
            watts = float(self.saved_watts)
            object.__setattr__(self, "saved_watts", None if math.isnan(watts) else watts + 0.0)
        for name in ("actor", "kind", "subject", "reason", "job_id", "user"):
            text = getattr(self, name)
            if text is not None and not text.isascii():
                object.__setattr__(
                    self, name, text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
                )

    def canonical(self) -> str:
        """The one text form that is hashed: sorted keys, no spaces, UTC ISO time."""
        return json.dumps(
            {
                "at": self.at.isoformat(),
                "actor": self.actor,
                "kind": self.kind,
                "subject": self.subject,
                "reason": self.reason,
                "job_id": self.job_id,
                "user": self.user,
                "saved_watts": self.saved_watts,
                "details": dict(self.details),
            },
            sort_keys=True,
            separators=(",", ":"),
        )


def chained_hash(previous_hash: str, entry: LedgerEntry) -> str:
    """SHA-256 over the previous entry's hash and this entry's canonical text."""
    return hashlib.sha256(f"{previous_hash}\n{entry.canonical()}".encode()).hexdigest()
