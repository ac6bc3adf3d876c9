"""Model tiers: several models for one task, from the heaviest to the lightest, with what is known of each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from slurm_power.model.job import Workload
from slurm_power.model.quality_metric import known_direction

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
    variables of its jobs. ``gpu_count`` is for the whole job, 0 for a tier that needs none. One that is
    better than its parent by more than chance explains needs a person's word why: ``better_than_parent``.
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
    better_than_parent: str = ""

    @property
    def watts(self) -> float | None:
        """Draw of all its GPUs, None where nobody knows or it was only guessed by a proxy."""
        if self.watts_per_gpu is None or self.power_source in (PowerSource.UNKNOWN, PowerSource.PROXY):
            return None
        if not math.isfinite(self.watts_per_gpu) or self.watts_per_gpu < 0.0:
            return None
        return self.watts_per_gpu * self.gpu_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The tiers of one task, and what each has to keep to.

    ``floor`` is the worst value of ``metric`` that is still allowed, None for no floor. ``max_drop`` is how
    much worse than in the first tier the subgroup metric of any subgroup may be. Whether more of the
    subgroup metric is better: ``subgroup_higher_is_better``, else as its name tells, else as for ``metric``.
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
    subgroup_higher_is_better: bool | None = None
    max_drop: float | None = None
    owner: str = ""
    """Empty for the site's own, else the user whose catalog it stands in."""

    def tier(self, name: str) -> Tier | None:
        """The tier of that name, None where there is none."""
        return next((tier for tier in self.tiers if tier.name == name), None)

    def at_least(self, value: float, bound: float) -> bool:
        """Whether a value of the metric is as good as ``bound`` or better."""
        return value >= bound if self.higher_is_better else value <= bound

    def subgroup_loss(self, before: float, after: float) -> float:
        """How much worse a value of the subgroup metric has become; below 0 where it got better."""
        higher = self.subgroup_higher_is_better
        if higher is None:
            higher = known_direction(self.subgroup_metric)
        if higher is None:
            higher = self.higher_is_better
        return before - after if higher else after - before

    def ancestors(self, tier: Tier) -> tuple[Tier, ...]:
        """Its parent, the parent's parent and so on; ends before any tier would come a second time."""
        by_name = {one.name: one for one in reversed(self.tiers)}
        found: dict[str, Tier] = {}
        parent = by_name.get(tier.parent)
        while parent is not None and parent.name != tier.name and parent.name not in found:
            found[parent.name] = parent
            parent = by_name.get(parent.parent)
        return tuple(found.values())


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


def refusals(family: Family, tier: Tier, *, gpus_there: int | None = None) -> tuple[str, ...]:
    """Why a tier must not be used, one sentence each; empty where nothing speaks against it.

    ``gpus_there``: the most GPUs that a job may get, None where nobody knows.
    """
    found = list(_lineage(family, tier))
    if gpus_there is not None and tier.gpu_count > gpus_there:
        found.append(f"it needs {tier.gpu_count} GPUs and there are {gpus_there}")
    quality = tier.quality
    if quality is None:
        return (*found, f"its {family.metric} was never measured")
    if not math.isfinite(quality.value):
        return (*found, f"its {family.metric} is {quality.value:g}, which is no number to judge by")
    if family.floor is not None and not family.at_least(quality.value, family.floor):
        side = "below" if family.higher_is_better else "above"
        found.append(f"its {family.metric} of {quality.value:g} is {side} the floor of {family.floor:g}")
    return (*found, *_dropped(family, tier), *_too_good(family, tier))


def _lineage(family: Family, tier: Tier) -> Sequence[str]:
    """A parent that is not there, or parents in a circle."""
    line = [tier, *family.ancestors(tier)]
    last = line[-1].parent
    if not last:
        return ()
    if family.tier(last) is None:
        return (f"there is no tier {last} that {line[-1].name} could have been made from",)
    return (f"its parents go in a circle: {' from '.join([*(one.name for one in line), last])}",)


def _dropped(family: Family, tier: Tier) -> Sequence[str]:
    """Subgroups that fare too much worse than in the first tier of the family."""
    if family.max_drop is None or tier.quality is None or not family.tiers:
        return ()
    first = family.tiers[0]
    if tier.name == first.name:
        return ()
    of = family.subgroup_metric or "quality"
    what = f"{of} by {family.subgroup_by or 'subgroup'}"
    if first.quality is None:
        return (f"its {what} cannot be judged, {first.name} was never measured",)
    before, after = dict(first.quality.groups), dict(tier.quality.groups)
    if not before or not after:
        if first.quality.worst_group is None or tier.quality.worst_group is None:
            missing = tier if tier.quality.worst_group is None and not after else first
            return (f"the {what} of {missing.name} was never measured",)
        before, after = (
            {"the worst group": first.quality.worst_group},
            {"the worst group": tier.quality.worst_group},
        )
    lost = {name: family.subgroup_loss(before[name], after[name]) for name in before if name in after}
    return [
        f"{name} loses {lost[name]:.4g} in {of}, {family.max_drop:g} are allowed"
        if name in lost
        else f"{name} was not measured"
        for name in sorted(before)
        # A loss that is no number is no loss that is small enough.
        if name not in lost or not lost[name] <= family.max_drop + 1e-12
    ]


def better_than_parent(family: Family, tier: Tier) -> str:
    """Name the tier it was made from if that is worse and both 95 % intervals lie apart, else nothing."""
    parent = family.tier(tier.parent)
    if parent is None or parent.quality is None or tier.quality is None:
        return ""
    if parent.quality.ci95 is None or tier.quality.ci95 is None:
        return ""
    gain = tier.quality.value - parent.quality.value
    gain = gain if family.higher_is_better else -gain
    return parent.name if gain > parent.quality.ci95 + tier.quality.ci95 else ""


def _too_good(family: Family, tier: Tier) -> Sequence[str]:
    """A copy that beats what it was made from has mostly seen the test, or its parent was weak."""
    parent = better_than_parent(family, tier)
    if not parent or tier.better_than_parent:
        return ()
    found = (
        f"it is better than its parent {parent} by more than both intervals: look for a weak {parent} or for"
        " test rows that it was trained on; if there is a reason, write it as better_than_parent"
    )
    return (found,)


def lighter_choices(
    family: Family, *, current: str, allowed: Sequence[str], min_quality: float | None = None
) -> tuple[Tier, ...]:
    """The tiers that a job on ``current`` may be moved to to save power, the lightest draw first.

    Only consented (``allowed``: names, or ``any``), not refused, as good as ``min_quality``, approved, of
    known power that is below the current tier's. One that another of them beats in draw, quality and
    throughput is left out. Empty where the current tier or its power is unknown, and in a user's own family.
    """
    now = family.tier(current)
    if now is None or now.watts is None or family.owner:
        return ()
    known = [(tier.watts, tier) for tier in family.tiers if _may(family, tier, allowed, min_quality)]
    lighter = [(watts, tier) for watts, tier in known if watts is not None and watts < now.watts]
    return tuple(
        tier
        for _, tier in sorted(lighter, key=lambda pair: pair[0])
        if not any(_beats(family, other, tier) for _, other in lighter)
    )


def _may(family: Family, tier: Tier, allowed: Sequence[str], min_quality: float | None) -> bool:
    if tier.name not in allowed and ANY_TIER not in allowed:
        return False
    if refusals(family, tier) or not tier.approved_by or tier.watts is None or tier.quality is None:
        return False
    return min_quality is None or family.at_least(tier.quality.value, min_quality)


def _beats(family: Family, one: Tier, other: Tier) -> bool:
    """Whether one tier is as good as the other in draw, quality and throughput, and better in one of them."""
    if one.watts is None or other.watts is None or one.quality is None or other.quality is None:
        return False
    if one.watts > other.watts or not family.at_least(one.quality.value, other.quality.value):
        return False
    rates = (one.items_per_second, other.items_per_second)
    if rates[0] is None or rates[1] is None:
        # Nobody knows which is faster: that may be why somebody keeps it.
        if rates != (None, None):
            return False
        rates = (0.0, 0.0)
    faster = rates[0] - rates[1]  # type: ignore[operator]  # both are numbers by the lines above
    better = one.watts < other.watts or one.quality.value != other.quality.value
    return faster >= 0.0 and (better or faster > 0.0)
