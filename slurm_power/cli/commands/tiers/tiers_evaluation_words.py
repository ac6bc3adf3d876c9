"""An evaluation in lines for a terminal."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from slurm_power.cli.commands.quantities import plain_text
from slurm_power.cli.commands.tiers.tiers_words import number_text
from slurm_power.model.tier import PowerSource
from slurm_power.tiers.evaluating.evaluation import Evaluation
from slurm_power.tiers.evaluating.groups import Group
from slurm_power.tiers.evaluating.intervals import Estimate

_GROUPS_SHOWN = 12
_WIDTH = 22


def lines(
    evaluation: Evaluation, notes: Sequence[str], refused: Sequence[str], path: Path, recorded: str
) -> Iterator[str]:
    """What was found, one thing a line; ``recorded`` says where in a catalog, empty for nowhere."""
    task = evaluation.task
    yield f"{evaluation.directory}  {evaluation.description.method}, of {task.name}, on {evaluation.split}"
    yield _line(task.metric, _estimate(evaluation.quality.metric))
    yield from _group_lines(evaluation)
    more = evaluation.more()
    skipped = ("items_per_joule", "items_per_cpu_second", "cpu_seconds_per_item")
    for name in (name for name in more if name not in skipped):
        unit = "s" if name.endswith(("_seconds", "_per_token")) else ""
        yield _line(name, number_text(more[name], unit))
    speed = evaluation.speed
    median, p99 = (number_text(one, "s") for one in (speed.latency_p50_seconds, speed.latency_p99_seconds))
    yield _line("latency, one item", f"median {median}, p99 {p99}")
    batches = ", ".join(f"{number_text(batch.items_per_second)} at {batch.size}" for batch in speed.batches)
    yield _line("items per second", f"{batches} at once")
    yield _line("energy per item", _energy(evaluation))
    yield _line("model", number_text(evaluation.model_bytes, "B"))
    yield _line("multiply-adds", number_text(evaluation.multiply_adds))
    yield _line("memory at peak", number_text(speed.memory_bytes, "B"))
    yield _line("measured on", f"{evaluation.measured_on}, {evaluation.measured_date.isoformat()}")
    yield _line("written to", str(path) + (f", {recorded}" if recorded else ""))
    for note in notes:
        yield plain_text(f"note: {note}")
    for reason in refused:
        yield plain_text(f"refused: {reason}")


def _line(what: str, text: str) -> str:
    return plain_text(f"  {what:<{_WIDTH}} {text}")


def _estimate(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.4g}, of {estimate.count} row"
    return f"{estimate.value:.4g} (95 %: {estimate.low:.4g} to {estimate.high:.4g}), of {estimate.count} rows"


def _group_lines(evaluation: Evaluation) -> Iterator[str]:
    groups = evaluation.quality.groups
    if groups is None:
        return
    yield _line(f"{groups.metric} by {groups.by}", f"worst {groups.worst.name}")
    for group in groups.groups[:_GROUPS_SHOWN]:
        yield _line(f"  {group.name}", _group(group))
    if (left := len(groups.groups) - _GROUPS_SHOWN) > 0:
        yield _line("", f"and {left} that fare better")


def _group(group: Group) -> str:
    text = _estimate(group.estimate)
    return text if group.enough else f"{text}: too few to say, counts as {group.judged:.4g}"


def _energy(evaluation: Evaluation) -> str:
    energy = evaluation.energy
    cpu = f"{number_text(energy.cpu_seconds_per_item, 's')} of processor time"
    if energy.joules_per_item is None or energy.joules is None or energy.resolution_joules is None:
        named = "proxy: " if energy.source is PowerSource.PROXY else ""
        return f"{named}{cpu}; {energy.note}"
    text = (
        f"{number_text(energy.joules_per_item, 'J')} ({energy.source.value}: {energy.covers};"
        f" {number_text(energy.joules, 'J')} +- {number_text(energy.resolution_joules, 'J')}"
        f" in {energy.seconds:.1f} s), {cpu}"
    )
    return f"{text}; {energy.note}" if energy.note else text
