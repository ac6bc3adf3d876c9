"""Baselines of whole days: what the load of an event's hours would have been, by the days before.

Of the last Y days that are like the event's, the X with the highest load in the event's hours are averaged
interval by interval ("X of Y"), and moved to the level of the day itself by a same-day adjustment: the ratio
of the load in the hours before to the same average of those hours, within bounds. That is the form of the
baseline type I of NAESB WEQ-015 (measurement and verification of demand response), by which markets pay: 10
of 10 days within 20 % as CAISO has it, 5 of 10 within 20 % as NYISO has it, 4 of 5 as PJM has it (which adds
a difference where this multiplies by a ratio). The contract says which one counts, with its own hours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

# A day of which less is known is no day to compare with.
LEAST_COVERAGE_RATIO = 0.95
_SATURDAY = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DayMethod:
    """X of Y days; ``most_adjust_ratio``: how far the same-day adjustment may go, None: without a bound."""

    name: str
    highest_days: int
    of_days: int
    most_adjust_ratio: float | None

    @property
    def words(self) -> str:
        """The method in a sentence."""
        days = f"{self.highest_days} of the last {self.of_days} days"
        best = days if self.highest_days == self.of_days else f"the highest {days}"
        bound = (
            "" if self.most_adjust_ratio is None else f" of at most {100.0 * self.most_adjust_ratio:.0f} %"
        )
        return f"mean of {best} of the same kind without an event, with a same-day adjustment{bound}"


METHODS = (
    DayMethod(name="10 of 10 days", highest_days=10, of_days=10, most_adjust_ratio=0.2),
    DayMethod(name="5 of 10 days", highest_days=5, of_days=10, most_adjust_ratio=0.2),
    DayMethod(name="4 of 5 days", highest_days=4, of_days=5, most_adjust_ratio=None),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayLoad:
    """One day's mean load in the event's intervals, and in those of the hours before for the adjustment.

    Watts by interval, in the order of time, None where nothing was read. ``coverage_ratio`` is the share of
    all of them that was read; ``had_event``: another event was on that day.
    """

    day: date
    watts: Sequence[float | None]
    before_watts: Sequence[float | None]
    coverage_ratio: float
    had_event: bool = False

    @property
    def mean_watts(self) -> float:
        """The mean over the event's hours; 0.0 where nothing was read."""
        return _mean(self.watts) or 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DayBaseline:
    """What a method says. ``watts`` by interval, None with the reason in ``problem`` where it says nothing.

    ``unadjusted_watts`` is its mean before the adjustment by ``adjust_factor``.
    """

    method: DayMethod
    watts: tuple[float, ...] | None
    unadjusted_watts: float | None = None
    adjust_factor: float = 1.0
    days: tuple[date, ...] = ()
    problem: str = ""

    @property
    def mean_watts(self) -> float | None:
        """Its mean over the event."""
        return None if self.watts is None else sum(self.watts) / len(self.watts)


def is_weekend(day: date) -> bool:
    """Whether a day counts as one without work; holidays are not known here."""
    return day.weekday() >= _SATURDAY


def day_baseline(method: DayMethod, event: DayLoad, earlier: Sequence[DayLoad]) -> DayBaseline:
    """The baseline of ``event``'s day by the days before it, in any order.

    Days of the other kind, with an event, or read for too little are passed over. With fewer than X days
    left there is none; with fewer than Y those there are count, the highest X of them.
    """
    kind = is_weekend(event.day)
    like = [
        day
        for day in sorted(earlier, key=lambda one: one.day, reverse=True)
        if day.day < event.day
        and is_weekend(day.day) == kind
        and not day.had_event
        and day.coverage_ratio >= LEAST_COVERAGE_RATIO
    ][: method.of_days]
    if len(like) < method.highest_days:
        word = "weekend days" if kind else "weekdays"
        return DayBaseline(
            method=method,
            watts=None,
            problem=f"only {len(like)} {word} before it without an event are known,"
            f" {method.highest_days} are needed",
        )
    chosen = sorted(like, key=lambda one: (-one.mean_watts, one.day))[: method.highest_days]
    columns = [_mean([day.watts[place] for day in chosen]) for place in range(len(event.watts))]
    means = [_mean([day.before_watts[place] for day in chosen]) for place in range(len(event.before_watts))]
    known = [watts for watts in columns if watts is not None]
    if len(known) < len(columns) or not known:
        return DayBaseline(method=method, watts=None, problem="no day was read in some of its intervals")
    factor = _factor(method, event.before_watts, means)
    return DayBaseline(
        method=method,
        watts=tuple(watts * factor for watts in known),
        unadjusted_watts=sum(known) / len(known),
        adjust_factor=factor,
        days=tuple(sorted(day.day for day in chosen)),
    )


def _factor(method: DayMethod, before: Sequence[float | None], means: Sequence[float | None]) -> float:
    """The load of the hours before by its mean on the days chosen, where both are known; bounded."""
    pairs = [(a, b) for a, b in zip(before, means, strict=True) if a is not None and b is not None]
    there, usual = sum(a for a, _ in pairs), sum(b for _, b in pairs)
    if usual <= 0.0 or there <= 0.0:
        return 1.0
    factor = there / usual
    bound = method.most_adjust_ratio
    return factor if bound is None else min(1.0 + bound, max(1.0 - bound, factor))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
