"""What every method has in common: the order for a tier, the tier it is made from, and its delivery."""

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slurm_power import clock
from slurm_power.model.tier import TierMethod
from slurm_power.tiers.building.artifact import WEIGHTS, Description, load_tier, read_description, save_tier
from slurm_power.tiers.building.ending import BuildError, StopWish
from slurm_power.tiers.building.fit import Fitted, Recipe, Surroundings
from slurm_power.tiers.building.progress import Progress, Silent
from slurm_power.tiers.building.rows import Data
from slurm_power.tiers.building.structure import Change, scheme_of
from slurm_power.tiers.building.work_folder import WorkFolder
from slurm_power.tiers.evaluating.multiply_adds import count_multiply_adds
from slurm_power.tiers.model_sum import file_sha256
from slurm_power.tiers.task import Task

_LIBRARIES = ("torch", "torchao", "torch-pruning", "optuna", "numpy", "safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The tier that another is made from: its name, its folder, its sum, and what its ``tier.json`` says."""

    name: str
    directory: Path
    sha256: str
    description: Description
    model: nn.Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to build and where to. ``command`` is kept in the lineage: how to build it again.

    ``floor`` is the worst value of the metric that is allowed, None for no floor; a tier that misses it is
    built with a note, but an architecture search never returns one.
    """

    task_spec: str
    task: Task
    tier: str
    output: Path
    seed: int = 0
    floor: float | None = None
    device: str = "cpu"
    replace: bool = False
    command: str = ""
    progress: Progress = field(default_factory=Silent)
    stop: StopWish = field(default_factory=StopWish)

    def around(self, work: WorkFolder, **more: Any) -> Surroundings:
        """Surroundings of a fit whose checkpoint and log are in the work folder."""
        return Surroundings(
            stop=self.stop, progress=self.progress, checkpoint=work.checkpoint, log=work.log, **more
        )

    def settings(self, method: str, recipe: Recipe | None, **more: Any) -> dict[str, Any]:
        """What has to be the same for unfinished work to be gone on with."""
        return {
            "method": method,
            "task": self.task_spec,
            "seed": self.seed,
            "device": self.device,
            "recipe": None if recipe is None else asdict(recipe),
            **more,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A tier on disk. ``validation`` is the metric on the validation rows; ``notes`` are for its user."""

    directory: Path
    sha256: str
    tier: str
    method: TierMethod
    parent: str
    validation: float
    model_bytes: int
    parameters: int
    multiply_adds: int | None
    notes: tuple[str, ...]


def open_parent(name: str, directory: Path, task: Task, *, sha256: str = "") -> Parent:
    """Load the tier that another is made from; raises ArtifactError."""
    model = load_tier(directory, task, sha256=sha256)
    return Parent(
        name=name,
        directory=directory,
        sha256=file_sha256(directory),
        description=read_description(directory),
        model=model,
    )


def float_parent(parent: Parent, method: str) -> nn.Module:
    """Return the model of a parent that can be trained; raises BuildError for a quantized one."""
    scheme = scheme_of(parent.description.structure)
    if scheme:
        raise BuildError(
            f"parent {parent.name} is quantized ({scheme}) and cannot be trained: {method} its own parent,"
            f" {parent.description.parent or 'the float tier'}, and quantize the result"
        )
    return parent.model


def count_parameters(model: nn.Module) -> int:
    """Count the numbers a float model has learnt."""
    return sum(parameter.numel() for parameter in model.parameters())


def use_threads() -> int:
    """Let torch use the processors of the job, unless OMP_NUM_THREADS says how many; return the threads."""
    cpus = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if cpus.isdigit() and int(cpus) > 0 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(int(cpus))
    return torch.get_num_threads()


def deliver(
    order: Order,
    work: WorkFolder,
    model: nn.Module,
    data: Data,
    *,
    method: TierMethod,
    shape: Mapping[str, int | float],
    parent: Parent | None,
    fitted: Fitted,
    recipe: Recipe | None,
    options: Mapping[str, Any],
    structure: list[Change] | None = None,
    notes: tuple[str, ...] = (),
) -> Built:
    """Write the tier with its lineage and return what it is."""
    task = order.task
    if order.floor is not None and not task.at_least(fitted.validation, order.floor):
        missed = (
            f"its validation {task.metric} of {fitted.validation:.4g} misses the floor of {order.floor:g}"
        )
        notes += (f"{missed}: it would be refused",)
    lineage = {
        "made": clock.now().isoformat(timespec="seconds"),
        "command": order.command,
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "parent": None if parent is None else {"tier": parent.name, "sha256": parent.sha256},
        "options": dict(options),
        "recipe": None if recipe is None else asdict(recipe),
        "validation": {"metric": task.metric, "value": fitted.validation, "kept_epoch": fitted.kept_epoch},
        "data": {name: {"rows": data.rows[name], "sha256": sum_} for name, sum_ in data.fingerprints.items()},
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "notes": list(notes),
    }
    save_tier(
        order.output,
        model,
        task_spec=order.task_spec,
        shape=shape,
        method=method.value,
        parent="" if parent is None else parent.name,
        seed=order.seed,
        lineage=lineage,
        structure=structure,
        log=work.log,
        replace=order.replace,
    )
    for note in notes:
        order.progress.note(f"note: {note}")
    return Built(
        directory=order.output,
        sha256=file_sha256(order.output),
        tier=order.tier,
        method=method,
        parent="" if parent is None else parent.name,
        validation=fitted.validation,
        model_bytes=(order.output / WEIGHTS).stat().st_size,
        parameters=count_parameters(model),
        multiply_adds=count_multiply_adds(model.to("cpu"), data.train.inputs[:1]),
        notes=notes,
    )


def versions() -> dict[str, str]:
    """Versions of what took part, by name."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "system": sys.platform}
    for library in ("slurm-power", *_LIBRARIES):
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found
