"""One circuit's models: the next hour in fine steps, the next days in quarters of an hour."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from slurm_power.config.forecast import QUARTER_SECONDS
from slurm_power.forecast.blend import Blend, Forecast
from slurm_power.forecast.days import days_ahead
from slurm_power.forecast.experts import Seasons, Values
from slurm_power.forecast.jobs_ahead import ChangePaths
from slurm_power.forecast.near import Near
from slurm_power.forecast.saved import State, nested, part
from slurm_power.model.forecast import CircuitForecast, Reach

_DAY_SECONDS = 86_400.0
# Beyond so long a gap nothing is remembered anyway.
_NEAR_GAP_DAYS, _FAR_GAP_DAYS = 4, 35
# A quarter of an hour of which less is known is a gap.
_LEAST_KNOWN_RATIO = 0.5


class CircuitModels:
    """Both models of a circuit, and where on the clock each stands."""

    def __init__(
        self, name: str, *, near_step_seconds: float, near_steps: int, far_steps: int, fitted: bool = False
    ) -> None:
        """``fitted``: a state-space model joins the blend of the next days, once it has parameters."""
        self.name = name
        self.near_step_seconds = near_step_seconds
        self.near = Near(Seasons(round(_DAY_SECONDS / near_step_seconds), near_steps))
        days = Seasons(round(_DAY_SECONDS / QUARTER_SECONDS), far_steps)
        self.far = days_ahead(days) if fitted else Blend(days)
        self.near_end_seconds: float | None = None
        self.far_end_seconds: float | None = None
        self._quarter: list[float] = []

    def take(self, end_seconds: float, watts: float) -> bool:
        """Take a near step, NaN for a gap; True when a quarter of an hour is full with it.

        Steps that were missed are gaps; one that is older than the last is not taken.
        """
        known = self.near_end_seconds
        if known is not None and end_seconds < known - _DAY_SECONDS:
            # The clock was wrong before, or is now; what is learned is still the best there is.
            self.near_end_seconds = self.far_end_seconds = None
            self._quarter = []
        news = _placed(
            self.near_end_seconds, self.near_step_seconds, end_seconds, np.array([watts]), _NEAR_GAP_DAYS
        )
        if not len(news):
            return False
        self.near.extend(news[:-1], ask=False)
        self.near.extend(news[-1:])
        self.near_end_seconds = end_seconds
        quarter_end = float(np.ceil(end_seconds / QUARTER_SECONDS) * QUARTER_SECONDS)
        if np.isfinite(watts):
            self._quarter.append(watts)
        if end_seconds < quarter_end:
            return False
        wanted = _LEAST_KNOWN_RATIO * QUARTER_SECONDS / self.near_step_seconds
        mean = float(np.mean(self._quarter)) if len(self._quarter) >= max(wanted, 1.0) else np.nan
        self._quarter = []
        return self.learn_far(quarter_end, np.array([mean]))

    def learn_far(self, first_end_seconds: float, values: Values) -> bool:
        """Take quarters of an hour, the first of which ends then; False if all are known already."""
        news = _placed(self.far_end_seconds, QUARTER_SECONDS, first_end_seconds, values, _FAR_GAP_DAYS)
        if not len(news):
            return False
        # What lies far back teaches the experts, but nobody is judged on it any more: that saves its time.
        old = max(0, len(news) - self.far.judged_steps)
        self.far.extend(news[:old], ask=False)
        self.far.extend(news[old:])
        self.far_end_seconds = first_end_seconds + (len(values) - 1) * QUARTER_SECONDS
        return True

    def near_forecast(self, changes: ChangePaths | None) -> CircuitForecast | None:
        """The next hour; None while nothing is known."""
        if self.near_end_seconds is None:
            return None
        try:
            found = self.near.forecast(changes)
        except ValueError:
            return None
        return self._named(found, Reach.NEAR, self.near_end_seconds, self.near_step_seconds, self.near)

    def far_forecast(self) -> CircuitForecast | None:
        """The next days; None while nothing is known."""
        if self.far_end_seconds is None:
            return None
        try:
            found = self.far.forecast()
        except ValueError:
            return None
        return self._named(found, Reach.FAR, self.far_end_seconds, QUARTER_SECONDS, self.far)

    def _named(
        self, found: Forecast, reach: Reach, end_seconds: float, step_seconds: float, model: Blend | Near
    ) -> CircuitForecast:
        return CircuitForecast(
            circuit=self.name,
            reach=reach,
            issued_seconds=end_seconds,
            step_seconds=step_seconds,
            p10_watts=tuple(found.p10.tolist()),
            p50_watts=tuple(found.p50.tolist()),
            p90_watts=tuple(found.p90.tolist()),
            source=found.source,
            reason=found.reason,
            history_days=model.known * step_seconds / _DAY_SECONDS,
            drivers=found.weights,
            score=model.recent_score(),
        )

    def state(self) -> State:
        """Everything that has been learned, as arrays."""
        return {
            **nested("near", self.near.state()),
            **nested("far", self.far.state()),
            "near_step_seconds": np.array(self.near_step_seconds),
            "near_end_seconds": np.array(_or_nan(self.near_end_seconds)),
            "far_end_seconds": np.array(_or_nan(self.far_end_seconds)),
            "quarter": np.array(self._quarter, dtype=np.float64),
        }

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Go on from a state; raises ValueError for one that does not fit, and is then to be thrown away."""
        try:
            if float(state["near_step_seconds"]) != self.near_step_seconds:
                raise ValueError("it was learned with other steps")
            self.near.restore(part("near", state))
            self.far.restore(part("far", state))
            self.near_end_seconds = _or_none(float(state["near_end_seconds"]))
            self.far_end_seconds = _or_none(float(state["far_end_seconds"]))
            self._quarter = [float(value) for value in state["quarter"]]
        except (KeyError, TypeError) as error:
            raise ValueError(f"it is no state: {type(error).__name__}: {error}") from None


def _placed(
    end_seconds: float | None,
    step_seconds: float,
    first_end_seconds: float,
    values: Values,
    most_gap_days: int,
) -> Values:
    """What of ``values`` is new, after gaps for what was missed since ``end_seconds``."""
    if end_seconds is None:
        return values
    missed = round((first_end_seconds - end_seconds) / step_seconds) - 1
    if missed < 0:
        return values[-missed:]
    most = round(most_gap_days * _DAY_SECONDS / step_seconds)
    return np.concatenate([np.full(min(missed, most), np.nan), values])


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
