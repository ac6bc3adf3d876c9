"""Forecasts as plain JSON values: between processes, and in answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from slurm_power.model.forecast import CircuitForecast, Reach, RecentScore

# No meter is finer, and a line stays short.
_DIGITS = 1


def forecast_message(forecast: CircuitForecast) -> dict[str, Any]:
    """A forecast as JSON values, watts to a tenth."""
    return {
        "circuit": forecast.circuit,
        "reach": forecast.reach.value,
        "issued_seconds": forecast.issued_seconds,
        "step_seconds": forecast.step_seconds,
        "p10_watts": _rounded(forecast.p10_watts),
        "p50_watts": _rounded(forecast.p50_watts),
        "p90_watts": _rounded(forecast.p90_watts),
        "source": forecast.source,
        "reason": forecast.reason,
        "history_days": round(forecast.history_days, 3),
        "drivers": {name: [round(share, 4) for share in shares] for name, shares in forecast.drivers.items()},
        "score": None if forecast.score is None else asdict(forecast.score),
    }


def _rounded(watts: Sequence[float]) -> list[float]:
    return [round(value, _DIGITS) for value in watts]


# What rounding may put the wrong way round.
_ROUNDING_WATTS = 1.0


def forecast_from(message: Mapping[str, Any]) -> CircuitForecast:
    """The forecast of a message; raises ValueError for one that is malformed or contradicts itself."""
    try:
        paths = {key: _numbers(message[key]) for key in ("p10_watts", "p50_watts", "p90_watts")}
        if len({len(path) for path in paths.values()}) != 1 or not paths["p50_watts"]:
            raise ValueError("its paths differ in length, or are empty")
        for low, high in (("p10_watts", "p50_watts"), ("p50_watts", "p90_watts")):
            if any(less > more + _ROUNDING_WATTS for less, more in zip(paths[low], paths[high], strict=True)):
                raise ValueError(f"its {low} are above its {high} somewhere: it contradicts itself")
        score = message["score"]
        return CircuitForecast(
            circuit=str(message["circuit"]),
            reach=Reach(message["reach"]),
            issued_seconds=_number(message["issued_seconds"]),
            step_seconds=_number(message["step_seconds"]),
            source=str(message["source"]),
            reason=str(message["reason"]),
            history_days=_number(message["history_days"]),
            drivers={
                str(name): (_number(shares[0]), _number(shares[1]))
                for name, shares in message["drivers"].items()
            },
            score=None if score is None else RecentScore(**score),
            **paths,
        )
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"no forecast: {type(error).__name__}: {error}") from None


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _numbers(values: object) -> tuple[float, ...]:
    if not isinstance(values, list):
        raise TypeError("a path is no list")
    return tuple(_number(value) for value in values)
