"""Puts an evaluation into its places: JSON beside the tier's folder, and the tier of a catalog."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from slurm_power.model.job import Workload
from slurm_power.model.tier import Family, PowerSource, Quality, Tier, TierMethod, refusals
from slurm_power.tiers.evaluating.energy import as_document
from slurm_power.tiers.evaluating.evaluation import Evaluation, document
from slurm_power.tiers.evaluating.refusal import EvaluateError
from slurm_power.tiers.task import Task


def evaluation_file(directory: Path) -> Path:
    """Where the evaluation of a tier is kept: beside its folder, whose sum must stay as it is."""
    return directory.with_name(f"{directory.name}.evaluation.json")


def whole_document(evaluation: Evaluation) -> dict[str, Any]:
    """All that was found, as JSON has it."""
    return {**document(evaluation), "energy": as_document(evaluation.energy)}


def write_evaluation(path: Path, content: Mapping[str, Any]) -> None:
    """Write it whole or not at all; raises OSError."""
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2, allow_nan=False)
            file.write("\n")
            os.fchmod(file.fileno(), 0o644)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def quality_of(evaluation: Evaluation) -> Quality:
    """As a catalog has it. ``ci95`` is the wider side of the interval."""
    metric, groups = evaluation.quality.metric, evaluation.quality.groups
    return Quality(
        value=metric.value,
        ci95=metric.half_width,
        sample_count=metric.count,
        worst_group=None if groups is None else groups.worst.judged,
        worst_group_name="" if groups is None else groups.worst.catalog_name,
        groups={} if groups is None else {group.catalog_name: group.judged for group in groups.groups},
        more=evaluation.more(),
        measured_on=evaluation.measured_on,
        measured_date=evaluation.measured_date,
    )


def check_family(family: Family, task: Task, pipeline_sha256: str) -> None:
    """Raise EvaluateError with all reasons why a tier of this task cannot be one of this family."""
    problems = [
        f"family {family.name} has {key} = {there}, task {task.name} says {here}: is it of another family?"
        for key, there, here in (
            ("class", family.workload.value, str(task.workload)),
            ("metric", family.metric, task.metric),
            ("higher_is_better", family.higher_is_better, task.higher_is_better),
        )
        if there != here
    ]
    told = family.fingerprint.removeprefix("sha256:")
    if told and told != pipeline_sha256:
        problems.append(
            f"family {family.name} is fed by a pipeline of fingerprint {told[:12]}..., this tier was built"
            f" with {pipeline_sha256[:12]}... (training-serving skew): build the tier with the family's task,"
            " or give the family another name"
        )
    if problems:
        raise EvaluateError(*problems)


def new_family(name: str, evaluation: Evaluation) -> Family:
    """A family that no catalog has yet; its floor and the drop allowed are for a person to say."""
    task, groups = evaluation.task, evaluation.quality.groups
    return Family(
        name=name,
        task=task.name,
        workload=Workload(task.workload),
        metric=task.metric,
        tiers=(),
        higher_is_better=task.higher_is_better,
        data=f"{task.name}/{evaluation.split}",
        fingerprint=f"sha256:{evaluation.description.pipeline.get('sha256', '')}",
        subgroup_by="" if groups is None else groups.by,
        subgroup_metric="" if groups is None else groups.metric,
    )


def measured_tier(name: str, evaluation: Evaluation, before: Tier | None, *, gpus: int | None) -> Tier:
    """The tier with all that was measured; what a person wrote about it stays.

    An approval stays only for the very same model. Power that somebody measured or declared is replaced only
    by a measurement: processor time is none.
    """
    known = before or Tier(name=name, gpu_count=1 if evaluation.energy.watts_per_gpu is not None else 0)
    same = known.sha256 == evaluation.sha256
    energy = evaluation.energy
    tier = replace(
        known,
        method=TierMethod(evaluation.description.method),
        parent=evaluation.description.parent,
        model_path=known.model_path if same and known.model_path else str(evaluation.directory.absolute()),
        sha256=evaluation.sha256,
        quality=quality_of(evaluation),
        gpu_count=known.gpu_count if gpus is None else gpus,
        items_per_second=evaluation.speed.best.items_per_second,
        latency_p50_seconds=evaluation.speed.latency_p50_seconds,
        latency_p99_seconds=evaluation.speed.latency_p99_seconds,
        joules_per_item=energy.joules_per_item,
        memory_bytes=evaluation.speed.memory_bytes,
        model_bytes=evaluation.model_bytes,
        multiply_adds=evaluation.multiply_adds,
        approved_by=known.approved_by if same else "",
        approved_date=known.approved_date if same else None,
    )
    if energy.watts_per_gpu is not None:
        return replace(tier, watts_per_gpu=energy.watts_per_gpu, power_source=energy.source)
    if not same:
        tier = replace(tier, watts_per_gpu=None, power_source=PowerSource.UNKNOWN)
    if tier.watts_per_gpu is None:
        return replace(tier, power_source=energy.source)
    return tier


def completed(family: Family, evaluation: Evaluation) -> Family:
    """The family with the fingerprint and the subgroups, where nobody has said them yet."""
    new = new_family(family.name, evaluation)
    by = (family.subgroup_by, family.subgroup_metric)
    return replace(
        family,
        fingerprint=family.fingerprint or new.fingerprint,
        subgroup_by=by[0] if any(by) else new.subgroup_by,
        subgroup_metric=by[1] if any(by) else new.subgroup_metric,
    )


def with_tier(family: Family, tier: Tier) -> Family:
    """The family with this tier in the place of the one of its name, else behind all others."""
    if family.tier(tier.name) is None:
        return replace(family, tiers=(*family.tiers, tier))
    return replace(family, tiers=tuple(tier if other.name == tier.name else other for other in family.tiers))


def why_refused(family: Family, tier: Tier) -> tuple[str, ...]:
    """Why the tier, as it was measured now, must not be used in this family."""
    return refusals(with_tier(family, tier), tier)


def teacher_note(evaluation: Evaluation, family: Family | None) -> str:
    """Say it where a tier is better than the one it was made from by more than both intervals; else empty.

    The parent's quality comes from the catalog's family, else from its evaluation beside its own folder,
    where that was on the very same rows.
    """
    parent, metric = evaluation.description.parent, evaluation.quality.metric
    own = metric.half_width
    told = _parent_quality(evaluation, family) if parent else None
    if told is None or own is None:
        return ""
    value, half_width = told
    gain = metric.value - value if evaluation.task.higher_is_better else value - metric.value
    if gain <= own + half_width:
        return ""
    return (
        f"it is better than {parent}, which it was made from: {evaluation.task.metric} {metric.value:.4g}"
        f" +- {own:.2g} against {value:.4g} +- {half_width:.2g}, beyond both intervals. Either {parent} is"
        " weak and ought to be trained further or dropped, or the student has seen test rows: look which,"
        " before anybody approves it"
    )


def _parent_quality(evaluation: Evaluation, family: Family | None) -> tuple[float, float] | None:
    tier = None if family is None else family.tier(evaluation.description.parent)
    if tier is not None and tier.quality is not None and tier.quality.ci95 is not None:
        return tier.quality.value, tier.quality.ci95
    beside = evaluation_file(evaluation.directory.absolute().with_name(evaluation.description.parent))
    try:
        said = json.loads(beside.read_text(encoding="utf-8"))
        quality = said["quality"]
        value, low, high = float(quality["value"]), float(quality["low95"]), float(quality["high95"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    comparable = (said.get("data_sha256"), said.get("metric")) == (
        evaluation.data_sha256,
        evaluation.task.metric,
    )
    return (value, max(value - low, high - value)) if comparable else None
