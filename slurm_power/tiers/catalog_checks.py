"""What is wrong with a family as a whole: names twice, parents in a circle, a metric of the wrong side."""

from collections import Counter

from slurm_power.model.quality_metric import is_ratio, known_direction
from slurm_power.model.tier import Family, Quality, Tier


def family_problems(family: Family, path: str) -> list[str]:
    """All problems that show only when the tiers are looked at together, each with its path."""
    problems = [*_metric_problems(family, path)]
    counted = Counter(tier.name for tier in family.tiers)
    problems += [
        f"{path}.tier: the name {name} is given to {count} tiers"
        for name, count in counted.items()
        if name and count > 1
    ]
    for number, tier in enumerate(family.tiers, start=1):
        named = f" ({tier.name})" if tier.name else ""
        problems += _tier_problems(family, tier, f"{path}.tier[{number}]{named}")
    return problems + _circles(family, path)


def _metric_problems(family: Family, path: str) -> list[str]:
    problems = []
    better = known_direction(family.metric)
    if better is not None and better != family.higher_is_better:
        which = "higher" if better else "lower"
        problems.append(
            f"{path}.higher_is_better: {which} {family.metric} is better; write higher_is_better ="
            f" {str(better).lower()}"
        )
    better = known_direction(family.subgroup_metric)
    told = family.subgroup_higher_is_better
    if better is not None and told is not None and better != told:
        problems.append(
            f"{path}.subgroup.higher_is_better: is wrong for {family.subgroup_metric}; leave it out"
        )
    if family.floor is not None and not _fits(family.metric, family.floor):
        problems.append(f"{path}.floor: {_not_a_share(family.metric, family.floor)}")
    return problems


def _tier_problems(family: Family, tier: Tier, path: str) -> list[str]:
    problems = []
    if tier.parent and tier.parent != tier.name and family.tier(tier.parent) is None:
        names = ", ".join(one.name for one in family.tiers if one.name and one.name != tier.name)
        problems.append(
            f"{path}.parent: there is no tier {tier.parent} here; there are: {names or 'no others'}"
        )
    if tier.quality is not None:
        problems += [
            f"{path}.quality.{key}: {_not_a_share(metric, value)}"
            for key, metric, value in _measured(family, tier.quality)
            if not _fits(metric, value)
        ]
    return problems


def _measured(family: Family, quality: Quality) -> list[tuple[str, str, float]]:
    """Each value with its key and the metric that it is of."""
    rows = [("value", family.metric, quality.value)]
    if quality.worst_group is not None:
        rows.append(("worst_group", family.subgroup_metric, quality.worst_group))
    rows += [(f"groups.{name}", family.subgroup_metric, value) for name, value in quality.groups.items()]
    return rows + [(f"more.{name}", name, value) for name, value in quality.more.items()]


def _fits(metric: str, value: float) -> bool:
    return not is_ratio(metric) or 0.0 <= value <= 1.0


def _not_a_share(metric: str, value: float) -> str:
    hint = f"; write {value / 100:.4g} for {value:g} %" if 1.0 < value <= 100.0 else ""
    return f"{metric} is a share from 0 to 1, not {value:g}{hint}"


def _circles(family: Family, path: str) -> list[str]:
    """Each circle of parents once, from its first tier on."""
    problems = []
    told: set[str] = set()
    for tier in family.tiers:
        names = [tier.name, *(one.name for one in family.ancestors(tier))]
        last = family.tier(names[-1])
        if last is not None and last.parent == tier.name and not told & set(names):
            told |= set(names)
            problems.append(f"{path}.tier: parents in a circle: {' from '.join([*names, tier.name])}")
    return problems
