"""What caps and holds do for the peak of a billing period: a level with a price, beside all limits."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsLevel:
    """A level that flexible jobs help the batteries to hold; all watts are at the grid connection.

    ``level_watts``: what its load is held to, batteries left out of account. A cap that costs more than
    ``most_price_per_kwh`` is not worth it (None: nobody knows what a peak costs), and none for the level goes
    below ``cap_floor_ratio`` of a board. A job is held while its start would take more than
    ``hold_room_ratio`` of what caps can shed. It counts for ``valid_seconds`` after ``made_at``. ``period``
    names the billing period, ``reason`` is in a user's words.
    """

    made_at: datetime
    valid_seconds: float
    period: str
    level_watts: float
    most_price_per_kwh: float | None = None
    cap_floor_ratio: float = 0.6
    hold_room_ratio: float = 1.5
    reason: str = ""

    def counts_at(self, at: datetime) -> bool:
        """Whether it may still be followed; a clock that was set back ends it as well."""
        return abs((at - self.made_at).total_seconds()) <= self.valid_seconds
