"""A series as a level that walks, a day of a few waves that change slowly, and an autoregression: followed
value by value by a Kalman filter (Durbin and Koopman, Time Series Analysis by State Space Methods, 2012).

The parameters come from elsewhere (`fit_state_space`); following needs numpy alone, and 20 numbers squared.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from slurm_power.forecast.experts import Seasons, Values
from slurm_power.forecast.saved import State, integer, values_of

# What is not known at the start has this variance, in units of the scaled series.
DIFFUSE_VARIANCE = 1e6
# Before so many days have been followed nothing is said.
LEAST_DAYS = 2
MOST_HARMONICS = 24


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What a fit gives. Variances are those of each step's change, of the series divided by ``scale``.

    ``decay``: how much of the autoregressive part is left after a step.
    """

    day_steps: int
    harmonics: int
    scale: float
    level_variance: float
    season_variance: float
    rest_variance: float
    decay: float

    def __post_init__(self) -> None:
        if not 1 <= self.harmonics <= min(MOST_HARMONICS, max(1, self.day_steps // 2 - 1)):
            raise ValueError(f"harmonics: {self.harmonics} do not fit into {self.day_steps} steps")
        variances = self.level_variance, self.season_variance, self.rest_variance
        if not (all(0.0 <= each < np.inf for each in variances) and sum(variances) > 0.0):
            raise ValueError(f"variances: {variances} cannot be")
        if not (0.0 < self.scale < np.inf and -1.0 < self.decay < 1.0):
            raise ValueError(f"scale, decay: {self.scale}, {self.decay} cannot be")

    def arrays(self) -> State:
        """As arrays for a file, or for another process."""
        numbers = self.scale, self.level_variance, self.season_variance, self.rest_variance, self.decay
        return {"waves": np.array([self.day_steps, self.harmonics]), "numbers": np.array(numbers)}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> "Parameters":
        """Raises ValueError for what cannot be."""
        scale, level, season, rest, decay = (float(each) for each in values_of(arrays, "numbers", (5,)))
        day_steps, harmonics = (int(each) for each in values_of(arrays, "waves", (2,)))
        return Parameters(
            day_steps=day_steps,
            harmonics=harmonics,
            scale=scale,
            level_variance=level,
            season_variance=season,
            rest_variance=rest,
            decay=decay,
        )

    @cached_property
    def transition(self) -> Values:
        """How the state goes on: level, a cosine and sine of each wave, the autoregressive part."""
        size = 2 * self.harmonics + 2
        found = np.eye(size)
        for order in range(1, self.harmonics + 1):
            angle, at = 2.0 * np.pi * order / self.day_steps, 2 * order - 1
            found[at : at + 2, at : at + 2] = [
                [np.cos(angle), np.sin(angle)],
                [-np.sin(angle), np.cos(angle)],
            ]
        found[-1, -1] = self.decay
        return found

    @cached_property
    def design(self) -> Values:
        """What of the state adds up to a value."""
        found = np.ones(2 * self.harmonics + 2)
        found[2:-1:2] = 0.0
        return found

    @cached_property
    def noise(self) -> Values:
        """The variance that each step adds to the state."""
        found = np.full(2 * self.harmonics + 2, self.season_variance)
        found[0], found[-1] = self.level_variance, self.rest_variance
        return found


class StateSpace:
    """Follows one series with given parameters."""

    def __init__(self, parameters: Mapping[str, NDArray[np.generic]]) -> None:
        """Raises ValueError for parameters that cannot be."""
        self._given = Parameters.from_arrays(parameters)
        size = len(self._given.design)
        # Of the next step, given all before it.
        self._state: Values = np.zeros(size)
        variances = np.full(size, DIFFUSE_VARIANCE)
        variances[-1] = self._given.rest_variance / (1.0 - self._given.decay**2)
        self._variance: Values = np.diag(variances)
        self._taken = 0
        self._ahead: Values = np.empty((0, size))

    @property
    def parameters(self) -> State:
        """What it was made with."""
        return self._given.arrays()

    def take(self, value: float) -> None:
        """Take the next value, NaN for a gap."""
        state, variance = self._state, self._variance
        design, transition = self._given.design, self._given.transition
        if value == value:  # noqa: PLR0124  # not NaN
            gain = variance @ design
            expected = float(design @ gain)
            if expected > 0.0:
                state = state + gain * ((value / self._given.scale - float(design @ state)) / expected)
                variance = variance - np.outer(gain, gain) / expected
            self._taken += 1
        self._state = transition @ state
        variance = transition @ variance @ transition.T
        variance.flat[:: len(state) + 1] += self._given.noise
        self._variance = 0.5 * (variance + variance.T)

    def path(self, seasons: Seasons) -> Values | None:
        """The next values; None for other steps than those it was fitted to, and in the first days."""
        if seasons.day_steps != self._given.day_steps or self._taken < LEAST_DAYS * seasons.day_steps:
            return None
        while len(self._ahead) < seasons.horizon_steps:
            row = self._ahead[-1] @ self._given.transition if len(self._ahead) else self._given.design
            self._ahead = np.concatenate([self._ahead, row[None]])
        found: Values = self._ahead[: seasons.horizon_steps] @ self._state * self._given.scale
        return found

    def state(self) -> State:
        """Where it is, without its parameters."""
        return {
            "state": self._state.copy(),
            "variance": self._variance.copy(),
            "taken": np.array(self._taken),
        }

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Go on from a state; raises ValueError for one that does not fit, and is unchanged then."""
        size = len(self._state)
        mean = values_of(state, "state", (size,))
        variance = values_of(state, "variance", (size, size))
        taken = integer(state, "taken", most=2**53)
        self._state, self._variance, self._taken = mean, variance, taken
