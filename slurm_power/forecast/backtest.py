"""Forecasts from rolling origins over a series that is already known, and how good they were.

Nothing after an origin is ever shown to what forecasts from it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from slurm_power.forecast import fit_state_space, peers
from slurm_power.forecast.blend import Blend, Forecast, stretches
from slurm_power.forecast.days import STATE_SPACE
from slurm_power.forecast.experts import EXPERTS, NAIVE, Expert, Seasons, Values
from slurm_power.forecast.hour import HOUR_EXPERTS, is_next_hour, next_hour
from slurm_power.forecast.peers import PEERS, Peer
from slurm_power.forecast.refitted import Refitted

WINDOW_DAYS = 28
# Origins move through the times of day: 37 steps have no factor in common with a day of 96.
PHASE_STEPS = 37
QUANTILES = (0.1, 0.5, 0.9)


class Model(Protocol):
    """Anything that takes values one after the other and forecasts from the last."""

    @property
    def judged_steps(self) -> int:
        """How far back a value can still change how experts are judged."""

    def extend(self, values: Values, *, ask: bool = True) -> None:
        """Take the next values, NaN for a gap; without ``ask`` nobody is judged on them."""

    @property
    def refit_seconds(self) -> Sequence[float]:
        """How long each fit took that was made apart from the forecasts."""

    def forecast(self) -> Forecast:
        """Forecast from the last value; raises ValueError while it cannot."""


@dataclass(frozen=True, slots=True)
class Origin:
    """One forecast: ``index`` values were known; ``actual`` is what came, NaN for gaps."""

    index: int
    forecast: Forecast
    actual: Values
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How good forecasts were. Errors are in the unit of the series unless they are ratios.

    ``mase`` (Hyndman and Koehler, Int. J. Forecasting 22, 2006): over the daily naive's error in the 28 days
    before each origin; None for a series that repeats itself exactly. ``to_*``: the mean absolute error over
    that of the naive forecast from the same origins. ``smape_ratio`` lies between 0 and 2.
    """

    mae: float
    mase: float | None
    to_day_naive: float | None
    to_best_naive: float | None
    best_naive: str
    smape_ratio: float
    pinball: tuple[float, float, float]
    coverage_ratio: float
    mae_by_stretch: tuple[tuple[int, int, float], ...]


def pick_origins(count: int, seasons: Seasons, wanted: int) -> list[int]:
    """How many values are known at each origin, evenly over the part with enough history.

    Raises ValueError when the series is too short for a single one.
    """
    day = seasons.day_steps
    # The next hour needs no month to be learned, and is judged on more of the series.
    first = max(count // 3, 1) if is_next_hour(seasons) else min(WINDOW_DAYS * day, max(count // 2, 1))
    last = count - seasons.horizon_steps
    if last < first:
        raise ValueError(
            f"{count} steps are too few: {seasons.horizon_steps} ahead from {first} known ones needs"
            f" {first + seasons.horizon_steps}; ask for a shorter horizon"
        )
    room = min(day - 1, (last - first) // 2)
    base = np.linspace(first, last - room, min(wanted, last - first + 1)).astype(int)
    return sorted({int(at) + (PHASE_STEPS * row) % (room + 1) for row, at in enumerate(base)})


def run(
    values: Values, seasons: Seasons, origins: list[int], model: Model, clock: Callable[[], float]
) -> Iterator[Origin]:
    """Forecast from each origin in turn; one at which the model cannot speak is left out."""
    for before, at in pairwise([0, *origins]):
        asking = max(before, at - model.judged_steps)
        model.extend(values[before:asking], ask=False)
        model.extend(values[asking:at])
        began = clock()
        try:
            forecast = model.forecast()
        except ValueError:
            continue
        seconds = clock() - began
        yield Origin(at, forecast, values[at : at + seasons.horizon_steps], seconds)


def model_named(name: str, seasons: Seasons, clock: Callable[[], float]) -> Model:
    """The blend for this horizon, one expert of it alone, or a peer.

    Raises KeyError for an unknown name, and ImportError where it needs a package that is not installed.
    ``clock`` is for how long fits take.
    """
    every = experts_for(seasons)
    if is_next_hour(seasons):
        return next_hour(seasons, every if name == "blend" else {name: every[name]})
    if name in PEERS:
        return Peer(name, seasons)
    if name == STATE_SPACE:
        if not fit_state_space.is_installed():
            raise ImportError(f"{STATE_SPACE} needs statsmodels")
        return Refitted(seasons, {}, clock)
    if name != "blend":
        return Blend(seasons, {name: every[name]})
    return Refitted(seasons, every, clock) if fit_state_space.is_installed() else Blend(seasons, every)


def experts_for(seasons: Seasons) -> Mapping[str, Expert]:
    """Whom the blend for this horizon asks, but for those that have to be fitted."""
    return HOUR_EXPERTS if is_next_hour(seasons) else EXPERTS


def names_for(seasons: Seasons) -> dict[str, str]:
    """What `model_named` knows for this horizon: each name, and the extra it needs ("" for none)."""
    found = dict.fromkeys(["blend", *experts_for(seasons)], "")
    if not is_next_hour(seasons):
        found |= {STATE_SPACE: fit_state_space.EXTRA} | dict.fromkeys(PEERS, peers.EXTRA)
    return found


def score(values: Values, seasons: Seasons, found: list[Origin]) -> Score:
    """Judge forecasts from at least one origin; raises ValueError when nothing came after any of them."""
    misses = np.stack([origin.actual - origin.forecast.p50 for origin in found])
    known = np.isfinite(misses)
    if not known.any():
        raise ValueError("after no origin a value is known")
    mae = float(np.abs(misses[known]).mean())
    naive = _naive_errors(values, seasons, [origin.index for origin in found])
    best = min(naive, key=lambda name: naive[name]) if naive else ""
    scale = _in_sample_scale(values, seasons, [origin.index for origin in found])
    actual = np.stack([origin.actual for origin in found])
    middle = np.stack([origin.forecast.p50 for origin in found])
    low = np.stack([origin.forecast.p10 for origin in found])
    high = np.stack([origin.forecast.p90 for origin in found])
    size = np.abs(actual) + np.abs(middle)
    return Score(
        mae=mae,
        mase=mae / scale if scale > 0.0 else None,
        to_day_naive=_over(mae, naive.get("day_naive")),
        to_best_naive=_over(mae, naive.get(best)),
        best_naive=best,
        smape_ratio=float(
            np.where(size > 0.0, 2.0 * np.abs(misses) / np.maximum(size, 1e-300), 0.0)[known].mean()
        ),
        pinball=(
            _pinball(actual - low, 0.1, known),
            _pinball(misses, 0.5, known),
            _pinball(actual - high, 0.9, known),
        ),
        coverage_ratio=float(((actual >= low) & (actual <= high))[known].mean()),
        mae_by_stretch=tuple(
            (first, end, float(np.abs(misses[:, first:end][known[:, first:end]]).mean()))
            for first, end in stretches(seasons.horizon_steps)
            if known[:, first:end].any()
        ),
    )


def _over(value: float, base: float | None) -> float | None:
    return value / base if base else None


def _pinball(over: Values, quantile: float, known: np.ndarray) -> float:
    return float(np.maximum(quantile * over, (quantile - 1.0) * over)[known].mean())


def _naive_errors(values: Values, seasons: Seasons, origins: list[int]) -> dict[str, float]:
    """Mean absolute error of each naive forecast that can speak at every origin."""
    errors = {}
    for name in NAIVE:
        paths = [EXPERTS[name](_without_gaps(values[:at], seasons), seasons) for at in origins]
        misses = [
            values[at : at + seasons.horizon_steps] - path
            for at, path in zip(origins, paths, strict=True)
            if path is not None
        ]
        if len(misses) == len(origins):
            errors[name] = float(np.nanmean(np.abs(np.concatenate(misses))))
    return errors


def _without_gaps(values: Values, seasons: Seasons) -> Values:
    """A history as the naive forecasts see it: a gap is the last value before it."""
    recent = values[-seasons.week_steps :]
    at = np.where(np.isfinite(recent), np.arange(len(recent)), -1)
    at = np.maximum.accumulate(at)
    filled: Values = recent[np.maximum(at, int(np.argmax(np.isfinite(recent))))]
    return filled


def _in_sample_scale(values: Values, seasons: Seasons, origins: list[int]) -> float:
    """Mean error of the daily naive within the window before each origin; 0 where there is no such day."""
    day, errors = seasons.day_steps, []
    for at in origins:
        window = values[max(0, at - WINDOW_DAYS * day) : at]
        moves = np.abs(window[day:] - window[:-day])
        if np.isfinite(moves).any():
            errors.append(float(np.nanmean(moves)))
    return float(np.mean(errors)) if errors else 0.0
