"""The Pareto plot of a family as a file; needs matplotlib."""

from pathlib import Path

from slurm_power.cli.commands.tiers.tiers_words import place_text
from slurm_power.model.tier import Family
from slurm_power.report.live.tier_chart import TierChart, TierPoint, write_tier_chart
from slurm_power.tiers.pareto import Cost, Placed


def write_plot(family: Family, cost: Cost, placed: tuple[Placed, ...], file: Path) -> None:
    """Draw the tiers of which quality and cost are known; raises OSError."""
    write_tier_chart(chart_of(family, cost, placed), file)


def chart_of(family: Family, cost: Cost, placed: tuple[Placed, ...]) -> TierChart:
    """The family as plain values to draw."""
    return TierChart(
        title=f"Tiers of {family.name}",
        metric=family.metric,
        higher_is_better=family.higher_is_better,
        cost_title=cost.title,
        cost_unit=cost.unit,
        floor=family.floor,
        points=tuple(
            TierPoint(
                name=one.tier.name,
                quality=one.tier.quality.value,
                ci95=one.tier.quality.ci95,
                cost=one.cost,
                refused=bool(one.refused),
                on_front=one.on_front,
                remark=place_text(one),
            )
            for one in placed
            if one.tier.quality is not None and one.cost is not None
        ),
    )
