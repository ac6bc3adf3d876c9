"""Appeals: what a user says against what was done to a job, and an operator's answer; both in the ledger."""

from dataclasses import dataclass
from datetime import datetime

# Kinds of ledger entries; their details have ``appeal_id`` and ``text``.
APPEAL, APPEAL_ANSWERED = "appeal", "appeal answered"
MOST_TEXT = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Appeal:
    """One appeal. ``answer`` is empty as long as nobody has answered it."""

    appeal_id: str
    job_id: str
    user: str
    at: datetime
    text: str
    answer: str = ""
    answered_by: str = ""
    answered_at: datetime | None = None

    @property
    def open(self) -> bool:
        """Whether it waits for an answer."""
        return self.answered_at is None
