"""What a grid operator asks for, in the site's own terms, whatever protocol it came by."""

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from slurm_power.model.site import Circuit

LONGEST_AHEAD = timedelta(days=366)
MOST_WINDOWS = 100
"""So many windows of one signal are followed, the nearest first."""
_PLAIN_ID = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What the import must not exceed: watts, or a cut of the load before; just one of the three."""

    limit_watts: float | None = None
    cut_ratio: float | None = None
    cut_watts: float | None = None

    def problem(self, circuit: Circuit) -> str:
        """Why this cannot be meant, empty where it can."""
        for value in (self.limit_watts, self.cut_ratio, self.cut_watts):
            if value is not None and not math.isfinite(value):
                return "the level is no number"
        if self.limit_watts is not None and self.limit_watts < 0.0:
            return f"a limit of {self.limit_watts:g} W is negative, and this site does not export"
        if self.limit_watts is not None and self.limit_watts > circuit.rating_watts:
            return (
                f"a limit of {self.limit_watts:g} W is above the rating of {circuit.name},"
                f" {circuit.rating_watts:g} W; is its unit right?"
            )
        if self.cut_ratio is not None and not 0.0 < self.cut_ratio <= 1.0:
            return f"a cut to {1.0 - self.cut_ratio:.0%} of the load is none"
        if self.cut_watts is not None and not 0.0 < self.cut_watts <= circuit.rating_watts:
            return f"a cut of {self.cut_watts:g} W is not between 0 and the rating of {circuit.name}"
        return ""

    def binds(self, circuit: Circuit) -> bool:
        """Whether it asks for anything: a limit no lower than the circuit's own does not."""
        return self.limit_watts is None or self.limit_watts < circuit.ceiling_watts

    def words(self) -> dict[str, float]:
        """The field of powerctld's op ``event``."""
        given = {
            "limit_watts": self.limit_watts,
            "cut_ratio": self.cut_ratio,
            "cut_watts": self.cut_watts,
        }
        return {key: value for key, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A level for a time: one interval of an event. ``priority``: the lower the more important, None least.

    ``until_revoked``: it has no end of its own; ``ends_at`` is then how far it is promised for now.
    ``joined``: the next window of its event follows at once, so that nothing recovers in between.
    """

    event_id: str
    part: str
    version: str
    starts_at: datetime
    ends_at: datetime
    level: Level
    reason: str
    priority: int | None = None
    until_revoked: bool = False
    joined: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A value of a feed from a moment on: money or grams per kWh; None: nothing is known from there on."""

    starts_at: datetime
    ends_at: datetime
    value: float


def plain_id(text: str) -> str:
    """A foreign id as it may stand in ours: itself where it is short and plain, else a digest."""
    if _PLAIN_ID.fullmatch(text):
        return text
    return "x" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def printable(text: object, most: int = 120) -> str:
    """Foreign text as it may stand in a reason: one line, printable, not endless."""
    line = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return line if len(line) <= most else line[: most - 3] + "..."


def external_id(signal: str, window: Window) -> str:
    """The name of a window at powerctld, the same after every restart."""
    return f"{signal}/{plain_id(window.event_id)}/{window.part}"


def timing_problem(starts_at: datetime, ends_at: datetime, now: datetime, longest_hours: float) -> str:
    """Why such a window cannot be meant, empty where it can; one that is over is no problem."""
    if starts_at - now > LONGEST_AHEAD:
        return f"it begins more than {LONGEST_AHEAD.days} days ahead"
    hours = (ends_at - starts_at).total_seconds() / 3600.0
    if hours > longest_hours:
        return f"it lasts {hours:.0f} h, more than longest_event_hours, {longest_hours:g}"
    return ""


def by_priority(windows: Iterable[Window], now: datetime) -> list[Window]:
    """The windows, each without the times in which one of a higher priority holds.

    Windows of equal priority stand beside each other: powerctld keeps to the strictest. Of a window in pieces
    the one that holds or comes next keeps its name: what runs must not be ended and begun anew because a more
    important event comes, or is gone.
    """
    found: list[Window] = []
    taken: list[tuple[int | None, datetime, datetime]] = []
    for window in sorted(windows, key=lambda one: (_rank(one.priority), one.starts_at)):
        spans = [(window.starts_at, window.ends_at)]
        for priority, start, end in taken:
            if _rank(priority) < _rank(window.priority):
                spans = [piece for span in spans for piece in _without(span, start, end)]
        taken.append((window.priority, window.starts_at, window.ends_at))
        whole = spans == [(window.starts_at, window.ends_at)]
        next_one = next((number for number, (_, end) in enumerate(spans) if end > now), 0)
        for number, (start, end) in enumerate(spans):
            part = window.part if number == next_one else f"{window.part}.{number}"
            version = window.version if whole else f"{window.version} {start.isoformat()} {end.isoformat()}"
            joined = window.joined and end == window.ends_at
            found.append(
                replace(window, part=part, version=version, starts_at=start, ends_at=end, joined=joined)
            )
    return sorted(found, key=lambda one: (one.starts_at, one.event_id, one.part))


def _rank(priority: int | None) -> float:
    return math.inf if priority is None else priority


def _without(
    span: tuple[datetime, datetime], start: datetime, end: datetime
) -> list[tuple[datetime, datetime]]:
    if end <= span[0] or start >= span[1]:
        return [span]
    pieces = ((span[0], min(start, span[1])), (max(end, span[0]), span[1]))
    return [(first, last) for first, last in pieces if first < last]
