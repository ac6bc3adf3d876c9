"""A demand charge as a battery's dispatch sees it from a moment on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from slurm_power.plan.peak_level import Values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """A demand charge in the running billing period and the next day.

    ``counts``: bool, from now on to the end of what is looked at, whether a step counts. ``floor_watts`` is
    paid whatever is drawn. ``days_left``: how long the period still is, if ``counts`` ends before it.
    """

    name: str
    price_per_kw: float
    counts: np.ndarray
    floor_watts: float = 0.0
    days_left: float | None = None


# What a charge's import is held to, watts.
LevelOf = Callable[[Window], float]


def limits_watts(windows: Sequence[Window], level_of: LevelOf, steps: int) -> Values:
    """The lowest level that counts at each step from now on, infinite where none does; shape (steps,)."""
    limits = np.full(steps, np.inf)
    for window in windows:
        counts = on_grid(window.counts, steps)
        limits[counts] = np.minimum(limits[counts], level_of(window))
    return limits


def on_grid(counts: np.ndarray, steps: int) -> np.ndarray:
    """``counts`` cut or filled with False to ``steps``: after the period nothing counts."""
    found = np.zeros(steps, dtype=bool)
    found[: len(counts)] = counts[:steps]
    return found
