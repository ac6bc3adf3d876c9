"""Where a tier stands: refused, or what keeps it from being chosen by itself, and what to look at."""

from enum import StrEnum

from slurm_power.model.tier import (
    Family,
    PowerSource,
    Quality,
    Tier,
    TierMethod,
    better_than_parent,
    refusals,
)
from slurm_power.tiers.pareto import dominated_by

LONGEST_MODEL_PATH = 256
"""More is not put into a job's environment."""

_MADE_FROM_ANOTHER = frozenset({TierMethod.INT8, TierMethod.INT4, TierMethod.PRUNED, TierMethod.DISTILLED})


class Standing(StrEnum):
    """One thing that is to say of a tier. Only one of which nothing is to say is chosen automatically.

    A dominated one is not chosen where the better one may be.
    """

    REFUSED = "refused"
    NOT_APPROVED = "not approved"
    UNKNOWN_POWER = "unknown power"
    DOMINATED = "dominated"


def standing(family: Family, tier: Tier, *, gpus_there: int | None = None) -> tuple[Standing, ...]:
    """All that is to say of a tier, the gravest first; empty for one that may be chosen."""
    said = {
        Standing.REFUSED: bool(refusals(family, tier, gpus_there=gpus_there)),
        Standing.NOT_APPROVED: not tier.approved_by,
        Standing.UNKNOWN_POWER: tier.watts is None,
        Standing.DOMINATED: bool(dominated_by(family, tier)),
    }
    return tuple(one for one, holds in said.items() if holds)


def warnings(family: Family) -> dict[str, list[str]]:
    """What is to be looked at in a family, by the name of the tier; under the empty name what is of all."""
    found = {"": _family_warnings(family)}
    for tier in family.tiers:
        found[tier.name] = [*_evidence(family, tier), *_power(tier), *_model(tier)]
    return {name: said for name, said in found.items() if said}


def _family_warnings(family: Family) -> list[str]:
    said = [] if family.tiers else ["it has no tiers yet"]
    measured = [tier for tier in family.tiers if tier.quality is not None]
    if family.floor is None:
        said.append("it has no floor: no tier is too bad for it")
    elif measured and not any(
        tier.quality is not None and family.at_least(tier.quality.value, family.floor) for tier in measured
    ):
        side = "high" if family.higher_is_better else "low"
        said.append(
            f"no tier meets the floor of {family.floor:g} in {family.metric}: is it too {side}, or on the"
            " wrong side?"
        )
    if family.max_drop is None:
        said.append("it has no subgroup.max_drop: a tier may lose a whole subgroup unseen")
    if not family.fingerprint:
        said.append("it has no fingerprint of its data pipeline: serving may prepare data in another way")
    return said


def _evidence(family: Family, tier: Tier) -> list[str]:
    """How well its quality is known."""
    quality = tier.quality
    if quality is None:
        return []
    said = []
    if quality.ci95 is None:
        said.append(f"its {family.metric} has no interval (ci95): nobody can tell a difference from chance")
    elif family.floor is not None and family.at_least(quality.value, family.floor):
        worst = quality.value - quality.ci95 if family.higher_is_better else quality.value + quality.ci95
        if not family.at_least(worst, family.floor):
            said.append(
                f"its {family.metric} of {quality.value:g} +-{quality.ci95:g} may well miss the floor of"
                f" {family.floor:g}"
            )
    if better_than_parent(family, tier) and tier.better_than_parent:
        said.append(f"it is better than {tier.parent}; said to be so because: {tier.better_than_parent}")
    said += _perhaps_too_good(family, tier, quality)
    if tier.method in _MADE_FROM_ANOTHER and not tier.parent:
        said.append(f"it is {tier.method} and does not say of which parent")
    return said


def _perhaps_too_good(family: Family, tier: Tier, quality: Quality) -> list[str]:
    """Better than its parent, and no interval tells whether by more than chance."""
    parent = family.tier(tier.parent)
    if parent is None or parent.quality is None or None not in (quality.ci95, parent.quality.ci95):
        return []
    if quality.value == parent.quality.value or not family.at_least(quality.value, parent.quality.value):
        return []
    return [f"it is better than its parent {parent.name}, by chance or not: one of them has no interval"]


def _power(tier: Tier) -> list[str]:
    if tier.watts_per_gpu is None or tier.power_source is PowerSource.UNKNOWN:
        return ["nobody knows what it draws, so it is never chosen automatically"]
    if tier.power_source is PowerSource.PROXY:
        return ["its power is guessed by a proxy, so it is never chosen automatically"]
    return []


def _model(tier: Tier) -> list[str]:
    said = []
    if tier.model_path and not tier.sha256:
        said.append("its model has no sha256: corrupt or swapped weights would not be seen")
    if len(tier.model_path) > LONGEST_MODEL_PATH:
        said.append(
            f"the path of its model is longer than {LONGEST_MODEL_PATH} characters, jobs are not told it"
        )
    if not tier.licence:
        said.append("it does not say its licence")
    return said
