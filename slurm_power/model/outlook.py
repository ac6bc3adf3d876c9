"""What the slow planner of the batteries hands to the fast guard: a level to hold, and what may be traded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EssOutlook:
    """How the batteries behind the grid connection are to be used for money; all watts are at it.

    ``level_watts``: what its import is held to in this billing period, None where no peak is paid for now.
    ``natural_most_watts``: the most that the site drew by itself lately; recharging never draws more.
    ``reserve_ratio``: which share of a battery between its outage reserve and its target charge is kept for
    the level and not sold. ``trade_watts``: what trading wants of all batteries together now (positive
    sells); None: nothing is traded, so they charge when there is room. ``saleable_kwh``: what a battery may
    still sell today by its budget of cycles, at its terminals; without one it is not named.
    ``period`` names the billing period, the reasons are in a user's words. It counts for ``valid_seconds``
    after ``made_at``.
    """

    made_at: datetime
    valid_seconds: float
    period: str
    level_watts: float | None = None
    natural_most_watts: float | None = None
    reserve_ratio: float = 0.0
    trade_watts: float | None = None
    saleable_kwh: Mapping[str, float] = field(default_factory=dict)
    level_reason: str = ""
    trade_reason: str = ""

    def counts_at(self, at: datetime) -> bool:
        """Whether it may still be followed; a clock that was set back ends it as well."""
        return abs((at - self.made_at).total_seconds()) <= self.valid_seconds

    @property
    def charge_top_watts(self) -> float:
        """The most that the grid connection may import while a battery charges; inf where nobody says."""
        known = [watts for watts in (self.level_watts, self.natural_most_watts) if watts is not None]
        return min(known, default=float("inf"))
