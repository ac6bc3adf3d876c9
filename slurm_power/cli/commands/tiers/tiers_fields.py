"""A tier and its family as JSON: the keys of tiers.toml, and what is made of them."""

from typing import Any

from slurm_power.model.tier import Family, Quality, Tier, refusals
from slurm_power.tiers.pareto import dominated_by
from slurm_power.tiers.standing import standing, warnings


def family_fields(family: Family) -> dict[str, Any]:
    """A family with all its tiers."""
    said = warnings(family)
    return {
        "family": family.name,
        "owner": family.owner or None,
        "task": family.task,
        "class": family.workload.value,
        "metric": family.metric,
        "higher_is_better": family.higher_is_better,
        "floor": family.floor,
        "data": family.data or None,
        "fingerprint": family.fingerprint or None,
        "subgroup": None
        if not family.subgroup_by
        else {"by": family.subgroup_by, "metric": family.subgroup_metric, "max_drop": family.max_drop},
        "warnings": said.get("", []),
        "tiers": [tier_fields(family, tier, said.get(tier.name, [])) for tier in family.tiers],
    }


def tier_fields(family: Family, tier: Tier, said: list[str]) -> dict[str, Any]:
    """One tier. ``state`` is empty for one that may be chosen; ``watts`` null where it never is."""
    return {
        "tier": f"{family.name}/{tier.name}",
        "state": [one.value for one in standing(family, tier)],
        "refused": list(refusals(family, tier)),
        "dominated_by": list(dominated_by(family, tier)),
        "warnings": said,
        "method": tier.method.value,
        "parent": tier.parent or None,
        "lineage": [one.name for one in family.ancestors(tier)],
        "model": tier.model_path or None,
        "sha256": tier.sha256 or None,
        "licence": tier.licence or None,
        "gpus": tier.gpu_count,
        "watts": tier.watts,
        "watts_per_gpu": tier.watts_per_gpu,
        "power_source": tier.power_source.value,
        "items_per_second": tier.items_per_second,
        "joules_per_item": tier.joules_per_item,
        "latency_p50_seconds": tier.latency_p50_seconds,
        "latency_p99_seconds": tier.latency_p99_seconds,
        "memory_bytes": tier.memory_bytes,
        "model_bytes": tier.model_bytes,
        "multiply_adds": tier.multiply_adds,
        "sbatch": list(tier.sbatch),
        "environment": dict(tier.environment),
        "quality": None if tier.quality is None else _quality(tier.quality),
        "approved": None
        if not tier.approved_by
        else {"by": tier.approved_by, "date": _date(tier.approved_date)},
        "better_than_parent": tier.better_than_parent or None,
    }


def _quality(quality: Quality) -> dict[str, Any]:
    return {
        "value": quality.value,
        "ci95": quality.ci95,
        "samples": quality.sample_count,
        "worst_group": quality.worst_group,
        "worst_group_name": quality.worst_group_name or None,
        "groups": dict(quality.groups),
        "more": dict(quality.more),
        "on": quality.measured_on or None,
        "date": _date(quality.measured_date),
    }


def _date(day: object) -> str | None:
    return None if day is None else str(day)
