"""How a file of ``[supply]`` stands: whether it says something of now, since when, and until when."""

import math
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime

from slurm_power.forecast.supply import HeldValues
from slurm_power.model.tariff import Tariff


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStanding:
    """``known``: something is known of now; ``what`` says until when, or since when no more.

    ``age_seconds``: since when its newest value that is not of the future counts; None: there is none.
    """

    known: bool
    what: str
    age_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a file says, with when its values begin to count and when nothing is known from then on.

    Both rise. They are found once for each content: a standing is asked for in each cycle of the control,
    and a file may have years in it.
    """

    content: HeldValues | Tariff
    known: tuple[float, ...] = ()
    gone: tuple[float, ...] = ()

    @classmethod
    def of(cls, content: HeldValues | Tariff) -> "Course":
        """The course of what was read."""
        if isinstance(content, Tariff):
            return cls(content=content)
        steps = list(zip(content.seconds, content.values, strict=True))
        gone = [at for at, value in steps if value is None and at < content.end_seconds]
        known = tuple(at for at, value in steps if value is not None)
        return cls(content=content, known=known, gone=(*gone, content.end_seconds))


def standing_of(course: Course | None, now_seconds: float) -> FileStanding:
    """The standing of what a file said last, None where it never said anything."""
    if course is None:
        return FileStanding(known=False, what="nothing was ever read of it")
    content, known_seconds, gone_seconds = course.content, course.known, course.gone
    if isinstance(content, Tariff):
        return FileStanding(known=True, what=f"{content.name}: can be read")
    past = bisect_right(known_seconds, now_seconds)
    newest_seconds = known_seconds[past - 1] if past else None
    known = content.value_at(now_seconds) is not None
    if known:
        end_seconds = gone_seconds[bisect_right(gone_seconds, now_seconds)]
        until = _text(end_seconds) if math.isfinite(end_seconds) else "it says otherwise"
        what = f"known until {until}"
    elif newest_seconds is not None:
        since = min(bisect_right(gone_seconds, newest_seconds), len(gone_seconds) - 1)
        what = f"nothing is known since {_text(gone_seconds[since])}"
    else:
        what = f"it begins at {_text(content.seconds[0])}"
    age_seconds = None if newest_seconds is None else now_seconds - newest_seconds
    return FileStanding(known=known, what=what, age_seconds=age_seconds)


def shrunk(before: object, after: object, now_seconds: float) -> list[str]:
    """That a file reaches less far than it did when last read, and what it said then is not over.

    What lasted for want of an end may be given one.
    """
    if not isinstance(before, HeldValues) or not isinstance(after, HeldValues):
        return []
    reaches, reached = _reach_seconds(after), _reach_seconds(before)
    if reached <= now_seconds or reaches >= reached or math.isinf(reached):
        return []
    ends, ended = _text(reaches), _text(reached)
    return [f"it went backwards: it ends at {ends}, when last read at {ended}; what it says now counts"]


def _reach_seconds(held: HeldValues) -> float:
    """Until when its last value counts."""
    steps = zip(held.values, (*held.seconds[1:], held.end_seconds), strict=True)
    return max((until for value, until in steps if value is not None), default=-math.inf)


def _text(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%MZ}"
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f} s"
