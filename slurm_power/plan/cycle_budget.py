"""How much of a battery's life may be spent on trading: full cycles a day and a year, paced over the year.

A full cycle is the energy that the battery was built for, discharged once. Every discharge counts as used,
whatever it was for; only trading stops when nothing is left. Limits and levels may always use the battery.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleRules:
    """Full cycles that may be used up; None: as many as pay."""

    per_day: float | None = None
    per_year: float | None = None

    @property
    def is_none(self) -> bool:
        """Whether nothing is bounded."""
        return self.per_day is None and self.per_year is None


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeBudget:
    """kWh, as stored, that trading may still take: today, tomorrow, and on both days together.

    ``steps_today``: so many steps of the planning grid, the present one counted, begin today.
    """

    today_kwh: float
    tomorrow_kwh: float
    both_kwh: float
    steps_today: int

    def plus(self, other: "TradeBudget") -> "TradeBudget":
        """Of two batteries together."""
        return TradeBudget(
            today_kwh=self.today_kwh + other.today_kwh,
            tomorrow_kwh=self.tomorrow_kwh + other.tomorrow_kwh,
            both_kwh=self.both_kwh + other.both_kwh,
            steps_today=self.steps_today,
        )

    def bounds(self, steps: int) -> list[tuple[NDArray[np.bool_], float]]:
        """What a plan of so many steps has to keep to: (its steps, kWh); those without a bound left out."""
        at = np.arange(steps)
        parts = (
            (at < self.steps_today, self.today_kwh),
            (at >= self.steps_today, self.tomorrow_kwh),
            (at >= 0, self.both_kwh),
        )
        return [(counts, kwh) for counts, kwh in parts if math.isfinite(kwh) and counts.any()]


@dataclass(slots=True, kw_only=True)
class CycleBook:
    """What one battery has used up, in kWh as stored, on ``day`` and in its calendar year.

    The year's budget accrues day by day from ``since`` on: the first of January, or the first day counted.
    So a site that begins in December has a month's share, and what nobody used stays for later days.
    """

    day: date | None = None
    since: date | None = None
    day_kwh: float = 0.0
    year_kwh: float = 0.0

    def used(self, on: date, kwh: float) -> None:
        """Count what was taken out of the store; a clock that was set back counts to the day before it."""
        self._turn(on)
        self.day_kwh += kwh
        self.year_kwh += kwh

    def ahead(self, on: date, rules: CycleRules, full_kwh: float, steps_today: int) -> TradeBudget:
        """What trading may still take, of a battery built for ``full_kwh``."""
        self._turn(on)
        a_day = math.inf if rules.per_day is None else rules.per_day * full_kwh
        today, tomorrow = a_day - self.day_kwh, a_day
        both = math.inf
        if rules.per_year is not None:
            share_kwh = rules.per_year * full_kwh / _days_of_year(self._at(on).year)
            accrued_kwh = share_kwh * ((self._at(on) - self._since(on)).days + 1)
            today = min(today, accrued_kwh - self.year_kwh)
            both = accrued_kwh + share_kwh - self.year_kwh
        return TradeBudget(
            today_kwh=max(0.0, today),
            tomorrow_kwh=max(0.0, min(tomorrow, both)),
            both_kwh=max(0.0, both),
            steps_today=steps_today,
        )

    def _turn(self, on: date) -> None:
        if self.day is None or self.since is None:
            self.day = self.since = on
        elif on > self.day:
            if on.year != self.day.year:
                self.year_kwh, self.since = 0.0, date(on.year, 1, 1)
            self.day, self.day_kwh = on, 0.0

    def _at(self, on: date) -> date:
        return on if self.day is None else self.day

    def _since(self, on: date) -> date:
        return on if self.since is None else self.since

    def to_json(self) -> dict[str, Any]:
        """Give what ``from_json`` takes."""
        return {
            "day": None if self.day is None else self.day.isoformat(),
            "since": None if self.since is None else self.since.isoformat(),
            "day_kwh": self.day_kwh,
            "year_kwh": self.year_kwh,
        }

    @classmethod
    def from_json(cls, value: object) -> "CycleBook":
        """Go on with what was kept; what is no book is an empty one."""
        if not isinstance(value, Mapping):
            return cls()
        try:
            found = cls(
                day=date.fromisoformat(value["day"]),
                since=date.fromisoformat(value["since"]),
                day_kwh=float(value["day_kwh"]),
                year_kwh=float(value["year_kwh"]),
            )
        except (KeyError, TypeError, ValueError):
            return cls()
        is_sound = math.isfinite(found.day_kwh) and math.isfinite(found.year_kwh)
        return found if is_sound and found.day_kwh >= 0.0 and found.year_kwh >= 0.0 else cls()


def _days_of_year(year: int) -> int:
    return (date(year, 12, 31) - date(year, 1, 1) + timedelta(days=1)).days
