"""Model tiers: several models for one task, from the heaviest to the lightest, with what is known of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from slurm_power.model.job import Workload

ANY_TIER = "any"
"""In place of names: every tier of the family that its checks let pass."""


class TierMethod(StrEnum):
    """How a tier was made from its parent."""

    NONE = "none"
    INT8 = "int8"
    INT4 = "int4"
    PRUNED = "pruned"
    DISTILLED = "distilled"
    NAS = "nas"
    CLASSICAL = "classical"
    SMALLER = "smaller"
    """A smaller model of the same kind, trained by itself."""


class PowerSource(StrEnum):
    """How a tier's power was found out. ``UNKNOWN`` is never chosen automatically."""

    NVML = "nvml"
    RAPL = "rapl"
    PDU = "pdu"
    DECLARED = "declared"
    """Said by whoever made the tier, such as from a data sheet."""
    PROXY = "proxy"
    """From processor time or the like: good to compare, not to plan with."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """A quality as it was measured, in the family's metric; ``ci95`` is half the width of its 95 % interval.

    ``worst_group`` is the subgroup metric of the subgroup that fares worst, ``worst_group_name`` which it is.
    ``groups`` has it for all of them, where it was kept. ``more`` are further metrics by name, such as
    ``distinct_2`` of a generator.
    """

    value: float
    ci95: float | None = None
    sample_count: int | None = None
    worst_group: float | None = None
    worst_group_name: str = ""
    groups: Mapping[str, float] = field(default_factory=dict)
    more: Mapping[str, float] = field(default_factory=dict)
    measured_on: str = ""
    measured_date: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One model of a family.

    ``parent`` names the tier of the same family that it was made from, empty for none. ``sha256`` is that of
    the model's file, or of the sorted list of sums of the files in its folder. ``watts_per_gpu`` is its
    mean draw per GPU at work, None where nobody knows. ``sbatch`` are extra arguments, ``environment``
    variables of its jobs. ``gpu_count`` is for the whole job.
    """

    name: str
    method: TierMethod = TierMethod.NONE
    parent: str = ""
    model_path: str = ""
    sha256: str = ""
    licence: str = ""
    quality: Quality | None = None
    gpu_count: int = 1
    watts_per_gpu: float | None = None
    power_source: PowerSource = PowerSource.UNKNOWN
    items_per_second: float | None = None
    latency_p50_seconds: float | None = None
    latency_p99_seconds: float | None = None
    joules_per_item: float | None = None
    memory_bytes: int | None = None
    model_bytes: int | None = None
    multiply_adds: int | None = None
    sbatch: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    approved_by: str = ""
    approved_date: date | None = None

    @property
    def watts(self) -> float | None:
        """Draw of all its GPUs, None where nobody knows or it was only guessed by a proxy."""
        if self.watts_per_gpu is None or self.power_source in (PowerSource.UNKNOWN, PowerSource.PROXY):
            return None
        return self.watts_per_gpu * self.gpu_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The tiers of one task, and what each has to keep to.

    ``floor`` is the worst value of ``metric`` that is still allowed, None for no floor. ``max_drop`` is how
    much worse than in the first tier the subgroup metric of any subgroup may be.
    """

    name: str
    task: str
    workload: Workload
    metric: str
    tiers: tuple[Tier, ...]
    higher_is_better: bool = True
    floor: float | None = None
    data: str = ""
    fingerprint: str = ""
    subgroup_by: str = ""
    subgroup_metric: str = ""
    max_drop: float | None = None
    owner: str = ""
    """Empty for the site's own, else the user whose catalog it stands in."""

    def tier(self, name: str) -> Tier | None:
        """The tier of that name, None where there is none."""
        return next((tier for tier in self.tiers if tier.name == name), None)

    def at_least(self, value: float, bound: float) -> bool:
        """Whether a value of the metric is as good as ``bound`` or better."""
        return value >= bound if self.higher_is_better else value <= bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All families by name. A tier's full name is ``family/tier``."""

    families: Mapping[str, Family] = field(default_factory=dict)

    def find(self, full_name: str) -> tuple[Family, Tier] | None:
        """The family and the tier of a full name, None where either is missing."""
        family_name, _, tier_name = full_name.partition("/")
        family = self.families.get(family_name)
        tier = None if family is None else family.tier(tier_name)
        return None if family is None or tier is None else (family, tier)


def refusals(family: Family, tier: Tier) -> tuple[str, ...]:
    """Why a tier must not be used, one sentence each; empty where nothing speaks against it."""
    quality = tier.quality
    if quality is None:
        return (f"its {family.metric} was never measured",)
    found = []
    if family.floor is not None and not family.at_least(quality.value, family.floor):
        side = "below" if family.higher_is_better else "above"
        found.append(f"its {family.metric} of {quality.value:g} is {side} the floor of {family.floor:g}")
    found.extend(_dropped(family, tier))
    return tuple(found)


def _dropped(family: Family, tier: Tier) -> Sequence[str]:
    """Subgroups that fare too much worse than in the first tier of the family."""
    first = family.tiers[0].quality
    quality = tier.quality
    if family.max_drop is None or first is None or quality is None or tier is family.tiers[0]:
        return ()
    before, after = dict(first.groups), dict(quality.groups)
    if not before or not after:
        if first.worst_group is None or quality.worst_group is None:
            return (
                f"its {family.subgroup_metric or 'subgroups'} by {family.subgroup_by} was never measured",
            )
        before, after = {"the worst": first.worst_group}, {"the worst": quality.worst_group}
    missing = sorted(before.keys() - after.keys())
    dropped = [
        f"{name} loses {before[name] - after[name]:g} in {family.subgroup_metric},"
        f" {family.max_drop:g} are allowed"
        for name in sorted(before.keys() & after.keys())
        if before[name] - after[name] > family.max_drop + 1e-12
    ]
    return [*dropped, *(f"{name} was not measured" for name in missing)]


def lighter_choices(
    family: Family, *, current: str, allowed: Sequence[str], min_quality: float | None = None
) -> tuple[Tier, ...]:
    """The tiers that a job on ``current`` may be moved to to save power, the lightest draw first.

    Only consented (``allowed``: names, or ``any``), not refused, as good as ``min_quality``, approved, of
    known power that is below the current tier's. Empty where the current tier or its power is unknown.
    """
    now = family.tier(current)
    if now is None or now.watts is None:
        return ()
    known = [(tier.watts, tier) for tier in family.tiers if _may(family, tier, allowed, min_quality)]
    lighter = [(watts, tier) for watts, tier in known if watts is not None and watts < now.watts]
    return tuple(tier for _, tier in sorted(lighter, key=lambda pair: pair[0]))


def _may(family: Family, tier: Tier, allowed: Sequence[str], min_quality: float | None) -> bool:
    if tier.name not in allowed and ANY_TIER not in allowed:
        return False
    if refusals(family, tier) or not tier.approved_by or tier.watts is None or tier.quality is None:
        return False
    return min_quality is None or family.at_least(tier.quality.value, min_quality)
