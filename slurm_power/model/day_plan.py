"""What the plan of the day says: when jobs of a class should start, and what the site's limits are worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from slurm_power.model.job import Flex


@dataclass(frozen=True, slots=True)
class JobClass:
    """Jobs that are alike to a plan of hours: up to so many hours and GPUs, with one promise."""

    hours: int
    gpus: int
    flex: Flex


@dataclass(frozen=True, slots=True, kw_only=True)
class DayPlan:
    """The hours that follow ``made_at``, one value an hour.

    ``starts``: jobs of each class to start in each hour. ``deferred``: how many of a class should wait
    although GPUs are free in this hour. ``grid_watts`` is what the grid connection would draw,
    ``discharge_watts`` of it from batteries (negative charges), ``cap_ratio`` how far of what may be capped
    is. ``power_price_per_kwh`` and ``gpu_price_per_hour`` are what one more kWh under the limit and one more
    GPU would save: the shadow prices. ``short_watts`` is by how much the limit cannot be met.
    """

    made_at: datetime
    starts: Mapping[JobClass, tuple[float, ...]]
    deferred: Mapping[JobClass, int]
    grid_watts: tuple[float, ...]
    discharge_watts: tuple[float, ...]
    cap_ratio: tuple[float, ...]
    power_price_per_kwh: tuple[float, ...]
    gpu_price_per_hour: tuple[float, ...]
    short_watts: tuple[float, ...]
    cost: float
