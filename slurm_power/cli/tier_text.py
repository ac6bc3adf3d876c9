"""What the catalog knows of a job's tier and of those that it may be moved to, in lines and as an object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurm_power.cli.explain_text import plain
from slurm_power.model.tier import ANY_TIER, Family, PowerSource, Tier, refusals

if TYPE_CHECKING:
    from slurm_power.cli.tier_choice import TierChoice

_SOURCES = {
    PowerSource.NVML: "measured by NVML",
    PowerSource.RAPL: "measured by RAPL",
    PowerSource.PDU: "measured by a PDU",
    PowerSource.DECLARED: "declared by who made it",
    PowerSource.PROXY: "guessed by a proxy",
    PowerSource.UNKNOWN: "of unknown source",
}


def tier_lines(choice: TierChoice, min_quality: float | None, run_seconds: float | None) -> list[str]:
    """Sentences and a table; ``run_seconds`` is how long the job should run, None for unknown."""
    family, tier = choice.family, choice.tier
    if family is None or tier is None:
        return [f"Of the tier {choice.full_name} nothing is known here: no catalog that can be read has it."]
    lines = [f"Its tier {choice.full_name}: {_quality(family, tier)}, {_draw(tier)}."]
    if tier.watts is not None and run_seconds:
        lines.append(f"Over the expected run that is {_kwh(tier.watts * run_seconds)} of its GPUs.")
    if not choice.consent:
        return [*lines, "It is never moved to another tier: --tiers-ok names none."]
    rows = [_Consented(family, tier, other, min_quality) for other in consented(choice)]
    if not rows:
        return [*lines, "Its family has no other tier that it could be moved to."]
    lines.append("What the tiers that it may be moved to would mean (unknown: ?):")
    return lines + _table([("", "GPUs", "draws", "quality", "speed", ""), *(row.cells() for row in rows)])


def tier_object(choice: TierChoice, min_quality: float | None) -> dict[str, Any]:
    """The same for programs; what is not known is null."""
    family, tier = choice.family, choice.tier
    found: dict[str, Any] = {"name": choice.full_name, "catalog": choice.catalog or None}
    if family is None or tier is None:
        return {**found, "known": None, "tiers_ok": []}
    others = [_Consented(family, tier, other, min_quality) for other in consented(choice)]
    return {
        **found,
        "known": _figures(family, tier),
        "tiers_ok": [
            {"name": row.other.name, **_figures(family, row.other), "not_chosen_because": row.obstacles()}
            for row in others
        ],
    }


def consented(choice: TierChoice) -> list[Tier]:
    """The other tiers of its family that the user consents to."""
    if choice.family is None or choice.tier is None:
        return []
    return [
        other
        for other in choice.family.tiers
        if other.name != choice.tier.name and (other.name in choice.consent or ANY_TIER in choice.consent)
    ]


def _figures(family: Family, tier: Tier) -> dict[str, Any]:
    quality = tier.quality
    return {
        "gpu_count": tier.gpu_count,
        "watts": tier.watts,
        "power_source": tier.power_source.value,
        "joules_per_item": tier.joules_per_item,
        "items_per_second": tier.items_per_second,
        "metric": family.metric,
        "quality": None if quality is None else quality.value,
        "quality_ci95": None if quality is None else quality.ci95,
    }


class _Consented:
    """A tier that a job may be moved to, beside the one that it has."""

    def __init__(self, family: Family, tier: Tier, other: Tier, min_quality: float | None) -> None:
        self.family = family
        self.tier = tier
        self.other = other
        self.min_quality = min_quality

    def obstacles(self) -> list[str]:
        """Why it would not be chosen."""
        other, found = self.other, list(refusals(self.family, self.other))
        if found:
            return [f"refused: {reason}" for reason in found]
        least, quality = self.min_quality, other.quality
        if least is not None and quality is not None and not self.family.at_least(quality.value, least):
            found.append(f"its {self.family.metric} misses your {least:g}")
        if not other.approved_by:
            found.append("nobody has approved it")
        if other.watts is None:
            found.append("its power is unknown")
        elif self.tier.watts is None:
            found.append(f"the power of {self.tier.name} is unknown")
        elif other.watts >= self.tier.watts:
            found.append("it draws no less")
        return found

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        other, now = self.other, self.tier
        speed = "?"
        if other.items_per_second is not None and now.items_per_second:
            speed = f"{other.items_per_second / now.items_per_second:.2f} x"
        quality = _quality(self.family, other) if other.quality is not None else "?"
        obstacles = self.obstacles()
        note = f"not chosen: {plain('; '.join(obstacles))}" if obstacles else ""
        return other.name, str(other.gpu_count), _watts(other.watts), quality, speed, note


def _quality(family: Family, tier: Tier) -> str:
    quality = tier.quality
    if quality is None:
        return f"{plain(family.metric)} never measured"
    interval = "" if quality.ci95 is None else f" +- {quality.ci95:g}"
    return f"{plain(family.metric)} {quality.value:g}{interval}"


def _draw(tier: Tier) -> str:
    if tier.watts_per_gpu is None:
        return "its draw is unknown"
    gpus = "1 GPU" if tier.gpu_count == 1 else f"{tier.gpu_count} GPUs"
    total = tier.watts_per_gpu * tier.gpu_count
    per_item = "" if tier.joules_per_item is None else f", {tier.joules_per_item:g} J an item"
    return f"{_watts(total)} on {gpus}{per_item}, {_SOURCES[tier.power_source]} (catalog)"


def _watts(watts: float | None) -> str:
    if watts is None:
        return "?"
    return f"{watts:.0f} W" if watts < 1000.0 else f"{watts / 1000.0:.1f} kW"


def _kwh(joules: float) -> str:
    kwh = joules / 3.6e6
    return f"{kwh:.2f} kWh" if kwh < 10.0 else f"{kwh:.0f} kWh"


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
