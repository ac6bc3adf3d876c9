"""Experts that follow a series value by value with parameters fitted elsewhere, and their successors.

New parameters run beside those in use without a word in the blend, and take their place once they have been
judged on enough forecasts and were no worse. Parameters for which there are no others yet are used at once:
as any expert they have no weight before they have been judged.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slurm_power.forecast.experts import Seasons, Values
from slurm_power.forecast.saved import State, nested, part

Arrays = Mapping[str, NDArray[np.generic]]


class Follower(Protocol):
    """Keeps what it needs of a series, and tells how that goes on."""

    @property
    def parameters(self) -> State:
        """What it was made with."""

    def take(self, value: float) -> None:
        """Take the next value, NaN for a gap."""

    def path(self, seasons: Seasons) -> Values | None:
        """The next values; None while it cannot say."""

    def state(self) -> State:
        """Where it is, without its parameters."""

    def restore(self, state: Arrays) -> None:
        """Go on from a state; raises ValueError for one that does not fit."""


# Makes a follower of parameters; raises ValueError for parameters that cannot be.
Maker = Callable[[Arrays], Follower]


class Contest:
    """One kind of follower: the one in use, and the one on trial."""

    def __init__(self, make: Maker) -> None:
        self.make = make
        self.champion: Follower | None = None
        self.challenger: Follower | None = None
        # Where both were before the values that may turn out an accident.
        self._before: State = {}

    def adopt(self, parameters: Arrays, history: Values) -> bool:
        """Start with new parameters, having followed ``history``; whether they are on trial."""
        follower = self.make(parameters)
        for value in history:
            follower.take(value)
        if self.champion is None:
            self.champion = follower
            self._before = {}
            return False
        self.challenger = follower
        self._before = {}
        return True

    def take(self, value: float) -> None:
        """Take the next value, NaN for a gap."""
        for follower in (self.champion, self.challenger):
            if follower is not None:
                follower.take(value)

    def remember(self) -> None:
        """The next value may turn out an accident."""
        self._before = {}
        for name, follower in self._both():
            self._before |= nested(name, follower.state())

    def mend(self, steps: int) -> None:
        """As many values since ``remember`` were an accident, and so are as good as gaps."""
        for name, follower in self._both():
            before = part(name, self._before)
            if before:
                follower.restore(before)
                for _ in range(steps):
                    follower.take(float("nan"))
        self._before = {}

    def promote(self) -> None:
        """The one on trial takes over."""
        self.champion, self.challenger = self.challenger, None
        self._before = nested("champion", part("challenger", self._before))

    def _both(self) -> list[tuple[str, Follower]]:
        both = ("champion", self.champion), ("challenger", self.challenger)
        return [(name, follower) for name, follower in both if follower is not None]

    def state(self) -> State:
        """All that is needed to go on."""
        found: State = {}
        for name, follower in self._both():
            found |= nested(f"{name}.parameters", follower.parameters)
            found |= nested(f"{name}.state", follower.state())
        return found | nested("before", self._before)

    def restored(self, state: Arrays) -> "Contest":
        """Another of its kind that goes on from a state; raises ValueError for one that does not fit."""
        found = Contest(self.make)
        found.champion = self._follower(part("champion", state))
        found.challenger = self._follower(part("challenger", state))
        before = part("before", state)
        for name, follower in found._both():
            kept = part(name, before)
            if kept:
                now = follower.state()
                # What cannot be restored now could not be when it is needed.
                follower.restore(kept)
                follower.restore(now)
        found._before = before
        return found

    def _follower(self, state: State) -> Follower | None:
        parameters = part("parameters", state)
        if not parameters:
            return None
        follower = self.make(parameters)
        follower.restore(part("state", state))
        return follower
