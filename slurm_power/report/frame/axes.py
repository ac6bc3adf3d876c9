"""Where the marks of an axis stand and what is written there: round watts, full hours of a local clock."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

_MINUTE_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720)
_DAY_MINUTES = 1440
_DAY_STEPS = (1, 2, 7, 14, 30, 90, 365)
_QUARTER_MINUTES = 15
# No meter is finer: what differs by less is the same.
_LEAST_SPAN_WATTS = 1e-3


@dataclass(frozen=True, slots=True)
class PowerAxis:
    """From ``low_watts`` to ``high_watts``, with marks at round watts, written in ``unit``."""

    low_watts: float
    high_watts: float
    marks_watts: tuple[float, ...]
    unit: str
    unit_watts: float
    digits: int

    def text(self, watts: float) -> str:
        """A value as it is written at the axis, without its unit."""
        return f"{watts / self.unit_watts:.{self.digits}f}"


def power_axis(low_watts: float, high_watts: float, most_marks: int = 6) -> PowerAxis:
    """Choose an axis that holds a range with some room, from zero on unless that would press all flat."""
    span = high_watts - low_watts
    if span <= max(1e-6 * abs(high_watts), 1e-6 * abs(low_watts), _LEAST_SPAN_WATTS):
        span = max(0.2 * abs(high_watts), 1.0)
        low, high = low_watts - span / 2, high_watts + span / 2
    else:
        low, high = low_watts - 0.08 * span, high_watts + 0.08 * span
    if low_watts >= 0.0 and (low < 0.0 or low_watts < 0.3 * high_watts):
        low = 0.0
    step = _round_step((high - low) / max(most_marks, 1))
    first = math.ceil(low / step - 1e-9)
    marks = tuple(index * step for index in range(first, math.floor(high / step + 1e-9) + 1))
    largest = max(abs(low), abs(high))
    unit, unit_watts = ("W", 1.0) if largest < 2_000.0 else ("kW", 1e3) if largest < 2e7 else ("MW", 1e6)
    digits = max(0, -math.floor(math.log10(step / unit_watts) + 1e-9))
    if step / unit_watts / 10.0**-digits % 1.0 > 1e-6:
        digits += 1  # a step of 2.5 needs one more
    return PowerAxis(low, high, marks, unit, unit_watts, digits)


def _round_step(least: float) -> float:
    scale: float = 10.0 ** math.floor(math.log10(least))
    return next(
        factor * scale for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * scale >= least * (1 - 1e-9)
    )


def local_time(seconds: float, zone: tzinfo | None) -> datetime:
    """Unix time on a local clock; ``zone`` None is the machine's own."""
    return datetime.fromtimestamp(seconds, UTC).astimezone(zone)


def time_marks(
    start_seconds: float, end_seconds: float, zone: tzinfo | None, most_marks: int
) -> list[tuple[float, str]]:
    """Moments where the local clock shows something round, as the day's name and number at midnight."""
    minutes = (end_seconds - start_seconds) / 60.0
    steps = [*_MINUTE_STEPS, *(days * _DAY_MINUTES for days in _DAY_STEPS)]
    step = next((step for step in steps if minutes / step <= max(most_marks, 1)), steps[-1])
    # In every zone of today round minutes and quarters of the local clock are round in UTC as well.
    grid_seconds = 60 * math.gcd(step, _QUARTER_MINUTES)
    marks = []
    first = math.ceil(start_seconds / grid_seconds)
    for number in range(first, math.floor(end_seconds / grid_seconds) + 1):
        local = local_time(number * grid_seconds, zone)
        minute = local.hour * 60 + local.minute
        on_day = step < _DAY_MINUTES or local.toordinal() % (step // _DAY_MINUTES) == 0
        if minute % min(step, _DAY_MINUTES) == 0 and on_day:
            midnight = minute == 0 and step >= 60
            marks.append((float(number * grid_seconds), f"{local:%a %d}" if midnight else f"{local:%H:%M}"))
    return marks
