"""What is known for the level that jobs serve: the hours of the last weeks, and the running period."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from slurm_power.plan.site_level import Past, Watts

# Columns of an hour: load without levers, what caps could take of it, at what cost, GPUs at work, load
# beside jobs.
LOAD, ROOM, LOST, USED, MONEY, BASE = range(6)
_COLUMNS = 6
KEPT_HOURS = 28 * 24
HOUR_SECONDS = 3600.0
# Ratchets of tariffs look back at the year before.
_KEPT_PERIODS = 24
# An hour of which less was seen says nothing.
_LEAST_SAMPLES = 30


@dataclass(slots=True, kw_only=True)
class PeakBook:
    """Hours, the last of which ended at ``end_seconds`` (epoch), and by charge what the period has come to.

    ``hours``: rows of `_COLUMNS` values, NaN where nothing is known. ``reached_watts``: the highest demand
    interval imported in ``period``, ``earlier_watts`` those of the periods before; ``levels_watts`` and
    ``prices_per_kwh`` as they were found at ``looked_seconds``. ``is_whole``: the period was seen from its
    begin.
    """

    hours: list[list[float]] = field(default_factory=list)
    end_seconds: float = 0.0
    period: str = ""
    is_whole: bool = False
    reached_watts: dict[str, float] = field(default_factory=dict)
    earlier_watts: dict[str, list[float]] = field(default_factory=dict)
    levels_watts: dict[str, float] = field(default_factory=dict)
    prices_per_kwh: dict[str, float] = field(default_factory=dict)
    looked_seconds: float = -math.inf
    _sums: Watts = field(default_factory=lambda: np.zeros(_COLUMNS))
    _samples: int = 0
    _hour: int | None = None

    def begin(self, period: str) -> None:
        """Another billing period begins, of which nothing is paid for yet."""
        self.is_whole = bool(self.period)
        for name, watts in self.reached_watts.items():
            self.earlier_watts[name] = [*self.earlier_watts.get(name, ()), watts][-_KEPT_PERIODS:]
        self.period = period
        self.reached_watts, self.levels_watts, self.prices_per_kwh = {}, {}, {}
        self.looked_seconds = -math.inf

    def sample(self, at_seconds: float, row: Watts) -> bool:
        """Add what is so now; whether an hour is over by that."""
        hour = int(at_seconds // HOUR_SECONDS)
        over = self._hour is not None and hour > self._hour
        if over:
            self._close(HOUR_SECONDS * ((self._hour or 0) + 1))
        if self._hour is None or hour != self._hour:
            # A clock that was set back begins its hour anew.
            self._hour, self._sums, self._samples = hour, np.zeros(_COLUMNS), 0
        self._sums = self._sums + row
        self._samples += 1
        return over

    def _close(self, end_seconds: float) -> None:
        row = [math.nan] * _COLUMNS
        if self._samples >= _LEAST_SAMPLES:
            row = (self._sums / self._samples).tolist()
        missed = 0
        if self.hours:
            missed = round((end_seconds - self.end_seconds) / HOUR_SECONDS) - 1
            if missed < 0:
                return
        gap = [[math.nan] * _COLUMNS] * min(missed, KEPT_HOURS)
        self.hours = [*self.hours, *gap, row][-KEPT_HOURS:]
        self.end_seconds = end_seconds

    @property
    def known_days(self) -> float:
        """How many days of hours are known, gaps left out."""
        return sum(not math.isnan(row[LOAD]) for row in self.hours) / 24.0

    def table(self) -> Watts:
        """The hours as an array, shape (hours, columns)."""
        return np.array(self.hours, dtype=np.float64).reshape(-1, _COLUMNS)

    def past(self) -> Past:
        """The hours as the level's rule wants them; an unknown one counts for nothing."""
        rows = self.table()
        known = np.where(np.isnan(rows), 0.0, rows)
        return Past(
            load_watts=rows[:, LOAD],
            cap_room_watts=known[:, ROOM],
            lost_gpus=known[:, LOST],
            used_gpus=known[:, USED],
            lost_money=known[:, MONEY],
            step_hours=1.0,
        )

    def to_json(self) -> dict[str, Any]:
        """Give what ``from_json`` takes."""
        return {
            "hours": [
                [None if math.isnan(value) else round(value, 1) for value in row] for row in self.hours
            ],
            "end_seconds": self.end_seconds,
            "period": self.period,
            "is_whole": self.is_whole,
            "reached_watts": dict(self.reached_watts),
            "earlier_watts": {name: list(peaks) for name, peaks in self.earlier_watts.items()},
            "levels_watts": dict(self.levels_watts),
            "prices_per_kwh": dict(self.prices_per_kwh),
            "looked_seconds": None if math.isinf(self.looked_seconds) else self.looked_seconds,
        }

    @classmethod
    def from_json(cls, value: object) -> "PeakBook":
        """Go on with what was kept; what is no book is an empty one."""
        if not isinstance(value, dict):
            return cls()
        try:
            hours = [
                [math.nan if one is None else float(one) for one in row]
                for row in value["hours"]
                if len(row) == _COLUMNS
            ]
            looked = value["looked_seconds"]
            return cls(
                hours=hours[-KEPT_HOURS:],
                end_seconds=float(value["end_seconds"]),
                period=str(value["period"]),
                is_whole=bool(value["is_whole"]),
                reached_watts=_numbers(value["reached_watts"]),
                earlier_watts={
                    str(name): [float(watts) for watts in peaks]
                    for name, peaks in value["earlier_watts"].items()
                },
                levels_watts=_numbers(value["levels_watts"]),
                prices_per_kwh=_numbers(value["prices_per_kwh"]),
                looked_seconds=-math.inf if looked is None else float(looked),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return cls()


def _numbers(value: Any) -> dict[str, float]:
    return {str(name): float(watts) for name, watts in value.items()}
