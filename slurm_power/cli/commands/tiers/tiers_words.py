"""Tiers as people read them: the table of a family, all of one tier, numbers with their intervals."""

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from slurm_power.cli.commands.quantities import plain_text, watts_text
from slurm_power.model.tier import Family, Quality, Tier, refusals
from slurm_power.tiers.pareto import COSTS, Cost, Placed, dominated_by
from slurm_power.tiers.standing import Standing, standing, warnings

_DASH = "\N{EN DASH}"
_PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
_STYLES = {Standing.REFUSED: "red", Standing.DOMINATED: "dim"}


def number_text(value: float | None, unit: str = "") -> str:
    """Four digits of a number with its unit, in thousands where it is large: ``1.767 MB``, ``0.47 ms``."""
    if value is None:
        return _DASH
    if not unit:
        return f"{value:,.0f}" if abs(value) >= 1e4 and value == int(value) else f"{value:.4g}"
    scales = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u"))
    least = 1.0 if unit == "B" else 0.0
    fits = (pair for pair in scales if abs(value) >= pair[0] >= least)
    scale, prefix = next(fits, (1.0, ""))
    return f"{value / scale:.4g} {prefix}{unit}"


def quality_text(quality: Quality | None) -> str:
    """``0.983 +-0.011``, or a dash for what was never measured."""
    if quality is None:
        return _DASH
    interval = "" if quality.ci95 is None else f" {_PLUS_MINUS}{quality.ci95:.2g}"
    return f"{quality.value:.4g}{interval}"


def worst_text(quality: Quality | None) -> str:
    """``0.942 (8)``: the worst subgroup and its name."""
    if quality is None or quality.worst_group is None:
        return _DASH
    name = f" ({plain_text(quality.worst_group_name)})" if quality.worst_group_name else ""
    return f"{quality.worst_group:.4g}{name}"


def state_text(family: Family, tier: Tier) -> str:
    """``ok``, or what is to say of a tier, with colours."""
    said = standing(family, tier)
    if not said:
        return "[green]ok[/green]"
    if Standing.REFUSED in said:
        said = (Standing.REFUSED,)  # what else there is no longer matters
    return ", ".join(
        f"[{style}]{one}[/{style}]" if (style := _STYLES.get(one)) else one.value for one in said
    )


def family_line(family: Family) -> str:
    """One line that says what a family's tiers are for and held to."""
    what = ", ".join(filter(None, (family.task, family.workload.value)))
    bound = ""
    if family.floor is not None:
        bound = f" {'at least' if family.higher_is_better else 'at most'} {family.floor:g}"
    data = f" on {family.data}" if family.data else ""
    whose = f", {family.owner}'s" if family.owner else ""
    return plain_text(f": {what}; {family.metric}{bound}{data}{whose}")


def family_table(family: Family) -> Table:
    """A row a tier."""
    table = Table(box=None, header_style="dim")
    for heading in ("tier", "method"):
        table.add_column(heading, no_wrap=True)
    for heading in (family.metric, "GPUs", "power"):
        table.add_column(escape(heading), justify="right", no_wrap=True)
    table.add_column("state")
    for tier in family.tiers:
        table.add_row(
            tier.name,
            f"{tier.method} of {tier.parent}" if tier.parent else tier.method.value,
            quality_text(tier.quality),
            str(tier.gpu_count),
            watts_text(tier.watts),
            state_text(family, tier),
        )
    return table


def comparison_table(family: Family, cost: Cost, placed: tuple[Placed, ...]) -> Table:
    """A row a tier, the cheapest first; the last column says why one is not on the front."""
    table = Table(box=None, header_style="dim")
    table.add_column("tier", no_wrap=True)
    for heading in (family.metric, "worst group", cost.title):
        table.add_column(escape(heading), justify="right", no_wrap=True)
    table.add_column("")
    ordered = sorted(placed, key=lambda one: (one.cost is None, one.cost or 0.0))
    for one in ordered:
        table.add_row(
            one.tier.name,
            quality_text(one.tier.quality),
            escape(worst_text(one.tier.quality)),
            number_text(one.cost, cost.unit),
            escape(place_text(one)),
            style="" if one.on_front else "dim",
        )
    return table


def place_text(one: Placed) -> str:
    """Why a tier is on the Pareto front, or why not."""
    if one.on_front:
        return "front"
    if one.refused:
        return f"refused: {plain_text('; '.join(one.refused))}"
    if one.dominated_by:
        return f"dominated by {', '.join(one.dominated_by)}"
    return "its cost is unknown"


def family_lines(family: Family) -> Iterator[str]:
    """What stands in the catalog of a family as a whole."""
    if family.subgroup_by:
        bound = (
            "" if family.max_drop is None else f", at most {family.max_drop:g} worse than in the first tier"
        )
        yield f"subgroups by {plain_text(family.subgroup_by)}: {plain_text(family.subgroup_metric)}{bound}"
    if family.fingerprint:
        yield f"data pipeline {plain_text(family.fingerprint)}"
    for said in warnings(family).get("", []):
        yield f"warning: {said}"


def tier_lines(family: Family, tier: Tier) -> Iterator[str]:
    """All that is known of a tier, a line each; what speaks against it comes first."""
    for why in refusals(family, tier):
        yield f"refused: {plain_text(why)}"
    if better := dominated_by(family, tier):
        yield f"dominated by {', '.join(better)}: as good, and costs no more in anything known"
    for said in warnings(family).get(tier.name, []):
        yield f"warning: {plain_text(said)}"
    yield from (f"{name:<22} {plain_text(value)}" for name, value in _tier_rows(family, tier) if value)


def _tier_rows(family: Family, tier: Tier) -> Iterator[tuple[str, str]]:
    line = [one.name for one in family.ancestors(tier)]
    yield "method", f"{tier.method} of {line[0]}" if line else tier.method.value
    yield "lineage", " <- ".join([tier.name, *line]) if len(line) > 1 else ""
    yield "model", tier.model_path
    yield "sha256", tier.sha256
    yield "licence", tier.licence
    yield from _quality_rows(family, tier.quality)
    yield "GPUs", str(tier.gpu_count)
    per_gpu = f"{tier.watts_per_gpu:g} W a GPU" if tier.watts_per_gpu is not None else "unknown"
    yield "power", f"{per_gpu} ({tier.power_source})"
    if tier.items_per_second is not None:
        yield "throughput", f"{number_text(tier.items_per_second)} items/s"
    for name in ("joules", "latency", "latency-p99", "bytes", "memory", "macs"):
        cost = COSTS[name]
        if (value := cost.of(tier)) is not None:
            yield _SHORT[name], number_text(value, cost.unit)
    yield "sbatch", " ".join(tier.sbatch)
    yield "environment", " ".join(f"{name}={value}" for name, value in tier.environment.items())
    on = f" on {tier.approved_date}" if tier.approved_date else ""
    yield "approved", f"by {tier.approved_by}{on}" if tier.approved_by else "by nobody"


_SHORT = {
    "joules": "energy per item",
    "latency": "latency p50",
    "latency-p99": "latency p99",
    "bytes": "model size",
    "memory": "memory",
    "macs": "multiply-adds",
}


def _quality_rows(family: Family, quality: Quality | None) -> Iterator[tuple[str, str]]:
    if quality is None:
        yield family.metric, "never measured"
        return
    samples = f", {quality.sample_count} samples" if quality.sample_count else ""
    yield family.metric, f"{quality_text(quality)}{samples}"
    if quality.worst_group is not None:
        yield "worst group", f"{worst_text(quality)} in {family.subgroup_metric}"
    if quality.groups:
        yield "groups", ", ".join(f"{name} {value:.4g}" for name, value in sorted(quality.groups.items()))
    for name, value in sorted(quality.more.items()):
        yield name, f"{value:.6g}"
    day = f", {quality.measured_date}" if quality.measured_date else ""
    if quality.measured_on or day:
        yield "measured on", f"{quality.measured_on}{day}".removeprefix(", ")
