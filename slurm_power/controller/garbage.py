"""Keep Python's full collections out of the cycle: over a large site's readings one takes 0.2 s.

Nearly all of what a cycle leaves behind goes by itself, without any collection. Young objects are collected
as always; a look at all of them is made seldom, and right after a cycle. The snapshot of the cycle before is
freed there, too.
"""

import gc

from slurm_power.plan.memo import LastFew

_SECONDS = 600.0
_NEVER = 1_000_000


class Garbage:
    """Times are monotonic seconds given by the caller."""

    def __init__(self) -> None:
        self._next_seconds = float("inf")
        self._before = gc.get_threshold()

    def start(self, now_seconds: float) -> None:
        """Stop automatic full collections from now on."""
        self._next_seconds = now_seconds + _SECONDS
        self._before = gc.get_threshold()
        gc.set_threshold(self._before[0], self._before[1], _NEVER)

    def after_cycle(self, now_seconds: float) -> None:
        """Let go of what only earlier cycles needed; make a full collection if one is due."""
        LastFew.let_go_of_old()
        if now_seconds >= self._next_seconds:
            self._next_seconds = now_seconds + _SECONDS
            gc.collect()

    def stop(self) -> None:
        """Let Python collect as before."""
        gc.set_threshold(*self._before)
