"""Whether a series has left what is forecast of it: a cumulative sum over the errors of whole days.

Two-sided CUSUM (Page, Biometrika 41, 1954) on daily mean errors over their usual size. A single day counts
no more than the threshold, so that one outage is no drift.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slurm_power.forecast.experts import Values

# In usual sizes: what each day is forgiven, and what the sum has to reach. 0.5 and 5 are the textbook's
# (Montgomery, Introduction to Statistical Quality Control, ch. 9): a shift of one is what they are made for.
SLACK, THRESHOLD = 0.5, 5.0
MOST_OF_ONE_DAY = 4.0
# Fewer days say nothing of what is usual.
LEAST_DAYS = 5
# Of a day so much has to be known.
LEAST_KNOWN_RATIO = 0.5
# An error below this share of the load is nothing to speak of.
LEAST_RATIO = 0.01
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True)
class Drift:
    """The last ``days`` lay ``ratio`` of the forecast above it (below: negative)."""

    days: int
    ratio: float

    @property
    def reason(self) -> str:
        """In words."""
        side = "above" if self.ratio > 0.0 else "below"
        last = "the last day" if self.days == 1 else f"the last {self.days} days"
        return f"{last} lay {abs(self.ratio):.0%} {side} what was forecast"


def one_a_day(ages: NDArray[np.int64], first_steps: int, day_steps: int, most: int) -> list[int]:
    """Of issues so many steps old, oldest first: one a day whose first steps are known and do not overlap."""
    picked = []
    for back in range(most - 1, -1, -1):
        old = np.flatnonzero(ages >= first_steps + back * day_steps)
        if len(old) and old[-1] not in picked:
            picked.append(int(old[-1]))
    return picked


def recent_drift(outcomes: Values, forecasts: Values) -> Drift | None:
    """From what came and what was said, one day a row, NaN for gaps, the last day last.

    None while the last day is as forecast, or too little is known.
    """
    known = np.isfinite(outcomes)
    enough = known.mean(axis=1) >= LEAST_KNOWN_RATIO
    outcomes, forecasts, known = outcomes[enough], forecasts[enough], known[enough]
    if len(outcomes) < LEAST_DAYS:
        return None
    expected = np.where(known, forecasts, 0.0).sum(axis=1) / known.sum(axis=1)
    errors = np.where(known, outcomes, 0.0).sum(axis=1) / known.sum(axis=1) - expected
    usual = _MAD_TO_SIGMA * float(np.median(np.abs(errors)))
    usual = max(usual, LEAST_RATIO * float(np.abs(expected).mean()))
    if usual <= 0.0:
        return None
    for sign in (1.0, -1.0):
        sizes = np.minimum(sign * errors / usual, MOST_OF_ONE_DAY)
        total, began = 0.0, 0
        for day, size in enumerate(sizes):
            total = max(0.0, total + float(size) - SLACK)
            if total <= 0.0:
                began = day + 1
        if total > THRESHOLD and sizes[-1] > SLACK:
            days = len(errors) - began
            level = max(float(np.abs(expected[began:]).mean()), 1e-12)
            return Drift(days, float(errors[began:].mean()) / level)
    return None
