"""A tier as a Hugging Face model card: what was measured as ``model-index``, energy and limits in words.

Needs huggingface_hub, which is imported when a card is made.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurm_power.model.job import Workload
from slurm_power.model.tier import Family, PowerSource, Quality, Tier, refusals
from slurm_power.tiers.catalog_tier import is_address
from slurm_power.tiers.pareto import CPU_SECONDS
from slurm_power.tiers.standing import warnings

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

# Identifiers as the Hub lists them; another licence is "other" with its name.
_LICENCES = frozenset({
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0",
    "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0", "agpl-3.0", "mpl-2.0",
    "epl-2.0", "unlicense", "openrail", "gemma", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3",
})  # fmt: skip

_MOST_ORIGIN_LETTERS = 1 << 20
_METRICS_OF_CLASS = {
    Workload.TRAINING: ("loss", "accuracy"),
    Workload.INFERENCE: ("latency", "efficiency", "items_per"),
    Workload.GENERATION: ("perplexity", "distinct", "consistency", "diversity"),
}
_HOW_MEASURED = {
    PowerSource.NVML: "Measured by the GPUs themselves (NVML)",
    PowerSource.RAPL: "Measured by the processors' counters (RAPL)",
    PowerSource.PDU: "Measured by the rack's power distribution unit",
    PowerSource.DECLARED: "Declared by its maker, not measured here",
    PowerSource.PROXY: "Guessed from processor time: to compare with, not to plan with",
    PowerSource.UNKNOWN: "Nobody knows how that was found out",
}


def model_card(family: Family, tier: Tier) -> str:
    """Return the card: YAML between ``---`` lines, then Markdown. Raises ImportError without the library."""
    from huggingface_hub import ModelCardData  # noqa: PLC0415 - an extra

    licence = _licence(tier.licence)
    results = list(_results(family, tier))
    data = ModelCardData(
        model_name=f"{family.name}-{tier.name}" if results else None,
        eval_results=results or None,
        base_model=_base_model(family, tier),
        datasets=[_data(family)[0]] if family.data else None,
        metrics=[family.metric],
        pipeline_tag=family.task or None,
        tags=["slurm-power", f"workload:{family.workload}", f"method:{tier.method}"],
        license=licence,
        license_name=None if licence == tier.licence.lower() or not licence else tier.licence,
        slurm_power=_power_fields(family, tier),
    )
    return f"---\n{data.to_yaml()}\n---\n\n{_body(family, tier)}"


def _licence(licence: str) -> str | None:
    if not licence:
        return None
    return licence.lower() if licence.lower() in _LICENCES else "other"


def _base_model(family: Family, tier: Tier) -> str | None:
    """The parent where the Hub could know it: a path on our disks is no name of a model."""
    parent = family.tier(tier.parent)
    if parent is None or not is_address(parent.model_path):
        return None
    scheme, _, name = parent.model_path.partition("://")
    return name if scheme == "hf" else None


def _power_fields(family: Family, tier: Tier) -> dict[str, Any]:
    """What the Hub has no field for."""
    told = {
        "tier": f"{family.name}/{tier.name}",
        "parent": tier.parent or None,
        "gpus": tier.gpu_count,
        "watts_per_gpu": tier.watts_per_gpu,
        "joules_per_item": tier.joules_per_item,
        "power_source": tier.power_source.value,
        "sha256": tier.sha256 or None,
        "fingerprint": family.fingerprint or None,
        "approved_by": tier.approved_by or None,
    }
    return {key: value for key, value in told.items() if value is not None}


def _results(family: Family, tier: Tier) -> Iterator["EvalResult"]:
    """The metric, its subgroups, and what else was measured."""
    from huggingface_hub import EvalResult  # noqa: PLC0415 - an extra

    quality = tier.quality
    if quality is None:
        return
    name, split = _data(family)
    common: dict[str, Any] = {
        "task_type": family.task or family.workload.value,
        "dataset_type": name,
        "dataset_name": family.data or name,
        "dataset_split": split,
    }
    interval = {} if quality.ci95 is None else {"ci95": quality.ci95}
    samples = {} if quality.sample_count is None else {"samples": quality.sample_count}
    yield EvalResult(
        metric_type=family.metric,
        metric_value=quality.value,
        metric_name=family.metric,
        metric_args={**interval, **samples} or None,
        **common,
    )
    groups = dict(quality.groups)
    if quality.worst_group is not None:
        groups.setdefault(quality.worst_group_name or "worst", quality.worst_group)
    of = family.subgroup_metric or family.metric
    for group, value in sorted(groups.items()):
        yield EvalResult(
            metric_type=of,
            metric_value=value,
            metric_name=f"{of} of {family.subgroup_by or 'group'} {group}",
            metric_config=f"{family.subgroup_by or 'group'}={group}",
            **common,
        )
    for metric, value in _more(family, quality):
        yield EvalResult(metric_type=metric, metric_value=value, metric_name=metric, **common)


def _data(family: Family) -> tuple[str, str | None]:
    """The data set's name as an identifier, and its split: ``digits/test``. Unsaid, it is as the family."""
    name, _, split = family.data.rpartition("/")
    identifier = re.sub(r"[^A-Za-z0-9._/-]+", "-", name or family.data)
    return identifier or family.name, split if name else None


def _more(family: Family, quality: Quality) -> list[tuple[str, float]]:
    """Further metrics, those that tell most of the workload class first."""
    first = _METRICS_OF_CLASS[family.workload]

    def rank(metric: str) -> int:
        return next((at for at, word in enumerate(first) if word in metric), len(first))

    return sorted(quality.more.items(), key=lambda pair: (rank(pair[0]), pair[0]))


def _body(family: Family, tier: Tier) -> str:
    sections = [
        f"# {_plain(family.name)}/{_plain(tier.name)}",
        _summary(family, tier),
        _section("Quality", _quality(family, tier)),
        _section("Subgroups", _subgroups(family, tier)),
        _section(_CLASS_HEADINGS[family.workload], _class_metrics(family, tier)),
        _section("Speed and size", _speed(tier)),
        _section("Energy", _energy(tier)),
        _section("Lineage", _lineage(family, tier)),
        _section("Limits of use", _limits(family, tier)),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


_CLASS_HEADINGS = {
    Workload.TRAINING: "Training",
    Workload.INFERENCE: "Inference",
    Workload.GENERATION: "Generation: quality, diversity, consistency",
}


def _section(heading: str, text: str) -> str:
    return f"## {heading}\n\n{text}" if text else ""


def _plain(text: object) -> str:
    """A word of somebody's that cannot break out of its cell or start markup."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", str(text))


def _table(rows: list[tuple[str, str]], headings: tuple[str, str]) -> str:
    if not rows:
        return ""
    lines = [f"| {left} | {right} |" for left, right in [headings, ("---", "---"), *rows]]
    return "\n".join(lines)


def _summary(family: Family, tier: Tier) -> str:
    made = f"made from `{tier.parent}` by {tier.method}" if tier.parent else f"method: {tier.method}"
    text = (
        f"One tier of the family `{family.name}` ({_plain(family.task or family.workload)}),"
        f" {made}, for jobs of the class {family.workload}."
    )
    refused = refusals(family, tier)
    if refused:
        return f"{text}\n\n**Refused: {_plain('; '.join(refused))}.**"
    if not tier.approved_by:
        return f"{text}\n\n**Not approved by anybody yet.**"
    on = f" on {tier.approved_date}" if tier.approved_date else ""
    return f"{text} Approved by {_plain(tier.approved_by)}{on}."


def _quality(family: Family, tier: Tier) -> str:
    quality = tier.quality
    if quality is None:
        return "Never measured."
    interval = "" if quality.ci95 is None else f" ± {quality.ci95:.2g} (95 %)"
    better = "higher" if family.higher_is_better else "lower"
    rows = [
        (f"{_plain(family.metric)} ({better} is better)", f"{quality.value:.6g}{interval}"),
        ("data", _plain(family.data or "not said")),
        ("samples", "not said" if quality.sample_count is None else str(quality.sample_count)),
        ("measured on", _plain(quality.measured_on or "not said")),
        ("measured", "not said" if quality.measured_date is None else str(quality.measured_date)),
    ]
    return _table(rows, ("what", "value"))


def _subgroups(family: Family, tier: Tier) -> str:
    quality = tier.quality
    if quality is None or (not quality.groups and quality.worst_group is None):
        return ""
    metric, by = _plain(family.subgroup_metric or family.metric), _plain(family.subgroup_by or "group")
    rows = [(_plain(name), f"{value:.6g}") for name, value in sorted(quality.groups.items())]
    text = _table(rows, (by, metric))
    if quality.worst_group is not None:
        worst = f"Worst: {_plain(quality.worst_group_name or 'not said')}, {quality.worst_group:.6g}."
        text = f"{text}\n\n{worst}" if text else worst
    return text


def _class_metrics(family: Family, tier: Tier) -> str:
    if tier.quality is None:
        return ""
    rows = [(_plain(name), f"{value:.6g}") for name, value in _more(family, tier.quality)]
    return _table(rows, ("metric", "value"))


def _speed(tier: Tier) -> str:
    values = (
        ("items per second", tier.items_per_second),
        ("latency p50, s", tier.latency_p50_seconds),
        ("latency p99, s", tier.latency_p99_seconds),
        ("model, bytes", tier.model_bytes),
        ("memory, bytes", tier.memory_bytes),
        ("multiply-adds per item", tier.multiply_adds),
        ("GPUs of a job", tier.gpu_count),
    )
    rows = [
        (name, f"{value:,}" if isinstance(value, int) else f"{value:.4g}")
        for name, value in values
        if value is not None
    ]
    return _table(rows, ("what", "value"))


def _energy(tier: Tier) -> str:
    rows = []
    if tier.watts_per_gpu is not None:
        rows.append(("watts per GPU at work", f"{tier.watts_per_gpu:g}"))
    if tier.joules_per_item is not None:
        rows.append(("joules per item", f"{tier.joules_per_item:.6g}"))
    how = f"{_HOW_MEASURED[tier.power_source]}." if rows else "No watts or joules are known."
    if tier.quality is not None and (seconds := tier.quality.more.get(CPU_SECONDS)) is not None:
        rows.append(("processor seconds per item", f"{seconds:.4g}"))
    table = _table(rows, ("what", "value"))
    return f"{table}\n\n{how}" if table else how


def _lineage(family: Family, tier: Tier) -> str:
    steps = [tier, *family.ancestors(tier)]
    sums = [f", sha256 `{one.sha256}`" if one.sha256 else "" for one in steps]
    return "\n".join(
        f"{number}. `{one.name}`, {one.method}{total}{_origin(one)}"
        for number, (one, total) in enumerate(zip(steps, sums, strict=True), start=1)
    )


def _origin(tier: Tier) -> str:
    """What the folder of a tier that was built here says: its seed and shape. Nothing where there is none."""
    if not tier.model_path or is_address(tier.model_path):
        return ""
    try:
        with (Path(tier.model_path) / "tier.json").open(encoding="utf-8") as file:
            origin = json.loads(file.read(_MOST_ORIGIN_LETTERS))
    except (OSError, ValueError, RecursionError):
        return ""
    if not isinstance(origin, dict):
        return ""
    seed, shape = origin.get("seed"), origin.get("shape")
    told = f", seed {seed}" if isinstance(seed, int) else ""
    if isinstance(shape, dict) and shape:
        told += f", {_plain(', '.join(f'{name} {value}' for name, value in shape.items()))}"
    return told


def _limits(family: Family, tier: Tier) -> str:
    lines = []
    if family.floor is not None:
        side = "below" if family.higher_is_better else "above"
        lines.append(f"Not to be used where its {_plain(family.metric)} is {side} {family.floor:g}.")
    if family.max_drop is not None:
        lines.append(
            f"No {_plain(family.subgroup_by)} may lose more than {family.max_drop:g} in"
            f" {_plain(family.subgroup_metric)} against `{family.tiers[0].name}`."
        )
    if family.fingerprint:
        lines.append(f"Data must be prepared by the pipeline `{_plain(family.fingerprint)}`.")
    if tier.better_than_parent:
        lines.append(f"Better than what it was made from, because: {_plain(tier.better_than_parent)}.")
    lines += [f"To be looked at: {_plain(text)}." for text in warnings(family).get(tier.name, [])]
    return "\n".join(f"- {line}" for line in lines)
