"""What kind of load a circuit has now: as usual, swinging with a training, or jumping with a massive start.

All from the last minutes of one-second values and the starts that were announced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from slurm_power.model.forecast import LoadLabel

WINDOW_SECONDS = 60.0
# A massive start is one while its step comes, and a little longer.
START_SECONDS = 60.0
# So much of the expected step has to have come before the load is said to jump.
_COME_RATIO = 0.5
# Trainings swing this share of what the circuit may draw, at least...
SWING_RATIO = 0.02
# ... up and down so often within the window, and without going anywhere.
_LEAST_TURNS = 4
_STEADY_RATIO = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A massive job that has started: when, the step expected of it, and the load just before."""

    job_id: str
    at_seconds: float
    step_watts: float
    before_watts: float


def label(
    ticks: Sequence[tuple[float, float]], started: Sequence[Started], *, ceiling_watts: float
) -> LoadLabel:
    """Label a circuit; ``ticks`` are (seconds, watts), oldest first, those of the last minute count."""
    if not ticks:
        return LoadLabel.STANDARD
    now_seconds, now_watts = ticks[-1]
    for start in started:
        recent = 0.0 <= now_seconds - start.at_seconds <= START_SECONDS
        if recent and now_watts - start.before_watts >= _COME_RATIO * start.step_watts:
            return LoadLabel.MASSIVE_START
    watts = [value for seconds, value in ticks if seconds > now_seconds - WINDOW_SECONDS]
    return LoadLabel.TRAINING_SWING if swings(watts, SWING_RATIO * ceiling_watts) else LoadLabel.STANDARD


def swings(watts: Sequence[float], least_watts: float) -> bool:
    """Whether a load goes up and down by ``least_watts`` or more, again and again, around the same level."""
    if len(watts) < 2 * _LEAST_TURNS:
        return False
    ordered = sorted(watts)
    # A single outlier is no swing.
    low, high = ordered[len(ordered) // 20], ordered[-1 - len(ordered) // 20]
    span = high - low
    if span < least_watts or span <= 0.0:
        return False
    third = len(watts) // 3
    drift = abs(sum(watts[-third:]) - sum(watts[:third])) / third
    return drift <= _STEADY_RATIO * span and _turns(watts, low + 0.3 * span, low + 0.7 * span) >= _LEAST_TURNS


def _turns(watts: Sequence[float], low: float, high: float) -> int:
    """How often the load went from the lower to the upper part or back; what lies between changes nothing."""
    sides = [value > high for value in watts if value < low or value > high]
    return sum(before != after for before, after in pairwise(sides))
