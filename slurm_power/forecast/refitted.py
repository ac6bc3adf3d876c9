"""A blend with a follower that is fitted again and again, as a worker would do it in the background."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from slurm_power.forecast import fit_state_space
from slurm_power.forecast.blend import Forecast
from slurm_power.forecast.days import STATE_SPACE, days_ahead
from slurm_power.forecast.experts import Expert, Seasons, Values
from slurm_power.forecast.history import Recent
from slurm_power.forecast.state_space import Parameters

# New parameters are on trial for days, and change little within weeks.
REFIT_DAYS = 28


class Refitted:
    """The blend of ``experts`` and `state_space`, which is fitted once it can be and every four weeks then.

    ``clock`` tells how long that takes; in a worker it is in the background.
    """

    def __init__(self, seasons: Seasons, experts: Mapping[str, Expert], clock: Callable[[], float]) -> None:
        self._seasons = seasons
        self._blend = days_ahead(seasons, experts)
        self._clock = clock
        self._recent = Recent(fit_state_space.FIT_DAYS * seasons.day_steps)
        self._parameters: Parameters | None = None
        self._fit_at = 0
        self._refit_seconds: list[float] = []

    @property
    def judged_steps(self) -> int:
        """How far back a value can still change how experts are judged."""
        return self._blend.judged_steps

    @property
    def refit_seconds(self) -> Sequence[float]:
        """How long each fit took."""
        return self._refit_seconds

    def extend(self, values: Values, *, ask: bool = True) -> None:
        """Take the next values, NaN for a gap; without ``ask`` nobody is judged on them, nor fitted."""
        day = self._seasons.day_steps
        at = 0
        while at < len(values):
            # Up to the end of the day, so that a fit comes at the same time whatever comes at once.
            until = min(len(values), at + day - self._blend.count % day)
            for value in values[at:until]:
                self._recent.append(value)
            self._blend.extend(values[at:until], ask=ask)
            at = until
            if ask and self._blend.count % day == 0 and self._blend.count >= self._fit_at:
                self._fit()

    def _fit(self) -> None:
        known = np.isfinite(self._recent.values).sum()
        if known < fit_state_space.LEAST_DAYS * self._seasons.day_steps:
            return
        began = self._clock()
        found = fit_state_space.fit(self._recent.values, self._seasons, self._parameters)
        self._refit_seconds.append(self._clock() - began)
        self._fit_at = self._blend.count + REFIT_DAYS * self._seasons.day_steps
        if found.parameters is not None:
            self._parameters = found.parameters
            arrays: Mapping[str, Any] = found.parameters.arrays()
            self._blend.adopt(STATE_SPACE, arrays)

    def forecast(self) -> Forecast:
        """Forecast from the last value; raises ValueError while it cannot."""
        return self._blend.forecast()
