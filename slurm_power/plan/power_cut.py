"""Which setting each job gets under a budget of watts: steady caps where they do, mixtures where not.

A steady setting stands for minutes. A mixture changes between two settings inside each minute: its
one-minute means reach everything a linear program can, but power swings within the minute and caps do not
rest. So mixtures are taken only where steady settings would give away more than ``STEADY_WORTH_RATIO`` of
the weighted performance or of the budget, or could not keep the budget at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from slurm_power.plan.allocation import Allocation, Stretch, allocate, allocate_steady, upper_hull
from slurm_power.plan.response import Piece, Response, Setting

# What steady caps are worth: half a point of weighted performance, or of the budget.
STEADY_WORTH_RATIO = 0.005
_TOLERANCE_RATIO = 1e-4
_TINY_WATTS = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCut:
    """A setting for each job, in the order given.

    ``shortfall_watts`` is by how much the draw passes the budget when every job is at its floor.
    ``price_per_watt`` is the weighted performance, in the units of the weights, that one more watt would buy.
    """

    settings: tuple[Setting, ...]
    watts: float
    shortfall_watts: float
    price_per_watt: float


def cut_power(responses: Sequence[Response], weights: Sequence[float], budget_watts: float) -> PowerCut:
    """Lose the least weighted performance (sum of weight times performance) under ``budget_watts`` in all.

    No job goes below its floor, even where the budget cannot be kept: then each draws the least it can.
    """
    steady = _steady(responses, weights, budget_watts)
    hulls = [
        upper_hull(_stretch(response.envelope, response, weight))
        for response, weight in zip(responses, weights, strict=True)
    ]
    mixed = allocate(hulls, budget_watts)
    given_away = STEADY_WORTH_RATIO * sum(weights)
    gain = sum(one.performance_ratio * weight for one, weight in zip(steady.settings, weights, strict=True))
    mixed_watts = float(mixed.watts.sum())
    if (
        steady.shortfall_watts <= mixed.shortfall_watts + _TINY_WATTS
        and gain >= mixed.gain - given_away
        and steady.watts >= mixed_watts - STEADY_WORTH_RATIO * budget_watts
    ):
        return steady
    settings = tuple(
        response.mixed_at_watts(float(watts) / response.gpus)
        for response, watts in zip(responses, mixed.watts, strict=True)
    )
    return _power_cut(responses, settings, mixed)


def _steady(responses: Sequence[Response], weights: Sequence[float], budget_watts: float) -> PowerCut:
    offers = [
        [_stretch(piece, response, weight) for piece in response.pieces]
        for response, weight in zip(responses, weights, strict=True)
    ]
    found = allocate_steady(offers, budget_watts, tolerance_gain=_TOLERANCE_RATIO * sum(weights))
    settings = tuple(
        response.at_watts(float(watts) / response.gpus)
        for response, watts in zip(responses, found.watts, strict=True)
    )
    return _power_cut(responses, settings, found)


def _power_cut(responses: Sequence[Response], settings: tuple[Setting, ...], found: Allocation) -> PowerCut:
    return PowerCut(
        settings=settings,
        watts=sum(
            setting.gpu_watts * response.gpus for setting, response in zip(settings, responses, strict=True)
        ),
        shortfall_watts=found.shortfall_watts,
        price_per_watt=found.price_per_watt,
    )


def _stretch(piece: Piece, response: Response, weight: float) -> Stretch:
    return tuple((point.gpu_watts * response.gpus, point.performance_ratio * weight) for point in piece)
