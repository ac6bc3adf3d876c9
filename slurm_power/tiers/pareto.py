"""Which tiers are worth having: a tier is dominated where another is as good and costs no more."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from slurm_power.model.tier import Family, Tier, refusals

CPU_SECONDS = "cpu_seconds_per_item"
"""Further metric of a tier's quality that holds its processor time per item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Something that less of is better; ``of`` takes it from a tier, None where nobody knows."""

    name: str
    title: str
    unit: str
    of: Callable[[Tier], float | None]


def _drawn_watts(tier: Tier) -> float | None:
    """However it was found: to compare with, not to plan with."""
    return None if tier.watts_per_gpu is None else tier.watts_per_gpu * tier.gpu_count


def _cpu_seconds(tier: Tier) -> float | None:
    return None if tier.quality is None else tier.quality.more.get(CPU_SECONDS)


def _seconds_per_item(tier: Tier) -> float | None:
    return 1.0 / tier.items_per_second if tier.items_per_second else None


COSTS: Mapping[str, Cost] = {
    cost.name: cost
    for cost in (
        Cost(name="watts", title="power of all its GPUs", unit="W", of=_drawn_watts),
        Cost(name="joules", title="energy per item", unit="J", of=lambda tier: tier.joules_per_item),
        Cost(name="cpu", title="processor time per item", unit="s", of=_cpu_seconds),
        Cost(name="time", title="time per item", unit="s", of=_seconds_per_item),
        Cost(name="latency", title="latency, median", unit="s", of=lambda tier: tier.latency_p50_seconds),
        Cost(name="latency-p99", title="latency, p99", unit="s", of=lambda tier: tier.latency_p99_seconds),
        Cost(name="macs", title="multiply-adds per item", unit="", of=lambda tier: tier.multiply_adds),
        Cost(name="bytes", title="size of the model", unit="B", of=lambda tier: tier.model_bytes),
        Cost(name="memory", title="memory", unit="B", of=lambda tier: tier.memory_bytes),
        Cost(name="gpus", title="GPUs", unit="", of=lambda tier: tier.gpu_count),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A tier among the others by one cost. ``dominated_by``: names, empty for one on the Pareto front.

    A tier of unknown quality or cost, and one that is refused, is on no front and dominates nobody.
    """

    tier: Tier
    cost: float | None
    refused: tuple[str, ...]
    dominated_by: tuple[str, ...]
    on_front: bool


def place(family: Family, cost: Cost) -> tuple[Placed, ...]:
    """Place all tiers of a family by one cost, in the order of the catalog."""
    refused = {tier.name: refusals(family, tier) for tier in family.tiers}
    found = []
    for tier in family.tiers:
        there = _point(tier, cost)
        better = [
            other.name
            for other in family.tiers
            if there is not None
            and not refused[other.name]
            and (point := _point(other, cost)) is not None
            and _dominates(family, point, there)
        ]
        found.append(
            Placed(
                tier=tier,
                cost=cost.of(tier),
                refused=refused[tier.name],
                dominated_by=tuple(better),
                on_front=there is not None and not better and not refused[tier.name],
            )
        )
    return tuple(found)


def first_known(family: Family) -> Cost | None:
    """The first cost in the order of the table that at least two measured tiers have, None for none."""
    for cost in COSTS.values():
        if sum(_point(tier, cost) is not None for tier in family.tiers) >= 2 and cost.name != "gpus":
            return cost
    return None


def dominated_by(family: Family, tier: Tier) -> tuple[str, ...]:
    """The tiers that are as good or better in quality and in every cost that is known of this one.

    One of them has to be better. A tier of which less is known dominates nobody: it may be slow.
    """
    if tier.quality is None:
        return ()
    own = {cost.name: value for cost in COSTS.values() if (value := cost.of(tier)) is not None}
    return tuple(
        other.name
        for other in family.tiers
        if other.name != tier.name
        and other.quality is not None
        and not refusals(family, other)
        and _all_better(family, other, tier, own)
    )


def _all_better(family: Family, other: Tier, tier: Tier, own: Mapping[str, float]) -> bool:
    if other.quality is None or tier.quality is None:
        return False
    # GPUs alone are known of every tier and say too little about it.
    if own.keys() <= {"gpus"} or not family.at_least(other.quality.value, tier.quality.value):
        return False
    better = other.quality.value != tier.quality.value
    for name, value in own.items():
        theirs = COSTS[name].of(other)
        if theirs is None or not theirs <= value:
            return False
        better = better or theirs < value
    return better


def _point(tier: Tier, cost: Cost) -> tuple[float, float] | None:
    value = cost.of(tier)
    if value is None or tier.quality is None:
        return None
    point = (tier.quality.value, float(value))
    return point if all(map(math.isfinite, point)) else None


def _dominates(family: Family, one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and family.at_least(one[0], other[0]) and one[1] <= other[1]
