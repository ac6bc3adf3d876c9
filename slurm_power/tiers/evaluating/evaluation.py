"""Evaluates one tier on held-out rows: refusals first, then quality, speed, size and energy."""

import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slurm_power import clock
from slurm_power.model.job import Workload
from slurm_power.tiers.building.artifact import (
    WEIGHTS,
    ArtifactError,
    Description,
    load_tier,
    read_description,
)
from slurm_power.tiers.building.rows import fingerprint
from slurm_power.tiers.evaluating.energy import EnergyMeter, ItemEnergy, measure_energy
from slurm_power.tiers.evaluating.fingerprint import fingerprint_of, skew
from slurm_power.tiers.evaluating.generation import GenerationQuality, generating, measure_generation
from slurm_power.tiers.evaluating.multiply_adds import count_multiply_adds
from slurm_power.tiers.evaluating.quality import Measured, held_out, measure_quality
from slurm_power.tiers.evaluating.refusal import EvaluateError
from slurm_power.tiers.evaluating.speed import Speed, measure_speed
from slurm_power.tiers.model_sum import file_sha256
from slurm_power.tiers.task import Split, Task

_SPEED_SHARE = 0.25
_GENERATED_TOKENS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to evaluate. ``sha256`` is the folder's sum as a catalog has it, empty for none.

    ``seconds`` of measuring in all, a quarter of it for speed and the rest for energy where there is a meter.
    """

    task: Task
    directory: Path
    sha256: str = ""
    split: str = "test"
    seconds: float = 12.0
    device: str = "cpu"
    meters: list[EnergyMeter] = field(default_factory=list)
    say: Callable[[str], None] = lambda _text: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was found. ``notes`` are for people: what stands out and does not refuse the tier."""

    task: Task
    directory: Path
    description: Description
    sha256: str
    split: str
    data_sha256: str
    quality: Measured
    generation: GenerationQuality | None
    speed: Speed
    energy: ItemEnergy
    model_bytes: int
    multiply_adds: int | None
    measured_on: str
    measured_date: date
    notes: tuple[str, ...]

    def more(self) -> dict[str, float]:
        """Further metrics by name, those of the workload's class among them, as a catalog keeps them."""
        found = {**self.quality.more}
        if self.generation is not None:
            found |= self.generation.more()
        if self.task.workload != Workload.TRAINING:
            found |= _efficiency(self.energy)
        return found


def evaluate(plan: Plan) -> Evaluation:
    """Evaluate a tier; writes nothing. Raises EvaluateError or ArtifactError with what is wrong."""
    task = plan.task
    plan.say("looking at the data")
    split = held_out(task, plan.split)
    description, model = open_tier(plan.directory, task, sha256=plan.sha256)
    model.to(plan.device)
    plan.say(f"measuring {task.metric} on {len(split)} rows")
    quality = measure_quality(model, task, split, device=plan.device)
    generation = None
    if task.workload == Workload.GENERATION:
        plan.say("generating")
        generation = measure_generation(model, generating(task), tokens=_GENERATED_TOKENS, device=plan.device)
    plan.say(f"measuring speed for {plan.seconds * _SPEED_SHARE:g} s")
    speed = measure_speed(model, split.inputs, seconds=plan.seconds * _SPEED_SHARE, device=plan.device)
    plan.say("measuring energy")
    energy = measure_energy(
        model,
        split.inputs[: speed.best.size].to(plan.device),
        plan.meters,
        seconds=plan.seconds * (1.0 - _SPEED_SHARE),
        device=plan.device,
    )
    return Evaluation(
        task=task,
        directory=plan.directory,
        description=description,
        sha256=file_sha256(plan.directory),
        split=plan.split,
        data_sha256=fingerprint(split),
        quality=quality,
        generation=generation,
        speed=speed,
        energy=energy,
        model_bytes=(plan.directory / WEIGHTS).stat().st_size,
        multiply_adds=count_multiply_adds(model, split.inputs[:1].to(plan.device)),
        measured_on=hardware(plan.device),
        measured_date=clock.now().date(),
        notes=tuple(_data_notes(task, description, plan.split, split)),
    )


def open_tier(directory: Path, task: Task, *, sha256: str = "") -> tuple[Description, nn.Module]:
    """Load a tier to be evaluated or served.

    Raises ArtifactError for a damaged tier or one of another task, EvaluateError where the pipeline of now is
    not the one it was trained with (training-serving skew).
    """
    model = load_tier(directory, task, sha256=sha256)
    description = read_description(directory)
    try:
        now = fingerprint_of(task)
    except Exception as error:
        raise EvaluateError(
            f"task {task.name}: prepare() fails on an item of probe(): {type(error).__name__}: {error}"
        ) from error
    if different := skew(description.pipeline, now):
        raise EvaluateError(
            f"{directory}: the pipeline that prepares its inputs has changed since it was built"
            f" (training-serving skew): {'; '.join(different)}. Take the task as it was, or build it again"
        )
    return description, model


def _data_notes(task: Task, description: Description, name: str, split: Split) -> list[str]:
    """Whether the rows are still those that were set aside when the tier was built."""
    told = description.lineage.get("data")
    if not isinstance(told, Mapping):
        return ["it does not say which rows it was trained on: nobody knows whether these are new to it"]
    before = {key: value.get("sha256") for key, value in told.items() if isinstance(value, Mapping)}
    notes = []
    if before.get("train") not in (None, fingerprint(task.split("train"))):
        notes.append(
            "it was trained on other rows than the task's train split has now: some of the"
            f" {name} rows may have been among them"
        )
    if before.get(name) not in (None, fingerprint(split)):
        notes.append(f"the {name} rows are others than when it was built: compare with older figures by care")
    return notes


def _efficiency(energy: ItemEnergy) -> dict[str, float]:
    if energy.joules_per_item is not None:
        return {
            "items_per_joule": 1.0 / energy.joules_per_item,
            "cpu_seconds_per_item": energy.cpu_seconds_per_item,
        }
    cpu_seconds = max(energy.cpu_seconds_per_item, 1e-12)
    return {"items_per_cpu_second": 1.0 / cpu_seconds, "cpu_seconds_per_item": cpu_seconds}


def hardware(device: str) -> str:
    """What it was measured on, in a few words."""
    torch_version = f"torch {importlib.metadata.version('torch').partition('+')[0]}"
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, {torch_version}"
    cores = len(os.sched_getaffinity(0))
    told = torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends, "cpu") else platform.machine()
    threads = torch.get_num_threads()
    return f"{cores} cores {told}, {threads} {'thread' if threads == 1 else 'threads'}, {torch_version}"


def check_device(device: str) -> None:
    """Raise EvaluateError for a device that torch does not have here."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).splitlines()[0]
        raise EvaluateError(f"--device {device}: torch cannot use it here: {first}") from error


def document(evaluation: Evaluation) -> dict[str, Any]:
    """As `evaluation.json` has it; numbers have their units in their names."""
    quality, speed = evaluation.quality, evaluation.speed
    groups = quality.groups
    return {
        "format": "slurm-power-evaluation",
        "version": 1,
        "task": evaluation.task.name,
        "workload": str(evaluation.task.workload),
        "tier_sha256": evaluation.sha256,
        "method": evaluation.description.method,
        "parent": evaluation.description.parent,
        "pipeline_sha256": evaluation.description.pipeline.get("sha256", ""),
        "split": evaluation.split,
        "data_sha256": evaluation.data_sha256,
        "metric": evaluation.task.metric,
        "higher_is_better": evaluation.task.higher_is_better,
        "quality": {
            "value": quality.metric.value,
            "low95": quality.metric.low,
            "high95": quality.metric.high,
            "samples": quality.metric.count,
        },
        "subgroups": None
        if groups is None
        else {
            "by": groups.by,
            "metric": groups.metric,
            "worst": groups.worst.name,
            "groups": [
                {
                    "name": group.name,
                    "value": group.estimate.value,
                    "low95": group.estimate.low,
                    "high95": group.estimate.high,
                    "samples": group.estimate.count,
                    "enough": group.enough,
                    "judged": group.judged,
                }
                for group in groups.groups
            ],
        },
        "more": evaluation.more(),
        "speed": {
            "latency_p50_seconds": speed.latency_p50_seconds,
            "latency_p99_seconds": speed.latency_p99_seconds,
            "batches": [
                {
                    "size": batch.size,
                    "items_per_second": batch.items_per_second,
                    "cpu_seconds_per_item": batch.cpu_seconds_per_item,
                }
                for batch in speed.batches
            ],
        },
        "model_bytes": evaluation.model_bytes,
        "multiply_adds": evaluation.multiply_adds,
        "memory_bytes": speed.memory_bytes,
        "measured_on": evaluation.measured_on,
        "measured_date": evaluation.measured_date.isoformat(),
        "notes": list(evaluation.notes),
    }


__all__ = ["ArtifactError", "Evaluation", "Plan", "document", "evaluate", "open_tier"]
